"""Paths into JSON as manifests write them: the part of GJSON that properties use. Pure.

Syntax: https://github.com/tidwall/gjson/blob/master/SYNTAX.md. Served: keys with `*` and `?`,
escapes, array indices, `#` (length, or every element), queries `#(a>1)` and `#(a>1)#` with
== != < <= > >= % !%, pipes, and the modifiers @this @keys @values @reverse @flatten @valid
@ugly @tostr @fromstr. What else GJSON knows (other modifiers, several paths in braces or brackets,
`~` in queries) is refused by name, for to find nothing there would be another answer.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

import orjson

from strongroom.model.digits import whole_number
from strongroom.model.errors import Invalid
from strongroom.sync.raw_json import loads, raw_text

ABSENT: Final = object()
PATH_CHARACTERS: Final = 2048
# Each goes through all there is, and some make it twice as large.
MOST_MODIFIERS: Final = 5
MOST_QUERIES: Final = 10
_MODIFIED: Final = re.compile(r"(?:^|[.|(])@")
_OPERATORS: Final = ("==", "!=", "<=", ">=", "!%", "<", ">", "=", "%")


def _bare(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The same without the text it was written in, so that it is written without spaces."""
    if isinstance(value, Mapping):
        return {key: _bare(each) for key, each in value.items()}
    return [_bare(each) for each in value] if isinstance(value, list) else value


def _held_in(value: Any) -> Any:  # noqa: ANN401 - JSON
    """What a string holds as JSON, or `ABSENT`; what is no string holds itself."""
    try:
        return loads(value.encode()) if isinstance(value, str) else value
    except ValueError:
        return ABSENT


def _keys(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return list(value)
    return [None] * (len(value) if isinstance(value, list) else 1)


def _values(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else [value]


def _flattened(value: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, list):
        return value
    return [each for part in value for each in (part if isinstance(part, list) else [part])]


_MODIFIERS: Final[dict[str, Callable[[Any], Any]]] = {
    "this": lambda value: value,
    "valid": lambda value: value,
    "keys": _keys,
    "values": _values,
    "reverse": lambda value: (
        value[::-1]
        if isinstance(value, list)
        else dict(reversed(value.items()))
        if isinstance(value, dict)
        else value
    ),
    "ugly": _bare,
    "tostr": lambda value: raw_text(value).decode(),
    "fromstr": _held_in,
    "flatten": _flattened,
}


@dataclass(frozen=True, slots=True)
class _Step:
    text: str
    pattern: bool = False
    query: bool = False
    pipe: bool = False
    # Its first character is escaped, so that it is a key's and means nothing.
    literal: bool = False


def lookup(value: Any, path: str) -> Any:  # noqa: ANN401 - JSON
    """What lies at the path, or `ABSENT`; raises Invalid(`bad-property`) for a path not served."""
    if len(path) > PATH_CHARACTERS:
        raise Invalid("bad-property", f"a property path has at most {PATH_CHARACTERS} characters")
    if len(_MODIFIED.findall(path)) > MOST_MODIFIERS:
        raise Invalid("bad-property", f"a property path has at most {MOST_MODIFIERS} modifiers")
    if path.count("#(") > MOST_QUERIES:
        raise Invalid("bad-property", f"a property path has at most {MOST_QUERIES} queries")
    try:
        return _walk(value, _steps_of(path))
    except RecursionError:
        raise Invalid("too-deep", f"the property {path[:100]!r} lies too deep") from None


@lru_cache(maxsize=1024)
def _steps_of(path: str) -> Sequence[_Step]:
    """The steps of a path, which queries follow for each element."""
    return tuple(_steps(path))


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern in which `*` and `?` alone mean something."""
    return re.compile(translate(pattern.replace("[", "[[]")))


def _walk(value: Any, steps: Sequence[_Step]) -> Any:  # noqa: ANN401 - JSON
    for index, step in enumerate(steps):
        rest = steps[index + 1 :]
        value = _opened(value)
        if step.query:
            return _queried(value, step.text, rest)
        if step.text == "#" and isinstance(value, list) and not step.literal:
            if not rest or rest[0].pipe:
                return _walk(len(value), rest) if rest else len(value)
            return _mapped(value, rest)
        value = _stepped(value, step)
        if value is ABSENT:
            return ABSENT
    return value


def _mapped(values: list[Any], rest: Sequence[_Step]) -> Any:  # noqa: ANN401 - JSON
    """The rest of the path for each element, up to a pipe; then the pipe on the whole."""
    end = next((number for number, each in enumerate(rest) if each.pipe), len(rest))
    inner = rest[:end]
    found = [_walk(each, inner) for each in values]
    return _walk([each for each in found if each is not ABSENT], rest[end:])


def _opened(value: Any) -> Any:  # noqa: ANN401 - JSON
    """A string, or the bytes of a Secret's key, that holds JSON counts as what it holds."""
    text = value.encode() if isinstance(value, str) else value
    if isinstance(text, bytes) and text[:1] in (b"{", b"["):
        try:
            return loads(text)
        except ValueError:
            return value
    return value


def _stepped(value: Any, step: _Step) -> Any:  # noqa: ANN401 - JSON
    if step.text.startswith("@") and not step.pattern and not step.literal:
        modifier = _MODIFIERS.get(step.text[1:].partition(":")[0])
        if modifier is None:
            raise Invalid("bad-property", f"the modifier {step.text} is not served")
        return modifier(value)
    if isinstance(value, Mapping):
        if step.pattern:
            matcher = _glob(step.text)
            return next((each for key, each in value.items() if matcher.match(key)), ABSENT)
        return value.get(step.text, ABSENT)
    index = whole_number(step.text)
    if isinstance(value, list) and index is not None and index < len(value):
        return value[index]
    return ABSENT


def _queried(value: Any, query: str, rest: Sequence[_Step]) -> Any:  # noqa: ANN401 - JSON
    every = query.endswith(")#")
    inner = query[2:-2] if every else query[2:-1]
    if not isinstance(value, list):
        return ABSENT
    found = [each for each in value if _holds(each, inner.strip())]
    if every:
        return _mapped(found, rest) if rest and not rest[0].pipe else _walk(found, rest)
    return _walk(found[0], rest) if found else ABSENT


def _holds(value: Any, query: str) -> bool:  # noqa: ANN401 - JSON
    at, operator = _operator(query)
    if not operator:
        return _walk(value, _steps_of(query)) not in (ABSENT, None, False)
    path, wanted = query[:at].strip(), query[at + len(operator) :].strip()
    if wanted.startswith("~"):
        raise Invalid("bad-property", f"the query {query!r} has ~, which is not served")
    left = _walk(value, _steps_of(path)) if path else value
    if left is ABSENT:
        return False
    try:
        right = orjson.loads(wanted)
    except orjson.JSONDecodeError:
        right = wanted
    return _compared(left, operator, right)


@lru_cache(maxsize=1024)
def _operator(query: str) -> tuple[int, str]:
    """Where the comparison of a query stands, outside of queries within it; "" when it has none."""
    depth = 0
    for index, character in enumerate(query):
        depth += (character == "(") - (character == ")")
        if character == '"':
            break
        if depth == 0:
            for operator in _OPERATORS:
                if query.startswith(operator, index):
                    return index, operator
    return 0, ""


def _compared(left: Any, operator: str, right: Any) -> bool:  # noqa: ANN401 - JSON
    if operator in ("%", "!%"):
        fits = isinstance(left, str) and bool(_glob(str(right)).match(left))
        return isinstance(left, str) and fits is (operator == "%")
    if operator in ("=", "=="):
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        return False
    order = (left > right) - (left < right)
    return bool({"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[operator])


def _steps(path: str) -> Iterator[_Step]:
    """Cut the path at dots and pipes, outside queries and escapes."""
    position, pipe = 0, False
    while position < len(path):
        if path.startswith("#(", position):
            end = _query_end(path, position)
            yield _Step(path[position:end], query=True, pipe=pipe)
        else:
            _check_single(path, position)
            text, pattern, end = _plain(path, position)
            yield _Step(text, pattern=pattern, pipe=pipe, literal=path[position] == "\\")
        pipe = path[end : end + 1] == "|"
        position = end + 1


def _check_single(path: str, position: int) -> None:
    """Refuse several paths at once, `{a,b}` or `[a,b]`; raises Invalid(`bad-property`)."""
    closing = {"{": "}", "[": "]"}.get(path[position])
    if closing and closing in path[position:]:
        said = f"{path[position:]!r} are several paths, which are not served"
        raise Invalid("bad-property", said, hint="name one property, or use a template")


def _plain(path: str, position: int) -> tuple[str, bool, int]:
    text, pattern = "", False
    while position < len(path) and path[position] not in ".|":
        if path[position] == "\\" and position + 1 < len(path):
            position += 1
        elif path[position] in "*?":
            pattern = True
        text += path[position]
        position += 1
    return text, pattern, position


def _query_end(path: str, position: int) -> int:
    depth, quoted = 0, False
    for index in range(position + 1, len(path)):
        character = path[index]
        if character == '"' and path[index - 1] != "\\":
            quoted = not quoted
        elif not quoted:
            depth += (character == "(") - (character == ")")
            if depth == 0:
                return index + (2 if path[index + 1 : index + 2] == "#" else 1)
    raise Invalid("bad-property", f"the query in {path!r} is not closed")
