"""Numbers. Source: https://masterminds.github.io/sprig/math.html, mathf, integer_slice."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from strongroom.template.casting import to_float64, to_int64
from strongroom.template.errors import CallFailed
from strongroom.template.formatting import sprint
from strongroom.template.numbers import parse_int
from strongroom.template.registry import Run, Table
from strongroom.template.values import Int64, Slice, Value

NUMBERS: Final = Table("Numbers")
_DIVISION_PLACES: Final = 10**16  # digits kept behind the point by divf


@NUMBERS("int", "any")
def _int(value: Value) -> int:
    """As an int; 0 if it is no number."""
    return to_int64(value)


@NUMBERS("int64", "any")
def _int64(value: Value) -> Value:
    """As an int64; 0 if it is no number."""
    return Int64(to_int64(value))


@NUMBERS("float64", "any")
def _float64(value: Value) -> float:
    """As a float64; 0 if it is no number."""
    return to_float64(value)


def clamped(value: bytes) -> int:
    """ParseInt that ignores its error, as sprig does: 0, or the nearest number in range."""
    text = value.decode("latin-1")
    try:
        return parse_int(text)
    except ValueError as error:
        if "range" not in str(error):
            return 0
        return -(1 << 63) if text.startswith("-") else (1 << 63) - 1


@NUMBERS("atoi", "string")
def _atoi(value: bytes) -> int:
    """A decimal string as an int; 0 if it is none."""
    return clamped(value)


@NUMBERS("toDecimal", "any")
def _to_decimal(run: Run, value: Value) -> Value:
    """An octal number as an int64; 0 if it is none."""
    try:
        return Int64(parse_int(sprint([value], run.budget).decode("latin-1"), 8))
    except ValueError:
        return Int64(0)


@NUMBERS("add1", "any")
def _add1(value: Value) -> Value:
    """One more."""
    return Int64.wrap(to_int64(value) + 1)


@NUMBERS("add", "any...")
def _add(*values: Value) -> Value:
    """The sum."""
    return Int64.wrap(sum(to_int64(each) for each in values))


@NUMBERS("sub", "any, any")
def _sub(first: Value, second: Value) -> Value:
    """The difference."""
    return Int64.wrap(to_int64(first) - to_int64(second))


@NUMBERS("mul", "any, any...")
def _mul(first: Value, *others: Value) -> Value:
    """The product."""
    product = Int64.wrap(to_int64(first))
    for other in others:
        product = Int64.wrap(product * to_int64(other))
    return product


def _divided(first: Value, second: Value) -> tuple[int, int]:
    """Quotient towards zero and remainder."""
    one, other = to_int64(first), to_int64(second)
    if not other:
        raise CallFailed("integer divide by zero")
    quotient = abs(one) // abs(other)
    quotient = quotient if (one < 0) == (other < 0) else -quotient
    return quotient, one - quotient * other


@NUMBERS("div", "any, any")
def _div(first: Value, second: Value) -> Value:
    """The quotient of integers, towards zero."""
    return Int64.wrap(_divided(first, second)[0])


@NUMBERS("mod", "any, any")
def _mod(first: Value, second: Value) -> Value:
    """The remainder, with the sign of the dividend."""
    return Int64.wrap(_divided(first, second)[1])


@NUMBERS("max biggest", "any, any...")
def _max(first: Value, *others: Value) -> Value:
    """The largest integer."""
    return Int64(max(to_int64(each) for each in (first, *others)))


@NUMBERS("min", "any, any...")
def _min(first: Value, *others: Value) -> Value:
    """The smallest integer."""
    return Int64(min(to_int64(each) for each in (first, *others)))


def _extreme(values: tuple[Value, ...], choose: Callable[[float, float], float]) -> float:
    found = to_float64(values[0])
    for value in values[1:]:
        other = to_float64(value)
        if math.isinf(found) and choose(found, -found) == found:
            continue
        if math.isnan(found) or math.isnan(other):
            infinite = math.isinf(other) and choose(other, -other) == other
            found = other if infinite else math.nan
        elif found == other == 0:
            signs = choose(math.copysign(1, found), math.copysign(1, other))
            found = math.copysign(0.0, signs)
        else:
            found = choose(found, other)
    return found


@NUMBERS("maxf", "any, any...")
def _maxf(*values: Value) -> float:
    """The largest float."""
    return _extreme(values, max)


@NUMBERS("minf", "any, any...")
def _minf(*values: Value) -> float:
    """The smallest float."""
    return _extreme(values, min)


def _whole(value: float, rounding: Callable[[float], int]) -> float:
    """Rounded, with the sign kept for zero; infinities stay."""
    if not math.isfinite(value):
        return value
    return math.copysign(float(rounding(value)), value)


@NUMBERS("floor", "any")
def _floor(value: Value) -> float:
    """The next whole number below."""
    return _whole(to_float64(value), math.floor)


@NUMBERS("ceil", "any")
def _ceil(value: Value) -> float:
    """The next whole number above."""
    return _whole(to_float64(value), math.ceil)


@NUMBERS("round", "any, int, float64...")
def _round(value: Value, places: int, *threshold: float) -> float:
    """Rounded to so many places, up from a threshold of 0.5 or the one given."""
    try:
        power = math.pow(10, places)
    except OverflowError:
        power = math.inf
    number = to_float64(value)
    digit = math.nan if math.isinf(power) and not number else power * number
    fraction = math.modf(digit)[0] if math.isfinite(digit) else math.nan
    up = fraction >= (threshold[0] if threshold else 0.5)
    rounded = _whole(digit, math.ceil if up else math.floor)
    if not power:
        return math.nan if not rounded or math.isnan(rounded) else math.copysign(math.inf, rounded)
    return math.nan if math.isinf(power) and math.isinf(rounded) else rounded / power


def _exact(value: Value) -> Fraction:
    number = to_float64(value)
    if not math.isfinite(number):
        raise CallFailed("cannot create a Decimal from NaN or infinity")
    return Fraction(repr(number))


def _folded(values: tuple[Value, ...], step: Callable[[Fraction, Fraction], Fraction]) -> float:
    """Decimal arithmetic, exact but for division, on the shortest decimals of floats."""
    found = _exact(values[0])
    for value in values[1:]:
        found = step(found, _exact(value))
    try:
        return float(found)
    except OverflowError:
        return math.copysign(math.inf, found)


@NUMBERS("add1f", "any")
def _add1f(value: Value) -> float:
    """One more, as a decimal."""
    return _folded((value, 1), lambda one, other: one + other)


@NUMBERS("addf", "any...")
def _addf(*values: Value) -> float:
    """The sum of decimals."""
    return _folded((0, *values), lambda one, other: one + other)


@NUMBERS("subf", "any, any...")
def _subf(*values: Value) -> float:
    """The difference of decimals."""
    return _folded(values, lambda one, other: one - other)


@NUMBERS("mulf", "any, any...")
def _mulf(*values: Value) -> float:
    """The product of decimals."""
    return _folded(values, lambda one, other: one * other)


@NUMBERS("divf", "any, any...")
def _divf(*values: Value) -> float:
    """The quotient of decimals, to 16 places."""

    def divide(one: Fraction, other: Fraction) -> Fraction:
        if not other:
            raise CallFailed("decimal division by 0")
        scaled = abs(one / other) * _DIVISION_PLACES
        rounded = int(scaled + Fraction(1, 2))
        return Fraction(rounded if (one < 0) == (other < 0) else -rounded, _DIVISION_PLACES)

    return _folded(values, divide)


def _steps(run: Run, start: int, stop: int, step: int) -> list[int]:
    if step == 0 or (stop < start) == (step > 0):
        return []
    numbers = range(start, stop, step)
    # len() refuses what does not fit a machine word; this does not.
    count = max(0, -(-(stop - start) // step))
    run.budget.step(count)
    return list(numbers)


@NUMBERS("until", "int")
def _until(run: Run, count: int) -> Value:
    """A list from 0 up to a number, or down to it."""
    return Slice("int", _steps(run, 0, count, -1 if count < 0 else 1))


@NUMBERS("untilStep", "int, int, int")
def _until_step(run: Run, start: int, stop: int, step: int) -> Value:
    """A list from a start towards a stop by steps."""
    return Slice("int", _steps(run, start, stop, step))


@NUMBERS("seq", "int...")
def _seq(run: Run, *given: int) -> bytes:
    """Numbers with spaces between, as the program seq prints them."""
    if len(given) not in (1, 2, 3):
        return b""
    start, end = (1, given[0]) if len(given) == 1 else (given[0], given[-1])
    direction = -1 if end < start else 1
    step = given[1] if len(given) == 3 else direction
    if direction < 0 < step:
        return b""
    numbers = _steps(run, start, end + direction, step)
    return b" ".join(b"%d" % number for number in numbers)


@NUMBERS("randInt", "int, int")
def _rand_int(run: Run, low: int, high: int) -> int:
    """A random number from `low` up to, not including, `high`."""
    if high <= low:
        raise CallFailed("invalid argument to Intn")
    return low + int.from_bytes(run.random(16), "big") % (high - low)
