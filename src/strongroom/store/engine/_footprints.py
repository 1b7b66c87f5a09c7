"""What a statement of ours reads or changes: a table and, where it says so, which rows of it.

Row code is made of a few forms of statement. Where one names its rows by equal columns, two
statements that differ in such a column cannot meet, so that units of work that never meet may be
run side by side as if one after the other. Whatever has another form touches its whole tables.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

Columns = tuple[str, ...]

_EQUAL: Final = r"\w+ = \?(?: AND \w+ = \?)*"
_READ: Final = re.compile(
    rf"SELECT (?:(?!\bFROM\b|\().)+ FROM (\w+) WHERE ({_EQUAL})"  # noqa: S608 - a pattern
)
_INSERT: Final = re.compile(
    r"INSERT INTO (\w+) \(([\w, ]+)\) VALUES \(([?, ]+)\)"
    r"(?: ON CONFLICT \(([\w, ]+)\) DO UPDATE SET [^?()]+)?(?: RETURNING \w+)?"
)
_UPDATE: Final = re.compile(
    rf"UPDATE (?:OR REPLACE )?(\w+) SET ([^()]+?) WHERE ({_EQUAL})(?: RETURNING \w+)?"  # noqa: S608
)
_DELETE: Final = re.compile(rf"DELETE FROM (\w+) WHERE ({_EQUAL})")  # noqa: S608
_TABLES: Final = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE) (\w+)")
_SET: Final = re.compile(r"(\w+) = ")


@dataclass(frozen=True, slots=True)
class Form:
    """`columns` are those that are equal to a value, with its place among the values.

    Without columns every row of the tables is meant. `inserts`: the row was not there before.
    """

    tables: frozenset[str]
    writes: bool
    columns: tuple[tuple[str, int], ...] = ()
    inserts: bool = False
    names: Columns = field(init=False, compare=False)
    _places: tuple[int, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(name for name, _ in self.columns))
        object.__setattr__(self, "_places", tuple(place for _, place in self.columns))

    def picked(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Those of a statement's values that the equal columns have."""
        return tuple([values[place] for place in self._places])


@lru_cache(maxsize=1024)
def form_of(statement: str) -> Form:
    """The form of a statement."""
    for read in (_of_read, _of_insert, _of_update, _of_delete):
        form = read(statement)
        if form is not None:
            return form
    writes = not statement.startswith("SELECT ")
    # A WITH may name a table of its own; it does no harm among the others.
    return Form(frozenset(_TABLES.findall(statement)), writes)


def _of_read(statement: str) -> Form | None:
    found = _READ.fullmatch(statement)
    return None if found is None else _form(found[1], found[2], 0, writes=False)


def _of_delete(statement: str) -> Form | None:
    found = _DELETE.fullmatch(statement)
    return None if found is None else _form(found[1], found[2], 0, writes=True)


def _of_update(statement: str) -> Form | None:
    found = _UPDATE.fullmatch(statement)
    if found is None:
        return None
    form = _form(found[1], found[3], found[2].count("?"), writes=True)
    # A column that is changed does not say which row it is afterwards.
    changed = set(_SET.findall(found[2]))
    return Form(form.tables, True, tuple(each for each in form.columns if each[0] not in changed))


def _of_insert(statement: str) -> Form | None:
    found = _INSERT.fullmatch(statement)
    if found is None or found[3].count("?") != found[2].count(",") + 1:
        return None
    names = [each.strip() for each in found[2].split(",")]
    # A row that is there already has other values in the columns that are no key.
    keys = [each.strip() for each in found[4].split(",")] if found[4] else names
    columns = tuple((name, place) for place, name in enumerate(names) if name in keys)
    return Form(frozenset({found[1]}), True, columns, inserts=not found[4])


def _form(table: str, equal: str, first: int, *, writes: bool) -> Form:
    names = [each.partition(" = ")[0] for each in equal.split(" AND ")]
    columns = tuple((name, first + place) for place, name in enumerate(names))
    return Form(frozenset({table}), writes, columns)
