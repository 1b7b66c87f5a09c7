"""Leases with their times of action, and what tokens keep for themselves alone."""

from collections.abc import Sequence
from typing import Any, Final

from strongroom.crypto.aead import Tampered
from strongroom.store.engine._sealed_rows import SealedRows, pack, unpack
from strongroom.store.engine.contract import LeaseRow
from strongroom.store.engine.sql import NO_LIMIT, upsert

PUT_LEASE: Final = upsert("lease", "id", "mount, token, due, state, attempts, version, body")
PUT_CUBBYHOLE: Final = upsert("cubbyhole", "token, name", "version, body")
NAMES: Final = "SELECT name FROM cubbyhole WHERE token = ?"
COLUMNS: Final = "SELECT id, mount, token, due, state, attempts, version, body FROM lease"
CLAIM: Final = "UPDATE lease SET due = ?, state = 'revoking', attempts = attempts + 1 WHERE id = ?"
_APART: Final = ("id", "mount", "token", "due", "state", "attempts")
# What is still being made is not undone before it is there: it waits for the time it has.
REVOKE: Final = (
    "due = CASE state WHEN 'pending' THEN due WHEN 'abandoned' THEN due ELSE ? END, attempts = 0,"
    " state = CASE state WHEN 'pending' THEN 'abandoned' WHEN 'abandoned' THEN 'abandoned'"
    " ELSE 'revoking' END"
)
# The first text that no longer begins with a prefix; U+10FFFF sorts after every character.
_LAST: Final = "\U0010ffff"


def after_prefix(prefix: str) -> str:
    """The end of the range of texts that begin with a prefix, by code point."""
    return prefix + _LAST


class LeaseRows(SealedRows):
    """Leases and cubbyholes."""

    # leases

    def _lease(self, row: Any) -> LeaseRow:  # noqa: ANN401 - the columns
        lease_id, mount, token, due, state, attempts, version, body = row
        fields = unpack(LeaseRow, self._barrier.open("lease", lease_id, version, body))
        return LeaseRow(
            id=lease_id,
            mount=mount,
            token=token,
            due=due,
            state=state,
            attempts=attempts,
            **fields,
        )

    def lease(self, lease_id: str) -> LeaseRow | None:
        row = self._sql.one(f"{COLUMNS} WHERE id = ?", lease_id)
        return self._lease(row) if row else None

    def lease_ids(self, prefix: str, *, after: str = "", limit: int = 0) -> Sequence[str]:
        rows = self._sql.all(
            "SELECT id FROM lease WHERE id > ? AND id >= ? AND id < ? ORDER BY id LIMIT ?",
            after,
            prefix,
            after_prefix(prefix),
            limit or NO_LIMIT,
        )
        return [lease_id for (lease_id,) in rows]

    def count_under(self, prefix: str, limit: int) -> int:
        found = self._sql.one(
            "SELECT COUNT(*) FROM (SELECT 1 FROM lease WHERE id >= ? AND id < ? UNION ALL"
            " SELECT 1 FROM token WHERE path >= ? AND path < ? LIMIT ?) AS found",
            prefix,
            after_prefix(prefix),
            prefix,
            after_prefix(prefix),
            limit,
        )
        return int(found[0])

    def count_of(self, client: str, limit: int) -> int:
        found = self._sql.one(
            "SELECT COUNT(*) FROM (SELECT 1 FROM token WHERE client = ? UNION ALL"
            " SELECT 1 FROM lease JOIN token ON token.id = lease.token WHERE token.client = ?"
            " LIMIT ?) AS found",
            client,
            client,
            limit,
        )
        return int(found[0])

    def next_due(self) -> float | None:
        (found,) = self._sql.one(
            "SELECT MIN(at) FROM (SELECT MIN(due) AS at FROM lease WHERE due IS NOT NULL"
            " UNION ALL SELECT MIN(expires) FROM token WHERE expires IS NOT NULL) AS ends"
        )
        return None if found is None else float(found)

    def stuck_leases(self, limit: int) -> Sequence[LeaseRow]:
        rows = self._sql.all(f"{COLUMNS} WHERE state = 'irrevocable' ORDER BY id LIMIT ?", limit)
        return [self._lease_or_damage(row) for row in rows]

    def _lease_or_damage(self, row: Any) -> LeaseRow:  # noqa: ANN401 - the columns
        try:
            return self._lease(row)
        except Tampered as error:
            lease_id, mount, token, due, state, attempts, *_ = row
            return LeaseRow(
                lease_id, mount, token, 0.0, 0.0, 0, due, state, attempts, error=error.message
            )

    def put_lease(self, row: LeaseRow) -> None:
        version, _ = self._next_version("SELECT version FROM lease WHERE id = ?", row.id)
        body = self._barrier.seal("lease", row.id, version, pack(row, *_APART))
        self._sql.run(
            PUT_LEASE,
            row.id,
            row.mount,
            row.token,
            row.due,
            row.state,
            row.attempts,
            version,
            body,
        )

    def delete_lease(self, lease_id: str) -> None:
        self._sql.run("DELETE FROM lease WHERE id = ?", lease_id)

    def claim_leases(
        self, now: float, until: float, limit: int, *, apart: Sequence[str] = ()
    ) -> Sequence[LeaseRow]:
        others = f" AND mount NOT IN ({', '.join('?' * len(apart))})" if apart else ""
        which = f"WHERE due <= ?{others} ORDER BY due, id LIMIT ? {self._sql.dialect.skip_locked}"
        due = self._sql.all(f"{COLUMNS} {which}", now, *apart, limit)
        # Those alone: another that is free by now would be claimed and undone by nobody.
        for lease_id, *_ in due:
            self._sql.run(CLAIM, until, lease_id)
        claimed = []
        for row in due:
            lease_id, attempts = row[0], row[5] + 1
            try:
                claimed.append(self._lease((*row[:3], until, "revoking", attempts, *row[6:])))
            except Tampered:
                # Nobody knows what is to be undone. A person has to look; the others go on.
                self._sql.run(
                    "UPDATE lease SET due = NULL, state = 'irrevocable' WHERE id = ?", lease_id
                )
        return claimed

    def revoke_leases(self, now: float, *, prefix: str = "", mount: str = "") -> None:
        if mount:
            self._sql.run(
                f"UPDATE lease SET {REVOKE} WHERE mount = ?",  # noqa: S608 - our own words
                now,
                mount,
            )
            return
        self._sql.run(
            f"UPDATE lease SET {REVOKE} WHERE id >= ? AND id < ?",  # noqa: S608 - our own words
            now,
            prefix,
            after_prefix(prefix),
        )

    def revoke_abandoned_leases(self, now: float) -> None:
        self._sql.run(
            "UPDATE lease SET due = ?, state = 'revoking', attempts = 0"
            " WHERE state = 'live' AND token IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM token WHERE token.id = lease.token)",
            now,
        )
        self._sql.run("DELETE FROM cubbyhole WHERE token NOT IN (SELECT id FROM token)")

    # cubbyholes

    def _sealed_path(self, token: bytes, path: str) -> bytes:
        return self._barrier.seal_name(f"cubbyhole/{token.hex()}", 0, path)

    def cubbyhole(self, token: bytes, path: str) -> bytes | None:
        name = self._sealed_path(token, path)
        row = self._sql.one(
            "SELECT version, body FROM cubbyhole WHERE token = ? AND name = ?", token, name
        )
        if row is None:
            return None
        return self._barrier.open("cubbyhole", _place(token, name), row[0], row[1])

    def cubbyhole_paths(self, token: bytes) -> Sequence[str]:
        folder = f"cubbyhole/{token.hex()}"
        return sorted(
            self._barrier.open_name_of(f"row {_place(token, name)} of cubbyhole", folder, 0, name)
            for (name,) in self._sql.all(NAMES, token)
        )

    def cubbyhole_size(self, token: bytes) -> int:
        # Not a count: units run side by side where a statement names its rows by columns.
        return len(self._sql.all(NAMES, token))

    def put_cubbyhole(self, token: bytes, path: str, data: bytes) -> None:
        name = self._sealed_path(token, path)
        version, _ = self._next_version(
            "SELECT version FROM cubbyhole WHERE token = ? AND name = ?", token, name
        )
        body = self._barrier.seal("cubbyhole", _place(token, name), version, data)
        self._sql.run(PUT_CUBBYHOLE, token, name, version, body)

    def delete_cubbyhole(self, token: bytes, path: str) -> None:
        self._sql.run(
            "DELETE FROM cubbyhole WHERE token = ? AND name = ?",
            token,
            self._sealed_path(token, path),
        )


def _place(token: bytes, name: bytes) -> str:
    return f"{token.hex()}/{name.hex()}"
