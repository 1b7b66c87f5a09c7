"""Consent, drift and fights: whose a target is, who changed it, and when to stop. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.kube.resource import Object
from strongroom.model.clock import parse_rfc3339
from strongroom.model.errors import Conflict
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.desired import (
    CREATED_BY,
    DATA_HASH,
    Difference,
    created_by,
    data_hash,
    field_manager,
    owned_fields,
    owner_reference,
    refers_to,
    secret_data,
)
from strongroom.sync.spec import Spec

_OWNERS: Final = (EXTERNAL_SECRETS.group, EXTERNAL_SECRETS.kind)
ADOPT: Final = "strongroom.dev/adopt"
# So many repairs in so many seconds are a fight; then hands off for so long.
FIGHT_REPAIRS: Final = 5
FIGHT_SECONDS: Final = 60.0
TRUCE_SECONDS: Final = 600.0


def check_consent(item: Object, spec: Spec, current: Object | None) -> None:
    """Refuse to take over what somebody else made; raises Conflict(`not-ours`).

    Consent is creationPolicy Merge or CreateOrMerge, or the annotation `strongroom.dev/adopt`. What
    an ExternalSecret owns is merged into by no other: its owner would take the keys out again.
    """
    if current is None:
        return
    metadata = current["metadata"]
    references = metadata.get("ownerReferences") or []
    owner = next((each for each in references if each.get("controller")), None)
    if owner is not None:
        theirs = (str(owner.get("apiVersion")).partition("/")[0], owner.get("kind"))
        if refers_to(owner, owner_reference(item)) or (not spec.whole and theirs != _OWNERS):
            return
        raise Conflict(
            "not-ours",
            f"the {current.get('kind', 'Secret')} {spec.target} belongs to "
            f"{owner.get('kind')} {owner.get('name')}",
            hint="choose another target.name",
        )
    if not spec.whole:
        return
    made_by = (metadata.get("labels") or {}).get(CREATED_BY)
    if made_by == created_by(item["metadata"]["namespace"], item["metadata"]["name"]):
        return
    adopted = (item["metadata"].get("annotations") or {}).get(ADOPT) == "true"
    if made_by and not adopted:
        raise Conflict(
            "not-ours",
            f"the Secret {spec.target} was made for another ExternalSecret",
            hint="choose another target.name",
        )
    if not adopted and not written_by(current, field_manager(item["metadata"]["name"])):
        raise Conflict(
            "not-ours",
            f"the {current.get('kind', 'Secret')} {spec.target} is there already and has no owner; "
            "it is left alone",
            hint=f"annotate the ExternalSecret with {ADOPT}=true, or use creationPolicy Merge",
        )
    others = [] if adopted or spec.manifest else merged_beside(current, item["metadata"]["name"])
    if others:
        raise Conflict(
            "not-ours",
            f"the Secret {spec.target} was there before it was merged into, and would lose what"
            f" others wrote: {', '.join(others)}",
            hint=f"annotate the ExternalSecret with {ADOPT}=true, or keep creationPolicy Merge",
        )


def merged_beside(current: Object, name: str) -> list[str]:
    """The keys of others in a Secret that was not made for the ExternalSecret of this name.

    Who made a Secret has written its type, which managedFields then say.
    """
    manager = field_manager(name)
    entries = current["metadata"].get("managedFields") or []
    if any(
        each.get("manager") == manager and "f:type" in (each.get("fieldsV1") or {})
        for each in entries
    ):
        return []
    ours = owned_fields(current, manager)
    return sorted(key for key in current.get("data") or {} if ("data", key) not in ours)


def written_by(current: Object, manager: str) -> bool:
    """Whether a manager holds fields of the object."""
    entries = current["metadata"].get("managedFields") or []
    return any(each.get("manager") == manager for each in entries)


def actor(current: Object, ours: str) -> str:
    """Who changed the data or spec last, from managedFields; "" when only we did."""
    entries = [
        each
        for each in current["metadata"].get("managedFields") or []
        if each.get("manager") != ours
        and {"f:data", "f:binaryData", "f:spec"} & set(each.get("fieldsV1") or {})
    ]
    if not entries:
        return ""
    latest = max(entries, key=lambda each: str(each.get("time", "")))
    when = f" at {latest['time']}" if latest.get("time") else ""
    return f"{latest.get('manager', 'somebody')} ({latest.get('operation', 'Update')}{when})"


def is_own_write(current: Object, ours: str) -> bool:
    """Whether it is whole as we have written it at some time, and nobody else has written data."""
    metadata = current["metadata"]
    hashed = (metadata.get("annotations") or {}).get(DATA_HASH)
    whole = "data" in current and hashed == data_hash(secret_data(current))
    return whole and written_by(current, ours) and not foreign_writes(metadata, ours)


def describe(difference: Difference, target: str) -> str:
    """A sentence for an Event."""
    if difference.missing:
        return f"{target} was deleted"
    return f"{target} differed: {_worded(difference, ('changed', 'removed', 'added'))}"


def describe_repair(difference: Difference) -> str:
    """What would be done about it: a key that is not there is to come."""
    return _worded(difference, ("changes", "adds", "removes"))


def _worded(difference: Difference, verbs: tuple[str, str, str]) -> str:
    changed, missing, foreign = verbs
    parts = [
        f"{word} {', '.join(sorted(keys))}"
        for word, keys in (
            (changed, difference.changed),
            (missing, difference.removed),
            (foreign, difference.added),
            ("labels", difference.labels),
            ("annotations", difference.annotations),
            ("fields", difference.shape),
        )
        if keys
    ]
    return "; ".join(parts) or "nothing"


def truce_left(since: str | None, now: float) -> float:
    """Seconds of a truce that began at an RFC 3339 time, at `now` of the wall clock. Pure.

    So a truce outlives the process that called it; a clock that was set back does not prolong it.
    """
    try:
        began = parse_rfc3339(str(since))
    except ValueError:
        return 0.0
    return max(0.0, min(TRUCE_SECONDS, began + TRUCE_SECONDS - now))


@dataclass(slots=True)
class Contest:
    """The repairs of one target; many in a short time mean that somebody undoes them."""

    repairs: deque[float] = field(default_factory=deque)
    until: float = 0.0

    def repaired(self, now: float) -> bool:
        """Note a repair at a monotonic time; True when this one makes it a fight."""
        self.repairs.append(now)
        while self.repairs and now - self.repairs[0] > FIGHT_SECONDS:
            self.repairs.popleft()
        if len(self.repairs) < FIGHT_REPAIRS:
            return False
        self.repairs.clear()
        self.until = now + TRUCE_SECONDS
        return True

    def truce(self, now: float) -> float:
        """Seconds for which nothing is repaired."""
        return max(0.0, self.until - now)


def opponent_of(who: str) -> str:
    """The name alone of an actor that `actor` describes."""
    return who.partition(" (")[0] or "an unknown writer"


def foreign_writes(metadata: Mapping[str, Any], manager: str) -> list[Mapping[str, Any]]:
    """The entries of managedFields that tell of data written by anybody but the manager."""
    return [
        each
        for each in metadata.get("managedFields") or []
        if each.get("manager") != manager and "f:data" in (each.get("fieldsV1") or {})
    ]
