"""Notices of clouds that a secret has changed: which names they mean. Pure.

Formats: AWS EventBridge (CloudTrail of Secrets Manager, Parameter Store changes), GCP Pub/Sub
push of Secret Manager, Azure Event Grid of Key Vault in its own form and as CloudEvents, and a
plain one of our own.
https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html
https://cloud.google.com/secret-manager/docs/event-notifications
https://learn.microsoft.com/azure/event-grid/event-schema-key-vault
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from strongroom.model.errors import Invalid

NOTICE_BYTES: Final = 256 * 1024
NAMES: Final = 1000
_AZURE_KINDS: Final = {"Secret": "secret", "Certificate": "cert", "Key": "key"}


@dataclass(frozen=True, slots=True)
class Notice:
    """Names that changed, as their cloud writes them, and what has to be answered."""

    names: tuple[str, ...]
    validation: str = ""


def read_notice(body: bytes) -> Notice:
    """Read a notice of any of the formats; raises Invalid(`bad-notice`)."""
    if len(body) > NOTICE_BYTES:
        raise Invalid("bad-notice", f"a notice has at most {NOTICE_BYTES} bytes")
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Invalid("bad-notice", "the notice is no JSON") from None
    if isinstance(given, list):
        return _event_grid(given)
    if not isinstance(given, dict):
        raise Invalid("bad-notice", "the notice is neither an object nor a list")
    if "message" in given:
        return _pub_sub(given["message"])
    if str(given.get("source", "")).startswith("aws."):
        return _event_bridge(given)
    if "specversion" in given:
        # Event Grid in the form of CloudEvents, one at a time.
        return _event_grid([given])
    if isinstance(given.get("keys"), list):
        return _named(str(each) for each in given["keys"])
    raise Invalid(
        "bad-notice",
        "the notice is of no known format",
        hint='EventBridge, Pub/Sub push, Event Grid, or {"keys": ["prod/db"]}',
    )


def _named(names: Iterable[str]) -> Notice:
    found = tuple(dict.fromkeys(name for name in names if name))[:NAMES]
    if not found:
        raise Invalid("bad-notice", "the notice names no secret")
    return Notice(found)


def _event_bridge(event: Mapping[str, Any]) -> Notice:
    detail = event.get("detail")
    if not isinstance(detail, dict):
        raise Invalid("bad-notice", "the event has no detail")
    asked = detail.get("requestParameters") or {}
    answered = detail.get("responseElements") or {}
    names = [
        detail.get("name"),
        *(asked.get(key) for key in ("secretId", "name") if isinstance(asked, dict)),
        *(answered.get(key) for key in ("arn", "aRN", "ARN") if isinstance(answered, dict)),
        (detail.get("additionalEventData") or {}).get("SecretId"),
        *(event.get("resources") or []),
    ]
    return _named(aws_name(str(name)) for name in names if name)


def aws_name(given: str) -> str:
    """The name of a secret or parameter, from its name or ARN.

    The ARN of a secret ends with six random characters that are not of its name.
    """
    if not given.startswith("arn:"):
        return given
    resource = given.split(":", 5)[5] if given.count(":") >= 5 else ""
    if resource.startswith("secret:"):
        name = resource.removeprefix("secret:")
        return name[:-7] if len(name) > 7 and name[-7] == "-" else name
    if resource.startswith("parameter/"):
        return resource.removeprefix("parameter")
    return ""


def _pub_sub(message: Any) -> Notice:  # noqa: ANN401 - JSON
    attributes = message.get("attributes") if isinstance(message, dict) else None
    if not isinstance(attributes, dict):
        raise Invalid("bad-notice", "the message has no attributes")
    full = str(attributes.get("secretId") or "")
    return _named((full, full.rpartition("/secrets/")[2]))


def _event_grid(events: list[Any]) -> Notice:
    names: list[str] = []
    for event in events:
        data = event.get("data") if isinstance(event, dict) else None
        if not isinstance(data, dict):
            raise Invalid("bad-notice", "an event has no data")
        code = data.get("validationCode")
        if code and str(event.get("eventType", "")).endswith("SubscriptionValidationEvent"):
            return Notice((), str(code))
        name = str(data.get("ObjectName") or "")
        kind = _AZURE_KINDS.get(str(data.get("ObjectType") or ""), "")
        names += [name, f"{kind}/{name}"] if kind and name else [name]
    return _named(names)


def means(name: str, path: str) -> bool:
    """Whether a name in a notice means a path that was read. Pure.

    A path may be longer than the name by what stands before it (a project, a mount).
    """
    name, path = name.strip("/"), path.strip("/")
    return bool(name) and (path == name or path.endswith(f"/{name}") or name.endswith(f"/{path}"))
