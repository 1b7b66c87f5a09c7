"""How long a server asks to be left alone."""

import pytest

from strongroom.wire.http import Response, retry_after

NOW = 1_792_567_600.0


@pytest.mark.parametrize(
    ("value", "now", "seconds"),
    [
        ("7", None, 7.0),
        ("7", NOW, 7.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", NOW, 80.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", NOW + 100, 0.0),
        # Nobody is left alone for ever, and is asked in an hour.
        ("9" * 400, None, 3600.0),
        ("86400", NOW, 3600.0),
        ("Wed, 21 Oct 9999 07:28:00 GMT", NOW, 3600.0),
        # What is no time is no wish.
        ("soon", NOW, None),
        ("²", NOW, None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", NOW, None),
    ],
)
def test_seconds_or_a_date(value: str, now: float | None, seconds: float | None) -> None:
    assert retry_after(Response(429, b"", (("retry-after", value),)), now) == seconds
    assert retry_after(Response(429), now) is None
