"""What one step of the tour shows: a short paragraph, and the real evidence under it."""

import sys
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Evidence:
    """A step's title, what happened in one paragraph, and the lines that prove it."""

    title: str
    paragraph: str
    lines: tuple[str, ...]


def show(number: int, evidence: Evidence, out: TextIO = sys.stdout) -> None:
    """Print a step the way people read it; no colours when it is not a terminal."""
    bold, dim, plain = ("\033[1m", "\033[2m", "\033[0m") if out.isatty() else ("", "", "")
    out.write(f"\n{bold}{number}. {evidence.title}{plain}\n{evidence.paragraph}\n")
    for line in evidence.lines:
        out.write(f"{dim}  | {plain}{line}\n")
    out.flush()
