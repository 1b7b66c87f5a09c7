"""Dates and durations. Source: https://masterminds.github.io/sprig/date.html. Local time is UTC."""

from typing import Final

from strongroom.template.calendar import UTC_ZONE, ZERO_TIME, Time, load_zone
from strongroom.template.durations import HOUR, MINUTE, SECOND, Duration, parse_duration
from strongroom.template.errors import CallFailed
from strongroom.template.functions.numeric import clamped
from strongroom.template.layouts import format_time
from strongroom.template.registry import FAST, Run, Table
from strongroom.template.time_reading import parse_time
from strongroom.template.values import Int64, Value

DATES: Final = Table("Dates")
_UNITS: Final = (
    (HOUR * 24 * 365, "y"), (HOUR * 24 * 30, "mo"), (HOUR * 24, "d"),
    (HOUR, "h"), (MINUTE, "m"), (SECOND, "s"),
)  # fmt: skip


@DATES("now")
def now(run: Run) -> Time:
    """The time of the rendering."""
    moment = run.clock.now()
    return Time(int(moment // 1), int(moment % 1 * SECOND))


def _moment(run: Run, value: Value) -> Time:
    if isinstance(value, Time):
        return value
    if type(value) in (int, Int64):
        return Time(int(value))
    return now(run)


def _written(run: Run, layout: bytes, value: Value, zone: bytes) -> bytes:
    run.budget.step(2 * len(layout))
    try:
        place = load_zone(zone.decode("latin-1"))
    except ValueError:
        place = UTC_ZONE
    text = format_time(_moment(run, value).into(place), layout.decode("latin-1"))
    return text.encode("latin-1", "replace")


@DATES("date", "string, any")
def _date(run: Run, layout: bytes, value: Value) -> bytes:
    """A time, or seconds since the epoch, after a Go layout."""
    return _written(run, layout, value, b"Local")


@DATES("dateInZone date_in_zone", "string, any, string")
def _date_in_zone(run: Run, layout: bytes, value: Value, zone: bytes) -> bytes:
    """A time after a layout in a named zone."""
    return _written(run, layout, value, zone)


@DATES("htmlDate", "any")
def _html_date(run: Run, value: Value) -> bytes:
    """A time as 2006-01-02."""
    return _written(run, b"2006-01-02", value, b"Local")


@DATES("htmlDateInZone", "any, string")
def _html_date_in_zone(run: Run, value: Value, zone: bytes) -> bytes:
    """A time as 2006-01-02 in a named zone."""
    return _written(run, b"2006-01-02", value, zone)


@DATES("dateModify date_modify", "string, time")
def _date_modify(text: bytes, time: Time) -> Time:
    """A time moved by a duration such as -1.5h; unmoved if that is no duration."""
    try:
        return time.plus(parse_duration(text.decode("utf-8", "replace")))
    except ValueError:
        return time


@DATES("mustDateModify must_date_modify", "string, time")
def _must_date_modify(text: bytes, time: Time) -> Time:
    """A time moved by a duration."""
    try:
        return time.plus(parse_duration(text.decode("utf-8", "replace")))
    except ValueError:
        raise CallFailed("invalid duration") from None


def _read(run: Run, layout: bytes, text: bytes) -> Time:
    # What is left of the text is copied for each element of the layout.
    run.budget.step(len(layout) * (1 + len(text) // FAST))
    return parse_time(layout.decode("latin-1"), text.decode("latin-1"))


@DATES("toDate", "string, string")
def _to_date(run: Run, layout: bytes, text: bytes) -> Time:
    """A text read after a layout; the zero time if it does not fit."""
    try:
        return _read(run, layout, text)
    except ValueError:
        return ZERO_TIME


@DATES("mustToDate", "string, string")
def _must_to_date(run: Run, layout: bytes, text: bytes) -> Time:
    """A text read after a layout."""
    try:
        return _read(run, layout, text)
    except ValueError:
        raise CallFailed("the text does not fit the layout") from None


@DATES("unixEpoch", "time")
def _unix_epoch(time: Time) -> bytes:
    """Seconds since the epoch."""
    return b"%d" % time.unix


@DATES("ago", "any")
def _ago(run: Run, value: Value) -> bytes:
    """How long ago a time was."""
    return now(run).minus(_moment(run, value)).rounded(SECOND).text()


@DATES("duration", "any")
def _duration(value: Value) -> bytes:
    """Seconds as 1h2m3s."""
    seconds = clamped(value) if isinstance(value, bytes) else 0
    seconds = int(value) if type(value) is Int64 else seconds
    return Duration(Int64.wrap(seconds * SECOND)).text()


@DATES("durationRound", "any")
def _duration_round(run: Run, value: Value) -> bytes:
    """The largest unit of a duration or of the time since: 2h, 3mo."""
    size = 0
    if isinstance(value, bytes):
        try:
            size = parse_duration(value.decode("utf-8", "replace"))
        except ValueError:
            size = 0
    elif type(value) is Int64:
        size = int(value)
    elif isinstance(value, Time):
        size = now(run).minus(value)
    size = abs(int(size))
    for unit, name in _UNITS:
        if size > unit:
            return f"{size // unit}{name}".encode()
    return b"0s"
