"""JSONPath (RFC 9535, with the library's `=~`) over a server's answer, within bounds. Pure.

A namespace writes the path and may write the answer, and the operator serves all of them: a path
is followed for so many steps, and patterns are RE2's, which take linear time.
"""

import re
from typing import Any, Final, cast

from jsonpath import JSONPathEnvironment, JSONPathError, JSONPathMatch
from jsonpath.function_extensions import ExpressionType, FilterFunction

from strongroom.model.errors import Invalid
from strongroom.sync.patterns import compile_pattern

# A step takes some microseconds.
STEPS: Final = 100_000
_FLAGS: Final = ((re.IGNORECASE, "i"), (re.MULTILINE, "m"), (re.DOTALL, "s"))


def first_found(path: str, answer: Any) -> Any:  # noqa: ANN401 - JSON
    """The first value that the path leads to.

    Raises Invalid(`bad-json-path`, `no-result`, `bad-pattern`).
    """
    try:
        found = _Bounded().match(path, answer)
    except JSONPathError as error:
        raise Invalid(
            "bad-json-path", f"result.jsonPath {path!r} is no path ({type(error).__name__})"
        ) from None
    if found is None:
        raise Invalid("no-result", f"result.jsonPath {path!r} finds nothing in the reply")
    return found.obj


class _Bounded(JSONPathEnvironment):
    """Counts what following one path takes."""

    def __init__(self) -> None:
        self._left = STEPS
        super().__init__()
        charge = self._charge

        class Counted(JSONPathMatch):
            def new_child(self, obj: object, key: int | str) -> JSONPathMatch:
                charge()
                return super().new_child(obj, key)

        self.match_class = Counted

    def _charge(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Invalid("bad-json-path", f"result.jsonPath takes more than {STEPS} steps")

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _Pattern(whole=True)
        self.function_extensions["search"] = _Pattern(whole=False)

    def is_truthy(self, obj: object) -> bool:
        self._charge()
        return super().is_truthy(obj)

    def compare(self, left: object, operator: str, right: object) -> bool:
        self._charge()
        if operator == "=~" and isinstance(right, re.Pattern) and isinstance(left, str):
            words = "".join(word for flag, word in _FLAGS if right.flags & flag)
            source = f"(?{words}:{right.pattern})" if words else str(right.pattern)
            return compile_pattern(source).fullmatch(left) is not None
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
        compiled = compile_pattern(pattern)
        found = compiled.fullmatch(text) if self._whole else compiled.search(text)
        return cast("object", found) is not None
