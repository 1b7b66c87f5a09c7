"""Regular expressions with RE2's syntax and its linear time, as in Go.

Source: https://masterminds.github.io/sprig/strings.html and https://pkg.go.dev/regexp.
"""

import re
from functools import lru_cache
from typing import Any, Final

import re2

from strongroom.template.budget import Budget
from strongroom.template.errors import CallFailed
from strongroom.template.registry import Run, Table
from strongroom.template.values import Slice, Value, string_list

REGEX: Final = Table("Regular expressions")
STATES_IN_A_STEP: Final = 400
BYTES_IN_A_STEP: Final = 5000
_NAME: Final = re.compile(rb"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
_META: Final = re.compile(rb"[\\.+*?()|\[\]{}^$]")


@lru_cache(maxsize=256)
def _compiled(pattern: bytes) -> Any:  # noqa: ANN401 - re2 has no type information
    options = re2.Options()
    options.log_errors = False
    options.encoding = re2.Options.Encoding.UTF8
    return re2.compile(pattern, options)


def _regex(pattern: bytes) -> Any:  # noqa: ANN401 - re2 has no type information
    if rb"\C" in pattern.replace(rb"\\", b""):
        raise CallFailed("the regular expression does not compile")
    try:
        return _compiled(bytes(pattern))
    except re2.error:
        raise CallFailed("the regular expression does not compile") from None


def _search(budget: Budget, pattern: bytes, text: bytes) -> Any:  # noqa: ANN401 - re2 is untyped
    """The first match; what it may cost is charged before."""
    regex = _regex(pattern)
    budget.step(_most_work(regex, text))
    return regex.search(text)


def _most_work(regex: Any, text: bytes) -> int:  # noqa: ANN401 - re2 is untyped
    """Steps of one search in the worst case, in which RE2 looks at all of its program for a byte.

    Linear time is long where both are large.
    """
    return len(text) * int(regex.programsize) // STATES_IN_A_STEP


class _Subject:
    """A text as Go matches it: a byte that is no UTF-8 counts as U+FFFD, and stays what it is."""

    def __init__(self, budget: Budget, text: bytes) -> None:
        self.text = text
        self.searched = text
        self._origin: list[int] | None = None
        try:
            text.decode()
        except UnicodeDecodeError:
            budget.produce(len(text) * 3)
            self.searched, self._origin = _repaired(text)

    def origin(self, at: int) -> int:
        """The offset in the text of an offset in what is searched."""
        return at if self._origin is None or at < 0 else self._origin[at]

    def group(self, match: Any, number: int = 0) -> bytes:  # noqa: ANN401 - re2 is untyped
        """What a group matched, of the text itself."""
        start, stop = match.span(number)
        return self.text[self.origin(start) : self.origin(stop)] if start >= 0 else b""


def _repaired(text: bytes) -> tuple[bytes, list[int]]:
    """The text with U+FFFD for each byte that is no UTF-8, and where each byte of it came from."""
    out, origin, at = bytearray(), [], 0
    for char in text.decode("utf-8", "surrogateescape"):
        foreign = "\udc80" <= char <= "\udcff"
        piece = b"\xef\xbf\xbd" if foreign else char.encode()
        origin += [at] * len(piece)
        out += piece
        at += 1 if foreign else len(piece)
    return bytes(out), [*origin, at]


def _matches(budget: Budget, pattern: bytes, subject: _Subject, limit: int = -1) -> list[Any]:
    """Go's successive matches: none of no width right after another match."""
    found: list[Any] = []
    regex, text, at, end = _regex(pattern), subject.searched, 0, -1
    budget.step(_most_work(regex, text))
    while at <= len(text) and (limit < 0 or len(found) < limit):
        # Each search may go on to the end before it knows.
        budget.step(1 + (len(text) - at) // BYTES_IN_A_STEP)
        match = regex.search(text, at)
        if match is None:
            break
        start, stop = match.span()
        accepted = not start == stop == end
        if accepted:
            found.append(match)
        end = stop
        at = stop if stop > at and stop > start else _next_rune(text, stop)
    return found


def _next_rune(text: bytes, at: int) -> int:
    at += 1
    while at < len(text) and text[at] & 0xC0 == 0x80:
        at += 1
    return at


@REGEX("regexMatch", "string, string")
def _regex_match(run: Run, pattern: bytes, text: bytes) -> bool:
    """Whether the expression matches somewhere; false for an expression that is wrong."""
    try:
        return _must_regex_match(run, pattern, text)
    except CallFailed:
        return False


@REGEX("mustRegexMatch", "string, string")
def _must_regex_match(run: Run, pattern: bytes, text: bytes) -> bool:
    """Whether the expression matches somewhere."""
    return _search(run.budget, pattern, _Subject(run.budget, text).searched) is not None


@REGEX("regexFind mustRegexFind", "string, string")
def _regex_find(run: Run, pattern: bytes, text: bytes) -> bytes:
    """The first match, or ""."""
    subject = _Subject(run.budget, text)
    match = _search(run.budget, pattern, subject.searched)
    return b"" if match is None else subject.group(match)


@REGEX("regexFindAll mustRegexFindAll", "string, string, int")
def _regex_find_all(run: Run, pattern: bytes, text: bytes, limit: int) -> Value:
    """All matches, at most so many; -1 is no limit."""
    subject = _Subject(run.budget, text)
    found = [subject.group(match) for match in _matches(run.budget, pattern, subject, limit)]
    return string_list(found) if found else Slice("string", [], nil=True)


@REGEX("regexReplaceAll mustRegexReplaceAll", "string, string, string")
def _regex_replace_all(run: Run, pattern: bytes, text: bytes, replacement: bytes) -> bytes:
    """Every match replaced; $1 and ${name} stand for groups."""
    return replace_all(run.budget, pattern, text, replacement)


@REGEX("regexReplaceAllLiteral mustRegexReplaceAllLiteral", "string, string, string")
def _regex_replace_all_literal(run: Run, pattern: bytes, text: bytes, replacement: bytes) -> bytes:
    """Every match replaced by a text in which $ means nothing."""
    return _replaced(run.budget, pattern, text, replacement, expands=False)


def replace_all(budget: Budget, pattern: bytes, text: bytes, new: bytes) -> bytes:
    """Go's ReplaceAll: `$1`, `$name`, `${name}` and `$$` in `new`, and Go's empty matches.

    Raises CallFailed for a pattern that does not compile, BudgetSpent for too much.
    """
    return _replaced(budget, pattern, text, new, expands=b"$" in new)


def _replaced(budget: Budget, pattern: bytes, text: bytes, new: bytes, *, expands: bool) -> bytes:
    out, at, subject = [], 0, _Subject(budget, text)
    for match in _matches(budget, pattern, subject):
        start, stop = (subject.origin(edge) for edge in match.span())
        piece = _expanded(new, match, subject) if expands else new
        budget.produce(len(piece))
        out += [text[at:start], piece]
        at = stop
    return b"".join(out) + text[at:]


def _expanded(template: bytes, match: Any, subject: _Subject) -> bytes:  # noqa: ANN401 - untyped
    """Regexp.Expand: $name takes as many word characters as there are, $$ is a dollar."""
    out, at = [], 0
    while True:
        dollar = template.find(b"$", at)
        if dollar < 0:
            break
        out.append(template[at:dollar])
        if template.startswith(b"$$", dollar):
            out.append(b"$")
            at = dollar + 2
            continue
        reference = _NAME.match(template, dollar)
        if reference is None:
            out.append(b"$")
            at = dollar + 1
            continue
        out.append(_group(match, reference[1] or reference[2], subject))
        at = reference.end()
    return b"".join(out) + template[at:]


def _group(match: Any, name: bytes, subject: _Subject) -> bytes:  # noqa: ANN401 - untyped
    number: int | None
    if name.isdigit() and (name == b"0" or not name.startswith(b"0")):
        number = int(name[:9])
    else:
        number = match.re.groupindex.get(name)
    if number is None or number > match.re.groups:
        return b""
    return subject.group(match, number)


@REGEX("regexSplit mustRegexSplit", "string, string, int")
def _regex_split(run: Run, pattern: bytes, text: bytes, limit: int) -> Value:
    """The parts between matches, at most so many; -1 is no limit."""
    _regex(pattern)
    if limit == 0:
        return Slice("string", [], nil=True)
    if pattern and not text:
        return string_list([b""])
    subject = _Subject(run.budget, text)
    out: list[bytes] = []
    begin = end = 0
    for match in _matches(run.budget, pattern, subject, limit):
        if 0 < limit == len(out) + 1:
            break
        start, stop = (subject.origin(edge) for edge in match.span())
        end = start
        if stop:
            out.append(text[begin:end])
        begin = stop
    if end != len(text):
        out.append(text[begin:])
    return string_list(out)


@REGEX("regexQuoteMeta", "string")
def _regex_quote_meta(text: bytes) -> bytes:
    """The text with everything escaped that means something in an expression."""
    return _META.sub(rb"\\\g<0>", text)
