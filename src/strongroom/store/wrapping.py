"""Response wrapping: a reply kept in the cubbyhole of a token that can be used once.

Whoever unwraps gets the reply as it was; whoever comes second gets nothing, and so learns that
somebody was first. https://developer.hashicorp.com/vault/docs/concepts/response-wrapping
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Result
from strongroom.store.engine.contract import TokenRow, Transaction
from strongroom.store.envelope import answer
from strongroom.store.sessions import WRAPPING
from strongroom.store.tokens import Grant

if TYPE_CHECKING:
    from strongroom.store.context import Context

RESPONSE, INFO = "response", "wrapinfo"
# It lies in the database until somebody unwraps it: a secret, or a long list.
MOST_CHARACTERS: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What is known of a wrapping token without unwrapping it."""

    creation_ttl: int
    creation_time: str
    creation_path: str
    wrapped_accessor: str = ""


def can_be_wrapped(call: Call, result: Result) -> bool:
    """Whether there is something to keep: a reply with content that is no error.

    What strangers are told anyway is not: each wrapped reply is a token for up to a month, and
    counts against the quota that everybody's logins need.
    """
    return (
        (call.session is not None or result.auth is not None)
        and result.raw is None
        and result.status < 400
        and not (result.data is None and result.auth is None)
    )


class Wrapping:
    """Wraps and unwraps."""

    def __init__(self, context: "Context") -> None:
        self._context = context

    async def wrap(self, call: Call, result: Result) -> Result:
        """The reply in place of `result`, which tells the token alone."""
        body = answer(call, result).body.decode()
        if len(body) > MOST_CHARACTERS:
            raise Invalid(
                "too-large-to-wrap",
                f"a reply of more than {MOST_CHARACTERS} characters cannot be wrapped",
                hint="ask for it without X-Vault-Wrap-TTL, or for less",
            )
        # Of a wrapped secret id too, which Terraform keeps it by.
        accessor = (result.auth or {}).get("accessor") or (result.data or {}).get(
            "secret_id_accessor"
        )
        info = Wrapped(
            # No token lives longer; nobody is to be told that it does.
            creation_ttl=min(call.wrap_seconds, self._context.system.max_ttl),
            creation_time=rfc3339(self._context.clock.now()),
            creation_path=call.path,
            wrapped_accessor=str(accessor or ""),
        )
        maker = _maker(call, result)
        return await self._context.engine.transact(lambda each: self._keep(each, info, body, maker))

    def _keep(self, transaction: Transaction, info: Wrapped, body: str, maker: str) -> Result:
        grant = Grant(
            policies=(WRAPPING,),
            display_name="",
            path=info.creation_path,
            ttl=info.creation_ttl,
            explicit_max_ttl=info.creation_ttl,
            uses=1,
            renewable=False,
            maker=maker,
        )
        row, text = self._context.issue(transaction, grant)
        transaction.put_cubbyhole(row.id, RESPONSE, orjson.dumps({"response": body}))
        transaction.put_cubbyhole(row.id, INFO, orjson.dumps(info))
        said: dict[str, Any] = {
            "token": text,
            "accessor": row.accessor,
            "ttl": info.creation_ttl,
            "creation_time": info.creation_time,
            "creation_path": info.creation_path,
            "wrapped_accessor": info.wrapped_accessor,
        }
        return Result(wrap_info=said)

    async def unwrap(self, token: str, *, counted: bool) -> bytes:
        """The reply as it was, once. `counted` says that the token's one use is taken already.

        Raises Invalid(`bad-wrapping-token`).
        """

        def write(transaction: Transaction) -> bytes:
            row = self._live(transaction, token, counted=counted)
            kept = transaction.cubbyhole(row.id, RESPONSE)
            transaction.delete_token(row.id)
            if kept is None:
                raise bad_wrapping_token()
            response: str = orjson.loads(kept)["response"]
            return response.encode()

        return await self._context.engine.transact(write)

    def lookup(self, token: str) -> Wrapped:
        """What is known of a wrapping token; the token stays usable."""
        row = self._live(self._context.view, token, counted=False)
        return self._info(self._context.view, row)

    async def rewrap(self, token: str) -> Result:
        """The same reply under a fresh token for the same time; the old one is gone."""

        def write(transaction: Transaction) -> Result:
            row = self._live(transaction, token, counted=False)
            kept, info = transaction.cubbyhole(row.id, RESPONSE), self._info(transaction, row)
            transaction.delete_token(row.id)
            if kept is None:
                raise bad_wrapping_token()
            return self._keep(transaction, info, orjson.loads(kept)["response"], row.maker)

        return await self._context.engine.transact(write)

    def _live(self, view: Any, token: str, *, counted: bool) -> TokenRow:  # noqa: ANN401 - a View
        row: TokenRow | None = None
        if token:
            row = view.token(self._context.sessions.token_id(token))
        if (
            row is None
            or row.policies != (WRAPPING,)
            or row.uses_left != (-1 if counted else 1)
            or (row.expires is not None and row.expires <= self._context.clock.now())
        ):
            raise bad_wrapping_token()
        return row

    @staticmethod
    def _info(view: Any, row: TokenRow) -> Wrapped:  # noqa: ANN401 - a View
        kept = view.cubbyhole(row.id, INFO)
        if kept is None:
            raise bad_wrapping_token()
        return Wrapped(**orjson.loads(kept))


def _maker(call: Call, result: Result) -> str:
    """For whom a wrapping token counts: whoever asked, or logged in; root's counts for itself."""
    if call.session is not None:
        return "" if call.session.is_root else call.session.row.client
    return str((result.auth or {}).get("entity_id") or "")


def bad_wrapping_token() -> Invalid:
    """The one answer to a token that is unknown, used, expired, or no wrapping token."""
    return Invalid("bad-wrapping-token", "wrapping token is not valid or does not exist")
