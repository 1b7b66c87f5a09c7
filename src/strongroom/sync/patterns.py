"""Go's regular expressions, which manifests are written in: RE2, so matching takes linear time."""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import re2

from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.template.budget import Budget

# Bytes and states of the pattern, in the worst case each with each.
MOST_WORK: Final = 100_000_000
# The same for all names of one answer, which is seconds.
MOST_WORK_OF_ALL: Final = 5 * MOST_WORK
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False


@lru_cache(maxsize=1024)
def compile_pattern(source: str) -> Any:  # noqa: ANN401 - the binding has no types
    """Compile; raises Invalid(`bad-pattern`)."""
    try:
        return re2.compile(source, options=_OPTIONS)
    except re2.error as error:
        said = error.args[0] if error.args else b""
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise Invalid("bad-pattern", f"the pattern {source!r} cannot be used: {reason}") from None


def most_work(source: str, size: int) -> int:
    """What a text of a size may cost in the worst case, in states. Raises as `matches`."""
    work = size * int(compile_pattern(source).programsize)
    if work > MOST_WORK:
        raise Invalid("bad-pattern", f"the pattern {source!r} is too large for what it is to match")
    return work


def matches(source: str, text: str, *, whole: bool = False) -> bool:
    """Whether the pattern is found anywhere in the text, as Go's MatchString does; or is all of it.

    Raises Invalid(`bad-pattern`) for what would take seconds: linear time is long where both the
    pattern and the text are large.
    """
    most_work(source, len(text))
    compiled = compile_pattern(source)
    found = compiled.fullmatch(text) if whole else compiled.search(text)
    return found is not None


def among_many(source: str) -> Callable[[str], bool]:
    """`matches` for the names of one answer, which may be a hostile server's; raises as it does.

    They have one bound together: each of thousands may cost what a single one may.
    """
    compile_pattern(source)
    left = MOST_WORK_OF_ALL

    def fits(name: str) -> bool:
        nonlocal left
        left -= most_work(source, len(name))
        if left < 0:
            why = f"the pattern {source!r} is too large for so many names"
            raise Invalid("bad-pattern", why)
        return matches(source, name)

    return fits


def replace_all(source: str, target: str, text: str, budget: "Budget") -> str:
    """Go's ReplaceAllString: `$1`, `$name`, `${name}` and `$$` in the target.

    Raises Invalid(`bad-pattern`), for a result that is too large and a budget that is spent too.
    """
    from strongroom.template.errors import BudgetSpent, CallFailed
    from strongroom.template.functions import regex

    compile_pattern(source)
    try:
        made = regex.replace_all(budget, source.encode(), text.encode(), target.encode())
    except (CallFailed, BudgetSpent):
        raise Invalid("bad-pattern", f"the pattern {source!r} cannot be applied") from None
    return made.decode()
