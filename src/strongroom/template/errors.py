"""What a template is refused for: always with the place in it, never with a value."""

from typing import Final

from strongroom.model.errors import Invalid, TooLarge

SYNTAX: Final = "template-syntax"
FAILED: Final = "template-failed"
BUDGET: Final = "template-budget"


class TemplateRefused(Invalid):
    """A template that cannot be parsed or rendered; `line` and `column` count from 1."""

    def __init__(self, code: str, name: str, place: tuple[int, int], reason: str) -> None:
        self.name = name
        self.line, self.column = place
        self.reason = reason
        hint = (
            "see docs/templates.md for the syntax"
            if code == SYNTAX
            else "`strongroom template render` tries a change offline"
        )
        named = f"template {name}, " if name else ""
        where = f"{named}line {self.line}, column {self.column}"
        super().__init__(code, f"{where}: {reason}", hint=hint)


class BudgetSpent(TooLarge):
    """A template that would run too long, too deep or write too much."""

    def __init__(self, what: str) -> None:
        super().__init__(BUDGET, what, hint="a template must be finite and small")


class CallFailed(Exception):
    """A function refuses its arguments; the engine adds the place. Carries no value."""


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
