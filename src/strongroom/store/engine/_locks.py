"""Which rows the units of work of a wave have read or want to change: whoever comes second waits.

Two-phase locking without waiting, in memory. A lock is a form of statement with its values (see
`_footprints`); two locks meet unless a column that both know differs. Locks of units that have
stepped aside count no more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from strongroom.store.engine._footprints import Columns, Form

# Numbers the database gives: a row that is inserted has one that nobody can have asked for yet.
NUMBERED: Final = {"node": "id", "event": "sequence"}

_Pick = Callable[[tuple[Any, ...]], Any]


class Owner:
    """A unit of work as the locks see it."""

    __slots__ = ("aside",)

    def __init__(self) -> None:
        self.aside = False


@dataclass(slots=True)
class _Lock:
    """`values` are those of `columns`."""

    owner: Owner
    writes: bool
    columns: Columns
    values: tuple[Any, ...]


class _Bucket:
    """Locks that may be of the same rows."""

    __slots__ = ("_readers", "_writers")

    def __init__(self) -> None:
        self._readers: list[Owner] = []
        self._writers: list[Owner] = []

    def add(self, lock: _Lock) -> None:
        (self._writers if lock.writes else self._readers).append(lock.owner)

    def stops(self, lock: _Lock) -> bool:
        """Whether another's lock is here that a lock cannot be beside."""
        return _has_another(self._writers, lock.owner) or (
            lock.writes and _has_another(self._readers, lock.owner)
        )


def _has_another(owners: list[Owner], owner: Owner) -> bool:
    for each in owners:  # noqa: SIM110 - several times for each statement; `any` takes twice as long
        if each is not owner and not each.aside:
            return True
    return False


class _Kind:
    """The locks of a table that know the same columns."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._locks: list[_Lock] = []
        # By the columns that another kind of lock knows as well, and their values.
        self._indexes: dict[Columns, tuple[_Pick, dict[Any, _Bucket]]] = {}

    def add(self, lock: _Lock) -> None:
        self._locks.append(lock)
        for pick, index in self._indexes.values():
            _add(index, pick(lock.values), lock)

    def stops(self, lock: _Lock) -> bool:
        """Whether a lock, of whatever kind, meets one of these."""
        part, ours, theirs = _common(self._columns, lock.columns)
        if not part:
            every = _Bucket()
            for each in self._locks:
                every.add(each)
            return every.stops(lock)
        found = self._indexes.get(part)
        if found is None:
            found = self._indexes[part] = ours, {}
            for each in self._locks:
                _add(found[1], ours(each.values), each)
        bucket = found[1].get(theirs(lock.values))
        return bucket is not None and bucket.stops(lock)


def _add(index: dict[Any, _Bucket], values: Any, lock: _Lock) -> None:  # noqa: ANN401
    bucket = index.get(values)
    if bucket is None:
        bucket = index[values] = _Bucket()
    bucket.add(lock)


@lru_cache(maxsize=1024)
def _common(ours: Columns, theirs: Columns) -> tuple[Columns, _Pick, _Pick]:
    """The columns that two kinds of lock both know, and how to pick their values from each."""
    part = tuple(each for each in ours if each in theirs)
    if not part:
        return part, tuple, tuple
    return part, itemgetter(*map(ours.index, part)), itemgetter(*map(theirs.index, part))


class Locks:
    """Of one wave."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[Columns, _Kind]] = {}

    def take(self, owner: Owner, form: Form, values: tuple[Any, ...]) -> bool:
        """Lock what a statement touches; False when that meets another unit's lock."""
        columns, known = form.names, form.picked(values)
        if form.inserts:
            (table,) = form.tables
            if table in NUMBERED:
                columns, known = (*columns, NUMBERED[table]), (*known, object())
        lock = _Lock(owner, form.writes, columns, known)
        tables = [self._tables.setdefault(name, {}) for name in form.tables]
        for kinds in tables:
            for kind in kinds.values():
                if kind.stops(lock):
                    return False
        for kinds in tables:
            mine = kinds.get(columns)
            if mine is None:
                mine = kinds[columns] = _Kind(columns)
            mine.add(lock)
        return True
