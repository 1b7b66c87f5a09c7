"""The state of a rotation as the secret's metadata tells it, and the next step. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from strongroom.model.clock import parse_rfc3339
from strongroom.model.errors import Conflict, Invalid

MARK: Final = "strongroom-rotation"
DONE: Final = "strongroom-rotated"
MARK_BYTES: Final = 512
# Of an engine where neither the secret nor the mount says otherwise.
VERSIONS_KEPT: Final = 10


class Step(StrEnum):
    """What is done next."""

    INTEND = "intend"
    WRITE = "write"
    WAIT = "wait"
    RETIRE = "retire"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Rotation:
    """From which version to which, and for which fields."""

    old: int
    new: int
    fields: tuple[str, ...]
    started: float = 0.0

    def dumps(self) -> str:
        """For custom metadata (at most 512 bytes)."""
        fields = list(self.fields)
        return json.dumps(
            {"from": self.old, "to": self.new, "fields": fields, "started": self.started}
        )


@dataclass(frozen=True, slots=True)
class Observed:
    """What the store says of the secret."""

    current: int
    live: tuple[int, ...]
    rotation: Rotation | None
    # What was rotated last, as the end of it says.
    rotated: str = ""


def observe(metadata: Mapping[str, Any], now: float) -> Observed:
    """Read `metadata/PATH`; raises Invalid(`bad-mark`) for a mark that is not ours."""
    custom = metadata.get("custom_metadata") or {}
    rotation = None
    if custom.get(MARK):
        try:
            mark = json.loads(custom[MARK])
            rotation = Rotation(
                int(mark["from"]), int(mark["to"]), tuple(mark["fields"]), float(mark["started"])
            )
        except (ValueError, KeyError, TypeError):
            raise Invalid(
                "bad-mark", f"the custom metadata {MARK} cannot be read", hint="remove it by hand"
            ) from None
    live = tuple(
        sorted(
            int(number)
            for number, entry in (metadata.get("versions") or {}).items()
            if not entry.get("destroyed") and not _deleted(entry, metadata, now)
        )
    )
    return Observed(int(metadata["current_version"]), live, rotation, str(custom.get(DONE) or ""))


def _deleted(entry: Mapping[str, Any], metadata: Mapping[str, Any], now: float) -> bool:
    """Whether a version is deleted; one with a time to come (`delete_version_after`) is not yet.

    A deletion that was done is no later than the secret's last change, so a clock of ours that is
    behind the store's takes it for no time to come.
    """
    if not entry.get("deletion_time"):
        return False
    at = parse_rfc3339(entry["deletion_time"])
    return at <= now or at <= parse_rfc3339(metadata["updated_time"])


def dropped_by(rotation: Rotation, seen: Observed, kept: int) -> tuple[int, ...]:
    """The versions that end with the write itself, where only so many are kept."""
    if seen.current != rotation.old:
        return ()
    return tuple(number for number in seen.live if number <= rotation.new - kept)


def next_step(seen: Observed, *, all_moved: bool) -> Step:
    """What to do now; raises Conflict when somebody else wrote in between."""
    rotation = seen.rotation
    if rotation is None:
        return Step.INTEND
    if seen.current == rotation.old:
        return Step.WRITE
    if seen.current != rotation.new:
        raise Conflict(
            "written-in-between",
            f"version {seen.current} was written by somebody else during the rotation"
            f" from {rotation.old} to {rotation.new}",
            hint="look at both versions, then abandon with --abandon and start again",
        )
    if any(number < rotation.new for number in seen.live):
        return Step.RETIRE if all_moved else Step.WAIT
    return Step.FINISH


def retired_by(rotation: Rotation, seen: Observed) -> tuple[int, ...]:
    """The versions that end."""
    return tuple(number for number in seen.live if number < rotation.new)
