"""Conditions of an ExternalSecret: the reasons and messages its users know. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Refusal, Throttled, Unavailable
from strongroom.sync.remedies import worded

READY: Final = "Ready"
STALE: Final = "Stale"
CONTENDED: Final = "Contended"
SYNCED: Final = ("SecretSynced", "secret synced")
RETAINED: Final = ("SecretSynced", "secret retained due to DeletionPolicy=Retain")
DELETED: Final = ("SecretDeleted", "secret deleted due to DeletionPolicy=Delete")
MISSING: Final = ("SecretMissing", "secret will not be created due to CreationPolicy=Merge")
Status = Mapping[str, Any]


class StoreAway(Unavailable):
    """A store did not answer, or asked to be left alone, for `retry_after` seconds if it said."""

    def __init__(self, refusal: Unavailable) -> None:
        super().__init__(refusal.code, refusal.message, hint=refusal.hint)
        self.throttled = isinstance(refusal, Throttled)
        self.retry_after: float | None = getattr(refusal, "retry_after", None)
        # Of a store that rests: gives the seconds until this one's turn to look again.
        self.look_after: Callable[[], float] | None = getattr(refusal, "look_after", None)
        # What befell the target, which only the store could put right.
        self.unrepaired = ""

    def take_turn(self) -> None:
        """Look again when its turn comes among all that wait, for the status says why by now."""
        if self.look_after is not None:
            self.retry_after = max(self.retry_after or 0.0, self.look_after())


def seconds(now: float) -> str:
    """A time as the API writes it: RFC 3339 in whole seconds."""
    return rfc3339(now).partition(".")[0] + "Z"


def ready_conditions(
    before: Status, said: tuple[str, str], now: float, *, manifest: bool = False
) -> list[dict[str, Any]]:
    """In order; no other condition stays."""
    return [condition(before, READY, "True", _for(said, manifest=manifest), now)]


def failed_conditions(
    before: Status, refusal: Refusal, now: float, *, manifest: bool = False
) -> list[dict[str, Any]]:
    """Not in order, and why.

    While the provider is away the last good value stays, so Ready stays True and `Stale` says
    since when and why; any other refusal takes Ready away, and so does a target that is known not
    to hold that value.
    """
    if isinstance(refusal, Unavailable) and not isinstance(refusal, StoreAway):
        # The cluster's own API: nothing is known to be wrong with the object.
        return list(before.get("conditions") or [])
    if isinstance(refusal, StoreAway) and (is_ready(before) or find(before, STALE)):
        ready = dict(find(before, READY))
        if refusal.unrepaired:
            message = f"{refusal.unrepaired}, which waits for the store to answer"
            said = _for(("SecretSyncedError", message), manifest=manifest)
            ready = condition(before, READY, "False", said, now)
        reason = "ProviderThrottled" if refusal.throttled else "ProviderUnavailable"
        since = before.get("refreshTime") or "an unknown time"
        message = f"last good value of {since}: {worded(refusal)}"
        if find(before, STALE).get("reason") == reason:
            # Told once; the text of each new refusal would be a write each time.
            message = find(before, STALE)["message"]
        return [ready, condition(before, STALE, "True", (reason, message), now)]
    said = _for(("SecretSyncedError", worded(refusal)), manifest=manifest)
    return [condition(before, READY, "False", said, now)]


def contended(before: Status, opponent: str, now: float) -> list[dict[str, Any]]:
    """A fight that was stopped: the value in place may be the other's."""
    message = f"{opponent} undoes every repair; repairs are stopped for ten minutes"
    said = ("FightDetected", message)
    ready = condition(before, READY, "False", ("SecretSyncedError", message), now)
    return [ready, condition(before, CONTENDED, "True", said, now)]


def is_ready(before: Status) -> bool:
    """Whether Ready is True."""
    return find(before, READY).get("status") == "True"


def find(before: Status, kind: str) -> Mapping[str, Any]:
    """The condition of a type, {} when there is none."""
    conditions = before.get("conditions") or []
    return next((each for each in conditions if each.get("type") == kind), {})


def _for(said: tuple[str, str], *, manifest: bool) -> tuple[str, str]:
    """Targets that are no Secrets have their own words."""
    if not manifest:
        return said
    return said[0].replace("Secret", "Resource", 1), said[1].replace("secret", "resource", 1)


def condition(
    before: Status, kind: str, status: str, said: tuple[str, str], now: float
) -> dict[str, Any]:
    """A condition; its transition time moves only when its status does."""
    old = find(before, kind)
    return {
        "type": kind,
        "status": status,
        "reason": said[0],
        "message": said[1],
        "lastTransitionTime": (
            old["lastTransitionTime"]
            if old.get("status") == status and old.get("lastTransitionTime")
            else seconds(now)
        ),
    }


def says_the_same(before: Status, after: Status) -> bool:
    """Whether a write would tell nobody anything new.

    A transition time says nothing beside its status, and not every definition keeps it.
    """
    return all(_timeless(before.get(key)) == _timeless(value) for key, value in after.items())


def _timeless(value: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, list):
        return value
    return [
        {key: part for key, part in each.items() if key != "lastTransitionTime"}
        if isinstance(each, Mapping)
        else each
        for each in value
    ]


def holds(current: Any, wanted: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether everything wanted is there as it is wanted; what is there besides does not count."""
    if isinstance(wanted, dict):
        return isinstance(current, dict) and all(
            key in current and holds(current[key], each) for key, each in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(current, list):
        return len(wanted) == len(current) and all(
            holds(have, want) for have, want in zip(current, wanted, strict=True)
        )
    return bool(current == wanted)
