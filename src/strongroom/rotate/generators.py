"""Where a new value comes from."""

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.model.errors import Invalid

SYMBOLS: Final = "-_.~"
ALPHABET: Final = string.ascii_letters + string.digits + SYMBOLS
SHORTEST, LONGEST = 12, 1024
# Length and alphabet in, text out; the source of randomness is the caller's.
MakePassword = Callable[[int, str], str]


@dataclass(frozen=True, slots=True)
class PasswordGenerator:
    """New text for some fields; the others stay."""

    fields: tuple[str, ...]
    length: int = 32
    alphabet: str = ALPHABET

    def __post_init__(self) -> None:
        """Raises Invalid for a length or alphabet that would be weak."""
        if not self.fields:
            raise Invalid("no-fields", "name at least one field to generate")
        if not SHORTEST <= self.length <= LONGEST:
            raise Invalid("bad-length", f"a length is between {SHORTEST} and {LONGEST}")
        if len(set(self.alphabet)) < 16:
            raise Invalid("bad-alphabet", "the alphabet has fewer than 16 characters")

    def next(self, old: Mapping[str, Any], make: MakePassword) -> dict[str, Any]:
        """The next version's data; raises Invalid when a field was not there."""
        missing = [field for field in self.fields if field not in old]
        if missing:
            raise Invalid("no-field", f"the secret has no field {missing[0]!r}")
        return {**old, **{field: make(self.length, self.alphabet) for field in self.fields}}
