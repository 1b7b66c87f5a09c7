"""`cubbyhole/`: what a token keeps for itself alone, gone with it.

API: https://developer.hashicorp.com/vault/api-docs/secret/cubbyhole.
"""

from collections.abc import Sequence
from typing import Final

import orjson

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import listed, present
from strongroom.store.secrets.kv_value import encoded, secret_path
from strongroom.store.sessions import invalid_token

MAX_ENTRIES: Final = 1000


class Cubbyhole:
    """The backend of the one `cubbyhole/` mount."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "{path*}",
                {
                    "read": self._read,
                    "create": self._write,
                    "update": self._write,
                    "delete": self._delete,
                    "list": self._list,
                },
                takes=None,
            ),
        )

    def exists(self, call: Call) -> bool:
        if call.session is None or not call.session.row.id:
            return True
        return self._context.view.cubbyhole(call.session.row.id, call.rest) is not None

    def _token(self, call: Call) -> bytes:
        if not call.caller.row.id:
            raise Invalid(
                "no-cubbyhole", "cubbyhole operations are only supported by service tokens"
            )
        return call.caller.row.id

    def _read(self, call: Call) -> Result:
        body = present(self._context.view.cubbyhole(self._token(call), secret_path(call)))
        return Result(orjson.loads(body))

    async def _write(self, call: Call) -> None:
        token, path = self._token(call), secret_path(call)
        if not call.data:
            raise Invalid("no-data", "missing data fields")
        body = encoded(call.data)

        def write(transaction: Transaction) -> None:
            if transaction.token(token) is None:
                raise invalid_token()
            # In the turn to write, which the whole cluster waits for: names are not opened here.
            full = transaction.cubbyhole_size(token) >= MAX_ENTRIES
            if full and transaction.cubbyhole(token, path) is None:
                raise Invalid("cubbyhole-full", f"a token keeps at most {MAX_ENTRIES} entries")
            transaction.put_cubbyhole(token, path, body)

        await self._context.engine.transact(write)

    async def _delete(self, call: Call) -> None:
        token, path = self._token(call), secret_path(call)
        await self._context.engine.transact(lambda each: each.delete_cubbyhole(token, path))

    def _list(self, call: Call) -> Result:
        folder = call.args["path"].strip("/")
        prefix = f"{folder}/" if folder else ""
        names = set()
        for path in self._context.view.cubbyhole_paths(self._token(call)):
            if path.startswith(prefix):
                head, slash, _ = path[len(prefix) :].partition("/")
                names.add(head + slash)
        return listed(sorted(names))
