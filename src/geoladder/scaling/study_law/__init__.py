"""One law for a whole study: downstream error over both sizes, labelled examples, families and tasks.

    y = S[task, family] (E[task] + A[task] n^-alpha + B[task] d^-beta + C[task] shots^-gamma)

or a product of powers, or through the pretraining loss. Every task has coefficients of its own, every family of a
task a factor S on the whole (1 for its first family); exponents are shared unless they are told apart by task or by
family. Coefficients are a term's error at the geometric means of the sizes (`at`), where they are best known.

Rows of one checkpoint on one task share its luck: residuals of log y have a variance between checkpoints and one
between rows, estimated with the law as in `fit.mixed`. Intervals are Student's on log y, with the law linearised at
its optimum, Kenward & Roger's errors and Satterthwaite's degrees of freedom: few checkpoints make wide intervals.
"""
