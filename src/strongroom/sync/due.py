"""What an ExternalSecret needs now: nothing, a look at its target, or a read of the store. Pure."""

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from strongroom.kube.controller import Pause
from strongroom.kube.queue import LAST_BACKOFF, Lane
from strongroom.kube.resource import Object
from strongroom.model.clock import parse_rfc3339
from strongroom.model.errors import Conflict, Invalid, Refusal, Unavailable
from strongroom.sync.desired import (
    DATA_HASH,
    SOURCE_VERSIONS,
    Wanted,
    data_hash,
    field_manager,
    secret_data,
    synced_version,
)
from strongroom.sync.drift import foreign_writes
from strongroom.sync.pace import LAST_PAUSE
from strongroom.sync.providers.contract import ClusterAway, Version
from strongroom.sync.render import Rendered
from strongroom.sync.spec import Row, Spec, parse_spec
from strongroom.sync.status import StoreAway

JITTER: Final = 0.1
# Nothing is looked at again more often than this, whatever the manifest says.
SHORTEST: Final = 1.0
FUTURE_SECONDS: Final = 60.0
# A refusal that only a change can mend is looked at again after this, for changes go unseen.
UNSEEN_SECONDS: Final = 300.0
HERE: Final = ("credential-missing", "store-not-for-namespace")
LAST_API_PAUSE: Final = 30.0


class Need(Enum):
    """In order of cost."""

    NOTHING = "nothing"
    CHECK = "check"
    READ = "read"


@dataclass(slots=True)
class Known:
    """What was synced last for one ExternalSecret; `refreshed` is monotonic."""

    version: str
    wanted: Wanted
    made: Rendered = field(repr=False)
    values: dict[str, bytes] = field(repr=False)
    inputs: tuple[str, ...]
    refreshed: float
    target_version: str
    written: bool
    # What generators made, by the place in the manifest, and when they were asked (monotonic).
    generated: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    asked: float = 0.0


def need(
    item: Object, spec: Spec, known: Known | None, target: Object | None, now: tuple[float, float]
) -> Need:
    """What to do; `target` is the target's metadata as last seen, `now` wall and monotonic."""
    wall, monotonic = now
    version = synced_version(item)
    if known is None:
        return _unknown(item, spec, target, version, wall)
    if known.version != version and spec.refresh_policy != "CreatedOnce":
        return Need.READ
    if known.wanted.name != spec.target:
        # Another target was never created, whatever the policy is.
        return Need.READ
    due = _periodic(spec) and monotonic - known.refreshed >= interval_of(spec, item)
    if due and spec.windows.open(wall):
        return Need.READ
    look = is_drifted(known, target) or _has_appeared(spec, known, target)
    return Need.CHECK if look else Need.NOTHING


def is_drift(
    known: Known | None, fresh: Known, item: Object, spec: Spec, target: Object | None
) -> bool:
    """Whether a difference is drift: neither the manifest nor its values have changed. Pure.

    Where it was not read since the start, its status tells of the manifest, and somebody else has
    written to a Secret whose note says that it was given the data that are wanted now.
    """
    if known is not None:
        same = known.version == fresh.version and known.wanted.data == fresh.wanted.data
        return known.written and same
    if target is None or spec.manifest is not None or not _was_synced(item, spec, fresh.version):
        return False
    metadata = target["metadata"]
    said = (metadata.get("annotations") or {}).get(DATA_HASH)
    theirs = foreign_writes(metadata, field_manager(item["metadata"]["name"]))
    return bool(theirs) and said == data_hash(fresh.wanted.data)


def _was_synced(item: Object, spec: Spec, version: str) -> bool:
    """Whether the status tells of a target that was written for the manifest as it is."""
    status = item.get("status") or {}
    if (status.get("binding") or {}).get("name") != spec.target:
        return False
    return status.get("syncedResourceVersion") == version or spec.refresh_policy == "CreatedOnce"


def _has_appeared(spec: Spec, known: Known, target: Object | None) -> bool:
    """Whether the Secret to merge into, which was not there, has come."""
    waits = spec.creation == "Merge" and not known.written and bool(known.values)
    return waits and target is not None


def is_drifted(known: Known, target: Object | None) -> bool:
    """Whether somebody else has written the target since it was written."""
    seen = (target or {}).get("metadata", {}).get("resourceVersion", "")
    return known.written and seen != known.target_version


def _unknown(item: Object, spec: Spec, target: Object | None, version: str, wall: float) -> Need:
    """After a start: what the status says is believed as far as the target bears it out."""
    status = item.get("status") or {}
    refreshed = refresh_time(status)
    if refreshed is None or not _ready(status):
        return Need.READ
    if status.get("syncedResourceVersion") != version and spec.refresh_policy != "CreatedOnce":
        return Need.READ
    if spec.creation != "None" and spec.manifest is None and not _bears_out(item, target):
        return Need.READ
    if spec.creation != "None" and spec.manifest is not None and _periodic(spec):
        # Nothing at a target that is no Secret shows what it should hold, so that is asked for.
        return Need.READ if spec.windows.open(wall) else Need.NOTHING
    # A time that is still to come was written by a clock that has since been set back.
    due = wall - refreshed >= spec.refresh_seconds or refreshed > wall + FUTURE_SECONDS
    return Need.READ if _periodic(spec) and due and spec.windows.open(wall) else Need.NOTHING


def _bears_out(item: Object, target: Object | None) -> bool:
    if target is None:
        return False
    metadata = target["metadata"]
    hashed = DATA_HASH in (metadata.get("annotations") or {})
    return hashed and not foreign_writes(metadata, field_manager(item["metadata"]["name"]))


def may_be_kept(known: Known, item: Object, spec: Spec, target: Object | None) -> bool:
    """Whether a target that was changed gets back what it held, while the store is away."""
    same = known.version == synced_version(item) and spec.creation not in ("None", "Orphan")
    return same and is_drifted(known, target)


def was_made(item: Object, spec: Spec) -> bool:
    """Whether the status tells of a Secret that is the object's own.

    Others' keys in a Secret that is merged into are no harm to it.
    """
    binding = (item.get("status") or {}).get("binding") or {}
    return spec.creation == "Owner" and spec.manifest is None and binding.get("name") == spec.target


def unrepaired(item: Object, spec: Spec, target: Object | None) -> str:
    """What befell a Secret that was made, "" for nothing; its metadata alone may suspect more.

    Who shares a value, as whoever had made what was adopted, may have written a label alone.
    """
    if target is None:
        return f"the Secret {spec.target} was deleted"
    said = (target["metadata"].get("annotations") or {}).get(DATA_HASH)
    if "data" in target and said == data_hash(secret_data(target)):
        return ""
    refreshed = refresh_time(item.get("status") or {})
    manager = field_manager(item["metadata"]["name"])
    for entry in foreign_writes(target["metadata"], manager):
        written = _moment(entry.get("time"))
        if written and refreshed and written > refreshed:
            who = entry.get("manager") or "somebody"
            return f"{who} has written to the Secret {spec.target} at {entry['time']}"
    return ""


def _ready(status: Mapping[str, Any]) -> bool:
    return any(
        each.get("type") == "Ready" and each.get("status") == "True"
        for each in status.get("conditions") or []
    )


def _periodic(spec: Spec) -> bool:
    return spec.refresh_policy == "Periodic" and spec.refresh_seconds > 0


def follows_the_store(item: Object) -> bool:
    """Whether a change at the store concerns it now; else its policy or windows say when."""
    spec = item.get("spec") or {}
    return spec.get("refreshPolicy", "Periodic") == "Periodic" and not spec.get("syncWindows")


def concerns(item: Object, *, known: bool) -> bool:
    """Whether a change at a store, or of what a template is kept in, has it read anew.

    What generators made is not known after a start, and such a change asks for nothing new of them.
    """
    spec = item.get("spec") or {}
    entries = [*(spec.get("data") or []), *(spec.get("dataFrom") or [])]
    generated = any((each.get("sourceRef") or {}).get("generatorRef") for each in entries)
    return follows_the_store(item) and (known or not generated)


def still_good(
    item: Object, spec: Spec, known: Known | None, now: float
) -> tuple[Mapping[str, Mapping[str, bytes]], float]:
    """What generators made that needs no replacement yet, and when they were asked (monotonic)."""
    if known is None or known.version != synced_version(item):
        return {}, now
    due = _periodic(spec) and now - known.asked >= interval_of(spec, item)
    return ({}, now) if due else (known.generated, known.asked)


def is_of_the_cluster(refusal: Refusal) -> bool:
    """Whether a write is refused as such, and not what it says, which may be mended at a store."""
    return refusal.code.startswith("kube-") and not isinstance(refusal, Invalid)


def kept_for(item: Object, spec: Spec, read: Known) -> float:
    """For how many seconds what was read and could not be written is tried without another read.

    What is not read again once it is written would stay as old as it is then.
    """
    every = interval_of(spec, item) if spec.refresh_seconds else math.inf
    return every if _periodic(spec) or read.generated else min(every, UNSEEN_SECONDS)


def is_behind(
    item: Object, spec: Spec, target: Object | None, name: str, changed: Mapping[str, Version]
) -> bool:
    """Whether the target is not of the newest versions, as far as what has changed shows it.

    `changed` has the newest version of each path, "" where none was written; one of them ends in
    `name`, which is "" for an object that reads what it finds. What the manifest names and the
    target does not tell of, or not so that it can be read, may have changed; a target that names no
    version at all shows nothing.
    """
    said = ((target or {}).get("metadata", {}).get("annotations") or {}).get(SOURCE_VERSIONS)
    if not said or not follows_the_store(item):
        return False
    held = _versions_in(said)
    if any(changed.get(path, version) != version for path, version in held.items()):
        return True
    if not name:
        return bool(changed.keys() - held.keys())
    keys = [key for key in _keys_of(spec) if last_part(key) == name]
    return any(not any(_is_path_of(key, path) for path in held) for key in keys)


def is_older(item: Object, when: float) -> bool:
    """Whether an object that follows its store was refreshed before a time, in epoch seconds. Pure.

    The store's clock may differ by a minute from ours.
    """
    refreshed = refresh_time(item.get("status") or {})
    before = refreshed is None or refreshed < when + FUTURE_SECONDS
    return before and follows_the_store(item)


def is_dated_before(item: Object, written: str) -> bool:
    """Whether an object was refreshed before something was written, at an RFC 3339 time. Pure.

    In the same second nobody can tell; then it was not, for what is applied together is read so.
    """
    refreshed = refresh_time(item.get("status") or {})
    changed = _moment(written)
    return refreshed is not None and changed is not None and refreshed < int(changed)


def _versions_in(said: str) -> Mapping[str, Any]:
    """What an annotation tells of versions; whoever may write the target may have put anything."""
    try:
        held = json.loads(said)
    except (ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def last_part(name: str) -> str:
    """What a path and the remote key that means it have in common."""
    return name.rstrip("/").rpartition("/")[2]


def _keys_of(spec: Spec) -> Iterator[str]:
    for part in spec.parts:
        remote = part.remote if isinstance(part, Row) else part.extract
        if part.store is not None and remote is not None:
            yield remote.key


def _is_path_of(key: str, path: str) -> bool:
    """Whether a path may be what a remote key means, which may leave out the mount and `data`."""
    keys = {key.strip("/"), key.strip("/").replace("/data/", "/", 1)}
    paths = (path, path.replace("/data/", "/", 1))
    return any(f"/{each}".endswith(f"/{wanted}") for each in paths for wanted in keys)


def start_lane(item: Object) -> Lane:
    """The lane of an object that was there before we were: first what is new or was changed."""
    status = item.get("status") or {}
    if refresh_time(status) is None:
        return Lane.CHANGED
    changed = status.get("syncedResourceVersion") != synced_version(item)
    return Lane.EVENT if changed else Lane.PERIODIC


def refresh_time(status: Mapping[str, Any]) -> float | None:
    """`status.refreshTime` as epoch seconds; None when there is none that can be read."""
    return _moment(status.get("refreshTime"))


def _moment(said: object) -> float | None:
    """An RFC 3339 time as epoch seconds; None for what is none."""
    try:
        return parse_rfc3339(str(said))
    except ValueError:
        return None


def interval_of(spec: Spec, item: Object) -> float:
    """The refresh interval less up to a tenth by a stable hash: what is made together spreads."""
    metadata = item["metadata"]
    place = zlib.crc32(f"{metadata.get('namespace', '')}/{metadata['name']}".encode()) / 2**32
    return max(SHORTEST, spec.refresh_seconds * (1 - JITTER * place))


def age_of(item: Object, known: Known | None, now: tuple[float, float]) -> float:
    """Seconds since it was read, as far as anybody knows; infinite for what never was."""
    wall, monotonic = now
    if known is not None:
        return monotonic - known.refreshed
    refreshed = refresh_time(item.get("status") or {})
    return math.inf if refreshed is None else wall - refreshed


def next_look(
    spec: Spec, item: Object, known: Known | None, now: tuple[float, float]
) -> float | None:
    """Seconds until it is due; None when only a change can make it so."""
    if not _periodic(spec):
        return None
    if not spec.windows.open(now[0]):
        return 60.0
    every = interval_of(spec, item)
    passed = min(every, age_of(item, known, now))
    # A wall clock that was set back must not put it off for longer than one interval.
    return min(every, max(SHORTEST, every - passed))


def patience(item: Object, refusal: Refusal) -> Pause | None:
    """How long to stay away: no shorter than the store asks, no longer than the interval."""
    try:
        spec = parse_spec(item)
    except Invalid:
        return None
    interval = spec.refresh_seconds or LAST_BACKOFF
    asked = getattr(refusal, "retry_after", None)
    if isinstance(refusal, StoreAway):
        # The store's pace lets one in that long through; the others only look at it.
        return Pause(asked or 0.0, max(min(LAST_PAUSE, interval), asked or 0.0))
    if isinstance(refusal, Unavailable):
        least = refusal.retry_after if isinstance(refusal, ClusterAway) else 0.0
        return Pause(least, LAST_API_PAUSE)
    if isinstance(refusal, Conflict) and not refusal.code.startswith("kube-"):
        return Pause(min(UNSEEN_SECONDS, interval), interval)
    # What is wrong in the cluster costs the store little, and may be put right any time: a right
    # that was taken away, a quota that is full, an admission webhook that refuses. But what is
    # generated is made anew for each try.
    here = refusal.code in HERE or (refusal.code.startswith("kube-") and not spec.generators)
    return Pause(0.0, min(UNSEEN_SECONDS, interval) if here else interval)
