"""`sys/config/cors`: which web pages may call the API from a browser.

API: https://developer.hashicorp.com/vault/api-docs/system/config-cors. The pipeline asks
for the headers of replies and answers preflights by this.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from strongroom.model.errors import Denied, Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import View
from strongroom.store.parameters import fields
from strongroom.store.request_headers import check_namespace
from strongroom.wire.http import Request, Response, error_response
from strongroom.wire.listener import Exchange

MOUNT, KIND = "system", "cors"
METHODS: Final = "DELETE, GET, OPTIONS, POST, PUT, PATCH, LIST, SCAN"
STANDARD_HEADERS: Final = (
    "Content-Type", "X-Requested-With", "X-Vault-Namespace", "X-Vault-Request", "X-Vault-Token",
    "X-Vault-Wrap-TTL", "X-Vault-Wrap-Format", "Authorization",
)  # fmt: skip
PREFLIGHT_SECONDS: Final = 300
_HEADER_TEXT: Final = re.compile(r"[!-~]+")


def cors_headers(view: View, origin: str, *, preflight: bool) -> tuple[tuple[str, str], ...]:
    """What a reply to a page of that origin carries; nothing while CORS is off.

    Raises Denied(`origin-not-allowed`).
    """
    document = view.document(MOUNT, KIND, "")
    if document is None:
        return ()
    origins = document["allowed_origins"]
    if "*" not in origins and origin not in origins:
        raise Denied("origin-not-allowed", "origin not allowed")
    found = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
    if preflight:
        names = (*STANDARD_HEADERS, *document["allowed_headers"])
        found += [
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", ", ".join(names)),
            ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
        ]
    return tuple(found)


def reply_headers(view: View, headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What every reply to a request with these headers carries; raises Refusal."""
    found: tuple[tuple[str, str], ...] = ()
    namespace, origin = headers.get("x-vault-namespace"), headers.get("origin")
    if namespace is not None:
        check_namespace(namespace)
        found = (("X-Vault-Namespace", "root"),)
    if origin is not None:
        found += cors_headers(view, origin, preflight=False)
    return found


def preflight(view: View, request: Request, exchange: Exchange) -> None:
    """A browser asks what a page of another origin may do (https://fetch.spec.whatwg.org)."""
    origin = request.headers.get("origin", "")
    found = cors_headers(view, origin, preflight=True) if origin else ()
    exchange.headers = found
    exchange.reply(Response(204) if found else error_response(405, "unsupported operation"))


class Cors:
    """The endpoint."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        handlers: dict[Any, Any] = {
            "read": self._read, "update": self._write, "delete": self._delete,
        }  # fmt: skip
        return (
            Endpoint(
                "config/cors",
                handlers,
                sudo=True,
                takes=fields(texts="allowed_origins allowed_headers"),
            ),
        )

    def _read(self, call: Call) -> Result:  # noqa: ARG002 - the shape of a handler
        document = self._context.view.document(MOUNT, KIND, "")
        if document is None:
            return Result({"enabled": False}, top_level=True)
        shown = {**document, "allowed_headers": [*STANDARD_HEADERS, *document["allowed_headers"]]}
        return Result({"enabled": True, **shown}, top_level=True)

    async def _write(self, call: Call) -> None:
        origins, headers = call.texts("allowed_origins"), call.texts("allowed_headers")
        if not origins:
            raise Invalid("no-origins", "at least one origin or the wildcard must be provided")
        if "*" in origins and len(origins) > 1:
            raise Invalid("bad-origins", "to allow all origins the '*' must be the only value")
        # What is kept is sent in headers of replies.
        if not all(_HEADER_TEXT.fullmatch(each) for each in (*origins, *headers)):
            raise Invalid("bad-parameter", "an origin or header has a character it cannot have")
        document = {"allowed_origins": list(origins), "allowed_headers": list(headers)}
        await self._context.engine.transact(
            lambda each: each.put_document(MOUNT, KIND, "", document)
        )

    async def _delete(self, call: Call) -> None:  # noqa: ARG002 - the shape of a handler
        await self._context.engine.transact(lambda each: each.delete_document(MOUNT, KIND, ""))
