"""Claims: sentences about runs, put to a table of few-shot runs. `verdicts` is the way in."""
