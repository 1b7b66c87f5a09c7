"""Which rows the units of work of a wave have read or want to change: whoever comes second waits.

Two-phase locking without waiting, in memory. A lock is a form of statement with its values (see
`_footprints`); two locks meet unless a column that both know differs. Locks of units that have
stepped aside count no more.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.store.engine._footprints import Form

# Numbers the database gives: a row that is inserted has one that nobody can have asked for yet.
NUMBERED: Final = {"node": "id", "event": "sequence"}

Columns = tuple[str, ...]


class Owner:
    """A unit of work as the locks see it."""

    __slots__ = ("aside",)

    def __init__(self) -> None:
        self.aside = False


@dataclass(frozen=True, slots=True)
class _Lock:
    owner: Owner
    writes: bool
    rows: Mapping[str, Any]


class _Table:
    """The locks of a table, by the columns they know."""

    def __init__(self) -> None:
        self._by_columns: dict[Columns, list[_Lock]] = {}
        # For columns of a lock and a part of them: the locks by the values of that part.
        self._indexes: dict[tuple[Columns, Columns], dict[tuple[Any, ...], list[_Lock]]] = {}

    def add(self, lock: _Lock) -> None:
        columns = tuple(lock.rows)
        self._by_columns.setdefault(columns, []).append(lock)
        for (of, part), index in self._indexes.items():
            if of == columns:
                index.setdefault(_values(lock, part), []).append(lock)

    def meeting(self, lock: _Lock) -> Iterator[_Lock]:
        """Every lock whose rows may be some of this one's."""
        for columns in self._by_columns:
            part = tuple(each for each in columns if each in lock.rows)
            if part:
                yield from self._index(columns, part).get(_values(lock, part), ())
            else:
                yield from self._by_columns[columns]

    def _index(self, columns: Columns, part: Columns) -> dict[tuple[Any, ...], list[_Lock]]:
        index = self._indexes.get((columns, part))
        if index is None:
            index = self._indexes[columns, part] = {}
            for lock in self._by_columns[columns]:
                index.setdefault(_values(lock, part), []).append(lock)
        return index


class Locks:
    """Of one wave."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}

    def take(self, owner: Owner, form: Form, values: tuple[Any, ...]) -> bool:
        """Lock what a statement touches; False when that meets another unit's lock."""
        lock = _Lock(owner, form.writes, _rows(form, values))
        tables = [self._tables.setdefault(name, _Table()) for name in form.tables]
        for table in tables:
            if _stopped(lock, table.meeting(lock)):
                return False
        for table in tables:
            table.add(lock)
        return True


def _rows(form: Form, values: tuple[Any, ...]) -> Mapping[str, Any]:
    rows = form.rows(values)
    if form.inserts:
        (table,) = form.tables
        if table in NUMBERED:
            rows = {**rows, NUMBERED[table]: object()}
    return rows


def _stopped(lock: _Lock, others: Iterable[_Lock]) -> bool:
    return any(
        each.owner is not lock.owner and not each.owner.aside and (each.writes or lock.writes)
        for each in others
    )


def _values(lock: _Lock, columns: Columns) -> tuple[Any, ...]:
    return tuple(lock.rows[each] for each in columns)
