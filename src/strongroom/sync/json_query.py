"""JSONPath (RFC 9535, with the library's `=~`) over a server's answer, within bounds. Pure.

A namespace writes the path and may write the answer, and the operator serves all of them: a path
is followed for so many steps, and patterns are RE2's, which take linear time.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from jsonpath import JSONPathEnvironment, JSONPathError
from jsonpath.function_extensions import ExpressionType, FilterFunction

from strongroom.model.errors import Invalid
from strongroom.sync.patterns import matches

# Looks at a member of an object or a list, each of some microseconds.
STEPS: Final = 100_000
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
        found = _PATHS.match(path, _counted(answer, charge))
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
    """A list that charges for being walked."""

    charge: Charge

    def __iter__(self) -> Iterator[Any]:
        self.charge(1 + len(self))
        return super().__iter__()


class _Dict(dict[str, Any]):
    """An object that charges for being walked."""

    charge: Charge

    def items(self) -> Any:  # noqa: ANN401 - a view
        self.charge(1 + len(self))
        return super().items()


def _counted(answer: Any, charge: Charge) -> Any:  # noqa: ANN401 - JSON
    """The same, of lists and objects that charge."""
    found: _List | _Dict
    if isinstance(answer, list):
        found = _List([_counted(each, charge) for each in answer])
    elif isinstance(answer, dict):
        found = _Dict({key: _counted(each, charge) for key, each in answer.items()})
    else:
        return answer
    found.charge = charge
    return found


class _Paths(JSONPathEnvironment):
    """JSONPath with RE2's patterns."""

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _Pattern(whole=True)
        self.function_extensions["search"] = _Pattern(whole=False)

    def compare(self, left: object, operator: str, right: object) -> bool:
        if operator == "=~" and isinstance(right, re.Pattern) and isinstance(left, str):
            words = "".join(word for flag, word in _FLAGS if right.flags & flag)
            source = f"(?{words}:{right.pattern})" if words else str(right.pattern)
            return matches(source, left, whole=True)
        return super().compare(left, operator, right)


class _Pattern(FilterFunction):
    """`match` and `search`."""

    arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012 - the library's form
    return_type = ExpressionType.LOGICAL

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole

    def __call__(self, text: object, pattern: object) -> bool:
        if not isinstance(text, str) or not isinstance(pattern, str):
            return False
        return matches(pattern, text, whole=self._whole)


_PATHS: Final = _Paths()
