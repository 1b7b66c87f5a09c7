"""The part of HCL 1 that Vault policies and configuration files use, and JSON.

Both parse to the same values: an object is a list of `(key, value)` pairs in order, so that
repeated blocks (`path "a" {}` twice) survive. A block `path "x" { ... }` is the pair
`("path", {"x": {...}})` with one `Block` each. Grammar: https://github.com/hashicorp/hcl (v1).
Errors carry line and column; nothing of the text is repeated but the offending token.
"""

import json
import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, Final

from strongroom.model.errors import Invalid, TooLarge

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 32

_TOKEN: Final = re.compile(
    r"""
    (?P<space>[ \t\r\n]+ | \#[^\n]* | //[^\n]* | /\*.*?\*/)
  | (?P<heredoc><<-?[A-Za-z_][\w.]*[ \t]*\n)
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<number>-?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.]))
  | (?P<name>[A-Za-z_][\w.\-]*)
  | (?P<punct>[{}\[\]=,:])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "a": "\a", "b": "\b",
                   "f": "\f", "v": "\v"}  # fmt: skip
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """`kind "label" ... { body }`, or `kind = { body }` with no labels."""

    kind: str
    labels: tuple[str, ...]
    body: "Body"
    line: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """`name = value`; the value is a string, number, bool, list or Body."""

    name: str
    value: Any
    line: int


@dataclass(frozen=True, slots=True)
class Body:
    """What stands between braces, in order."""

    items: tuple[Block | Attribute, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def parse(text: str, *, code: str = "bad-hcl") -> Body:
    """Parse HCL, or JSON when the text begins with a brace.

    Raises TooLarge, or Invalid(`code`) whose message has `line L, column C`.
    """
    if len(text) > MAX_BYTES:
        raise TooLarge("hcl-too-large", f"the text is over {MAX_BYTES} characters")
    if text.lstrip().startswith("{"):
        return _parse_json(text, code)
    return _Parser(text, code).body_to_end()


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    return f"line {line}, column {position - text.rfind(chr(10), 0, position)}"


class _Parser:
    def __init__(self, text: str, code: str) -> None:
        self._text = text
        self._code = code
        # Counted once: before each of thousands of rules it would take longer than all the rest.
        self._breaks = [found.start() for found in re.finditer("\n", text)]
        self._tokens = self._scan()
        self._next = 0
        self._depth = 0

    def _error(self, position: int, message: str) -> Invalid:
        return Invalid(self._code, f"{_place(self._text, position)}: {message}")

    def _scan(self) -> list[_Token]:
        tokens: list[_Token] = []
        text, position = self._text, 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                what = (
                    "a string without its end"
                    if text[position] == '"'
                    else "an unexpected character"
                )
                raise self._error(position, what)
            kind = str(match.lastgroup)
            if kind == "heredoc":
                token, position = self._heredoc(match)
                tokens.append(token)
                continue
            if kind != "space":
                tokens.append(_Token(kind, match.group(), position))
            position = match.end()
        tokens.append(_Token("end", "the end", len(text)))
        return tokens

    def _heredoc(self, match: "re.Match[str]") -> tuple[_Token, int]:
        opening = match.group().strip()
        indented = opening.startswith("<<-")
        mark = opening.lstrip("<-")
        lines: list[str] = []
        position = match.end()
        while position < len(self._text):
            end = self._text.find("\n", position)
            end = len(self._text) if end < 0 else end
            line = self._text[position:end]
            position = end + 1
            if line.strip() == mark:
                if indented:
                    margin = min((len(x) - len(x.lstrip()) for x in lines if x.strip()), default=0)
                    lines = [x[margin:] for x in lines]
                body = "".join(f"{x}\n" for x in lines)
                return _Token("text", body, match.start()), min(position, len(self._text))
            lines.append(line)
        raise self._error(match.start(), f"the heredoc {mark} has no end")

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _punct(self, text: str) -> bool:
        if self._peek().kind == "punct" and self._peek().text == text:
            self._next += 1
            return True
        return False

    def body_to_end(self) -> Body:
        body = self._body()
        token = self._peek()
        if token.kind != "end":
            raise self._error(token.position, f"unexpected {token.text!r}")
        return body

    def _body(self) -> Body:
        items: list[Block | Attribute] = []
        while self._peek().kind in ("name", "string"):
            items.append(self._item())
            self._punct(",")
        return Body(tuple(items))

    def _item(self) -> Block | Attribute:
        first = self._take()
        line = bisect_left(self._breaks, first.position) + 1
        name = self._name(first)
        if self._punct("=") or self._punct(":"):
            return Attribute(name, self._value(), line)
        labels: list[str] = []
        while self._peek().kind in ("name", "string"):
            labels.append(self._name(self._take()))
        token = self._peek()
        if not self._punct("{"):
            raise self._error(token.position, f"expected '=' or '{{' after {name!r}")
        return Block(name, tuple(labels), self._braced(token), line)

    def _braced(self, opening: _Token) -> Body:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(opening.position, f"nested deeper than {MAX_DEPTH}")
        body = self._body()
        token = self._peek()
        if not self._punct("}"):
            what = "the block has no end" if token.kind == "end" else f"unexpected {token.text!r}"
            raise self._error(token.position, what)
        self._depth -= 1
        return body

    def _name(self, token: _Token) -> str:
        return self._unquote(token) if token.kind == "string" else token.text

    def _unquote(self, token: _Token) -> str:
        def plain(match: "re.Match[str]") -> str:
            escape = match.group(1)
            if len(escape) > 1:
                return chr(int(escape[1:], 16))
            if escape not in _ESCAPES:
                raise self._error(token.position + match.start() + 1, "an unknown escape")
            return _ESCAPES[escape]

        try:
            return _ESCAPE.sub(plain, token.text[1:-1])
        except (ValueError, OverflowError):
            raise self._error(token.position, "an escape beyond Unicode") from None

    def _value(self) -> Any:  # noqa: ANN401 - HCL values are what they are
        token = self._take()
        if token.kind == "string":
            return self._unquote(token)
        if token.kind == "text":
            return token.text
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "name" and token.text in ("true", "false"):
            return token.text == "true"
        if token.kind == "punct" and token.text == "[":
            return self._list(token)
        if token.kind == "punct" and token.text == "{":
            return self._braced(token)
        raise self._error(token.position, f"expected a value, found {token.text!r}")

    def _list(self, opening: _Token) -> list[Any]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(opening.position, f"nested deeper than {MAX_DEPTH}")
        values: list[Any] = []
        while not self._punct("]"):
            values.append(self._value())
            token = self._peek()
            if not self._punct(",") and not (token.kind == "punct" and token.text == "]"):
                raise self._error(token.position, "expected ',' or ']' in the list")
        self._depth -= 1
        return values


def _number(text: str) -> int | float:
    try:
        return int(text, 0) if text.lower().lstrip("-").startswith("0x") else int(text)
    except ValueError:
        return float(text)


def _parse_json(text: str, code: str) -> Body:
    try:
        value = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise Invalid(code, f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise Invalid(code, f"line 1, column 1: nested deeper than {MAX_DEPTH}") from None
    except ValueError:
        # Python reads no whole number of more than 4,300 digits.
        raise Invalid(code, "line 1, column 1: a number is too long") from None
    return _from_json(value, code, 0)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its order and its repeated keys."""


def _from_json(pairs: _Pairs, code: str, depth: int) -> Body:
    if depth > MAX_DEPTH:
        raise Invalid(code, f"line 1, column 1: nested deeper than {MAX_DEPTH}")
    return Body(
        tuple(Attribute(key, _json_value(value, code, depth + 1), 0) for key, value in pairs)
    )


def _json_value(value: Any, code: str, depth: int) -> Any:  # noqa: ANN401
    if isinstance(value, _Pairs):
        return _from_json(value, code, depth)
    if isinstance(value, list):
        if depth > MAX_DEPTH:
            raise Invalid(code, f"line 1, column 1: nested deeper than {MAX_DEPTH}")
        return [_json_value(item, code, depth + 1) for item in value]
    return value
