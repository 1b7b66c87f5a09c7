"""From the text of a template to tokens. Rules: https://pkg.go.dev/text/template (Actions).

The text is `str` decoded with surrogateescape, so that every byte of it survives.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from strongroom.template.errors import SYNTAX, TemplateRefused, position

SPACES: Final = " \t\r\n"
KEYWORDS: Final = frozenset(
    [
        "block",
        "break",
        "continue",
        "define",
        "else",
        "end",
        "if",
        "nil",
        "range",
        "template",
        "with",
    ]
)
# As far as Go's lexer reads; what it means, and whether it is one, `literals` decides.
_NUMBER: Final = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_SINGLE: Final = {"=": "assign", "|": "pipe"}
_TERMINATORS: Final = " \t\r\n.,|:)("


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the template; `kind` is text, left, right, space, a keyword, or a term's kind."""

    kind: str
    text: str
    offset: int


def tokens(name: str, text: str, delimiters: tuple[str, str] = ("{{", "}}")) -> list[Token]:
    """All tokens, the last one `eof`; raises TemplateRefused(`template-syntax`)."""
    return _Lexer(name, text, delimiters).run()


def is_alphanumeric(char: str) -> bool:
    """What a name may consist of: letters, digits, underscore."""
    if char.isascii():
        return char == "_" or char.isalnum()
    category = unicodedata.category(char)
    return category[0] == "L" or category == "Nd"


class _Lexer:
    def __init__(self, name: str, text: str, delimiters: tuple[str, str]) -> None:
        self.name = name
        self.text = text
        self.left, self.right = delimiters
        self.at = 0
        self.parens = 0
        self.found: list[Token] = []

    def run(self) -> list[Token]:
        while self.at < len(self.text):
            self._text()
        self.found.append(Token("eof", "", len(self.text)))
        return self.found

    def _refuse(self, reason: str, offset: int) -> TemplateRefused:
        return TemplateRefused(SYNTAX, self.name, position(self.text, offset), reason)

    def _emit(self, kind: str, start: int, end: int) -> None:
        self.found.append(Token(kind, self.text[start:end], start))
        self.at = end

    def _text(self) -> None:
        start = self.at
        opening = self.text.find(self.left, start)
        if opening < 0:
            self._emit("text", start, len(self.text))
            return
        inside = opening + len(self.left)
        trims = self.text[inside : inside + 1] == "-" and self._is_space(inside + 1)
        shown = self.text[start:opening]
        if trims:
            shown = shown.rstrip(SPACES)
            inside += 2
        if shown:
            self.found.append(Token("text", shown, start))
        if self.text.startswith("/*", inside):
            self._comment(inside)
        else:
            self.found.append(Token("left", self.left, opening))
            self.at = inside
            self._action(opening)

    def _comment(self, start: int) -> None:
        end = self.text.find("*/", start + 2)
        if end < 0:
            raise self._refuse("unclosed comment", start)
        self.at = end + 2
        closing = self._closing()
        if not closing:
            raise self._refuse("comment ends before closing delimiter", start)
        self._close(trims=closing == "trim")

    def _closing(self) -> str:
        """Whether a right delimiter is next: "", "plain" or "trim"."""
        if self._is_space(self.at) and self.text.startswith("-" + self.right, self.at + 1):
            return "trim"
        return "plain" if self.text.startswith(self.right, self.at) else ""

    def _close(self, *, trims: bool) -> None:
        self.at += len(self.right) + (2 if trims else 0)
        while trims and self._is_space(self.at):
            self.at += 1

    def _is_space(self, offset: int) -> bool:
        return offset < len(self.text) and self.text[offset] in SPACES

    def _action(self, opening: int) -> None:
        self.parens = 0
        while True:
            closing = self._closing()
            if closing:
                if self.parens:
                    raise self._refuse("unclosed left paren", self.at)
                self.found.append(Token("right", self.right, self.at))
                self._close(trims=closing == "trim")
                return
            if self.at >= len(self.text):
                raise self._refuse("unclosed action", opening)
            self._inside()

    def _inside(self) -> None:  # noqa: C901 - one branch for each kind of token
        start, char = self.at, self.text[self.at]
        following = self.text[start + 1 : start + 2]
        if char in SPACES:
            self._spaces()
        elif char in _SINGLE:
            self._emit(_SINGLE[char], start, start + 1)
        elif char == ":":
            if following != "=":
                raise self._refuse("expected :=", start)
            self._emit("declare", start, start + 2)
        elif char in "\"'`":
            self._quoted(char)
        elif char == "$":
            self._name("variable", start + 1)
        elif char == "." and not "0" <= following <= "9":
            self._name("field", start + 1)
        elif char in ".+-" or char in "0123456789":
            self._number()
        elif is_alphanumeric(char):
            self._name("identifier", start)
        elif char in "()":
            self._paren(char)
        elif char.isascii() and char.isprintable():
            self._emit("char", start, start + 1)
        else:
            raise self._refuse(f"unrecognized character in action: U+{ord(char):04X}", start)

    def _paren(self, char: str) -> None:
        self.parens += 1 if char == "(" else -1
        if self.parens < 0:
            raise self._refuse("unexpected right paren", self.at)
        self._emit(char, self.at, self.at + 1)

    def _spaces(self) -> None:
        start = end = self.at
        while self._is_space(end):
            end += 1
        # The last space belongs to a trimming delimiter.
        if self.text.startswith("-" + self.right, end):
            end -= 1
            if end == start:
                return
        self._emit("space", start, end)

    def _quoted(self, quote: str) -> None:
        start, end = self.at, self.at + 1
        kind = {'"': "string", "'": "rune", "`": "raw"}[quote]
        while True:
            char = self.text[end : end + 1]
            if not char or (char == "\n" and quote != "`"):
                raise self._refuse(f"unterminated {_QUOTED[kind]}", start)
            end += 1
            if char == quote:
                break
            if char == "\\" and quote != "`":
                if self.text[end : end + 1] in ("", "\n"):
                    raise self._refuse(f"unterminated {_QUOTED[kind]}", start)
                end += 1
        self._emit(kind, start, end)

    def _name(self, kind: str, end: int) -> None:
        start = self.at
        while end < len(self.text) and is_alphanumeric(self.text[end]):
            end += 1
        if end < len(self.text) and not (
            self.text[end] in _TERMINATORS or self.text.startswith(self.right, end)
        ):
            raise self._refuse(f"bad character U+{ord(self.text[end]):04X} in a name", end)
        word = self.text[start:end]
        if kind == "identifier":
            kind = "bool" if word in ("true", "false") else kind
            kind = word if word in KEYWORDS else kind
        elif word == ".":
            kind = "dot"
        self._emit(kind, start, end)

    def _number(self) -> None:
        start = self.at
        end, good = self._scan_number(start)
        kind = "number"
        if good and self.text[end : end + 1] in ("+", "-"):
            end, good = self._scan_number(end)
            good = good and self.text[end - 1] == "i"
            kind = "complex"
        if not good:
            raise self._refuse(f"bad number syntax: {self.text[start:end]}", start)
        self._emit(kind, start, end)

    def _scan_number(self, at: int) -> tuple[int, bool]:
        match = _NUMBER.match(self.text, at)
        end = match.end() if match else at
        if end < len(self.text) and is_alphanumeric(self.text[end]):
            return end + 1, False
        return end, True


_QUOTED: Final = {
    "string": "quoted string",
    "rune": "character constant",
    "raw": "raw quoted string",
}
