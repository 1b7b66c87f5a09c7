"""What goes wrong beside the requests: counted each time, said in the log once for each reason.

Kept for a process; the pipeline's metrics show the counts. What is said names rows and reasons,
never a value.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from strongroom.crypto.aead import Tampered
from strongroom.model.errors import Refusal

MOST_SAID: Final = 1000
# Shown as zero from the start, so that the first failure is a rise.
PARTS: Final = ("clock", "damaged row", "event row", "expiration", "mount row", "upkeep")

_log = logging.getLogger(__name__)


class Notices:
    """`counts` by part, such as "expiration" or "mount row"."""

    def __init__(self) -> None:
        self.counts = Counter(dict.fromkeys(PARTS, 0))
        self._said: dict[str, set[str]] = {}

    def say(self, part: str, reason: str) -> None:
        """Count, and log what was not said of this part since it last went well."""
        self.counts[part] += 1
        said = self._said.setdefault(part, set())
        if reason not in said and len(said) < MOST_SAID:
            said.add(reason)
            _log.error("%s: %s", part, reason)

    def met(self, refusal: Refusal) -> None:
        """A request was refused: a row that does not open is worth a notice."""
        if isinstance(refusal, Tampered):
            self.say("damaged row", refusal.message)

    def over(self, part: str) -> None:
        """It went well: the next failure is said again."""
        if self._said.pop(part, None):
            _log.warning("%s goes on", part)

    async def attempt(self, part: str, work: Callable[[], Awaitable[object]]) -> None:
        """One round of background work: what goes wrong in it is said, and the next is made.

        A seal that is closed is nothing wrong.
        """
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - background work must outlive whatever it meets
            if not (isinstance(error, Refusal) and error.code == "sealed"):
                self.say(part, reason_of(error))
        else:
            self.over(part)


def reason_of(error: Exception) -> str:
    """What may be said of an error: a refusal's sentence, of a bug only its kind."""
    if isinstance(error, Refusal):
        return error.message
    return f"internal error: {type(error).__name__}"
