"""What a generator is: a function of its spec and its surroundings that makes values."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References, Surroundings


@dataclass(frozen=True, slots=True)
class Made:
    """The values, and what it takes to let go of them later.

    `state` is None when nothing has to be let go of. It is written into a GeneratorState, so
    nothing secret may be in it.
    """

    values: Mapping[str, bytes] = field(repr=False)
    state: Mapping[str, Any] | None = None


class KeptToken(Protocol):
    """The login that something was made with; what was made ends with it."""

    async def renew(self) -> float:
        """Prolong it; the seconds it has from now. Raises Denied when it has ended."""

    async def ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Post something by it; raises a Refusal."""

    async def leave(self) -> None:
        """Give it back, and with it all that was made; raises a Refusal."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What generators draw on. `random` must be one that nobody can predict.

    `tokens` are the logins that this process made and keeps alive, by their accessors.
    """

    around: Surroundings
    random: Random
    tokens: dict[str, KeptToken] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Life:
    """How long what was made lives on: looked at again after `again` seconds.

    `ends` is set when it cannot be prolonged: it is gone after so many seconds.
    """

    again: float
    ends: float | None = None


# Both raise Invalid for a spec that cannot be used, Denied or Unavailable for what the world says.
Make = Callable[[Fields, References, Sources], Awaitable[Made]]
Release = Callable[[Fields, References, Sources, Mapping[str, Any]], Awaitable[None]]
# Of a state of this age in seconds; None when nothing has to be done for it.
Sustain = Callable[[Fields, References, Sources, Mapping[str, Any], float], Awaitable[Life | None]]
