"""Go's date layouts: a time written after the reference Mon Jan 2 15:04:05 MST 2006.

Source: https://pkg.go.dev/time#pkg-constants and time.Format.
"""

import re
from typing import Final, Protocol

from strongroom.template.durations import DAYS, MONTHS

# In this order, so that the longer element wins where one begins like another.
_ELEMENTS: Final = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|002|0[1-6]|15|1|2006|_(?=2006)|__2|_2|2|3|4|5"
    r"|PM|pm|[-Z]07:00:00|[-Z]070000|[-Z]07:00|[-Z]0700|[-Z]07|[.,]0+(?![0-9])|[.,]9+(?![0-9])"
)
_LITERAL_UNDERSCORE: Final = "_"


class Shown(Protocol):
    """What is needed of a time to write it."""

    nanosecond: int

    def date(self) -> tuple[int, int, int]:
        """Year, month, day."""

    def second_of_day(self) -> int:
        """Seconds since midnight."""

    def weekday(self) -> int:
        """0 is Sunday."""

    def day_of_year(self) -> int:
        """1 is the first of January."""

    def zone_and_offset(self) -> tuple[str, int]:
        """Abbreviation and seconds east of UTC."""


def elements(layout: str) -> list[tuple[str, str]]:
    """A layout as pairs: literal text, and the element after it ("" at the end)."""
    found: list[tuple[str, str]] = []
    literal, at = "", 0
    while match := _ELEMENTS.search(layout, at):
        literal += layout[at : match.start()]
        at = match.end()
        if match[0] == _LITERAL_UNDERSCORE:
            literal += "_"
            continue
        found.append((literal, match[0]))
        literal = ""
    found.append((literal + layout[at:], ""))
    return found


def format_time(time: Shown, layout: str) -> str:
    """time.Format."""
    return "".join(
        literal + (_written(time, element) if element else "")
        for literal, element in elements(layout)
    )


def _written(time: Shown, element: str) -> str:
    year, month, day = time.date()
    second = time.second_of_day()
    hour = second // 3600
    table = {
        "January": MONTHS[month - 1],
        "Jan": MONTHS[month - 1][:3],
        "1": str(month),
        "01": f"{month:02}",
        "Monday": DAYS[time.weekday()],
        "Mon": DAYS[time.weekday()][:3],
        "2": str(day),
        "_2": f"{day:2}",
        "02": f"{day:02}",
        "__2": f"{time.day_of_year():3}",
        "002": f"{time.day_of_year():03}",
        "15": f"{hour:02}",
        "3": str(hour % 12 or 12),
        "03": f"{hour % 12 or 12:02}",
        "4": str(second // 60 % 60),
        "04": f"{second // 60 % 60:02}",
        "5": str(second % 60),
        "05": f"{second % 60:02}",
        "2006": f"{'-' if year < 0 else ''}{abs(year):04}",
        "06": f"{year % 100:02}",
        "PM": "PM" if hour >= 12 else "AM",
        "pm": "pm" if hour >= 12 else "am",
    }
    if element in table:
        return table[element]
    if element[0] in ".,":
        return _fraction(time.nanosecond, element)
    name, offset = time.zone_and_offset()
    if element == "MST":
        return name or _offset(offset, "-0700")
    return "Z" if element[0] == "Z" and not offset else _offset(offset, element)


def _fraction(nanosecond: int, element: str) -> str:
    digits = f"{nanosecond:09}".ljust(len(element) - 1, "0")[: len(element) - 1]
    if element[1] == "9":
        digits = digits.rstrip("0")
        return element[0] + digits if digits else ""
    return element[0] + digits


def _offset(offset: int, element: str) -> str:
    size = abs(offset)
    parts = [f"{size // 3600:02}", f"{size // 60 % 60:02}", f"{size % 60:02}"]
    count = len(element.replace(":", "")) // 2
    return ("-" if offset < 0 else "+") + (":" if ":" in element else "").join(parts[:count])
