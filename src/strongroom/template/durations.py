"""time.Duration, time.Month and time.Weekday. Source: https://pkg.go.dev/time#Duration."""

import re
from collections.abc import Mapping
from typing import Final

from strongroom.template.values import Int64, Method, NamedInt

MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
MONTHS: Final = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DAYS: Final = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
_UNITS: Final = {
    "ns": 1, "us": MICROSECOND, "\u00b5s": MICROSECOND, "\u03bcs": MICROSECOND,
    "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR,
}  # fmt: skip
_PART: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]+)")


class Duration(NamedInt):
    """Nanoseconds."""

    go_type = "time.Duration"

    def text(self) -> bytes:
        """As 1h2m3.5s."""
        return _duration_text(int(self)).encode()

    def methods(self) -> Mapping[str, Method]:
        """What a template may call."""
        return {
            "String": Method((), self.text),
            "Hours": Method((), lambda: self._float(HOUR)),
            "Minutes": Method((), lambda: self._float(MINUTE)),
            "Seconds": Method((), lambda: self._float(SECOND)),
            "Milliseconds": Method((), lambda: Int64(_towards_zero(self, MILLISECOND))),
            "Microseconds": Method((), lambda: Int64(_towards_zero(self, MICROSECOND))),
            "Nanoseconds": Method((), lambda: Int64(int(self))),
            "Abs": Method((), lambda: Duration(min(abs(int(self)), (1 << 63) - 1))),
            "Truncate": Method((self.go_type,), self.truncated),
            "Round": Method((self.go_type,), self.rounded),
        }

    def _float(self, unit: int) -> float:
        whole = _towards_zero(self, unit)
        return whole + (int(self) - whole * unit) / unit

    def truncated(self, unit: int) -> "Duration":
        """Towards zero to a multiple of a unit."""
        return self if unit <= 0 else Duration(_towards_zero(self, unit) * unit)

    def rounded(self, unit: int) -> "Duration":
        """To the nearest multiple of a unit, halves away from zero."""
        if unit <= 0:
            return self
        size = (abs(int(self)) * 2 + unit) // (2 * unit) * unit
        return Duration(max(-(1 << 63), min(size if self >= 0 else -size, (1 << 63) - 1)))


class Month(NamedInt):
    """1 to 12."""

    go_type, kind = "time.Month", "int"

    def text(self) -> bytes:
        """Its English name."""
        return MONTHS[self - 1].encode()

    def methods(self) -> Mapping[str, Method]:
        """What a template may call."""
        return {"String": Method((), self.text)}


class Weekday(NamedInt):
    """0 is Sunday."""

    go_type, kind = "time.Weekday", "int"

    def text(self) -> bytes:
        """Its English name."""
        return DAYS[self].encode()

    def methods(self) -> Mapping[str, Method]:
        """What a template may call."""
        return {"String": Method((), self.text)}


def _towards_zero(number: int, unit: int) -> int:
    whole = abs(int(number)) // unit
    return whole if number >= 0 else -whole


def _duration_text(nanoseconds: int) -> str:
    if not nanoseconds:
        return "0s"
    sign, size = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    for unit, name in ((MICROSECOND, "ns"), (MILLISECOND, "\u00b5s"), (SECOND, "ms")):
        if size < unit:
            divisor = unit // 1_000
            return sign + _fraction(size, divisor) + name
    seconds, text = size // SECOND, ""
    if seconds >= 60:
        minutes = seconds // 60
        text = f"{minutes // 60}h{minutes % 60}m" if minutes >= 60 else f"{minutes}m"
    return sign + text + _fraction(size % MINUTE, SECOND) + "s"


def _fraction(number: int, unit: int) -> str:
    digits = f"{number % unit:0{len(str(unit)) - 1}}".rstrip("0") if unit > 1 else ""
    return f"{number // unit}" + (f".{digits}" if digits else "")


def parse_duration(text: str) -> Duration:
    """ParseDuration; raises ValueError."""
    negative = text.startswith("-")
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return Duration(0)
    if not rest:
        raise ValueError("invalid duration")
    total = 0
    while rest:
        part = _PART.match(rest)
        if part is None or not (part[1] or part[2]) or part[3] not in _UNITS:
            raise ValueError("invalid duration")
        unit = _UNITS[part[3]]
        total += int(part[1] or 0) * unit
        fraction = (part[2] or "")[:18]
        if fraction:
            total += int(int(fraction) * (unit / 10.0 ** len(fraction)))
        rest = rest[part.end() :]
    if total > (1 << 63) - (not negative):
        raise ValueError("invalid duration")
    return Duration(-total if negative else total)
