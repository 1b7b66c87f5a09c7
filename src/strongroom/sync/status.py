"""Conditions of an ExternalSecret: the reasons and messages its users know. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Refusal, Unavailable

READY: Final = "Ready"
STALE: Final = "Stale"


def ready_conditions(before: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
    """Synced; no other condition stays."""
    return [_condition(before, READY, "True", ("SecretSynced", "secret synced"), now)]


def failed_conditions(
    before: Mapping[str, Any], refusal: Refusal, now: float
) -> list[dict[str, Any]]:
    """Not synced, and why.

    While the provider is away the last good value stays, so Ready stays True and `Stale` says
    since when and why; any other refusal takes Ready away.
    """
    said = ("SecretSyncedError", str(refusal))
    was_ready = any(
        each.get("type") == READY and each.get("status") == "True"
        for each in before.get("conditions") or []
    )
    if was_ready and isinstance(refusal, Unavailable):
        ready = _condition(before, READY, "True", ("SecretSynced", "secret synced"), now)
        stale = _condition(before, STALE, "True", ("ProviderUnavailable", str(refusal)), now)
        return [ready, stale]
    return [_condition(before, READY, "False", said, now)]


def _condition(
    before: Mapping[str, Any], kind: str, status: str, said: tuple[str, str], now: float
) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = before.get("conditions") or []
    old = next((each for each in conditions if each.get("type") == kind), {})
    moved = rfc3339(now).partition(".")[0] + "Z"
    return {
        "type": kind,
        "status": status,
        "reason": said[0],
        "message": said[1],
        "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == status else moved,
    }


def says_the_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a write would tell nobody anything new."""
    return all(before.get(key) == value for key, value in after.items())
