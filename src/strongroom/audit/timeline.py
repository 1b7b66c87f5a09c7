"""One timeline of a secret from the store's log and the API server's. Pure over records.

A store record and a cluster event meet by the token id (exact), then by the pod's uid, then by the
service account. The cluster does not say which version a Secret held, so that is taken from when
the store's versions were made, and marked as inferred.
"""

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from strongroom.audit.kubernetes_log import KubeEvent
from strongroom.audit.store_log import UNWRAPPING, StoreRecord, made_by_hand, paths_of
from strongroom.model.clock import rfc3339
from strongroom.model.reference import SecretRef

HASHED: Final = "hmac-sha256:"
READS: Final = ("get", "list", "watch")
WRITES: Final = ("create", "update", "patch")
READING_WRITES: Final = ("patch", "deletecollection")
# By which somebody sees what a pod holds.
INSIDE: Final = ("exec", "attach", "ephemeralcontainers")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted, as far as the log says.

    `accessor` is that of a token whose name others may have too, as the log has it; `acting_as` is
    whom a user of the cluster impersonated.
    """

    name: str
    service_account: str = ""
    pod: str = ""
    pod_uid: str = ""
    node: str = ""
    token_id: str = ""
    accessor: str = ""
    acting_as: str = ""

    @property
    def shown(self) -> str:
        """For people."""
        name = self.service_account or service_account_of(self.name) or self.name
        other = service_account_of(self.acting_as) or self.acting_as
        return f"{name} as {other}" if other else name


@dataclass(frozen=True, slots=True)
class Entry:
    """One touch. `version` 0 is unknown; `inferred` when it was worked out from times.

    `later` are the versions that it may have shown besides, each with when: those that were made
    while a watch was open, and the newest while the Secret had not been written for it yet.
    `address` is the client's; behind "via" stand the proxies that the API server's log names,
    and all but the last of them are what the client itself may have said.
    """

    time: float
    source: str
    actor: Actor
    action: str
    target: str
    outcome: str
    version: int = 0
    inferred: bool = False
    keys: tuple[str, ...] = ()
    joined_by: str = ""
    reads: bool = False
    address: str = ""
    later: tuple[tuple[int, float], ...] = ()

    def as_data(self) -> dict[str, Any]:
        """The stable form for machines."""
        return {
            "time": rfc3339(self.time),
            "source": self.source,
            "actor": self.actor.name,
            "service_account": self.actor.service_account,
            "pod": self.actor.pod,
            "pod_uid": self.actor.pod_uid,
            "node": self.actor.node,
            "address": self.address,
            "token_id": self.actor.token_id,
            "accessor": self.actor.accessor,
            "acting_as": self.actor.acting_as,
            "action": self.action,
            "target": self.target,
            "keys": list(self.keys),
            "version": self.version or None,
            "version_inferred": self.inferred,
            "later_versions": [version for version, _ in self.later],
            "outcome": self.outcome,
            "joined_by": self.joined_by,
            "read": self.reads,
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """What the timeline is about: the secret, the Secrets made of it, when versions were made.

    `pods` are those that are known to mount one of the Secrets or to have one in the environment.
    """

    ref: SecretRef
    secrets: frozenset[tuple[str, str]] = frozenset()
    created: Mapping[int, float] = field(default_factory=dict)
    pods: frozenset[tuple[str, str]] = frozenset()

    def version_at(self, time: float) -> int:
        """The newest version that was there at a time, 0 when none is known."""
        there = [version for version, made in self.created.items() if made <= time]
        return max(there, default=0)

    def made_between(self, start: float, end: float) -> tuple[tuple[int, float], ...]:
        """The versions made after `start`, until `end`, each with when."""
        made = sorted(self.created.items())
        return tuple((version, time) for version, time in made if start < time <= end)


def timeline(
    subject: Subject, records: Sequence[StoreRecord], events: Iterable[KubeEvent]
) -> list[Entry]:
    """All touches since there was a version, oldest first.

    What stands in the logs of two devices, or is an event's second stage, is one touch.
    """
    tokens = {each.vouched["token_id"] for each in records if each.vouched.get("token_id")}
    pods = _reads_by_pod(records)
    first = min(subject.created.values(), default=0.0)
    found, issued = [], set()
    whole = _whole(events)
    writes = _writes(whole, subject)
    for event in whole:
        if event.issued_token_id and event.issued_token_id in tokens:
            issued.add(event.issued_token_id)
            found.append(_issued(event))
        elif _is_touch(event, first) and _concerns(event, subject):
            found.append(_touched(event, subject, writes))
        elif _went_into(event) and (_pod(event) in pods or _pod(event) in subject.pods):
            found.append(_entered(event, subject, pods.get(_pod(event))))
    found += _store_entries(subject, records, issued)
    return sorted(found, key=lambda each: each.time)


def _store_entries(
    subject: Subject, records: Sequence[StoreRecord], issued: set[str]
) -> Iterator[Entry]:
    answers = {each.request_id for each in records if each.answered}
    paths = paths_of(subject.ref.mount, subject.ref.path)
    wraps = {each.wrapped: each for each in records if each.wrapped}
    seen: set[str] = set()
    for record in records:
        if (not record.answered and record.request_id in answers) or record.request_id in seen:
            continue
        if record.request_id:
            seen.add(record.request_id)
        origin = _origin(record, wraps)
        entry = _stored(record, paths, issued)
        yield entry if origin is record else _unwrapped(entry, origin, paths, subject)


def _origin(record: StoreRecord, wraps: Mapping[str, StoreRecord]) -> StoreRecord:
    """The read that an unwrapping is of; the record itself of what unwraps nothing."""
    for _ in wraps:
        before = next((wraps[token] for token in record.tokens if token in wraps), None)
        if before is None:
            break
        record = before
    return record


@dataclass(frozen=True, slots=True)
class Folded:
    """Touches in a row that differ in nothing but their times."""

    entry: Entry
    count: int


def fold(entries: Iterable[Entry]) -> list[Folded]:
    """One line for what repeats, at the time of the first."""
    found: list[Folded] = []
    for entry in entries:
        if found and _timeless(entry) == _timeless(found[-1].entry):
            found[-1] = Folded(found[-1].entry, found[-1].count + 1)
        else:
            found.append(Folded(entry, 1))
    return found


def _timeless(entry: Entry) -> Entry:
    return replace(entry, time=0.0, later=tuple((version, 0.0) for version, _ in entry.later))


# the store's side


def _stored(record: StoreRecord, paths: Mapping[str, str], issued: set[str]) -> Entry:
    known = record.vouched
    name = known.get("service_account_name", "")
    account = f"{known.get('service_account_namespace', '')}/{name}" if name else ""
    # An AppRole login is called after its mount alone; roles are told apart.
    named = record.metadata.get("role_name")
    role = f" ({named})" if named else ""
    actor = Actor(
        name=account or f"{record.display_name or 'nobody'}{role}",
        service_account=account,
        pod=known.get("pod_name", ""),
        pod_uid=known.get("pod_uid", ""),
        node=known.get("node_name", ""),
        token_id=known.get("token_id", ""),
        accessor=record.accessor if made_by_hand(record.display_name) else "",
    )
    about = paths.get(record.path, "")
    action = record.operation if about == "data" else f"{record.operation} ({about})"
    if record.wrapped:
        action += ", wrapped"
    outcome = "no answer" if not record.answered else "refused" if record.error else "ok"
    joined = ""
    if account:
        joined = "service account"
        if actor.pod_uid:
            joined = "pod uid"
        if actor.token_id in issued:
            joined = "token id"
    return Entry(
        time=record.time,
        source="store",
        actor=actor,
        action=action,
        target=record.path,
        outcome=outcome,
        version=max(record.versions, default=0),
        keys=record.keys,
        joined_by=joined,
        reads=bool(record.keys) and record.operation == "read",
        address=record.remote_address,
    )


def short_accessor(accessor: str) -> str:
    """As much of one as tells it apart in a table: the beginning of its hash, or all of it."""
    return accessor.removeprefix(HASHED)[:12] if accessor.startswith(HASHED) else accessor


def _unwrapped(
    entry: Entry, origin: StoreRecord, paths: Mapping[str, str], subject: Subject
) -> Entry:
    """Who unwraps an answer reads it. What it held is not logged: its version is inferred.

    Where the read asked for one, it may be any.
    """
    action = entry.target.rpartition("/")[2] if entry.target not in UNWRAPPING else "unwrap"
    version = 0 if origin.chosen else subject.version_at(origin.time)
    actor = entry.actor
    if actor.name == "nobody":
        actor = replace(actor, name=f"holder of what {origin.display_name or 'nobody'} wrapped")
    return replace(
        entry,
        actor=actor,
        action=action,
        target=origin.path,
        version=version,
        inferred=bool(version),
        reads=action == "unwrap"
        and entry.outcome == "ok"
        and (origin.operation, paths[origin.path]) == ("read", "data"),
    )


# the cluster's side


def _whole(events: Iterable[KubeEvent]) -> list[KubeEvent]:
    """Each request once: the beginning and the end of a watch are two lines of the log."""
    found: dict[KubeEvent, float] = {}
    for event in events:
        alike = replace(event, until=0.0) if event.until else event
        found[alike] = min(found.get(alike, math.inf), event.until)
    return [replace(event, until=until) if until else event for event, until in found.items()]


def _is_touch(event: KubeEvent, first: float) -> bool:
    """Whether it is of Secrets, and not over before the first version was made."""
    return event.resource == "secrets" and max(event.time, event.until) >= first


def _concerns(event: KubeEvent, subject: Subject) -> bool:
    if event.name:
        return (event.namespace, event.name) in subject.secrets
    # A list, watch or deletecollection without a name: of this namespace or of all.
    return any(event.namespace in ("", namespace) for namespace, _ in subject.secrets)


def _went_into(event: KubeEvent) -> bool:
    return event.resource == "pods" and bool(event.subresource)


def _pod(event: KubeEvent) -> tuple[str, str]:
    return event.namespace, event.name


def service_account_of(user: str) -> str:
    """NAMESPACE/NAME where a cluster's user is a service account, else ""."""
    account = user.removeprefix("system:serviceaccount:")
    return account.replace(":", "/") if account != user else ""


def _actor(event: KubeEvent) -> Actor:
    return Actor(
        name=event.user,
        service_account=service_account_of(event.user),
        pod=event.pod,
        pod_uid=event.pod_uid,
        node=event.node,
        token_id=event.token_id,
        acting_as=event.acting_as,
    )


def _outcome(event: KubeEvent) -> str:
    return "ok" if event.allowed else f"refused ({event.code})"


def _address(event: KubeEvent) -> str:
    return " via ".join(event.source_ips)


def _writes(events: Iterable[KubeEvent], subject: Subject) -> Mapping[tuple[str, str], list[float]]:
    """When each Secret was written, as far as the log says."""
    found: dict[tuple[str, str], list[float]] = {}
    for event in events:
        where = (event.namespace, event.name)
        written = event.resource == "secrets" and event.verb in WRITES and event.allowed
        if written and where in subject.secrets:
            found.setdefault(where, []).append(event.time)
    return {where: sorted(times) for where, times in found.items()}


def _held(
    event: KubeEvent, subject: Subject, writes: Mapping[tuple[str, str], list[float]]
) -> list[int]:
    """The versions that the Secrets of a request may have held, in order.

    A Secret that was not written since a version was made holds the one before, unless a part of
    the log is missing.
    """
    held = {subject.version_at(event.time)}
    for namespace, name in subject.secrets:
        if event.namespace in ("", namespace) and event.name in ("", name):
            times = writes.get((namespace, name), [])
            before = bisect.bisect_right(times, event.time)
            held |= {subject.version_at(times[before - 1])} if before else set()
    return sorted(held - {0})


def _touched(
    event: KubeEvent, subject: Subject, writes: Mapping[tuple[str, str], list[float]]
) -> Entry:
    where = f"Secret {event.namespace or '*'}/{event.name or '*'}"
    held = _held(event, subject, writes)
    version = min(held, default=0)
    besides = tuple((each, event.time) for each in held[1:])
    later = besides + subject.made_between(event.time, event.until)
    # A deletion that waits for something, or is a dry run of one that would, answers with it.
    given = event.verb in (*READS, *READING_WRITES) or event.shown
    return Entry(
        time=event.time,
        source="kubernetes",
        actor=_actor(event),
        action=event.verb,
        target=where,
        outcome=_outcome(event),
        version=version,
        # What it was open for is no better known.
        inferred=bool(version) or bool(later),
        reads=event.allowed and given,
        address=_address(event),
        later=later,
    )


def _issued(event: KubeEvent) -> Entry:
    account = f"{event.namespace}/{event.name}"
    return Entry(
        time=event.time,
        source="kubernetes",
        actor=_actor(event),
        action="issue token",
        target=f"ServiceAccount {account} {event.issued_token_id}",
        outcome=_outcome(event),
        joined_by="token id",
        address=_address(event),
    )


def _reads_by_pod(
    records: Iterable[StoreRecord],
) -> Mapping[tuple[str, str], list[tuple[int, float]]]:
    """The pods that asked the store, each with the versions it got and when."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for each in records:
        known = each.vouched
        if known.get("pod_name"):
            pod = known.get("service_account_namespace", ""), known["pod_name"]
            reads = found.setdefault(pod, [])
            if each.answered and each.operation == "read" and each.keys:
                reads.append((max(each.versions, default=0), each.time))
    return {pod: sorted(reads, key=lambda each: each[1]) for pod, reads in found.items()}


def _entered(
    event: KubeEvent, subject: Subject, reads: Sequence[tuple[int, float]] | None
) -> Entry:
    """Who goes into a pod sees what it holds: what it read last, and what the Secret has then."""
    holds: list[tuple[int, float]] = []
    if reads is not None:
        before = [version for version, time in reads if time <= event.time][-1:]
        holds += [(version, event.time) for version in before or [0]]
        holds += [each for each in reads if event.time < each[1] <= event.until]
    if reads is None or _pod(event) in subject.pods:
        holds.append((subject.version_at(event.time), event.time))
        holds += subject.made_between(event.time, event.until)
    (version, _), *rest = sorted(holds, key=lambda each: (each[1], -each[0]))
    came: dict[int, float] = {}
    for each, time in rest:
        if each and each != version:
            came.setdefault(each, time)
    later = tuple(came.items())
    inside = event.subresource in INSIDE and (reads != [] or _pod(event) in subject.pods)
    return Entry(
        time=event.time,
        source="kubernetes",
        actor=_actor(event),
        action=event.subresource,
        target=f"Pod {event.namespace}/{event.name}",
        outcome=_outcome(event),
        version=version,
        inferred=bool(version) or bool(later),
        joined_by="pod name",
        # A pod that never got the value holds none.
        reads=event.allowed and inside,
        address=_address(event),
        later=later,
    )
