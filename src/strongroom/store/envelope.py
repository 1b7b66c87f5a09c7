"""Vault's reply envelopes: every key always present, 204 for nothing, errors as a list.

Form: https://developer.hashicorp.com/vault/api-docs#http-status-codes. A float never leaves as
`86400.0`, which Go clients refuse to read as a number of seconds; the store keeps whole numbers.
"""

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson

from strongroom.audit.devices import AuditBroker
from strongroom.model.errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    Refusal,
    TooLarge,
    Unavailable,
)
from strongroom.store.call import Call, Result
from strongroom.store.normalise import UnsupportedMediaType, UnsupportedMethod
from strongroom.store.quotas import TooMany
from strongroom.store.routing import UnsupportedOperation
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

T = TypeVar("T")

_log = logging.getLogger(__name__)

_STATUS: Final[tuple[tuple[type[Refusal], int], ...]] = (
    (UnsupportedMethod, 405),
    (UnsupportedOperation, 405),
    (UnsupportedMediaType, 415),
    (TooLarge, 413),
    (TooMany, 429),
    (Invalid, 400),
    (Denied, 403),
    (NotFound, 404),
    (Conflict, 400),
    (Unavailable, 503),
)


def encode(result: Result | None, request_id: str, mount_type: str = "") -> Response:
    """The HTTP reply of a result; see `answer`."""
    if result is None:
        return Response(204)
    if result.file is not None:
        return Response(200, content_type=result.content_type, file=result.file)
    if result.raw is not None:
        return Response(
            result.status or 200, result.raw, content_type=result.content_type, close=result.close
        )
    if not (
        result.data is not None
        or result.auth is not None
        or result.wrap_info is not None
        or result.lease_id
        or result.warnings
    ):
        return Response(result.status or 204)
    return Response(result.status or 200, _envelope(result, request_id, mount_type))


def answer(call: Call, result: Result | None) -> Response:
    """The HTTP reply to a call of an engine, which it names."""
    return encode(result, call.request_id, _mount_type(call))


def _mount_type(call: Call) -> str:
    """What answers: Vault Proxy keeps what `kv` answers as static secrets, and nothing else.

    Like Vault's, the answer to a login does not say it.
    """
    return call.mount.type if call.session is not None else ""


def split_envelope(call: Call, result: Result) -> tuple[bytes, bytes]:
    """The envelope before and after the request id, for answers that are given again."""
    marker = "\x00request-id\x00"
    before, _, after = _envelope(result, marker, _mount_type(call)).partition(
        orjson.dumps(marker)[1:-1]
    )
    return before, after


def _envelope(result: Result, request_id: str, mount_type: str) -> bytes:
    envelope: dict[str, Any] = {
        "request_id": request_id,
        "lease_id": result.lease_id,
        "renewable": result.renewable,
        "lease_duration": result.lease_duration,
        "data": result.data,
        "wrap_info": result.wrap_info,
        "warnings": list(result.warnings) or None,
        "auth": result.auth,
        "mount_type": mount_type if result.wrap_info is None else "",
    }
    if result.top_level and result.data:
        envelope.update({key: value for key, value in result.data.items() if key not in envelope})
    return orjson.dumps(envelope) + b"\n"


def status_of(refusal: Refusal) -> int:
    """The HTTP status of a refusal; 500 for a fault of the store, as a damaged row."""
    return next((status for kind, status in _STATUS if isinstance(refusal, kind)), 500)


def encode_refusal(refusal: Refusal) -> Response:
    """Vault's error form; a missing thing has no sentence, a sentence never has a value."""
    messages = [] if refusal.code == "nothing-here" else [_sentence(refusal)]
    headers = refusal.headers if isinstance(refusal, TooMany) else ()
    return Response(status_of(refusal), orjson.dumps({"errors": messages}) + b"\n", headers)


def refuse_sealed(request: Request, exchange: Exchange) -> None:  # noqa: ARG001 - a handler
    """Answer what arrives after the cluster was sealed."""
    exchange.reply(encode_refusal(Unavailable("sealed", "Vault is sealed")))


def _sentence(refusal: Refusal) -> str:
    return f"{refusal.message}; {refusal.hint}" if refusal.hint else refusal.message


def nothing_here() -> NotFound:
    """404 with an empty list of errors."""
    return NotFound("nothing-here", "nothing there")


def present(found: T | None) -> T:
    """What was found; raises NotFound(`nothing-here`)."""
    if found is None:
        raise nothing_here()
    return found


def listed(
    names: Sequence[str],
    *,
    info: Mapping[str, Any] | None = None,
    warnings: tuple[str, ...] = (),
    long: bool = False,
) -> Result:
    """The answer to a LIST; raises NotFound(`nothing-here`) where there is nothing to say.

    `info` tells more of each; for `long` see Result.
    """
    if not names and not warnings:
        raise nothing_here()
    data: dict[str, Any] = {"keys": list(names)}
    if info is not None:
        data["key_info"] = info
    return Result(data, warnings=warnings, long=long)


def encode_bug(error: Exception) -> Response:
    """500 for what nobody foresaw; the log says where it happened."""
    # The type and the place, never the message: it may hold a value.
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{each.name}:{each.lineno}" for each in reversed(frames))
    _log.error("internal error: %s in %s", type(error).__name__, places)
    return Response(500, b'{"errors":["internal error"]}\n')


def unrecordable(failing: Mapping[str, str]) -> Response:
    """503 for what no audit device could record; `failing` says why, by device."""
    return _unrecordable("the request", failing, "it was refused")


def _unrecordable(what: str, failing: Mapping[str, str], became: str) -> Response:
    said = "; ".join(failing.values()) or "none is enabled"
    return encode_refusal(
        Unavailable(
            "audit-unwritable",
            f"no audit device can record {what}: {said}",
            hint=f"{became}; repair the audit device",
        )
    )


def _unanswerable(response: Response, failing: Mapping[str, str]) -> Response:
    """503 in place of an answer that no audit device could record."""
    if response.status >= 400:
        return unrecordable(failing)
    return _unrecordable("the answer", failing, "what was asked is done: look before you ask again")


def reply_if(
    broker: AuditBroker,
    exchange: Exchange,
    response: Response,
    ok: bool,  # noqa: FBT001 - the broker's callback
) -> None:
    """Answer once a device has recorded it; what none could record is held back."""
    exchange.reply(response if ok else _unanswerable(response, broker.failing))
