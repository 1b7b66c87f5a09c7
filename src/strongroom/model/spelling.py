"""What somebody may have meant who wrote a name that is not there. Pure."""

from collections.abc import Iterable
from typing import Final

# Nobody mistypes more than that; and comparing takes the product of the lengths.
LONGEST: Final = 64


def nearest(word: str, known: Iterable[str]) -> str:
    """The name that is meant by a word which is nearly it, "" when none is near.

    Near is the one name that begins with the word, or one that is a slip of the hand away, two in a
    word of eight letters and so on: a letter that is wrong, missing, too many, or has changed
    places with its neighbour.
    """
    if not 1 < len(word) <= LONGEST:
        return ""
    names = [*known]
    begun = [name for name in names if name.startswith(word)]
    if len(begun) == 1:
        return begun[0]
    allowed = max(1, len(word) // 4)
    alike = [name for name in names if abs(len(name) - len(word)) <= allowed]
    slips, name = min(((_slips(word, name), name) for name in alike), default=(allowed + 1, ""))
    return name if slips <= allowed else ""


def _slips(one: str, other: str) -> int:
    """How many slips lead from one to the other: the optimal string alignment distance."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one):
        last, before, row = before, row, [at + 1]
        for place, wanted in enumerate(other):
            best = min(before[place] + (letter != wanted), before[place + 1] + 1, row[place] + 1)
            if at and place and letter == other[place - 1] and one[at - 1] == wanted:
                best = min(best, last[place - 1] + 1)
            row.append(best)
    return row[-1]
