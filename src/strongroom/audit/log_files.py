"""Lines of log files, oldest file first, gzip or not."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from strongroom.model.errors import NotFound


def lines_of(paths: Sequence[Path]) -> Iterator[bytes]:
    """Every line of the files in the order given; raises NotFound(`no-log`)."""
    for path in paths:
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
                yield from lines
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or "not a whole gzip file"
            raise NotFound(
                "no-log", f"cannot read {path}: {reason}", hint="check the paths of the logs"
            ) from None
