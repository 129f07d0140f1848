"""Laws as formulas with their derivatives, and the losses they are fitted by; here their names, for help texts."""

LAW_NAMES = tuple(
    "constant power product saturating chinchilla chinchilla_tied log_linear m3 m4 broken kaplan error_law "
    "data_constrained m1 m2".split()
)
LOSS_NAMES = ("log_squared", "huber", "squared", "log1p_squared", "huber_raw")
