"""`sys/wrapping/`: wrap anything, unwrap once, look at a wrapping token, give it a new name.

API: https://developer.hashicorp.com/vault/api-docs/system/wrapping-wrap.
"""

from collections.abc import Sequence
from typing import Final

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.parameters import fields
from strongroom.store.secrets.kv_value import encoded
from strongroom.store.sessions import WRAPPING
from strongroom.store.wrapping import Wrapping

TOKEN: Final = fields(text="token")


class WrappingEndpoints:
    """The endpoints; the pipeline wraps, here as anywhere."""

    def __init__(self, wrapping: Wrapping) -> None:
        self._wrapping = wrapping

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("wrapping/wrap", {"update": self._wrap}, takes=None),
            Endpoint("wrapping/unwrap", {"update": self._unwrap}, takes=TOKEN),
            Endpoint(
                "wrapping/lookup",
                {"update": self._lookup, "read": self._lookup},
                public=True,
                takes=TOKEN,
            ),
            Endpoint("wrapping/rewrap", {"update": self._rewrap}, takes=TOKEN),
        )

    @staticmethod
    def _wrap(call: Call) -> Result:
        if not call.wrap_seconds:
            raise Invalid(
                "no-wrap-ttl",
                "endpoint requires response wrapping to be used",
                hint="send the header X-Vault-Wrap-TTL",
            )
        # Every token may, for a month: as much as a secret, like a value of a cubbyhole.
        encoded(call.data, "what is wrapped")
        return Result(call.data)

    async def _unwrap(self, call: Call) -> Result:
        if call.wrap_seconds:
            raise Invalid("unwrap-wrapped", "unwrapping cannot be wrapped", hint="use rewrap")
        token = call.text("token")
        own = not token or token == call.token
        counted = own and WRAPPING in call.caller.row.policies
        body = await self._wrapping.unwrap(token or call.token, counted=counted)
        return Result(raw=body) if body else Result(status=204)

    def _lookup(self, call: Call) -> Result:
        info = self._wrapping.lookup(call.text("token") or call.token)
        return Result(
            {
                "creation_ttl": info.creation_ttl,
                "creation_time": info.creation_time,
                "creation_path": info.creation_path,
            }
        )

    async def _rewrap(self, call: Call) -> Result:
        return await self._wrapping.rewrap(call.text("token"))
