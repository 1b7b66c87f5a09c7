"""The front door of the room: compile a template once, render it with values.

    template = compile("{{ .user | upper }}", "greeting")
    template.render({"user": b"ada"})  # b"ADA"

The language is Go's text/template with the functions of external-secrets, on byte strings.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final

from strongroom.model.clock import Clock, SystemClock
from strongroom.template.budget import Budget
from strongroom.template.evaluator import evaluate
from strongroom.template.functions import FUNCTIONS
from strongroom.template.parser import parse
from strongroom.template.registry import Run
from strongroom.template.syntax import Tree
from strongroom.template.values import Map, Value

DELIMITERS: Final = ("{{", "}}")


class Template:
    """A parsed template. It may be rendered any number of times and keeps nothing between."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    @property
    def name(self) -> str:
        """The name errors have for it."""
        return self._tree.name

    def render(
        self,
        values: Mapping[str, bytes],
        *,
        clock: Clock | None = None,
        random: Callable[[int], bytes] = os.urandom,
        budget: Budget | None = None,
    ) -> bytes:
        """The output for a flat map of byte strings, which is what external-secrets passes.

        Raises TemplateRefused(`template-failed`), with line, column and the key or function but
        never a value, and BudgetSpent(`template-budget`).
        """
        items = {key.encode("utf-8", "surrogateescape"): value for key, value in values.items()}
        return self.render_value(Map("string", items), clock=clock, random=random, budget=budget)

    def render_value(
        self,
        data: Value,
        *,
        clock: Clock | None = None,
        random: Callable[[int], bytes] = os.urandom,
        budget: Budget | None = None,
    ) -> bytes:
        """The output for any value as dot; raises as `render` does."""
        run = Run(budget or Budget(), clock or SystemClock(), random)
        return evaluate(self._tree, data, FUNCTIONS, run)


def compile(  # noqa: A001 - the word for it, here as in re
    text: str | bytes, name: str, *, delimiters: tuple[str, str] = DELIMITERS
) -> Template:
    """Parse a template; raises TemplateRefused(`template-syntax`) or BudgetSpent."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return Template(parse(name, text, FUNCTIONS, delimiters))
