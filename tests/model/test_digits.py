"""Whole numbers that somebody wrote."""

import pytest

from strongroom.model.digits import whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("8200", 8200),
        ("007", 7),
        ("0" * 5000, 0),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("9" * 5000, None),
        ("", None),
        (" 1", None),
        ("1\n", None),
        ("-1", None),
        ("+1", None),
        ("1_000", None),
        ("0x1", None),
        ("²", None),
        ("٣", None),
        ("①", None),
    ],
)
def test_digits(text: str, number: int | None) -> None:
    assert whole_number(text) == number
