"""The API server's audit log (audit.k8s.io/v1) as values: one event a line, or a list of them.

A list is what the API server's webhook sends, and what many a receiver writes as it came.

Format: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/. Token ids:
KEP-4193; a TokenRequest's own event carries the id it issued as an annotation.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from strongroom.model.clock import parse_rfc3339

_EXTRA: Final = "authentication.kubernetes.io/"
# What goes on inside a pod, from the request until it is over.
SESSIONS: Final = ("exec", "attach", "portforward")
LAST_STAGES: Final = ("ResponseComplete", "ResponseStarted", "Panic")
TAIL_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KubeEvent:
    """One finished request. `user` is the name the API server authenticated.

    `acting_as` is whom that user impersonated, by whose rights it was then decided. `shown`: a
    deletion was answered with the object, and not with a Status about it. `until` is when a watch
    or a session in a pod ended, infinity for one of which the log has the beginning alone.
    """

    time: float
    verb: str
    user: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    token_id: str = ""
    issued_token_id: str = ""
    pod: str = ""
    pod_uid: str = ""
    node: str = ""
    user_agent: str = ""
    source_ips: tuple[str, ...] = field(default=())
    # Tells two events apart that are alike otherwise: one that stands in two logs counts once.
    audit_id: str = ""
    shown: bool = False
    until: float = 0.0
    acting_as: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the request did what it asked."""
        return self.code < 400


def parse_line(line: bytes) -> KubeEvent | None:
    """An event of the last stage; None for other stages and for what is no event."""
    try:
        return next(iter(events_of(line)), None)
    except ValueError:
        return None


def events_of(line: bytes) -> list[KubeEvent]:
    """The events of the last stage in a line; raises ValueError for what is no event."""
    try:
        return [_event(each) for each in _items(line) if each["stage"] in LAST_STAGES]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("not an event") from error


def times_of(line: bytes) -> list[float]:
    """When the requests of a line came, whatever their stage; none for what is no event."""
    try:
        return [parse_rfc3339(each["requestReceivedTimestamp"]) for each in _items(line)]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []


def _items(line: bytes) -> list[dict[str, Any]]:
    said = orjson.loads(line)
    return list(said["items"]) if said.get("kind") == "EventList" else [said]


def _event(event: dict[str, Any]) -> KubeEvent:
    user, ref = event.get("user") or {}, event.get("objectRef") or {}
    extra = user.get("extra") or {}

    def first(name: str) -> str:
        return str((extra.get(_EXTRA + name) or [""])[0])

    annotations, answered = event.get("annotations") or {}, event.get("responseStatus") or {}
    return KubeEvent(
        time=parse_rfc3339(event["requestReceivedTimestamp"]),
        verb=str(event["verb"]),
        user=str(user.get("username", "")),
        resource=str(ref.get("resource", "")),
        subresource=str(ref.get("subresource", "")),
        namespace=str(ref.get("namespace", "")),
        name=str(ref.get("name", "")),
        code=int(answered.get("code", 0)),
        token_id=first("credential-id"),
        issued_token_id=str(annotations.get(_EXTRA + "issued-credential-id", "")),
        pod=first("pod-name"),
        pod_uid=first("pod-uid"),
        node=first("node-name"),
        user_agent=str(event.get("userAgent", "")),
        source_ips=tuple(map(str, event.get("sourceIPs") or ())),
        audit_id=str(event.get("auditID", "")),
        shown=event["verb"] == "delete" and "status" not in answered,
        until=_end_of(event) if _lasts(event, ref) else 0.0,
        acting_as=str((event.get("impersonatedUser") or {}).get("username", "")),
    )


def _lasts(event: Mapping[str, Any], ref: Mapping[str, Any]) -> bool:
    return event["verb"] == "watch" or ref.get("subresource") in SESSIONS


def _end_of(event: Mapping[str, Any]) -> float:
    if event["stage"] == "ResponseStarted" or "stageTimestamp" not in event:
        return math.inf
    return parse_rfc3339(event["stageTimestamp"])


def last_change(path: Path, namespace: str, name: str, not_by: str) -> KubeEvent | None:
    """The newest successful write or deletion of a Secret by anybody else; None when unknown.

    Looks at the end of the file alone, where a change that was just seen must be.
    """
    try:
        with path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            lines = log.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        event = parse_line(line)
        if (
            event is not None
            and event.resource == "secrets"
            and (event.namespace, event.name) == (namespace, name)
            and event.verb in ("update", "patch", "delete", "create")
            and event.allowed
            and event.user_agent != not_by
        ):
            return event
    return None
