"""`sys/consumers`: readers say which version of a secret they use, and rotation asks who said so.

Strongroom's own addition to the API. An acknowledgement is kept with the caller's pod, node and
token id, lapses with the token, and replaces the caller's earlier one for the same secret. A
lapsed one is still shown for a week: the pod may be there, and hold what it read.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Denied, Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import ConsumerRow
from strongroom.store.normalise import canonical_segments
from strongroom.store.parameters import fields
from strongroom.store.tokens import claim_end

# Methods whose metadata come from who signed a login.
REVIEWED: Final = frozenset({"kubernetes", "jwt", "oidc"})


class Consumers:
    """Acknowledge and list."""

    def __init__(self, context: Context, type_of: Callable[[str], str]) -> None:
        self._context = context
        self._type_of = type_of

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "consumers/ack",
                {"update": self._acknowledge},
                takes=fields(text="path", number="version"),
            ),
            Endpoint("consumers", {"read": self._list}, takes=fields(text="path")),
        )

    async def _acknowledge(self, call: Call) -> None:
        # As a request for it is decided.
        path = canonical_segments(call.text("path")).strip("/")
        version = call.integer("version")
        if not path or version < 1:
            raise Invalid("bad-parameter", "path and a version of at least 1 are needed")
        if not call.caller.decide(path, "read").allowed:
            raise Denied("not-a-reader", "permission denied")
        row, now = call.caller.row, self._context.clock.now()
        # Whoever makes a token, or a secret id, writes into its metadata what they like: also the
        # pod of somebody else, whose acknowledgement theirs would replace.
        known = row.metadata if self._type_of(row.mount) in REVIEWED else {}
        # A batch token has no accessor: without a name of its own each would replace the last.
        name = row.accessor or self._context.fingerprint(call.token.encode())
        kind = "token" if row.accessor else "batch"
        consumer = ConsumerRow(
            path=path,
            actor=known.get("pod_uid") or name,
            kind="pod" if known.get("pod_uid") else kind,
            namespace=known.get("service_account_namespace", ""),
            service_account=known.get("service_account_name", ""),
            pod=known.get("pod_name", ""),
            pod_uid=known.get("pod_uid", ""),
            node=known.get("node_name", ""),
            token_id=known.get("token_id", ""),
            version=version,
            acknowledged=now,
            expires=row.expires,
        )
        await self._context.engine.transact(lambda each: each.put_consumer(consumer))

    def _list(self, call: Call) -> Result:
        path = call.text("path").strip("/")
        if not path:
            raise Invalid("bad-parameter", "path is needed")
        now = self._context.clock.now()
        rows = [
            {
                **dataclasses.asdict(row),
                "acknowledged": rfc3339(row.acknowledged),
                "expires": None if expires is None else rfc3339(expires),
                "lapsed": expires is not None and expires <= now,
            }
            for row in self._context.view.consumers(path)
            for expires in [claim_end(self._context.view, row, now)]
        ]
        return Result({"consumers": rows})
