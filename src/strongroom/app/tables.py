"""Tables for people, as wide as where they are read.

A column that says nothing is left out. A terminal that is too narrow for a table gets one entry
below the other. What goes into a file or a pipe is not folded at all, unless COLUMNS says how wide.
"""

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

# A folded cell narrower than this is a column of syllables.
READABLE: Final = 16
BORDER: Final = 3
INDENT: Final = "    "


def plain(text: str) -> str:
    """A text with nothing in it that a terminal obeys, or that hides or turns round the rest."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


@dataclass(frozen=True, slots=True)
class Sheet:
    """Columns and their rows; `lead` are the columns of an entry's first line, `whole` those that
    are never folded.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    lead: tuple[str, ...]
    whole: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Names in a log are those that a caller chose; none of them may move the cursor."""
        rows = [tuple(map(plain, row)) for row in self.rows]
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "title", plain(self.title))

    def widths(self) -> dict[str, int]:
        """By column that says something: its longest cell, heading included, in characters."""
        found = {}
        for at, name in enumerate(self.columns):
            longest = max((len(row[at]) for row in self.rows), default=0)
            if longest:
                found[name] = max(longest, len(name))
        return found

    def natural(self) -> int:
        """Characters across when nothing is folded."""
        widths = self.widths()
        return max(sum(widths.values()) + BORDER * len(widths) + 1, len(self.title))

    def is_table_at(self, width: int) -> bool:
        """Whether a table of this many characters can be read."""
        least = [
            each if name in self.whole else min(each, max(READABLE, len(name)))
            for name, each in self.widths().items()
        ]
        return sum(least) + BORDER * len(least) + 1 <= width

    def entries(self, width: int) -> list[str]:
        """One entry below the other: the leading cells on a line, the others named below it."""
        lines = []
        for row in self.rows:
            cells = dict(zip(self.columns, row, strict=True))
            lines += _wrapped("  ".join(cells[name] for name in self.lead if cells[name]), width)
            rest = [f"{name}: {cells[name]}" for name in self.columns
                    if name not in self.lead and cells[name]]  # fmt: skip
            lines += _wrapped(INDENT + "; ".join(rest), width) if rest else []
        return lines


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(
        line, max(width, 2 * READABLE), subsequent_indent=INDENT,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def show(sheet: Sheet, console: "Console | None" = None) -> None:
    """Print it, as a table where that can be read."""
    from rich.console import Console

    console = console or Console(markup=False, highlight=False)
    if not (console.is_terminal or os.environ.get("COLUMNS")):
        console.width = sheet.natural()
    if sheet.is_table_at(console.width):
        console.print(_table(sheet))
        return
    print("\n".join([sheet.title, *sheet.entries(console.width)]), file=console.file)


def _table(sheet: Sheet) -> object:
    from rich.table import Table

    table = Table(title=sheet.title or None, title_justify="left")
    shown = sheet.widths()
    for name in shown:
        table.add_column(name, overflow="fold", no_wrap=name in sheet.whole)
    for row in sheet.rows:
        cells = dict(zip(sheet.columns, row, strict=True))
        table.add_row(*[cells[name] for name in shown])
    return table


def say(text: str) -> None:
    """A sentence, wrapped between words at a terminal."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    text = "\n".join(map(plain, text.split("\n")))
    console.print(text, soft_wrap=not (console.is_terminal or bool(os.environ.get("COLUMNS"))))
