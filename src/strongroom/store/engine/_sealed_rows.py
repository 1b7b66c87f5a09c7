"""What row classes share: a connection, the barrier, and rows that carry a version.

The key ring is a row as well. A unit of work seals under the newest term, and a value under a
term that this process does not know yet makes it read the ring anew.
"""

import dataclasses
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, TypeVar

import orjson

from strongroom.crypto.aead import Tampered
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import ClusterRow
from strongroom.store.engine.listed import Listed
from strongroom.store.engine.schema import STEPS, check_schema
from strongroom.store.engine.sql import Sql

Row = TypeVar("Row")
# A restore begins another history: a generation's part above this.
HISTORY: Final = 2**32
NAMED: Final = (
    "restore the row from a backup; the other names of the folder can be read and written, only"
    " its list cannot be made"
)


class RowBarrier:
    """The barrier as rows use it."""

    def __init__(self, sql: Sql, barrier: Barrier) -> None:
        self._sql = sql
        self._whole = barrier
        self.seal = barrier.seal
        self.seal_name = barrier.seal_name
        self.mac = barrier.mac

    def open(self, table: str, key: str, version: int, sealed: bytes) -> bytes:
        """Open the value of a row; raises Tampered naming it."""
        try:
            return self._whole.open(table, key, version, sealed)
        except Tampered:
            if self._whole.knows_term(sealed):
                raise
        self.refresh()
        return self._whole.open(table, key, version, sealed)

    def open_name_of(self, row: str, mount: str, folder: int, sealed: bytes) -> str:
        """The name that a row is found by; raises Tampered naming the row."""
        try:
            return self._whole.open_name(mount, folder, sealed)
        except Tampered:
            raise Tampered(f"the name of the {row}", hint=NAMED) from None

    def refresh(self) -> None:
        """Take the stored ring into use if it is another."""
        row = self._sql.one(
            "SELECT cluster_id, cluster_name, seal_type, wrapped_ring, created FROM cluster"
        )
        if row is not None:
            self._whole.refresh(ClusterRow(*row))


class SealedRows:
    """The base of the row classes; one instance serves a view or the writes of a connection."""

    def __init__(self, sql: Sql, barrier: Barrier, steps: int = len(STEPS)) -> None:
        """`steps` is how many steps of the schema the program knows."""
        self._sql = sql
        self._barrier = RowBarrier(sql, barrier)
        self._steps = steps
        self._generation = -1

    def check_schema(self) -> None:
        """Raise Unavailable(`schema-too-new`); see the contract."""
        check_schema(self._sql, self._steps)

    def refresh_keys(self) -> None:
        """Take the stored key ring into use if it is another."""
        self._barrier.refresh()

    def begin_group(self) -> None:
        """Units of work follow that run alone until the commit: they seal under the newest term."""
        (generation,) = self._sql.one("SELECT value FROM generation")
        self.notice(generation)
        if generation != self._generation:
            self.check_schema()
            self.refresh_keys()
            self._generation = generation

    def notice(self, generation: int) -> None:
        """The generation was read; what is right in one history alone is forgotten."""

    def begin(self) -> None:
        """A new unit of work: what was read before may be old."""

    def undo(self) -> None:
        """The unit of work was undone."""

    def _that_open(self, rows: Iterable[Any], opened: Callable[[Any], Row]) -> Listed[Row]:
        """What a list shows, and what it leaves out."""
        found, damaged = list[Row](), list[str]()
        for row in rows:
            try:
                found.append(opened(row))
            except Tampered as error:
                damaged.append(error.message)
        return Listed(found, damaged)

    def _next_version(self, statement: str, *key: object) -> tuple[int, bool]:
        """One more than the version a row has, and whether the row is there."""
        found = self._sql.one(statement, *key)
        return (int(found[0]) if found else 0) + 1, found is not None

    def move_generation(self) -> None:
        self._sql.run("UPDATE generation SET value = value + 1")

    _move_generation = move_generation

    def _begin_history(self) -> None:
        statement = "UPDATE generation SET value = (value / ? + 1) * ?"
        self._sql.run(statement, HISTORY, HISTORY)


def unpack(kind: Any, body: bytes) -> dict[str, Any]:  # noqa: ANN401 - a row's class
    """The fields of a row that `pack` wrote, without those that a later version has added."""
    fields: dict[str, Any] = orjson.loads(body)
    names = _names_of(kind)
    return fields if fields.keys() <= names else {k: fields[k] for k in fields if k in names}


@lru_cache(maxsize=64)
def _names_of(kind: type[Any]) -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(kind))


def pack(row: Any, *left_out: str) -> bytes:  # noqa: ANN401 - any of the contract's rows
    """A row's fields as JSON, without those that have a column of their own."""
    kind: Any = type(row)
    return orjson.dumps({name: getattr(row, name) for name in _packed(kind, left_out)})


@lru_cache(maxsize=64)
def _packed(kind: type[Any], left_out: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each.name for each in dataclasses.fields(kind) if each.name not in left_out)
