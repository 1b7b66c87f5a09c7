"""Letters' case, and words joined as in code. Source: https://masterminds.github.io/sprig/strings.html.

Where words begin and end: https://pkg.go.dev/github.com/huandu/xstrings.
"""

from dataclasses import dataclass
from typing import Final

from strongroom.template.registry import BY_BYTES, BY_CHARACTERS, Run, Table
from strongroom.template.unicode_case import (
    is_digit,
    is_letter,
    is_lower,
    is_number,
    is_punctuation,
    is_space,
    is_upper,
    lower,
    mapped,
    title,
    upper,
)
from strongroom.template.values import text_of

CASES: Final = Table("Letter case")


@CASES("upper", "string", bytes_in_a_step=BY_BYTES)
def _upper(value: bytes) -> bytes:
    """Upper case."""
    return value.upper() if value.isascii() else mapped(text_of(value), upper).encode()


@CASES("lower", "string", bytes_in_a_step=BY_BYTES)
def _lower(value: bytes) -> bytes:
    """Lower case."""
    return value.lower() if value.isascii() else mapped(text_of(value), lower).encode()


def _separates(char: str) -> bool:
    if char.isascii():
        return not (char.isalnum() or char == "_")
    return not is_letter(char) and not is_digit(char) and is_space(char)


@CASES("title", "string", bytes_in_a_step=BY_CHARACTERS)
def _title(value: bytes) -> bytes:
    """The first letter of each word in title case."""
    out, before = [], " "
    for char in text_of(value):
        out.append(title(char) if _separates(before) else char)
        before = char
    return "".join(out).encode()


@CASES("untitle", "string", bytes_in_a_step=BY_CHARACTERS)
def _untitle(value: bytes) -> bytes:
    """The first letter of each word in lower case."""
    out, starts = [], True
    for char in text_of(value):
        if is_space(char):
            starts = True
        elif starts:
            char, starts = lower(char), False  # noqa: PLW2901
        out.append(char)
    return "".join(out).encode()


@CASES("swapcase", "string", bytes_in_a_step=BY_CHARACTERS)
def _swapcase(value: bytes) -> bytes:
    """Upper case for lower and the other way round; a word begins in title case."""
    out, space = [], True
    for char in text_of(value):
        swapped = char
        if char != upper(char) or char != lower(char):
            swapped = lower(char) if not is_lower(char) else title(char) if space else upper(char)
            space = False
        else:
            space = is_space(char) if not is_upper(char) and not is_lower(char) else False
        out.append(swapped)
    return "".join(out).encode()


def _connects(char: str) -> bool:
    return char in "-_" or is_space(char)


@CASES("camelcase", "string", bytes_in_a_step=BY_CHARACTERS)
def _camelcase(value: bytes) -> bytes:
    """LikeThis."""
    text = text_of(value)
    start = next((at for at, char in enumerate(text) if not _connects(char)), len(text))
    if start >= len(text):
        return text.encode()
    out = [text[:start]]
    first_upper = is_upper(text[start])
    current = upper(text[start])
    for char in text[start + 1 :]:
        before, current = current, char
        if _connects(current) and _connects(before):
            out.append(before)
        elif _connects(before):
            first_upper = is_upper(current)
            current = upper(current)
        else:
            if first_upper:
                first_upper = is_upper(current)
                current = lower(current) if first_upper else current
            out.append(before)
    out.append(current)
    return "".join(out).encode()


@CASES("snakecase", "string", bytes_in_a_step=1)
def _snakecase(value: bytes) -> bytes:
    """like_this."""
    return _Words(value, "_").joined()


@CASES("kebabcase", "string", bytes_in_a_step=1)
def _kebabcase(value: bytes) -> bytes:
    """like-this."""
    return _Words(value, "-").joined()


@dataclass(frozen=True, slots=True)
class _Unit:
    """A character, with the bytes before it that are no UTF-8: they go where it goes."""

    raw: str
    char: str


def _units(text: str) -> list[_Unit]:
    found, pending = [], ""
    for char in text:
        if char == "\ufffd" or "\udc80" <= char <= "\udcff":
            pending += char
        else:
            found.append(_Unit(pending + char, char))
            pending = ""
    if pending and found:
        found[-1] = _Unit(found[-1].raw + pending, found[-1].char)
    elif pending:
        found.append(_Unit(pending, ""))
    return found


class _Words:
    """Words of a text in camel case, joined in lower case by a connector."""

    def __init__(self, value: bytes, connector: str) -> None:
        self.rest = _units(value.decode("utf-8", "surrogateescape"))
        self.kinds = [_kind(unit.char) for unit in self.rest]
        self.at = 0
        self.connector = connector
        self.out: list[str] = []
        self.kind, self.word = "", ""

    def joined(self) -> bytes:
        self.take()
        while self.at < len(self.rest):
            if self.kind != "connector":
                self.put(self.kind, self.word)
            before, word = self.kind, self.word
            self.take()
            if before == "number":
                self.run_of_numbers()
            elif before == "connector":
                self.put(before, word)
            elif before != "punctuation":
                self.after_letters()
        self.put(self.kind, self.word)
        return "".join(self.out).encode("utf-8", "surrogateescape")

    def run_of_numbers(self) -> None:
        while self.kind in ("lower", "number"):
            self.put(self.kind, self.word)
            self.take()
        if self.kind not in ("", "punctuation", "connector"):
            self.out.append(self.connector)

    def after_letters(self) -> None:
        if self.kind != "number":
            if self.kind not in ("connector", "punctuation"):
                self.out.append(self.connector)
            return
        if self.at >= len(self.rest):
            return
        number = self.word
        self.take()
        if self.kind != "lower":
            self.put("number", number)
            if self.kind not in ("connector", "punctuation"):
                self.out.append(self.connector)
            return
        self.out.append(self.connector)
        self.put("number", number)
        self.run_of_numbers()

    def put(self, kind: str, word: str) -> None:
        if kind not in ("upper", "connector"):
            self.out.append(word)
            return
        for char in word:
            if "\udc80" <= char <= "\udcff":
                self.out.append("\ufffd")
            else:
                self.out.append(self.connector if _connects(char) else lower(char))

    def take(self) -> None:
        """The next word and its kind; both empty at the end."""
        start, size = self.at, len(self.rest)
        self.kind = self.kinds[start] if start < size else ""
        end = min(start + 1, size)
        if self.kind == "upper":
            end = self.upper_end(end)
        else:
            while end < size and self.continues(end):
                end += 1
        self.word = "".join(unit.raw for unit in self.rest[start:end])
        self.at = end

    def continues(self, at: int) -> bool:
        if self.kind == "punctuation":
            return is_punctuation(self.rest[at].char)
        return self.kinds[at] == self.kind

    def upper_end(self, end: int) -> int:
        first, end = end, self.behind("upper", end)
        if end == first:
            return self.behind("lower", end)
        return end - 1 if self.kinds[end : end + 1] == ["lower"] else end

    def behind(self, kind: str, at: int) -> int:
        while at < len(self.kinds) and self.kinds[at] == kind:
            at += 1
        return at


def _kind(char: str) -> str:
    if not char:
        return ""
    if _connects(char):
        return "connector"
    if is_punctuation(char):
        return "punctuation"
    if is_upper(char):
        return "upper"
    if is_letter(char) and _is_alphabet(char):
        return "lower"
    return "number" if is_number(char) else "other"


def _is_alphabet(char: str) -> bool:
    """Whether a letter belongs to an alphabet; the ideographs of Han do not."""
    code = ord(char)
    return not (0x4E00 <= code < 0x9FCD or 0x3400 <= code < 0x4D86 or 0x20000 <= code < 0x2B81E)


@CASES("shuffle", "string", bytes_in_a_step=BY_CHARACTERS)
def _shuffle(run: Run, value: bytes) -> bytes:
    """The characters in another order."""
    chars = list(text_of(value))
    for at in range(len(chars) - 1, 0, -1):
        other = int.from_bytes(run.random(8), "big") % (at + 1)
        chars[at], chars[other] = chars[other], chars[at]
    return "".join(chars).encode()
