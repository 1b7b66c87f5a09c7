"""JSONPath (RFC 9535, with the library's `=~`) over a server's answer, within bounds. Pure.

A namespace writes the path and may write the answer, and the operator serves all of them: a path
is followed for so many steps, and patterns are RE2's, which take linear time. What C code does in
one go (a comparison, a search, a slice) is charged by the size of what it looks at.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, SupportsIndex

from jsonpath import JSONPathEnvironment, JSONPathError
from jsonpath.function_extensions import ExpressionType, FilterFunction

from strongroom.model.errors import Invalid
from strongroom.sync.patterns import matches, most_work

# Looks at a member of an object or a list, each of some microseconds.
STEPS: Final = 100_000
# What is done in one go in the time of a step: bytes that are compared, and states of a pattern.
BYTES_IN_A_STEP: Final = 1000
STATES_IN_A_STEP: Final = 400
# To look at a value takes about as long as so many bytes.
VALUE_BYTES: Final = 10
# A pattern is compiled in the time of matching a text of so many bytes.
COMPILED_AS: Final = 100
_FLAGS: Final = ((re.IGNORECASE, "i"), (re.MULTILINE, "m"), (re.DOTALL, "s"))


def first_found(path: str, answer: Any) -> Any:  # noqa: ANN401 - JSON
    """The first value that the path leads to.

    Raises Invalid(`bad-json-path`, `no-result`, `bad-pattern`).
    """
    left = STEPS

    def charge(steps: int) -> None:
        nonlocal left
        left -= steps
        if left < 0:
            raise Invalid("bad-json-path", f"result.jsonPath takes more than {STEPS} steps")

    try:
        charge(len(path))
        found = _Paths(charge).match(path, _counted(answer, charge))
    except (JSONPathError, RecursionError) as error:
        raise Invalid(
            "bad-json-path", f"result.jsonPath {path!r} is no path ({type(error).__name__})"
        ) from None
    if found is None:
        raise Invalid("no-result", f"result.jsonPath {path!r} finds nothing in the reply")
    left = STEPS
    return found.obj


Charge = Callable[[int], None]


class _List(list[Any]):
    """A list that charges for being walked; `weight` is all that is in it."""

    charge: Charge
    weight: int

    def __iter__(self) -> Iterator[Any]:
        self.charge(1 + len(self))
        return super().__iter__()

    def __getitem__(self, key: SupportsIndex | slice) -> Any:  # noqa: ANN401 - JSON
        if isinstance(key, slice):
            self.charge(1 + len(self))
        return super().__getitem__(key)


class _Dict(dict[str, Any]):
    """An object that charges for being walked; `weight` is all that is in it."""

    charge: Charge
    weight: int

    def __iter__(self) -> Iterator[str]:
        self.charge(1 + len(self))
        return super().__iter__()

    def items(self) -> Any:  # noqa: ANN401 - a view
        self.charge(1 + len(self))
        return super().items()


def _weight(value: object) -> int:
    """How much there is to look at in a value, in bytes."""
    if isinstance(value, _List | _Dict):
        return value.weight
    if isinstance(value, list):
        return VALUE_BYTES * (1 + len(value))  # nodes that a path has found
    return VALUE_BYTES + (len(value) if isinstance(value, str) else 0)


def _counted(answer: Any, charge: Charge) -> Any:  # noqa: ANN401 - JSON
    """The same, of lists and objects that charge."""
    found: _List | _Dict
    if isinstance(answer, list):
        parts = [_counted(each, charge) for each in answer]
        found = _List(parts)
    elif isinstance(answer, dict):
        made = {key: _counted(each, charge) for key, each in answer.items()}
        found, parts = _Dict(made), [*made, *made.values()]
    else:
        return answer
    found.charge, found.weight = charge, VALUE_BYTES + sum(map(_weight, parts))
    return found


class _Paths(JSONPathEnvironment):
    """JSONPath with RE2's patterns, of one path that pays for what it does."""

    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._compiled: set[str] = set()
        super().__init__()

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _OfTexts(partial(self._fits, whole=True))
        self.function_extensions["search"] = _OfTexts(partial(self._fits, whole=False))
        self.function_extensions["startswith"] = _OfTexts(self._starts)

    def compare(self, left: object, operator: str, right: object) -> bool:
        if operator == "=~" and isinstance(right, re.Pattern) and isinstance(left, str):
            words = "".join(word for flag, word in _FLAGS if right.flags & flag)
            source = f"(?{words}:{right.pattern})" if words else str(right.pattern)
            return self._fits(left, source, whole=True)
        # A comparison ends with the smaller one; a search goes through the whole of the larger.
        both = _weight(left), _weight(right)
        looked_at = max(both) if operator in ("in", "contains") else min(both)
        self._charge(looked_at // BYTES_IN_A_STEP)
        return super().compare(left, operator, right)

    def _fits(self, text: str, source: str, *, whole: bool) -> bool:
        first = 0 if source in self._compiled else COMPILED_AS
        self._compiled.add(source)
        self._charge(1 + most_work(source, len(text) + first) // STATES_IN_A_STEP)
        return matches(source, text, whole=whole)

    def _starts(self, text: str, beginning: str) -> bool:
        self._charge(len(beginning) // BYTES_IN_A_STEP)
        return text.startswith(beginning)


class _OfTexts(FilterFunction):
    """What is true or not of two texts, and not of anything else."""

    arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012 - the library's form
    return_type = ExpressionType.LOGICAL

    def __init__(self, holds: Callable[[str, str], bool]) -> None:
        self._holds = holds

    def __call__(self, text: object, other: object) -> bool:
        return isinstance(text, str) and isinstance(other, str) and self._holds(text, other)
