"""What the API server says when it refuses, as the Refusal that it means.

It repeats the values that it refuses (`metadata.labels: Invalid value: "..."`), and what a template
renders may go into labels, annotations and fields. A message gets into conditions and Events,
which more people may read than Secrets, so values are left out; fields and rules stay.

Forms: ErrorBody of k8s.io/apimachinery/pkg/util/validation/field, the decoders of
k8s.io/apimachinery, and sigs.k8s.io/structured-merge-diff for server-side apply.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from strongroom.kube.api import Gone
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound, Refusal, Unavailable

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
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_FIELD_ERROR: Final = re.compile(
    r"(?P<kind>(?:Invalid|Unsupported|Duplicate) value|Not found): "
    rf"(?P<value>{_STRING}|null|true|false|-?\d[\d.e+-]*(?=:|$))?(?P<rest>.*)",
    re.DOTALL,
)
_INVALID: Final = " is invalid: "
# An object whose fields have other types than they should. Server-side apply answers 500 to it.
_NOT_APPLIED: Final = re.compile(r"failed to (?:create typed patch object|convert new object) ")
_NOT_DECODED: Final = re.compile(rf"{_NOT_APPLIED.pattern}|\S+ in version \S+ cannot be handled as")
_VALUES: Final = (
    (re.compile(r", error found in #.*", re.DOTALL), ""),
    (re.compile(r", got [^\n]*"), ""),
    (re.compile(r"\bnumber [\d.eE+-]+"), "number"),
    (re.compile(_STRING), '"..."'),
)


def refusal_of(status: int, body: bytes, path: str) -> Refusal:
    """The Refusal of a Status object, with its message.

    A 404 without a Status says nothing of an object: its code is `kube-no-route`.
    """
    try:
        said = orjson.loads(body)
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
    return family(code, f"{where}: {_without_values(message, said) or 'refused'} (status {status})")


def _without_values(message: str, said: Mapping[str, Any]) -> str:
    details = said.get("details") if said.get("reason") == "Invalid" else None
    causes = (details.get("causes") if isinstance(details, dict) else None) or []
    told = [_cause(each) for each in causes if isinstance(each, dict) and each.get("field")]
    if told:
        return f"{message.partition(_INVALID)[0]}{_INVALID}{', '.join(told)}"
    if _NOT_DECODED.match(message):
        for pattern, instead in _VALUES:
            message = pattern.sub(instead, message)
    return message


def _cause(cause: Mapping[str, Any]) -> str:
    """One field's error without its value; of a value that is no scalar nothing after it either."""
    text = str(cause.get("message") or "")
    found = _FIELD_ERROR.match(text)
    if found:
        text = found["kind"] + (found["rest"] if found["value"] else "")
    return f"{cause['field']}: {text}"
