"""`auth/userpass`: user names and passwords.

API: https://developer.hashicorp.com/vault/api-docs/auth/userpass.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from strongroom.crypto.passwords import NOBODY, hash_password, verify_password
from strongroom.model.errors import Denied, Invalid
from strongroom.store.auth.lockout import Lockout
from strongroom.store.auth.login import log_in
from strongroom.store.auth.role_fields import TOKEN_FIELDS, RoleReader, role_grant, shown_role
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import listed, present
from strongroom.store.identity.at_login import LoginAlias
from strongroom.store.parameters import fields

USER: Final = "user"
HASH: Final = "password_hash"
MAX_PASSWORD: Final = 4096
PASSWORD: Final = fields(text="password")
# Each hash takes 19 MiB and a core; more at once would let strangers starve everybody else.
HASHED_AT_ONCE: Final = 2


class Userpass:
    """The backend of every userpass mount."""

    def __init__(
        self, context: Context, verify: Callable[[bytes, str], bool] = verify_password
    ) -> None:
        self._context = context
        self._verify = verify
        self._lockout = Lockout(context)
        self._turns = asyncio.Semaphore(HASHED_AT_ONCE)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("users", {"list": self._list}),
            Endpoint(
                "users/{username}",
                {
                    "read": self._read,
                    "create": self._write,
                    "update": self._write,
                    "delete": self._delete,
                },
                takes=fields(TOKEN_FIELDS, PASSWORD),
            ),
            Endpoint("users/{username}/password", {"update": self._write_password}, takes=PASSWORD),
            Endpoint(
                "users/{username}/policies",
                {"update": self._write_policies},
                takes=fields(texts="token_policies policies"),
            ),
            Endpoint("login/{username}", {"update": self._login}, public=True, takes=PASSWORD),
        )

    def exists(self, call: Call) -> bool:
        kind, _, name = call.rest.partition("/")
        return kind != "users" or "/" in name or self._user(call, name) is not None

    def _user(self, call: Call, name: str) -> dict[str, Any] | None:
        return self._context.view.document(call.mount.uuid, USER, canonical_user(name))

    # users

    def _list(self, call: Call) -> Result:
        return listed(self._context.view.document_names(call.mount.uuid, USER))

    def _read(self, call: Call) -> Result:
        user = present(self._user(call, call.args["username"]))
        return Result({key: value for key, value in shown_role(user).items() if key != HASH})

    async def _write(self, call: Call) -> None:
        name = canonical_user(call.args["username"])
        hashed = await self._hashed(call) if "password" in call.data else ""
        await self._change(call, name, hashed, only_there=False)

    async def _write_password(self, call: Call) -> None:
        await self._change(
            call, canonical_user(call.args["username"]), await self._hashed(call), only_there=True
        )

    async def _write_policies(self, call: Call) -> None:
        await self._change(call, canonical_user(call.args["username"]), "", only_there=True)

    async def _change(self, call: Call, name: str, hashed: str, *, only_there: bool) -> None:
        mount = call.mount.uuid

        def write(transaction: Transaction) -> None:
            old = transaction.document(mount, USER, name)
            if old is None and only_there:
                raise Invalid("no-user", "username does not exist")
            if old is None and not hashed:
                raise Invalid("no-password", "missing password")
            user = RoleReader(call, old or {}).token_fields()
            user[HASH] = hashed or (old or {})[HASH]
            transaction.put_document(mount, USER, name, user)

        await self._context.engine.transact(write)

    async def _hashed(self, call: Call) -> str:
        password = password_of(call)
        async with self._turns:
            return await asyncio.to_thread(hash_password, password.encode())

    async def _delete(self, call: Call) -> None:
        mount, name = call.mount.uuid, canonical_user(call.args["username"])
        await self._context.engine.transact(lambda each: each.delete_document(mount, USER, name))

    # login

    async def _login(self, call: Call) -> Result:
        name, password = canonical_user(call.args["username"]), password_of(call)
        async with self._turns:
            # Looked at when it is this attempt's turn: those before it are counted by then.
            self._lockout.check(call.mount, name)
            user = self._user(call, name)
            right = await asyncio.to_thread(
                self._verify, password.encode(), user[HASH] if user else NOBODY
            )
            if user is None or not right:
                await self._lockout.failed(call.mount, name)
                raise Invalid("bad-login", "invalid username or password")

        def still(transaction: Transaction) -> None:
            if transaction.document(call.mount.uuid, USER, name) != user:
                raise Denied("user-changed", "permission denied")
            self._lockout.succeeded(transaction, call.mount, name)

        metadata = {"username": name}
        grant = role_grant(call.mount, name, user, name, metadata)
        return await log_in(self._context, call, grant, LoginAlias(name, metadata), still)


def password_of(call: Call) -> str:
    """The password of a call; raises Invalid where there is none, or one that is too long."""
    password = call.text("password")
    if not password:
        raise Invalid("no-password", "missing password")
    if len(password) > MAX_PASSWORD:
        raise Invalid("password-too-long", f"a password has at most {MAX_PASSWORD:,} characters")
    return password


def canonical_user(name: str) -> str:
    """The one form of a user's name; raises Invalid for one with spaces or slashes at its ends."""
    folded = name.lower()
    if folded != folded.strip() or not folded:
        raise Invalid("bad-name", "invalid username or password")
    return folded
