"""Templates as the operator renders them: compiled once.

The engine is loaded with the first template: it takes longer than an operator's start may.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from strongroom.model.clock import Clock
from strongroom.sync.rewrite import Render

if TYPE_CHECKING:
    from strongroom.template.engine import Template

REMEMBERED: Final = 2048
# So many times what one text may take is what all texts of an object may take: some have thousands.
TOGETHER: Final = 4


class GoTemplates:
    """Go text/template with external-secrets' functions. A rewrite.Renderer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._compiled = lru_cache(maxsize=REMEMBERED)(_compiled)

    def __call__(self, text: str, values: Mapping[str, bytes]) -> bytes:
        """Raises Invalid with line and column, and never a value."""
        return self._compiled(text).render(values, clock=self._clock)

    def together(self) -> Render:
        """See `rewrite.Renderer`."""
        spent = 0

        def render(text: str, values: Mapping[str, bytes]) -> bytes:
            nonlocal spent
            compiled = self._compiled(text)
            from strongroom.template.budget import STEPS, Budget

            budget = Budget(max(0, min(STEPS, TOGETHER * STEPS - spent)))
            try:
                return compiled.render(values, clock=self._clock, budget=budget)
            finally:
                spent += budget.spent

        return render


def _compiled(text: str) -> "Template":
    from strongroom.template import engine

    return engine.compile(text, "")
