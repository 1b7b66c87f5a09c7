"""Every table with sealed rows, and how a row's place in the barrier follows from its keys.

A test holds this list against the schema: a table that is missing here would keep values under
old terms of the key ring.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final


def joined(keys: Sequence[Any]) -> str:
    """Key columns with slashes between them, bytes as hex: what most rows use."""
    return "/".join(each.hex() if isinstance(each, bytes) else str(each) for each in keys)


@dataclass(frozen=True, slots=True)
class SealedTable:
    """`keys` in the order of the primary key; `version` is a column, or a number as text."""

    name: str
    keys: tuple[str, ...]
    place: Callable[[Sequence[Any]], str] = joined
    version: str = "version"

    def page(self, *, onward: bool) -> str:
        """SQL of the next rows: keys, version, and the body where its term is another than asked.

        Values: the term as four bytes, the keys to go on after when `onward`, how many.
        """
        keys = ", ".join(self.keys)
        where = f"WHERE ({keys}) > ({_places(self.keys)})" if onward else ""
        return (
            f"SELECT {keys}, {self.version}, CASE WHEN substr(body, 1, 4) <> ? THEN body END"  # noqa: S608
            f" FROM {self.name} {where} ORDER BY {keys} LIMIT ?"
        )

    def write(self) -> str:
        """SQL that replaces the body of a row."""
        where = " AND ".join(f"{each} = ?" for each in self.keys)
        return f"UPDATE {self.name} SET body = ? WHERE {where}"  # noqa: S608


def _places(keys: Sequence[str]) -> str:
    return ", ".join("?" * len(keys))


TABLES: Final[tuple[SealedTable, ...]] = (
    SealedTable("mount", ("kind", "path")),
    SealedTable("policy", ("name",)),
    SealedTable("token", ("id",)),
    SealedTable("document", ("mount", "kind", "name")),
    SealedTable("node", ("id",)),
    SealedTable("kv_version", ("node", "version"), lambda keys: joined(keys[:1])),
    SealedTable("consumer", ("path", "actor"), lambda keys: joined(keys[1:])),
    SealedTable("event", ("sequence",), lambda _: "", version="0"),
    SealedTable("entity", ("id",)),
    SealedTable("alias", ("id",)),
    SealedTable("identity_group", ("id",)),
    SealedTable("secret_id", ("mount", "id")),
    SealedTable("failed_login", ("mount", "name")),
    SealedTable("lease", ("id",)),
    SealedTable("cubbyhole", ("token", "name")),
)
