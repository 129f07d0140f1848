"""When validation loss has settled: the one rule that ends runs, lowers rates and marks results.

A run has settled when, over its last validations, the best loss fell by no more than a share, the tolerance, of all
it has fallen since the model that predicts the training mean. The share makes the rule the same for every task, loss
and n; the whole window, and not one step, makes it blind to noise.

How many validations: the recipe's patience. A run without one is judged by its last half; a cosine's rate goes to
zero at the end, and every loss stands still there, so less would say nothing.
"""

from geoladder.study.recipe import Recipe

Curve = list[dict[str, float]]
"""By validation, from step 0 on: step, val_loss, and train_loss and lr of the step before it (none at step 0)."""
FEWEST = 2
"""Validations that can show that nothing falls any more."""


def best_of(curve: Curve) -> dict[str, float]:
    """The validation of lowest loss, the first of several."""
    return min(curve, key=lambda row: row["val_loss"])


def stands_still(losses: list[float], window: int, tolerance: float) -> bool:
    """Whether the last `window` losses fell below all before them by no more than `tolerance` of the whole fall."""
    if len(losses) <= window:
        return False
    before, after = min(losses[:-window]), min(losses[-window:])
    return before - after <= tolerance * (losses[0] - min(before, after))


def has_settled(curve: Curve, recipe: Recipe) -> bool:
    """Whether a run whose validations are `curve` had settled when it ended; False of too few validations."""
    window = recipe.patience_validations or max(FEWEST, len(curve) // 2)
    return stands_still([row["val_loss"] for row in curve], window, recipe.tolerance)


def must_end(curve: Curve, recipe: Recipe) -> bool:
    """Whether a run ends here, before its last step."""
    return recipe.patience_validations is not None and has_settled(curve, recipe)
