"""Whether the plugin may answer, from when a backend last confirmed its keys. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class OnLoss(StrEnum):
    """What to do while no backend answers."""

    COAST = "coast"
    STOP = "stop"


class Standing(StrEnum):
    """STARTING has not opened the key in use; COASTING answers without a backend.

    STARTING and STOPPED only decrypt.
    """

    STARTING = "starting"
    READY = "ready"
    COASTING = "coasting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Policy:
    """`max_offline_age` in seconds limits coasting, and a start from the offline cache."""

    on_loss: OnLoss = OnLoss.COAST
    max_offline_age: float = 72 * 3600.0


@dataclass(frozen=True, slots=True)
class Health:
    """What is known: when a backend last confirmed the keys (None: never in this process)."""

    has_keys: bool
    reachable: bool
    offline_seconds: float = 0.0


def standing(policy: Policy, health: Health) -> Standing:
    """The decision."""
    if not health.has_keys:
        return Standing.STARTING
    if health.reachable:
        return Standing.READY
    if policy.on_loss is OnLoss.STOP or health.offline_seconds > policy.max_offline_age:
        return Standing.STOPPED
    return Standing.COASTING
