"""time.Time: an instant and the zone it is shown in. Source: https://pkg.go.dev/time#Time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from strongroom.template.durations import SECOND, Duration, Month, Weekday
from strongroom.template.layouts import format_time
from strongroom.template.values import Int64, Method, Object, Value

DAY_SECONDS: Final = 86_400
# Seconds between 1 January of year 1, Go's zero time, and the epoch.
ZERO_UNIX: Final = -62_135_596_800
_DATETIME_MIN: Final = ZERO_UNIX + 2 * DAY_SECONDS
_DATETIME_MAX: Final = 253_402_128_000


@dataclass(frozen=True, slots=True)
class Zone:
    """A named zone, or a fixed offset with an abbreviation."""

    name: str
    rules: tzinfo

    def at(self, unix: int) -> tuple[str, int]:
        """Abbreviation and seconds east of UTC at an instant."""
        if self.rules is UTC:
            return self.name, 0
        inside = max(_DATETIME_MIN, min(unix, _DATETIME_MAX))
        moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=inside)).astimezone(
            self.rules
        )
        offset = moment.utcoffset() or timedelta()
        name = self.name if isinstance(self.rules, timezone) else moment.tzname() or ""
        return name, int(offset.total_seconds())


UTC_ZONE: Final = Zone("UTC", UTC)


def fixed_zone(name: str, offset: int) -> Zone:
    """A zone with one offset in seconds."""
    return Zone(name, timezone(timedelta(seconds=offset)))


def load_zone(name: str) -> Zone:
    """A zone by its IANA name; "Local" is UTC here. Raises ValueError."""
    if name in ("", "UTC", "Local"):
        return UTC_ZONE
    try:
        return Zone(name, ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("unknown time zone") from None


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since the epoch of a date of the Gregorian calendar, for any year."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def civil_from_days(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day since the epoch."""
    era, of_era = divmod(days + 719_468, 146_097)
    years = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return years + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def days_in(month: int, year: int) -> int:
    """Days of a month."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


class Time(Object):
    """An instant: seconds since the epoch and nanoseconds, with a zone."""

    go_type = "time.Time"

    def __init__(self, unix: int, nanosecond: int = 0, zone: Zone = UTC_ZONE) -> None:
        self.unix = unix + nanosecond // SECOND
        self.nanosecond = nanosecond % SECOND
        self.zone = zone

    def local(self) -> int:
        """Seconds since the epoch as its zone's clock shows them."""
        return self.unix + self.zone.at(self.unix)[1]

    def date(self) -> tuple[int, int, int]:
        """Year, month, day."""
        return civil_from_days(self.local() // DAY_SECONDS)

    def second_of_day(self) -> int:
        """Seconds since midnight."""
        return self.local() % DAY_SECONDS

    def weekday(self) -> int:
        """0 is Sunday."""
        return (self.local() // DAY_SECONDS + 4) % 7

    def day_of_year(self) -> int:
        """1 is the first of January."""
        year = self.date()[0]
        return self.local() // DAY_SECONDS - days_from_civil(year, 1, 1) + 1

    def zone_and_offset(self) -> tuple[str, int]:
        """Abbreviation and seconds east of UTC."""
        return self.zone.at(self.unix)

    def into(self, zone: Zone) -> "Time":
        """The same instant shown in another zone."""
        return Time(self.unix, self.nanosecond, zone)

    def plus(self, duration: int) -> "Time":
        """Nanoseconds later."""
        return Time(self.unix, self.nanosecond + int(duration), self.zone)

    def total(self) -> int:
        """Nanoseconds since the epoch."""
        return self.unix * SECOND + self.nanosecond

    def identity(self) -> object:
        """Equal ones show the same instant in the same zone."""
        return self.unix, self.nanosecond, self.zone

    def text(self) -> bytes:
        """As Go prints it."""
        return format_time(self, "2006-01-02 15:04:05.999999999 -0700 MST").encode()

    def methods(self) -> Mapping[str, Method]:
        """What a template may call."""

        def formatted(layout: bytes) -> bytes:
            return format_time(self, layout.decode("latin-1")).encode("latin-1")

        plain: dict[str, Value] = {
            "Year": lambda: self.date()[0],
            "Month": lambda: Month(self.date()[1]),
            "Day": lambda: self.date()[2],
            "Hour": lambda: self.second_of_day() // 3600,
            "Minute": lambda: self.second_of_day() // 60 % 60,
            "Second": lambda: self.second_of_day() % 60,
            "Nanosecond": lambda: self.nanosecond,
            "YearDay": self.day_of_year,
            "Weekday": lambda: Weekday(self.weekday()),
            "Unix": lambda: Int64(self.unix),
            "UnixMilli": lambda: Int64.wrap(self.total() // 1_000_000),
            "UnixMicro": lambda: Int64.wrap(self.total() // 1_000),
            "UnixNano": lambda: Int64.wrap(self.total()),
            "IsZero": lambda: self.unix == ZERO_UNIX and not self.nanosecond,
            "UTC": lambda: self.into(UTC_ZONE),
            "Local": lambda: self.into(UTC_ZONE),
            "String": self.text,
        }
        other = (self.go_type,)
        return {name: Method((), code) for name, code in plain.items()} | {
            "Format": Method(("string",), formatted),
            "Add": Method(("time.Duration",), self.plus),
            "AddDate": Method(("int", "int", "int"), self.plus_date),
            "Sub": Method(other, self.minus),
            "Before": Method(other, lambda than: self.total() < than.total()),
            "After": Method(other, lambda than: self.total() > than.total()),
            "Equal": Method(other, lambda to: self.total() == to.total()),
            "Compare": Method(
                other, lambda to: (self.total() > to.total()) - (self.total() < to.total())
            ),
        }

    def minus(self, other: "Time") -> Duration:
        """The time between, kept inside what a Duration can hold."""
        between = self.total() - other.total()
        return Duration(max(-(1 << 63), min(between, (1 << 63) - 1)))

    def plus_date(self, years: int, months: int, days: int) -> "Time":
        """The calendar's arithmetic; a day that a month does not have runs over."""
        year, month, day = self.date()
        year, month = year + years + (month + months - 1) // 12, (month + months - 1) % 12 + 1
        local = (days_from_civil(year, month, 1) + day + days - 1) * DAY_SECONDS
        return from_local(local + self.second_of_day(), self.nanosecond, self.zone)


def from_local(local: int, nanosecond: int, zone: Zone) -> Time:
    """The instant at which a zone's clock shows a time; in a gap or overlap as Go decides."""
    offset = zone.at(local)[1]
    unix = local - offset
    again = zone.at(unix)[1]
    if again != offset:
        unix = local - again
        if zone.at(unix)[1] != again:
            unix = local - offset
    return Time(unix, nanosecond, zone)


ZERO_TIME: Final = Time(ZERO_UNIX)
