"""HCL in its usual layout: two spaces a level, one entry a line, `=` under `=`, comments kept.

The layout is that of `hclfmt` (https://github.com/hashicorp/hcl, v1): what changes is white space
alone, and the result is read again and compared before it is handed out.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from strongroom.access.hcl import Attribute, Block, Body, parse
from strongroom.model.errors import Invalid

_PIECE: Final = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<comment>\#[^\n]* | //[^\n]* | /\*.*?\*/)
  | (?P<heredoc><<-?(?P<mark>[A-Za-z_][\w.]*)[ \t]*\n(?:[^\n]*\n)*?[ \t]*(?P=mark)[ \t]*(?=\n|\Z))
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<punct>[{}\[\]=,:])
  | (?P<word>[^\s{}\[\]=,:"]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_INDENT: Final = "  "


@dataclass(frozen=True, slots=True)
class _Piece:
    kind: str
    text: str
    # Line ends in front of it, where it stood.
    newlines: int


def format_hcl(text: str, *, code: str = "bad-hcl") -> str:
    """The same entries and comments in the usual layout, idempotent; JSON stays as it is.

    Raises Invalid(`code`) for a text that cannot be read.
    """
    before = parse(text, code=code)
    if text.lstrip().startswith("{"):
        return text
    laid_out = _laid_out(list(_lines(list(_pieces(text)))))
    if _meaning(parse(laid_out, code=code)) != _meaning(before):
        raise Invalid(code, "the text cannot be laid out without changing what it says")
    return laid_out


def _meaning(value: Any) -> Any:  # noqa: ANN401 - HCL values are what they are
    """A value without the lines it stood in."""
    if isinstance(value, Body):
        return [_meaning(each) for each in value.items]
    if isinstance(value, Block):
        return ("block", value.kind, value.labels, _meaning(value.body))
    if isinstance(value, Attribute):
        return ("attribute", value.name, _meaning(value.value))
    return [_meaning(each) for each in value] if isinstance(value, list) else value


def _pieces(text: str) -> Iterator[_Piece]:
    newlines = 0
    for match in _PIECE.finditer(text):
        kind, found = str(match.lastgroup), match.group()
        if kind == "space":
            newlines += found.count("\n")
            continue
        # An inner group is the last that matched in a heredoc.
        yield _Piece("heredoc" if kind == "mark" else kind, found.rstrip(), newlines)
        newlines = 0


@dataclass(frozen=True, slots=True)
class _Line:
    pieces: Sequence[_Piece]
    blank_before: bool

    @property
    def texts(self) -> list[str]:
        return [each.text for each in self.pieces if each.kind in ("punct", "word", "string")]

    @property
    def closers(self) -> int:
        """Closing brackets at its beginning."""
        texts = [each.text if each.kind == "punct" else "" for each in self.pieces]
        return next((at for at, each in enumerate(texts) if each not in ("}", "]")), len(texts))

    @property
    def depth(self) -> int:
        """How many more brackets it opens than it closes."""
        marks = [each.text for each in self.pieces if each.kind == "punct"]
        return sum(each in ("{", "[") for each in marks) - sum(each in ("}", "]") for each in marks)

    @property
    def is_attribute(self) -> bool:
        """`name = value`, whole on this line."""
        return len(self.texts) > 2 and self.texts[1] == "=" and self.depth == 0


def _lines(pieces: Sequence[_Piece]) -> Iterator[_Line]:
    line: list[_Piece] = []
    blank = False
    for piece in pieces:
        if line and _breaks(line[-1], piece):
            yield _Line(line, blank)
            opened, line = line[-1].text in ("{", "["), []
            blank = piece.newlines > 1 and not opened and piece.text not in ("}", "]")
        line.append(piece)
    if line:
        yield _Line(line, blank)


def _breaks(last: _Piece, piece: _Piece) -> bool:
    """Whether a line ends between two pieces."""
    marks = [each.text if each.kind == "punct" else "" for each in (last, piece)]
    if marks == ["{", "}"]:
        return False
    if piece.newlines or last.kind == "heredoc":
        # A bracket or an equals sign at a line's end belongs to what follows it.
        return marks[1] not in (",", "=", "{") or piece.newlines > 1 or last.kind == "comment"
    if piece.kind == "comment":
        return False
    if last.kind == "comment":
        return last.text[:2] != "/*"
    return marks[0] == "{" or marks[1] == "}" or (marks[0] == "}" and marks[1] not in (",", "]"))


def _laid_out(lines: Sequence[_Line]) -> str:
    shown: list[str] = []
    depth = 0
    widths = _name_widths(lines)
    for line, width in zip(lines, widths, strict=True):
        if line.blank_before:
            shown.append("")
        shown.append(_INDENT * max(depth - line.closers, 0) + _joined(line, width))
        depth += line.depth
    return "\n".join(shown) + "\n" if shown else ""


def _name_widths(lines: Sequence[_Line]) -> list[int]:
    """How wide the name of each line's attribute is to be; 0 where it is none."""
    widths = [0] * len(lines)
    run: list[int] = []
    for at, line in enumerate(lines):
        if run and (line.blank_before or not line.is_attribute):
            run = []
        if line.is_attribute:
            run.append(at)
            width = max(len(lines[each].texts[0]) for each in run)
            for each in run:
                widths[each] = width
    return widths


def _joined(line: _Line, width: int) -> str:
    text = ""
    last = ""
    for number, piece in enumerate(line.pieces):
        tight = piece.text in (",", "]", ":") or last == "[" or (last, piece.text) == ("{", "}")
        text += piece.text if not text or (tight and piece.kind != "comment") else f" {piece.text}"
        if number == 0 and width:
            text = text.ljust(width)
        last = piece.text if piece.kind == "punct" else ""
    return text
