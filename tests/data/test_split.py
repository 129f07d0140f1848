from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geoladder.data.split import cell_hash, in_fraction, is_validation

cells = st.builds(
    "{}{}_{}{}".format,
    st.integers(0, 1001),
    st.sampled_from("UD"),
    st.integers(0, 2003),
    st.sampled_from("LR"),
)
fractions = st.fractions(0, 1)
CELLS = [f"{row}U_{column}R" for row in range(100) for column in range(100)]


@given(cells, fractions, fractions, st.integers(0, 1000))
def test_smaller_fraction_lies_inside_larger(cell, a, b, seed):
    small, large = sorted((a, b))
    assert in_fraction(cell, large, seed) or not in_fraction(cell, small, seed)
    assert in_fraction(cell, Fraction(1), seed) and not in_fraction(cell, Fraction(0), seed)


@given(cells, st.integers(0, 1000))
def test_hash_is_a_share(cell, seed):
    assert 0 <= cell_hash(cell, seed) < 1


def test_hash_never_changes():
    """Recorded values: another number here would move cells between training and validation of finished studies."""
    assert cell_hash("433D_629L") == 0.9605563438332061
    assert cell_hash("433D_629L", 3) == 0.8216744804981477
    assert is_validation("433D_629L", 0.359) and not is_validation("433D_629L", 0.358)


def test_shares_are_met_and_validation_is_independent_of_fractions_and_seeds():
    held = np.array([is_validation(cell, 0.15) for cell in CELLS])
    half = np.array([in_fraction(cell, Fraction(1, 2), seed=0) for cell in CELLS])
    other = np.array([in_fraction(cell, Fraction(1, 2), seed=1) for cell in CELLS])
    assert abs(held.mean() - 0.15) < 0.015
    assert abs(half.mean() - 0.5) < 0.02
    assert abs((held & half).mean() - 0.075) < 0.01
    assert abs((half & other).mean() - 0.25) < 0.02
