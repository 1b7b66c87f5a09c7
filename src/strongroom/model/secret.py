"""The one type a secret value lives in; it refuses every accidental way out.

`str()`, `format()`, pickling and hashing raise, `repr()` is masked, equality is constant-time.
Raising beats masking: a masked value delivered into a file would look like a success.
"""

import hmac
from typing import Final, NoReturn, final


@final
class Secret:
    """Bytes that only `reveal()` gives back.

    >>> Secret(b"x")
    Secret(***)
    """

    __slots__ = ("_value",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: bytes | str) -> None:
        """Raises TypeError for anything else, as a reply may hold one where a token should be."""
        if not isinstance(value, bytes | bytearray | memoryview | str):
            # Of a number `bytes` would make so many zeros.
            raise TypeError(f"a Secret is made of bytes or text, not of {type(value).__name__}")
        self._value: Final = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """Return the value. Every call is a place to review."""
        return self._value

    def reveal_text(self) -> str:
        """Return the value as UTF-8 text; raises UnicodeDecodeError for binary values."""
        return self._value.decode()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> NoReturn:
        raise TypeError("a Secret does not turn into text; call reveal() where that is meant")

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError("a Secret cannot be formatted; call reveal() where that is meant")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")
