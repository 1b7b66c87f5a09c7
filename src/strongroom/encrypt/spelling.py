"""Names in configuration files that are nearly right. Pure."""

from collections.abc import Iterable
from typing import Final

SHOWN_CHARACTERS: Final = 16


def meant(word: object, known: Iterable[str]) -> str:
    """` 'secrt', nearly 'secret'` for a word that is nearly one of these, else "".

    Other words are not repeated: where a colon is missing, or a line stands too far left, what is
    in the place of a name is a key or a token.
    """
    import difflib  # For mistakes alone; the plugin starts without.

    text = str(word)
    near = difflib.get_close_matches(text[: 2 * SHOWN_CHARACTERS], list(known), 1, 0.6)
    return f" {text!r}, nearly {near[0]!r}" if near and len(text) <= SHOWN_CHARACTERS else ""
