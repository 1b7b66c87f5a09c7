"""Says when the wall clock of this process was stepped, or differs from the database's.

What ends is decided by the clock of the node that is asked, and removed by the first whose clock
says so: a wrong clock ends things too early or too late by as much as it is wrong, never more.
"""

from typing import Final

from strongroom.model.clock import Clock
from strongroom.store.engine.contract import View
from strongroom.store.notices import Notices

PART: Final = "clock"
STEP_SECONDS: Final = 1.0
SKEW_SECONDS: Final = 5.0
COMPARE_SECONDS: Final = 60.0


class ClockWatch:
    """One for each process; look once a second."""

    def __init__(self, clock: Clock, notices: Notices) -> None:
        self._clock = clock
        self._notices = notices
        self._apart = clock.now() - clock.monotonic()
        self._compare_at = clock.monotonic()

    def look(self, view: View) -> None:
        """Compare the wall clock with the monotonic one, and once a minute with the database."""
        now, passed = self._clock.now(), self._clock.monotonic()
        step, self._apart = now - passed - self._apart, now - passed
        if abs(step) >= STEP_SECONDS:
            self._notices.say(
                PART, f"it was stepped by {step:+.0f} s; tokens and leases end by the new time"
            )
            self._compare_at = passed
        if passed < self._compare_at:
            return
        self._compare_at = passed + COMPARE_SECONDS
        of_database = view.database_time()
        if of_database is not None and abs(now - of_database) >= SKEW_SECONDS:
            self._notices.say(
                PART,
                f"it is {now - of_database:+.0f} s from the database's; what this node ends,"
                " it ends so much too early or too late",
            )
