"""Fields of a configuration that are true or false."""

from collections.abc import Mapping
from typing import Any, Final

from strongroom.model.errors import Invalid
from strongroom.model.truth import truth

# Beyond what Vault's files may say.
_MORE: Final = {"yes": True, "no": False, "": False}


def flag_of(fields: Mapping[str, Any], name: str, place: str, *, default: bool = False) -> bool:
    """The field; raises Invalid(`bad-config`) for one that is neither.

    A misspelt one must not count as false: it may be what lets nobody in without a certificate.
    """
    value = fields.get(name, default)
    try:
        return _MORE[value.lower()] if str(value).lower() in _MORE else truth(value)
    except ValueError:
        raise Invalid("bad-config", f"{place}: {name} is true or false") from None
