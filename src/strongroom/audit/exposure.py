"""How far a version is known: who did read it, from when to when, who could, what is not seen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from strongroom.audit.timeline import Actor, Entry, Subject
from strongroom.model.clock import parse_rfc3339, rfc3339
from strongroom.model.reach import Reach

# A log that says nothing for so long may have ended, or been rotated away.
QUIET_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Window:
    """When a version was readable; `ended` None while it still is, `destroyed` when for good."""

    version: int
    created: float
    ended: float | None
    destroyed: bool = False


@dataclass(frozen=True, slots=True)
class Reader:
    """One actor's reads of the version by one way, from `addresses` in order of the first read."""

    actor: str
    pod: str
    node: str
    way: str
    first: float
    last: float
    count: int
    certain: bool
    addresses: tuple[str, ...] = ()
    accessor: str = ""
    acting_as: str = ""


@dataclass(frozen=True, slots=True)
class LogCoverage:
    """What a log covers: its first and last record, and lines that could not be read."""

    name: str
    first: float | None
    last: float | None
    unreadable: int


@dataclass(frozen=True, slots=True)
class Exposure:
    """The whole answer."""

    subject: Subject
    window: Window
    did: tuple[Reader, ...]
    could: tuple[Reach, ...]
    blind: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """The stable form for machines."""
        ended = self.window.ended
        return {
            "secret": str(self.subject.ref),
            "version": self.window.version,
            "created": rfc3339(self.window.created),
            "ended": None if ended is None else rfc3339(ended),
            "destroyed": self.window.destroyed,
            "did_read": [
                {
                    "actor": each.actor,
                    "accessor": each.accessor,
                    "acting_as": each.acting_as,
                    "pod": each.pod,
                    "node": each.node,
                    "addresses": list(each.addresses),
                    "way": each.way,
                    "first": rfc3339(each.first),
                    "last": rfc3339(each.last),
                    "count": each.count,
                    "certain": each.certain,
                }
                for each in self.did
            ],
            "could_read": [
                {
                    "kind": each.kind,
                    "subject": each.subject,
                    "how": each.how,
                    "rule": each.rule,
                    "direct": each.direct,
                }
                for each in self.could
            ],
            "cannot_see": list(self.blind),
        }


def readers(entries: Iterable[Entry], version: int) -> tuple[Reader, ...]:
    """Who read the version, or one that nobody can tell, in order of the first read."""
    found: dict[tuple[Actor, str, bool], list[Entry]] = {}
    # Logins by tokens of one pod are one reader.
    plain: dict[Actor, Actor] = {}
    for entry in entries:
        made = dict(entry.later).get(version)
        if entry.reads and (made is not None or _may_show(entry, version)):
            actor = plain.get(entry.actor)
            if actor is None:
                actor = plain[entry.actor] = replace(entry.actor, pod_uid="", token_id="")
            way = f"{entry.source} {entry.action} {entry.target}"
            certain = bool(entry.version) and not entry.inferred
            read = entry if made is None else replace(entry, time=made)
            found.setdefault((actor, way, certain), []).append(read)
    rows = []
    for (actor, way, certain), reads in found.items():
        reads.sort(key=lambda each: each.time)
        addresses = tuple(dict.fromkeys(each.address for each in reads if each.address))
        rows.append(
            Reader(
                actor=actor.name,
                pod=actor.pod,
                node=actor.node,
                way=way,
                first=reads[0].time,
                last=reads[-1].time,
                count=len(reads),
                certain=certain,
                addresses=addresses,
                accessor=actor.accessor,
                acting_as=actor.acting_as,
            )
        )
    return tuple(sorted(rows, key=lambda each: (each.first, each.actor, each.accessor)))


def _may_show(entry: Entry, version: int) -> bool:
    """Whether it is of the version, or nobody can tell of which; a watch before any is of none."""
    return entry.version == version or (not entry.version and not entry.later)


def blind_spots(
    window: Window, logs: Sequence[LogCoverage], *, cluster: bool, now: float
) -> list[str]:
    """What this answer cannot see, as sentences."""
    found = []
    until = min(now, now if window.ended is None else window.ended)
    for log in logs:
        if log.first is None:
            found.append(f"{log.name} holds no record")
        elif log.first > window.created:
            found.append(
                f"{log.name} begins at {rfc3339(log.first)},"
                f" after the version was made at {rfc3339(window.created)}"
            )
        if log.last is not None and log.last < until - QUIET_SECONDS:
            found.append(f"{log.name} ends at {rfc3339(log.last)}: what came later is not in it")
        found += unreadable_lines([log])
    if not logs:
        found.append("no log was given")
    if cluster:
        found += [
            "a kubelet that mounts a Secret reads it once for all pods of its node; which pod"
            " used it is not in the log",
            "who went into a pod (exec, attach, a debug container) counts as a reader where the"
            " store knows the pod or it is there still and names the Secret, and the log has it",
            "list and watch show that somebody received the Secrets of a namespace, not which;"
            " the version a Secret held then is inferred from when versions were made",
            "a watch that is still open is in the log only if its policy keeps the stage"
            " ResponseStarted; one whose end no log has counts as open still",
            "the clocks of the store and of the API servers are taken for one: by as much as they"
            " differ, an inferred version may be the one before or after",
            "who could read is what policies, roles and bindings say now, not what they said then",
            "reads of etcd, its backups and a node's disk leave no event",
        ]
    else:
        found.append("no cluster was asked: reads of Kubernetes Secrets are missing")
    found.append("the store's database, its snapshots and backups hold every version")
    found.append("what a reader did with the value afterwards is in no log")
    return found


def unreadable_lines(logs: Iterable[LogCoverage]) -> list[str]:
    """What could not be read of the logs, as sentences."""
    found = []
    for log in logs:
        if log.unreadable:
            lines = "1 line" if log.unreadable == 1 else f"{log.unreadable:,} lines"
            found.append(f"{log.name} has {lines} that could not be read")
    return found


def window_of(version: int, entry: Mapping[str, Any]) -> Window:
    """A version's window from its entry in the store's metadata."""
    ended = entry.get("deletion_time") or ""
    return Window(
        version,
        parse_rfc3339(entry["created_time"]),
        parse_rfc3339(ended) if ended else None,
        bool(entry.get("destroyed")),
    )
