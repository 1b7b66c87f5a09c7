"""Go's regular expressions, which manifests are written in: RE2, so matching takes linear time."""

from functools import lru_cache
from typing import Any, Final

import re2

from strongroom.model.errors import Invalid

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_GROUP: Final = re2.compile(r"\$(?:\$|([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\})")


@lru_cache(maxsize=1024)
def compile_pattern(source: str) -> Any:  # noqa: ANN401 - the binding has no types
    """Compile; raises Invalid(`bad-pattern`)."""
    try:
        return re2.compile(source, options=_OPTIONS)
    except re2.error as error:
        said = error.args[0] if error.args else b""
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise Invalid("bad-pattern", f"the pattern {source!r} cannot be used: {reason}") from None


def matches(source: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text, as Go's MatchString does."""
    return compile_pattern(source).search(text) is not None


def replace_all(source: str, target: str, text: str) -> str:
    """Go's ReplaceAllString: `$1`, `$name`, `${name}` and `$$` in the target."""

    def expand(match: Any) -> str:  # noqa: ANN401 - the binding has no types
        def group(reference: Any) -> str:  # noqa: ANN401
            name = reference.group(1) or reference.group(2)
            if name is None:
                return "$"
            try:
                found = match.group(int(name) if name.isdigit() else name)
            except (IndexError, KeyError):
                return ""
            return str(found or "")

        return str(_GROUP.sub(group, target))

    return str(compile_pattern(source).sub(expand, text))
