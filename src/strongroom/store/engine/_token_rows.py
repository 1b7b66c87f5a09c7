"""Service tokens by the keyed hash of their text, with their parents and times of expiry."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from strongroom.store.engine._lease_rows import REVOKE, after_prefix
from strongroom.store.engine._sealed_rows import SealedRows, pack, unpack
from strongroom.store.engine.contract import LONG_PAST, TokenRow
from strongroom.store.engine.sql import NO_LIMIT, upsert

PUT: Final = upsert(
    "token", "id", "accessor, parent, expires, uses_left, path, client, version, body"
)
READ: Final = "id, parent, uses_left, expires, version, body"
# The token and everything it made, the token itself first.
FAMILY: Final = (
    "WITH RECURSIVE family(id) AS (SELECT id FROM token WHERE id = ? UNION"
    " SELECT token.id FROM token JOIN family ON token.parent = family.id) SELECT id FROM family"
)
# Tokens that have expired, the first ones first and so many of them, and everything they made.
ENDED: Final = (
    "WITH RECURSIVE ended(id) AS (SELECT id FROM (SELECT id FROM token WHERE expires <= ?"
    " ORDER BY expires, id LIMIT ?) AS due UNION"
    " SELECT token.id FROM token JOIN ended ON token.parent = ended.id)"
)
COUNT_ENDED: Final = (
    f"{ENDED} SELECT COUNT(*), SUM(CASE WHEN expires <= ? THEN 1 ELSE 0 END) FROM token"  # noqa: S608
    " WHERE id IN (SELECT id FROM ended)"
)
END_LEASES: Final = (
    f"{ENDED} UPDATE lease SET {REVOKE}, token = NULL"  # noqa: S608
    " WHERE token IN (SELECT id FROM ended)"
)
DELETE_CUBBYHOLES: Final = f"{ENDED} DELETE FROM cubbyhole WHERE token IN (SELECT id FROM ended)"  # noqa: S608
DELETE_ENDED: Final = f"{ENDED} DELETE FROM token WHERE id IN (SELECT id FROM ended)"  # noqa: S608
# Those of a path or under it, and everything they made.
REVOKED: Final = (
    "WITH RECURSIVE revoked(id) AS (SELECT id FROM token WHERE path = ? OR (path >= ? AND path < ?)"
    " UNION SELECT token.id FROM token JOIN revoked ON token.parent = revoked.id)"
    " UPDATE token SET expires = ? WHERE id IN (SELECT id FROM revoked)"
)


class TokenRows(SealedRows):
    """Tokens."""

    def _token(self, where: str, value: Any) -> TokenRow | None:  # noqa: ANN401
        row = self._sql.one(
            f"SELECT {READ} FROM token WHERE {where} = ?",  # noqa: S608 - our own names
            value,
        )
        if row is None:
            return None
        token_id, parent, uses_left, expires, version, body = row
        fields = unpack(TokenRow, self._barrier.open("token", token_id.hex(), version, body))
        fields["policies"] = tuple(fields["policies"])
        fields["bound_cidrs"] = tuple(fields["bound_cidrs"])
        # The column may cut a life short, never lengthen it: only the body is sealed.
        ends = [each for each in (fields["expires"], expires) if each is not None]
        fields["expires"] = min(ends, default=None)
        return TokenRow(id=token_id, parent=parent, uses_left=uses_left, **fields)

    def token(self, token_id: bytes) -> TokenRow | None:
        return self._token("id", token_id)

    def token_by_accessor(self, accessor: str) -> TokenRow | None:
        return self._token("accessor", accessor)

    def accessors(self, now: float = 0.0) -> Sequence[str]:
        # Sorted here: in the order of the index each row is read by itself, five times as slow.
        asked = "SELECT accessor FROM token WHERE expires IS NULL OR expires > ?"
        return sorted(name for (name,) in self._sql.all(asked, now))

    def token_count(self) -> int:
        return int(self._sql.one("SELECT COUNT(*) FROM token")[0])

    def put_token(self, row: TokenRow) -> None:
        version, found = self._next_version("SELECT version FROM token WHERE id = ?", row.id)
        if found:
            self._move_generation()
        packed = pack(row, "id", "parent", "uses_left")
        body = self._barrier.seal("token", row.id.hex(), version, packed)
        self._sql.run(
            PUT,
            row.id,
            row.accessor,
            row.parent,
            row.expires,
            row.uses_left,
            row.path,
            row.client,
            version,
            body,
        )

    def token_ids(
        self, prefix: str, *, after: str = "", limit: int = 0, now: float = 0.0
    ) -> Sequence[tuple[str, bytes]]:
        path, _, token_id = after.rpartition("/h")
        itself, inside, end = _under(prefix)
        # From where the page begins: a condition with OR there would read all of them each time.
        rows = self._sql.all(
            "SELECT path, id FROM token WHERE (path, id) > (?, ?) AND path >= ? AND path < ?"
            " AND (path = ? OR path >= ?) AND (expires IS NULL OR expires > ?)"
            " ORDER BY path, id LIMIT ?",
            path,
            bytes.fromhex(token_id),
            itself,
            end,
            itself,
            inside,
            now,
            limit or NO_LIMIT,
        )
        return [(row[0], row[1]) for row in rows]

    def revoke_tokens(self, prefix: str) -> None:
        self._move_generation()
        self._sql.run(REVOKED, *_under(prefix), LONG_PAST)

    def delete_token(
        self, token_id: bytes, *, orphan: bool = False, now: float = 0.0
    ) -> Sequence[bytes]:
        self._move_generation()
        if orphan:
            self._sql.run("UPDATE token SET parent = NULL WHERE parent = ?", token_id)
        family = [each for (each,) in self._sql.all(FAMILY, token_id)]
        self._remove_tokens(family, now)
        return family

    def _remove_tokens(self, token_ids: Collection[bytes], now: float) -> None:
        # Equal statements one after another are one round trip.
        for each in token_ids:
            self._sql.run("DELETE FROM token WHERE id = ?", each)
        for each in token_ids:
            self._sql.run("DELETE FROM cubbyhole WHERE token = ?", each)
        for each in token_ids:
            self._sql.run(
                f"UPDATE lease SET {REVOKE}, token = NULL WHERE token = ?",  # noqa: S608
                now,
                each,
            )

    def delete_expired_tokens(self, now: float, limit: int) -> int:
        # Set statements: what they do for each token costs no time of the interpreter.
        which = (now, limit)
        gone, expired = self._sql.one(COUNT_ENDED, *which, now)
        if not gone:
            return 0
        if gone != expired:
            self._move_generation()
        self._sql.run(END_LEASES, *which, now)
        self._sql.run(DELETE_CUBBYHOLES, *which)
        self._sql.run(DELETE_ENDED, *which)
        return int(expired)

    def use_token(self, token_id: bytes) -> bool:
        done = self._sql.one(
            "UPDATE token SET uses_left = CASE uses_left WHEN 1 THEN -1 ELSE uses_left - 1 END"
            " WHERE id = ? AND uses_left > 0 RETURNING id",
            token_id,
        )
        return done is not None


def _under(prefix: str) -> tuple[str, str, str]:
    inside = f"{prefix.rstrip('/')}/" if prefix else ""
    return prefix.rstrip("/"), inside, after_prefix(inside)
