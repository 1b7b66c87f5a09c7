"""What the API server says when it refuses, as the Refusal that it means.

It repeats the values that it refuses (`metadata.labels: Invalid value: "..."`), and what a template
renders may go into labels, annotations and fields. A message gets into conditions and Events,
which more people may read than Secrets, so values are left out; fields and rules stay.

Forms: ErrorBody of k8s.io/apimachinery/pkg/util/validation/field, the decoders of
k8s.io/apimachinery, and sigs.k8s.io/structured-merge-diff for server-side apply.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from strongroom.kube.api import Gone
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound, Refusal, Unavailable

# Longer ones are not read: no object is so large, and reading one takes a second or two.
LONGEST_BODY: Final = 4 * 1024 * 1024
LONGEST_TOLD: Final = 16 * 1024
# The code of a 404 that is about a path, which a proxy or a missing definition gives as well.
NO_ROUTE: Final = "kube-no-route"
_FAMILIES: Final[dict[int, tuple[type[Refusal], str]]] = {
    400: (Invalid, "kube-invalid"),
    401: (Denied, "kube-unauthenticated"),
    403: (Denied, "kube-forbidden"),
    404: (NotFound, "kube-not-found"),
    405: (Invalid, "kube-unsupported"),
    409: (Conflict, "kube-conflict"),
    410: (Gone, "kube-gone"),
    413: (Invalid, "kube-too-large"),
    415: (Invalid, "kube-unsupported"),
    422: (Invalid, "kube-invalid"),
}
# One that does not end goes on to the end: looked for at each quote, it would take hours.
_STRING: Final = r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)'
_FIELD_ERROR: Final = re.compile(
    rf"(?P<kind>(?:Invalid|Unsupported|Duplicate) value|Not found): (?P<value>{_STRING})?",
    re.DOTALL,
)
_JSON: Final = json.JSONDecoder()
_INVALID: Final = " is invalid: "
# An object whose fields have other types than they should. Server-side apply answers 500 to it.
_NOT_APPLIED: Final = re.compile(r"failed to (?:create typed patch object|convert new object) ")
_NOT_DECODED: Final = re.compile(rf"{_NOT_APPLIED.pattern}|\S+ in version \S+ cannot be handled as")
# What was got is printed as it is, newlines too; after it the next field of several may come.
_NEXT_FIELD: Final = (
    r"\n  \.[^\n]*: (?:expected |duplicate entries |field not declared |associative list |element )"
)
_VALUES: Final = (
    (re.compile(r", error found in #.*", re.DOTALL), ""),
    (re.compile(rf", got .*?(?={_NEXT_FIELD}|\Z)", re.DOTALL), ""),
    (re.compile(r"\bnumber [\d.eE+-]+"), "number"),
    (re.compile(_STRING, re.DOTALL), '"..."'),
)


def refusal_of(status: int, body: bytes, path: str) -> Refusal:
    """The Refusal of a Status object, with its message.

    A 404 without a Status says nothing of an object: its code is `kube-no-route`.
    """
    try:
        said = orjson.loads(body) if len(body) <= LONGEST_BODY else None
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        said = {}
    message = str(said.get("message") or "")
    family, code = _FAMILIES.get(status, (Unavailable, "kube-unavailable"))
    if status == 404 and said.get("kind") != "Status":
        code = NO_ROUTE
    if status == 500 and _NOT_APPLIED.match(message):
        family, code = _FAMILIES[400]
    where = path.partition("?")[0]
    told = _without_values(message, said)[:LONGEST_TOLD] or "refused"
    return family(code, f"{where}: {told} (status {status})")


def _without_values(message: str, said: Mapping[str, Any]) -> str:
    details = said.get("details") if said.get("reason") == "Invalid" else None
    listed = details.get("causes") if isinstance(details, dict) else None
    causes = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if any(each.get("field") for each in causes):
        told = ", ".join(_cause(each) for each in causes)
        return f"{message.partition(_INVALID)[0]}{_INVALID}{told}"
    if _NOT_DECODED.match(message):
        for pattern, instead in _VALUES:
            message = pattern.sub(instead, message)
    return message


def _cause(cause: Mapping[str, Any]) -> str:
    """One field's error without its value; where its end is unknown nothing after it either."""
    text = str(cause.get("message") or "")
    found = _FIELD_ERROR.match(text)
    if found:
        value = found["value"]
        rest = text[found.end() if value else _end_of_json(text, found.end()) :]
        # A format is told with the value once more: `must be of type date-time: "..."`.
        rest = rest.replace(value, '"..."') if value and value != '""' else rest
        text = found["kind"] + (rest if rest.startswith(": ") else "")
    elif text.startswith("Forbidden: "):
        # Of a pod the difference follows, as lines.
        text = text.partition("\n")[0]
    return f"{cause['field']}: {text}" if cause.get("field") else text


def _end_of_json(text: str, start: int) -> int:
    """Where a value ends that is no string; the end of the text when it is none of JSON."""
    try:
        return _JSON.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return len(text)
