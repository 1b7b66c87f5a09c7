"""Names in configuration files that are nearly right. Pure."""

from collections.abc import Iterable
from typing import Final

from strongroom.model.spelling import nearest

SHOWN_CHARACTERS: Final = 16


def meant(word: object, known: Iterable[str]) -> str:
    """` 'secrt', nearly 'secret'` for a word that is nearly one of these, else "".

    Other words are not repeated: where a colon is missing, or a line stands too far left, what is
    in the place of a name is a key or a token.
    """
    text = str(word)
    near = nearest(text, known) if len(text) <= SHOWN_CHARACTERS else ""
    return f" {text!r}, nearly {near!r}" if near else ""
