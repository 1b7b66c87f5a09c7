"""The one normaliser: raw method, target and headers into the canonical operation and path.

Runs once, before anything else looks at the request, so that the path that is authorised is the
path that is routed, recorded and executed. Verbs and query forms:
https://developer.hashicorp.com/vault/api-docs.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote_to_bytes

import orjson

from strongroom.model.errors import Invalid, NotFound, Refusal, TooLarge
from strongroom.store.json_limits import check_json

Operation = Literal["read", "list", "scan", "create", "update", "patch", "delete", "help"]

PREFIX: Final = "/v1/"
_OPERATIONS: Final[dict[str, Operation]] = {
    "GET": "read",
    "HEAD": "read",
    "LIST": "list",
    "SCAN": "scan",
    "HELP": "help",
    "POST": "update",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_FORM: Final = "application/x-www-form-urlencoded"
MERGE_PATCH: Final = "application/merge-patch+json"
MAX_QUERY_FIELDS: Final = 100
# Of a path inside a body: as long as the head of a request lets one be.
LONGEST_PATH: Final = 64 * 1024
# Forms are what people type; decoding one takes thirty times its size.
MAX_FORM_BYTES: Final = 1024 * 1024
# What is written there is a file, whatever its content type says.
_SNAPSHOT: Final = "sys/storage/raft/snapshot"
RAW_BODIES: Final = frozenset({_SNAPSHOT, f"{_SNAPSHOT}-force", f"{_SNAPSHOT}-drill"})


class UnsupportedMethod(Refusal):
    """A verb the API does not know (405)."""


class UnsupportedMediaType(Refusal):
    """PATCH without the merge-patch content type (415)."""


@dataclass(frozen=True, slots=True)
class Canonical:
    """What a request asks, once for everybody. `path` has no leading slash; a list ends in one.

    `raw` is the body where it is a file.
    """

    operation: Operation
    path: str
    data: dict[str, Any] = field(default_factory=dict, repr=False)
    raw: bytes = field(default=b"", repr=False)


def normalise(method: str, target: str, body: bytes, content_type: str) -> Canonical:
    """Canonical form of a request.

    Raises Invalid(`bad-path`, `bad-json`), NotFound(`no-route`) outside `/v1/`,
    UnsupportedMethod or UnsupportedMediaType.
    """
    return with_body(normalise_line(method, target, content_type), body, content_type)


def with_body(line: Canonical, body: bytes, content_type: str) -> Canonical:
    """A request whose body is read as well, where its operation has one; raises Invalid."""
    data, raw = body_of(line, body, content_type)
    return Canonical(line.operation, line.path, data, raw)


def body_of(line: Canonical, body: bytes, content_type: str) -> tuple[dict[str, Any], bytes]:
    """The data of a request, and its body where that is a file; raises Invalid.

    The data is the caller's own: a line may be kept for other requests.
    """
    if line.operation not in ("update", "patch"):
        return dict(line.data), b""
    if line.path in RAW_BODIES:
        return {}, body
    return _body(body, content_type), b""


def normalise_line(method: str, target: str, content_type: str) -> Canonical:
    """What a request is before its body is looked at; raises as `normalise`."""
    operation = _OPERATIONS.get(method)
    if operation is None:
        raise UnsupportedMethod("unsupported-method", f"the method {method} is not supported")
    raw_path, _, query = target.partition("?")
    path = canonical_path(raw_path)
    given: dict[str, Any] = dict(_query(query)) if query else {}
    asks = operation == "read" and str(given.get("help", "")).lower() in ("1", "true")
    if asks or operation == "help":
        return Canonical("help", path.rstrip("/"))
    if operation in ("read", "list", "scan"):
        operation = _listing(operation, given)
    if operation in ("update", "patch"):
        if path.endswith("/"):
            raise Invalid("bad-path", "cannot write to a path ending in '/'")
        if operation == "patch" and not content_type.lower().startswith(MERGE_PATCH):
            raise UnsupportedMediaType(
                "unsupported-media-type", f"PATCH needs the content type {MERGE_PATCH}"
            )
        return Canonical(operation, path)
    if operation in ("list", "scan"):
        return Canonical(operation, path.rstrip("/") + "/", given)
    return Canonical(operation, path.rstrip("/"), given)


def canonical_path(raw: str) -> str:
    """Decode and check the path of a target; what follows `/v1/`, with single slashes."""
    if not raw.startswith(PREFIX):
        raise NotFound("no-route", "the API begins at /v1/")
    path = raw[len(PREFIX) :]
    if "%" in path or not path.isascii():
        try:
            path = unquote_to_bytes(path.encode("latin-1")).decode()
        except UnicodeDecodeError:
            raise Invalid("bad-path", "the path is not UTF-8") from None
    canonical = canonical_segments(path)
    if not canonical:
        raise NotFound("no-route", "no path after /v1/")
    return canonical


def canonical_segments(path: str) -> str:
    """A decoded path with single slashes and no slash in front; a final one stays.

    Also for paths inside a body. Raises Invalid(`bad-path`).
    """
    if len(path) > LONGEST_PATH:
        raise Invalid("bad-path", "the path is too long")
    if not path.isprintable():
        raise Invalid("bad-path", "the path has characters that cannot be printed")
    if "//" not in path and "/." not in path and not path.startswith((".", "/")):
        return path
    segments = path.split("/")
    if "." in segments or ".." in segments:
        raise Invalid("bad-path", "the path has relative segments")
    joined = "/".join(segment for segment in segments if segment)
    return joined + ("/" if joined and path.endswith("/") else "")


def _listing(operation: Operation, given: dict[str, Any]) -> Operation:
    """`?list=true` and `?scan=true` say the verb for clients that cannot send it."""
    asked: set[Operation] = set() if operation == "read" else {operation}
    for name in ("list", "scan"):
        if str(given.pop(name, "")).lower() in ("true", "1"):
            asked.add("list" if name == "list" else "scan")
    if len(asked) > 1:
        raise Invalid("bad-query", "list and scan exclude each other")
    return asked.pop() if asked else operation


def _query(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS
        )
    except ValueError:
        raise Invalid("bad-query", "the query cannot be read") from None


def _body(body: bytes, content_type: str) -> dict[str, Any]:
    text = body.strip()
    if not text:
        return {}
    # curl -d '{"a":1}' says form and means JSON; Vault reads it so as well.
    if text[:1] not in b"{[" and content_type.lower().startswith(_FORM):
        if len(text) > MAX_FORM_BYTES:
            raise TooLarge(
                "form-too-large", f"a form has over {MAX_FORM_BYTES} bytes", hint="send JSON"
            )
        try:
            return dict(_query(text.decode()))
        except UnicodeDecodeError:
            raise Invalid("bad-form", "the form is not UTF-8") from None
    check_json(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Invalid(
            "bad-json", f"failed to parse JSON input: line {error.lineno}, column {error.colno}"
        ) from None
    if value is None:
        # What Vault's Go client sends for a write without data.
        return {}
    if not isinstance(value, dict):
        raise Invalid("bad-json", "failed to parse JSON input: the body must be an object")
    return value
