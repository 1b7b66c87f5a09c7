"""Booleans that come as text or as a number. Pure."""

from typing import Final

_TRUE: Final = frozenset({"1", "t", "true"})
_FALSE: Final = frozenset({"0", "f", "false"})


def truth(value: object) -> bool:
    """What Go's strconv.ParseBool makes of it, in any case; raises ValueError for anything else.

    A word that is neither must not count as false: whoever misspelt it wanted something.
    """
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("true or false")
