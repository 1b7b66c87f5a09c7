"""Templates as the operator renders them: compiled once.

The engine is loaded with the first template: it takes longer than an operator's start may.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from strongroom.model.clock import Clock

if TYPE_CHECKING:
    from strongroom.template.engine import Template

REMEMBERED: Final = 2048


class GoTemplates:
    """Go text/template with external-secrets' functions. A rewrite.Render."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._compiled = lru_cache(maxsize=REMEMBERED)(_compiled)

    def __call__(self, text: str, values: Mapping[str, bytes]) -> bytes:
        """Raises Invalid with line and column, and never a value."""
        return self._compiled(text).render(values, clock=self._clock)


def _compiled(text: str) -> "Template":
    from strongroom.template import engine

    return engine.compile(text, "")
