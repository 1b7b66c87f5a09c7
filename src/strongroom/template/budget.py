"""What one rendering may use, so that a hostile template ends instead of hanging its process.

Every node evaluated, every step inside a function that walks a value and every byte a function
returns is charged. Nothing is measured in time: the same template always passes or always fails.
"""

from typing import Final

from strongroom.template.errors import BudgetSpent

STEPS: Final = 400_000
PRODUCED_BYTES: Final = 64 * 1024 * 1024
OUTPUT_BYTES: Final = 8 * 1024 * 1024
DEPTH: Final = 100  # nested templates, and nesting of values and expressions
TEMPLATE_BYTES: Final = 1024 * 1024
# What one call of a slow primitive costs in steps (a key or a password hash is about 0.1 s).
SLOW_CALL_STEPS: Final = 40_000


class Budget:
    """Counters that only fall."""

    __slots__ = ("_bytes", "_given", "_output", "_steps")

    def __init__(
        self, steps: int = STEPS, produced: int = PRODUCED_BYTES, output: int = OUTPUT_BYTES
    ) -> None:
        self._given = self._steps = steps
        self._bytes = produced
        self._output = output

    @property
    def spent(self) -> int:
        """The steps that were charged."""
        return self._given - self._steps

    def step(self, count: int = 1) -> None:
        """Charge work; raises BudgetSpent."""
        self._steps -= count
        if self._steps < 0:
            raise BudgetSpent("the template does not come to an end within its steps")

    def produce(self, size: int) -> None:
        """Charge bytes (or elements) that a function is about to make; raises BudgetSpent."""
        self._bytes -= size
        if self._bytes < 0:
            raise BudgetSpent("the template makes more data than it may")

    def write(self, size: int) -> None:
        """Charge output; raises BudgetSpent."""
        self._output -= size
        if self._output < 0:
            raise BudgetSpent("the template's output is larger than it may be")

    def slow(self) -> None:
        """Charge one call of a slow primitive; raises BudgetSpent."""
        self.step(SLOW_CALL_STEPS)


def check_depth(depth: int) -> None:
    """Refuse a value or expression nested deeper than `DEPTH`; raises BudgetSpent."""
    if depth > DEPTH:
        raise BudgetSpent(f"nested deeper than {DEPTH}, or inside itself")
