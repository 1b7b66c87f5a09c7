"""A text read as a time after a Go layout. Source: https://pkg.go.dev/time#ParseInLocation."""

import re
from dataclasses import dataclass
from typing import Final

from strongroom.template.calendar import (
    DAY_SECONDS,
    UTC_ZONE,
    Time,
    Zone,
    civil_from_days,
    days_from_civil,
    days_in,
    fixed_zone,
)
from strongroom.template.durations import DAYS, MONTHS
from strongroom.template.layouts import elements

_BLANKS: Final = re.compile(" +|[^ ]+")


@dataclass(slots=True)
class _Found:
    """What has been read so far."""

    year: int = 0
    month: int = -1
    day: int = -1
    day_of_year: int = -1
    hour: int = 0
    minute: int = 0
    second: int = 0
    nanosecond: int = 0
    half: str = ""
    zone: Zone | None = None
    offset: int | None = None
    zone_name: str = ""


def parse_time(layout: str, text: str) -> Time:
    """time.ParseInLocation with UTC as the local zone; raises ValueError."""
    found, rest = _Found(), text
    pieces = elements(layout)
    for place, (literal, element) in enumerate(pieces):
        rest = _skip(rest, literal)
        if not element:
            if rest:
                raise ValueError("extra text")
            break
        following = pieces[place + 1][1] if not pieces[place + 1][0] else ""
        rest = _Reader(found, following).read(element, rest)
    return _assembled(found)


def _skip(text: str, literal: str) -> str:
    # Blanks of the layout stand for any number of them, none at the end of the text.
    for part in _BLANKS.findall(literal):
        if part[0] != " ":
            if not text.startswith(part):
                raise ValueError("text differs from the layout")
            text = text[len(part) :]
        elif text and text[0] != " ":
            raise ValueError("expected a space")
        else:
            text = text.lstrip(" ")
    return text


class _Reader:
    """Reads one element from the front of a text into what was found."""

    def __init__(self, found: _Found, following: str) -> None:
        self.found = found
        self.following = following

    def read(self, element: str, text: str) -> str:  # noqa: C901, PLR0912 - one branch an element
        found = self.found
        if element == "06":
            year, text = _digits(text, 2, 2)
            found.year = year + (1900 if year >= 69 else 2000)
        elif element == "2006":
            found.year, text = _digits(text, 4, 4)
        elif element in ("January", "Jan"):
            names = MONTHS if element == "January" else [name[:3] for name in MONTHS]
            at, text = _name(text, names)
            found.month = at + 1
        elif element in ("Monday", "Mon"):
            _, text = _name(text, DAYS if element == "Monday" else [name[:3] for name in DAYS])
        elif element in ("1", "01"):
            found.month, text = _ranged(text, element, 1, 12)
        elif element in ("2", "_2", "02"):
            text = text.removeprefix(" ") if element == "_2" else text
            found.day, text = _digits(text, 2 if element == "02" else 1, 2)
        elif element in ("002", "__2"):
            blanks = len(text) - len(text[:2].lstrip(" ") + text[2:]) if element == "__2" else 0
            found.day_of_year, text = _digits(text[blanks:], 3 if element == "002" else 1, 3)
        elif element == "15":
            found.hour, text = _ranged(text, "1", 0, 23)
        elif element in ("3", "03"):
            found.hour, text = _ranged(text, element, 0, 12)
        elif element in ("4", "04"):
            found.minute, text = _ranged(text, element, 0, 59)
        elif element in ("5", "05"):
            text = self.seconds(element, text)
        elif element in ("PM", "pm"):
            text = self.half(element, text)
        elif element[0] in ".,":
            text = self.fraction(element, text)
        elif element == "MST":
            text = self.zone_name(text)
        else:
            text = self.offset(element, text)
        return text

    def seconds(self, element: str, text: str) -> str:
        self.found.second, text = _ranged(text, element, 0, 59)
        # A fraction is taken even where the layout has none.
        if self.following[:1] not in (".", ",") and (match := re.match(r"[.,]([0-9]+)", text)):
            self.found.nanosecond = _nanoseconds(match[1])
            text = text[match.end() :]
        return text

    def half(self, element: str, text: str) -> str:
        choices = ("PM", "AM") if element == "PM" else ("pm", "am")
        if text[:2] not in choices:
            raise ValueError("no AM or PM")
        self.found.half = text[:2].lower()
        return text[2:]

    def fraction(self, element: str, text: str) -> str:
        if element[1] == "9":
            match = re.match(r"[.,]([0-9]+)", text)
        else:
            match = re.match(rf"[.,]([0-9]{{{len(element) - 1}}})", text)
            if match is None:
                raise ValueError("no fraction")
        if match is None:
            return text
        self.found.nanosecond = _nanoseconds(match[1])
        return text[match.end() :]

    def zone_name(self, text: str) -> str:
        if text.startswith("UTC"):
            self.found.zone = UTC_ZONE
            return text[3:]
        size = _zone_name_length(text)
        if not size:
            raise ValueError("no time zone")
        self.found.zone_name = text[:size]
        return text[size:]

    def offset(self, element: str, text: str) -> str:
        if element[0] == "Z" and text.startswith("Z"):
            self.found.zone = UTC_ZONE
            return text[1:]
        colon = ":" if ":" in element else ""
        count = len(element.replace(":", "")) // 2
        pattern = "([-+])" + colon.join(["([0-9]{2})"] * count)
        match = re.match(pattern, text)
        if match is None:
            raise ValueError("no offset")
        hours, minutes, seconds = (*map(int, match.groups()[1:]), 0, 0)[:3]
        if hours > 24 or minutes > 60 or seconds > 60:
            raise ValueError("offset out of range")
        size = (hours * 60 + minutes) * 60 + seconds
        self.found.offset = -size if match[1] == "-" else size
        return text[match.end() :]


def _digits(text: str, least: int, most: int) -> tuple[int, str]:
    match = re.match(rf"[0-9]{{{least},{most}}}", text)
    if match is None:
        raise ValueError("no number")
    return int(match[0]), text[match.end() :]


def _ranged(text: str, element: str, low: int, high: int) -> tuple[int, str]:
    number, rest = _digits(text, len(element), 2)
    if not low <= number <= high:
        raise ValueError("out of range")
    return number, rest


def _name(text: str, names: list[str]) -> tuple[int, str]:
    for at, name in enumerate(names):
        if text[: len(name)].lower() == name.lower():
            return at, text[len(name) :]
    raise ValueError("no name")


def _nanoseconds(digits: str) -> int:
    return int(digits[:9].ljust(9, "0"))


def _zone_name_length(text: str) -> int:
    if text[:4] in ("ChST", "MeST"):
        return 4
    if text.startswith("GMT"):
        return 3 + _signed_offset_length(text[3:])
    if text[:1] in ("+", "-") and len(text) >= 3:
        return _signed_offset_length(text)
    size = len(text) - len(text.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    if size == 3:
        return 3
    if size == 4:
        return 4 if text[3] == "T" or text.startswith("WITA") else 0
    return 5 if size == 5 and text[4] == "T" else 0


def _signed_offset_length(text: str) -> int:
    match = re.match(r"[-+]([0-9]+)", text)
    return match.end() if match and int(match[1]) <= 23 else 0


def _assembled(found: _Found) -> Time:
    hour = found.hour
    if found.half == "pm" and hour < 12:
        hour += 12
    elif found.half == "am" and hour == 12:
        hour = 0
    days = _day(found)
    local = days * DAY_SECONDS + hour * 3600 + found.minute * 60 + found.second
    if found.zone is not None:
        return Time(local, found.nanosecond, found.zone)
    if found.offset is not None:
        is_local = not found.offset and found.zone_name in ("", "UTC")
        zone = UTC_ZONE if is_local else fixed_zone(found.zone_name, found.offset)
        return Time(local - found.offset, found.nanosecond, zone)
    if found.zone_name:
        given = found.zone_name[3:] if found.zone_name.startswith("GMT") else ""
        offset = int(given) * 3600 if given else 0
        # An abbreviation nobody knows: the clock is taken as it stands, the zone as made up.
        return Time(local - offset, found.nanosecond, fixed_zone(found.zone_name, offset))
    return Time(local, found.nanosecond)


def _day(found: _Found) -> int:
    year = found.year
    if found.day_of_year >= 0:
        first = days_from_civil(year, 1, 1)
        last = 365 + (days_in(2, year) == 29)
        if not 1 <= found.day_of_year <= last:
            raise ValueError("day of year out of range")
        _, month, day = civil_from_days(first + found.day_of_year - 1)
        if (found.month >= 0 and found.month != month) or (found.day >= 0 and found.day != day):
            raise ValueError("day of year does not match the date")
        return first + found.day_of_year - 1
    month = max(found.month, 1)
    day = 1 if found.day < 0 else found.day
    if not 1 <= day <= days_in(month, year):
        raise ValueError("day out of range")
    return days_from_civil(year, month, day)
