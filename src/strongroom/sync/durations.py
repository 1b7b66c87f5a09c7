"""Durations and sync windows as manifests write them. Pure.

Durations: Go's time.ParseDuration. Windows: five cron fields in UTC, or an @-shorthand.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from strongroom.model.errors import Invalid

_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|us|µs|ns|h|m|s)", re.ASCII)
_SECONDS: Final = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_SHORTHANDS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_BOUNDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMES: Final = {
    name: number
    for names, first in (
        (("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1),
        (("sun", "mon", "tue", "wed", "thu", "fri", "sat"), 0),
    )
    for number, name in enumerate(names, first)
}
# What 64 bits of nanoseconds hold, as Go counts.
LONGEST_SECONDS: Final = 9_223_372_036
_LONGEST_WINDOW: Final = timedelta(days=7)
# All of them are gone through at each look.
MOST_WINDOWS: Final = 256


def parse_duration(text: Any, field: str = "refreshInterval") -> float:  # noqa: ANN401 - a manifest's value
    """Seconds of a Go duration (`1h30m`, `0`) or of a bare number; raises Invalid."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    value = str(text)
    if value in ("0", ""):
        return 0.0
    parts = _PART.findall(value)
    if "".join(number + unit for number, unit in parts) != value:
        raise Invalid("bad-duration", f"{field} {value!r} is no duration", hint="such as 1h30m")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > LONGEST_SECONDS:
        raise Invalid("bad-duration", f"{field} is longer than 292 years")
    return seconds


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of `seconds` that begins whenever the five sets of a schedule match."""

    fields: tuple[frozenset[int], ...]
    seconds: float
    any_day: tuple[bool, bool] = (True, True)

    def _on(self, at: datetime) -> bool:
        """Whether a stretch may begin on that day."""
        _, _, days, months, weekdays = self.fields
        if at.month not in months:
            return False
        of_month, of_week = at.day in days, at.isoweekday() % 7 in weekdays
        # Two restricted day fields are joined with "or", as cron has it.
        return (of_month and of_week) if any(self.any_day) else (of_month or of_week)

    def holds(self, now: float) -> bool:
        """Whether the moment (epoch seconds) lies in a stretch that has begun."""
        at = datetime.fromtimestamp(now, UTC).replace(second=0, microsecond=0)
        length = min(self.seconds, _LONGEST_WINDOW.total_seconds())
        earliest = datetime.fromtimestamp(now, UTC) - timedelta(seconds=length)
        minutes, hours = self.fields[:2]
        while at > earliest:
            if not self._on(at):
                at = at.replace(hour=0, minute=0)
            elif at.hour not in hours:
                at = at.replace(minute=0)
            elif at.minute in minutes:
                return True
            at -= timedelta(minutes=1)
        return False


def parse_windows(entry: Mapping[str, Any] | None) -> "Windows":
    """`syncWindows`; what cannot be read is left out, as the other controller does.

    Raises Invalid(`bad-windows`) for too many.
    """
    if not entry:
        return Windows()
    given, windows = entry.get("windows") or [], []
    if len(given) > MOST_WINDOWS:
        raise Invalid("bad-windows", f"syncWindows has at most {MOST_WINDOWS} windows")
    for each in given:
        try:
            windows.append(_window(each))
        except (Invalid, ValueError):
            continue
    return Windows(entry.get("kind") != "deny", tuple(windows))


@dataclass(frozen=True, slots=True)
class Windows:
    """When periodic refreshes may run."""

    allow: bool = True
    windows: tuple[Window, ...] = ()

    def open(self, now: float) -> bool:
        """Whether a periodic refresh may run; always, when there are no windows."""
        if not self.windows:
            return True
        return any(each.holds(now) for each in self.windows) is self.allow


def _window(entry: Mapping[str, Any]) -> Window:
    schedule = str(entry.get("schedule") or "")
    parts = _SHORTHANDS.get(schedule, schedule).lower().split()
    if len(parts) != len(_BOUNDS):
        raise ValueError("five fields")
    fields = [_values(part, *bounds) for part, bounds in zip(parts, _BOUNDS, strict=True)]
    fields[4] = frozenset(each % 7 for each in fields[4])
    seconds = parse_duration(entry.get("duration"), "duration")
    return Window(tuple(fields), seconds, (parts[2].startswith("*"), parts[4].startswith("*")))


def _values(text: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        if span in ("*", "?"):
            first, last = low, high
        else:
            start, dash, end = span.partition("-")
            first = _number(start)
            last = _number(end) if dash else (high if step else first)
        if not low <= first <= last <= high:
            raise ValueError("out of bounds")
        if step and not (step.isascii() and step.isdigit()):
            raise ValueError("no step")
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str) -> int:
    if text in _NAMES:
        return _NAMES[text]
    if not (text.isascii() and text.isdigit()):
        raise ValueError("no number")
    return int(text)
