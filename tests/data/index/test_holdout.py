from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geoladder.data.index.split import cell_hash, is_validation, nested_cells

cells = st.builds(
    "{}{}_{}{}".format,
    st.integers(0, 1001),
    st.sampled_from("UD"),
    st.integers(0, 2003),
    st.sampled_from("LR"),
)
fractions = st.fractions(0, 1)
CELLS = [f"{row}U_{column}R" for row in range(100) for column in range(100)]


@given(st.sets(cells, min_size=1, max_size=40), fractions, fractions, st.integers(0, 1000))
def test_smaller_fraction_lies_inside_larger_and_is_an_exact_share(corpus, a, b, seed):
    small, large = (nested_cells(corpus, f, seed) for f in sorted((a, b)))
    assert small == large[: len(small)]
    assert abs(len(small) - min(a, b) * len(corpus)) <= 0.5
    assert set(nested_cells(corpus, Fraction(1), seed)) == corpus
    assert small == nested_cells(sorted(corpus), min(a, b), seed)


@given(cells, st.integers(0, 1000))
def test_hash_is_a_share(cell, seed):
    assert 0 <= cell_hash(cell, seed) < 1


def test_hash_never_changes():
    """Recorded values: another number here would move cells between training and validation of finished studies."""
    assert cell_hash("433D_629L") == 0.9605563438332061
    assert cell_hash("433D_629L", 3) == 0.8216744804981477
    assert is_validation("433D_629L", 0.359) and not is_validation("433D_629L", 0.358)


def test_shares_are_met_and_validation_is_independent_of_fractions_and_seeds():
    validation = np.array([is_validation(cell, 0.15) for cell in CELLS])
    half, other = (np.isin(CELLS, nested_cells(CELLS, Fraction(1, 2), seed)) for seed in (0, 1))
    assert abs(validation.mean() - 0.15) < 0.015
    assert half.mean() == 0.5
    assert abs((validation & half).mean() - 0.075) < 0.01
    assert abs((half & other).mean() - 0.25) < 0.02
