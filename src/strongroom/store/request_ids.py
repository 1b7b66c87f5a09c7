"""The ids of requests: random UUIDs' form, many made at a time."""

import os
from collections.abc import Callable, Iterator
from typing import Final

ID_BYTES: Final = 16
AT_A_TIME: Final = 256


def request_ids(random: Callable[[int], bytes] = os.urandom) -> Iterator[str]:
    """Ids without an end, each of 128 random bits."""
    while True:
        digits = random(ID_BYTES * AT_A_TIME).hex()
        for start in range(0, len(digits), 2 * ID_BYTES):
            each = digits[start : start + 2 * ID_BYTES]
            yield f"{each[:8]}-{each[8:12]}-{each[12:16]}-{each[16:20]}-{each[20:]}"
