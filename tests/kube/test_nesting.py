"""Objects that are nested deeper than any that means something."""

import orjson
import pytest

from strongroom.kube.nesting import MOST_LEVELS, decoded, writable


def nested(levels: int, inside: bytes = b'"x"') -> bytes:
    return b'{"a":' * levels + inside + b"}" * levels


@pytest.mark.parametrize("levels", [1, 200, 300, 900])
def test_what_can_be_read_is_read_as_it_is(levels: int) -> None:
    assert decoded(nested(levels)) == orjson.loads(nested(levels))


@pytest.mark.parametrize("levels", [1500, 9000, 200_000])
def test_one_object_of_a_list_keeps_no_other_from_being_read(levels: int) -> None:
    text = b'{"items":[{"before":"}]\\"{["},%b,{"after":[1,{"b":[]}]}]}' % nested(levels)
    found = decoded(text)["items"]
    assert (found[0], found[2]) == ({"before": '}]"{['}, {"after": [1, {"b": []}]})
    deep, depth = found[1], 2
    while isinstance(deep, dict):
        deep, depth = deep["a"], depth + 1
    assert (deep, depth) == (None, MOST_LEVELS)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b'{"a":' * 1500, b"[" * 5000 + b"]" * 4999,
        b'{"a":"', b'{"a":"\\', b'{"a":"' + b'\\"k' * 1_000_000,
    ],
    ids=lambda text: str(text[:12]),
)  # fmt: skip
def test_what_is_no_json_is_still_none(text: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        decoded(text)


def test_what_cannot_be_written_is_cut_where_it_gets_too_deep() -> None:
    deep = orjson.loads(nested(900))
    with pytest.raises(orjson.JSONEncodeError):
        orjson.dumps(deep)
    assert orjson.loads(orjson.dumps(writable(deep))) == orjson.loads(nested(MOST_LEVELS, b"null"))
    plain = {"a": [1, {"b": None}], "c": "x"}
    assert writable(plain) == plain
