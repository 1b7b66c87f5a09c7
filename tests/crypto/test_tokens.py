"""Text by chance: of the length and the alphabet that were asked for, and evenly."""

from collections import Counter

import pytest

from strongroom.crypto.tokens import random_text

WIDE = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))


@pytest.mark.parametrize("alphabet", ["a", "ab", "abc" * 20, "".join(map(chr, range(256))), WIDE])
def test_each_place_of_the_alphabet_is_as_likely(alphabet: str) -> None:
    number = 400 * len(alphabet)
    drawn = Counter(random_text(number, alphabet))
    assert sum(drawn.values()) == number
    assert set(drawn) == set(alphabet)
    for each, often in drawn.items():
        # Seven standard deviations of 400.
        expected = 400 * alphabet.count(each)
        assert abs(often - expected) < 7 * expected**0.5 + 1


def test_two_texts_differ_and_none_is_longer() -> None:
    assert random_text(0, "ab") == ""
    assert len({random_text(30, "ab") for _ in range(50)}) == 50
    assert {len(random_text(number, WIDE)) for number in range(50)} == set(range(50))
