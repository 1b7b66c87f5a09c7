"""Clocks: simulated time wakes sleepers in order; RFC 3339 goes both ways."""

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.model.clock import SimulatedClock, parse_rfc3339, rfc3339


async def test_sleepers_wake_in_order_of_their_time() -> None:
    """And see the clock at the time they asked for."""
    clock, seen = SimulatedClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append((seconds, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper(s)) for s in (3, 1, 2)]
    await clock.advance(0)
    assert clock.sleepers == 3
    await clock.advance(2.5)
    assert seen == [(1, 1.0), (2, 2.0)]
    assert clock.sleepers == 1
    await clock.advance(1)
    await asyncio.gather(*tasks)
    assert seen[-1] == (3, 3.0)
    assert clock.sleepers == 0


async def test_stepping_the_wall_clock_leaves_durations_alone() -> None:
    """An administrator setting the date back does not shorten a lease's timer."""
    clock = SimulatedClock(1000)
    clock.step_wall(-500)
    await clock.advance(10)
    assert (clock.now(), clock.monotonic()) == (510, 10)


@given(st.floats(0, 4e9))
def test_rfc3339_round_trip(seconds: float) -> None:
    """To the microsecond."""
    assert abs(parse_rfc3339(rfc3339(seconds)) - seconds) < 1e-5


@given(st.floats(-6e10, 2.5e11) | st.integers(-60_000_000_000, 250_000_000_000))
@example(0.9999999)
@example(-0.0000001)
@example(1.0000005)
def test_rfc3339_rounds_as_the_standard_library_does(seconds: float) -> None:
    """Also where the microseconds carry, and before 1970."""
    moment = datetime.fromtimestamp(seconds, UTC)
    assert rfc3339(seconds) == moment.strftime("%4Y-%m-%dT%H:%M:%S.%fZ")


def test_rfc3339_reads_what_go_writes() -> None:
    """Nanoseconds, no fraction, and offsets."""
    assert parse_rfc3339("1970-01-01T00:00:01.123456789Z") == 1.123456
    assert parse_rfc3339("1970-01-01T01:00:01+01:00") == 1
    with pytest.raises(ValueError, match="zone"):
        parse_rfc3339("1970-01-01T00:00:01")
