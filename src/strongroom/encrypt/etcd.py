"""Reads a prefix of etcd at one revision through its JSON gateway (`/v3/kv/range`).

API: https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/.
"""

import base64
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

from strongroom.model.errors import Denied, Invalid, TooLarge, Unavailable
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Response

PAGE: Final = 500
# etcd's own reasons are fixed texts; anything else may quote what is stored.
_REASON: Final = re.compile(r"etcdserver: [a-z][a-z: ]{1,80}")


async def read_prefix(
    http: HttpClient, endpoint: str, prefix: str
) -> AsyncIterator[tuple[str, bytes]]:
    """Yield key and value of everything that begins with the prefix.

    Raises Denied or Unavailable (`etcd-refused`, `etcd-unreachable`), or Invalid(`bad-address`).
    """
    start, end = prefix.encode(), _after(prefix.encode())
    revision, limit = 0, PAGE
    while True:
        body: dict[str, Any] = {"key": _b64(start), "range_end": _b64(end), "limit": limit}
        if revision:
            body["revision"] = revision
        try:
            reply = await _range(http, endpoint, body)
        except TooLarge:
            if limit == 1:
                raise
            limit = max(1, limit // 8)  # Values may have a megabyte and more.
            continue
        if reply.status in (401, 403):
            raise Denied(
                "etcd-refused", "etcd does not let us read", hint="give a client certificate"
            )
        if reply.status != 200:
            raise _refused(reply)
        try:
            page = orjson.loads(reply.body)
            revision = revision or int(page["header"]["revision"])
            pairs = [
                (base64.b64decode(pair["key"]), base64.b64decode(pair.get("value", "")))
                for pair in page.get("kvs") or []
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Unavailable(
                "etcd-refused", "what answers is no etcd", hint="its client address, not a proxy's"
            ) from None
        for key, value in pairs:
            yield key.decode(errors="replace"), value
        if not page.get("more") or not pairs:
            return
        start = pairs[-1][0] + b"\0"


def _refused(reply: Response) -> Unavailable:
    reason = _reason(reply.body)
    hint = ""
    if "compacted" in reason:
        hint = "it was compacted meanwhile: run it again"
    elif "learner" in reason:
        hint = "it is a learner, which does not serve reads yet: the address of a voting member"
    elif reply.status == 404:
        hint = "its client address, not its peers'; without its gateway (--enable-grpc-gateway):"
        hint += " etcdctl snapshot save F, then --snapshot F"
    elif "user name is empty" in reason:
        # Its gateway takes no user from a certificate.
        # https://etcd.io/docs/v3.6/op-guide/authentication/rbac/#using-tls-common-name
        hint = "it has users: etcdctl --user NAME snapshot save F, then --snapshot F"
    return Unavailable(
        "etcd-refused",
        f"etcd answers {reply.status} to a range request" + (f": {reason}" if reason else ""),
        hint=hint,
    )


def _reason(body: bytes) -> str:
    try:
        said = orjson.loads(body)
        found = _REASON.fullmatch(str(said.get("message") or said.get("error") or ""))
    except (ValueError, AttributeError):
        return ""
    return found.group() if found else ""


async def _range(http: HttpClient, endpoint: str, body: dict[str, Any]) -> Response:
    if not endpoint.startswith(("http://", "https://")) or "," in endpoint:
        raise Invalid(
            "bad-address", f"{endpoint!r} is not the address of one etcd",
            hint="https://127.0.0.1:2379; any one member answers for all",
        )  # fmt: skip
    url = f"{endpoint.rstrip('/')}/v3/kv/range"
    try:
        return await http.request("POST", url, body=orjson.dumps(body))
    except Unavailable as refusal:
        raise Unavailable(
            "etcd-unreachable",
            refusal.message,
            hint="https, and --ca-file, --cert and --key as the API server has them:"
            " --etcd-cafile, --etcd-certfile, --etcd-keyfile",
        ) from None


def _after(prefix: bytes) -> bytes:
    """The first key that does not begin with the prefix any more."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode()
