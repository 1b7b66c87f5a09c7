"""What a Secret says it was made of; whoever may write it may have put anything there."""

import pytest

from strongroom.rotate.consumers import SOURCE_VERSIONS, source_version


@pytest.mark.parametrize(
    ("said", "version"),
    [('{"secret/data/db": 3}', 3), ("{", 0), ("[1]", 0), ("[" * 100_000, 0)],
    ids=["a version", "no JSON", "a list", "deep"],
)
def test_a_version_is_read_or_there_is_none(said: str, version: int) -> None:
    assert source_version({"annotations": {SOURCE_VERSIONS: said}}, "secret/data/db") == version
