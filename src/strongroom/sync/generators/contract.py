"""What a generator is: a function of its spec and its surroundings that makes values."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Sources:
    """What generators draw on. `random` must be one that nobody can predict."""

    around: Surroundings
    random: Random


# Both raise Invalid for a spec that cannot be used, Denied or Unavailable for what the world says.
Make = Callable[[Fields, References, Sources], Awaitable[Made]]
Release = Callable[[Fields, References, Sources, Mapping[str, Any]], Awaitable[None]]
