"""A suggestion comes when it is near, and only then."""

import pytest

from strongroom.model.spelling import nearest

KNOWN = ("list", "delete", "dev", "rotate", "rotation", "secrets", "agent", "login", "ls")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lits", "list"),
        ("lst", "list"),
        ("listt", "list"),
        ("lost", "list"),
        ("del", "delete"),
        ("scertesz", ""),
        ("secerts", "secrets"),
        ("rotatino", "rotation"),
        ("frobnicate", ""),
        ("get", ""),
        ("plugin", ""),
        ("rot", ""),
        ("l", ""),
        ("", ""),
        ("x" * 1000, ""),
        ("list" + "x" * 60, ""),
    ],
)
def test_what_is_near(word: str, meant: str) -> None:
    assert nearest(word, KNOWN) == meant


def test_nothing_is_near_where_nothing_is_known() -> None:
    assert nearest("list", ()) == ""
