"""Secret ids by the keyed hash of their text, and failed logins by a keyed hash of the name."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import orjson

from strongroom.store.engine._sealed_rows import SealedRows, pack, unpack
from strongroom.store.engine.auth_contract import FailedLoginRow, SecretIdRow
from strongroom.store.engine.listed import Listed
from strongroom.store.engine.sql import upsert

PUT_SECRET_ID: Final = upsert(
    "secret_id", "mount, id", "role, accessor, expires, uses_left, version, body"
)
PUT_FAILED: Final = upsert("failed_login", "mount, name", "lapses, version, body")
_READ: Final = "SELECT mount, id, uses_left, version, body FROM secret_id WHERE mount = ? AND"


class AuthRows(SealedRows):
    """What the auth methods keep besides documents."""

    # secret ids

    def _secret_id(self, where: str, mount: str, value: Any) -> SecretIdRow | None:  # noqa: ANN401
        row = self._sql.one(f"{_READ} {where} = ?", mount, value)
        if row is None:
            return None
        _, row_id, uses_left, version, body = row
        opened = self._barrier.open("secret_id", f"{mount}/{row_id.hex()}", version, body)
        fields = unpack(SecretIdRow, opened)
        for name in ("cidrs", "token_cidrs"):
            fields[name] = tuple(fields[name])
        return SecretIdRow(mount=mount, id=row_id, uses_left=uses_left, **fields)

    def secret_id(self, mount: str, secret_id: bytes) -> SecretIdRow | None:
        return self._secret_id("id", mount, secret_id)

    def secret_id_by_accessor(self, mount: str, accessor: str) -> SecretIdRow | None:
        return self._secret_id("accessor", mount, accessor)

    def secret_id_accessors(self, mount: str, role: str) -> Sequence[str]:
        rows = self._sql.all(
            "SELECT accessor FROM secret_id WHERE mount = ? AND role = ? ORDER BY accessor",
            mount,
            role,
        )
        return [accessor for (accessor,) in rows]

    def put_secret_id(self, row: SecretIdRow) -> None:
        version, _ = self._next_version(
            "SELECT version FROM secret_id WHERE mount = ? AND id = ?", row.mount, row.id
        )
        key = f"{row.mount}/{row.id.hex()}"
        body = self._barrier.seal("secret_id", key, version, pack(row, "mount", "id", "uses_left"))
        self._sql.run(
            PUT_SECRET_ID, row.mount, row.id, row.role, row.accessor, row.expires, row.uses_left,
            version, body,
        )  # fmt: skip

    def delete_secret_id(self, mount: str, secret_id: bytes) -> None:
        self._sql.run("DELETE FROM secret_id WHERE mount = ? AND id = ?", mount, secret_id)

    def delete_secret_ids(self, mount: str, role: str) -> None:
        self._sql.run("DELETE FROM secret_id WHERE mount = ? AND role = ?", mount, role)

    def use_secret_id(self, mount: str, secret_id: bytes) -> bool:
        done = self._sql.one(
            "UPDATE secret_id SET uses_left = CASE uses_left WHEN 1 THEN -1 ELSE uses_left - 1 END"
            " WHERE mount = ? AND id = ? AND uses_left > 0 RETURNING uses_left",
            mount,
            secret_id,
        )
        return done is not None

    def delete_spent_secret_ids(self, now: float, limit: int) -> int:
        rows = self._sql.all(
            "SELECT mount, id FROM secret_id WHERE expires <= ? OR uses_left < 0 LIMIT ?",
            now,
            limit,
        )
        for mount, row_id in rows:
            self.delete_secret_id(mount, row_id)
        return len(rows)

    # failed logins

    def _user_key(self, name: str) -> bytes:
        return self._barrier.mac(b"failed login").digest(name.encode())

    def _failed(self, row: Any) -> FailedLoginRow:  # noqa: ANN401 - columns
        mount, key, version, body = row
        opened = self._barrier.open("failed_login", f"{mount}/{key.hex()}", version, body)
        return msgspec.convert(orjson.loads(opened), FailedLoginRow)

    def failed_login(self, mount: str, name: str) -> FailedLoginRow | None:
        row = self._sql.one(
            "SELECT mount, name, version, body FROM failed_login WHERE mount = ? AND name = ?",
            mount,
            self._user_key(name),
        )
        return self._failed(row) if row else None

    def failed_logins(self) -> Listed[FailedLoginRow]:
        rows = self._sql.all("SELECT mount, name, version, body FROM failed_login")
        found = self._that_open(rows, self._failed)
        found.sort(key=lambda each: (each.mount, each.name))
        return found

    def put_failed_login(self, row: FailedLoginRow) -> None:
        key = self._user_key(row.name)
        version, _ = self._next_version(
            "SELECT version FROM failed_login WHERE mount = ? AND name = ?", row.mount, key
        )
        body = self._barrier.seal("failed_login", f"{row.mount}/{key.hex()}", version, pack(row))
        self._sql.run(PUT_FAILED, row.mount, key, row.lapses, version, body)

    def delete_failed_login(self, mount: str, name: str) -> None:
        self._sql.run(
            "DELETE FROM failed_login WHERE mount = ? AND name = ?", mount, self._user_key(name)
        )

    def forget_failed_logins(self, before: float, limit: int) -> int:
        return self._remove_failed(
            self._sql.all(
                "SELECT mount, name FROM failed_login WHERE lapses < ? LIMIT ?", before, limit
            )
        )

    def trim_failed_logins(self, mount: str, kept: int, limit: int) -> int:
        return self._remove_failed(
            self._sql.all(
                "SELECT mount, name FROM failed_login WHERE mount = ?"
                " ORDER BY lapses DESC LIMIT ? OFFSET ?",
                mount,
                limit,
                kept,
            )
        )

    def _remove_failed(self, rows: Sequence[Any]) -> int:
        for mount, key in rows:
            self._sql.run("DELETE FROM failed_login WHERE mount = ? AND name = ?", mount, key)
        return len(rows)
