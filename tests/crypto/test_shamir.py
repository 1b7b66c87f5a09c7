"""Shamir's shares: any threshold of them, none fewer; the same as an independent implementation."""

import itertools

import pyshamir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.crypto.shamir import combine, split
from strongroom.model.errors import Invalid

SECRET = bytes(range(32))


@given(secret=st.binary(min_size=1, max_size=64), shares=st.integers(2, 8), data=st.data())
def test_any_threshold_of_shares_gives_the_secret(secret, shares, data) -> None:
    threshold = data.draw(st.integers(2, shares))
    made = split(secret, shares, threshold)
    chosen = data.draw(st.permutations(made))[:threshold]
    assert combine(chosen) == secret


def test_too_few_shares_give_something_else() -> None:
    for pair in itertools.combinations(split(SECRET, 5, 3), 2):
        assert combine(pair) != SECRET


def test_shares_are_those_of_another_implementation() -> None:
    assert pyshamir.combine([bytearray(each) for each in split(SECRET, 5, 3)][:3]) == SECRET
    assert combine([bytes(each) for each in pyshamir.split(SECRET, 5, 3)][1:4]) == SECRET


@pytest.mark.parametrize(("shares", "threshold"), [(1, 1), (3, 4), (3, 1), (300, 2)])
def test_impossible_thresholds_are_refused(shares, threshold) -> None:
    with pytest.raises(Invalid):
        split(SECRET, shares, threshold)
    with pytest.raises(Invalid):
        split(b"", 3, 2)


def test_shares_that_do_not_belong_together_are_refused() -> None:
    one, two, _ = split(SECRET, 3, 2)
    for bad in ([], [one], [one, one], [one, two[:-2]], [one, two[:-1] + b"\0"]):
        with pytest.raises(Invalid):
            combine(bad)
