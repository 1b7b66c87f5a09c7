"""The server's own log: what does not fit is dropped, and said."""

import logging
import queue

from strongroom.app.logs import Bounded


def test_the_next_line_that_fits_says_how_many_are_missing() -> None:
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(1)
    handler = Bounded(waiting)

    def say(text: str) -> None:
        handler.handle(logging.LogRecord("strongroom", logging.INFO, "", 0, text, None, None))

    for text in ("first", "second", "third"):
        say(text)
    assert waiting.get_nowait().getMessage() == "first"
    say("fourth")
    assert waiting.get_nowait().getMessage() == "fourth (2 lines before this one were dropped)"
    say("fifth")
    assert waiting.get_nowait().getMessage() == "fifth"
