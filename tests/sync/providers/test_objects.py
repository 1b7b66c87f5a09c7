"""Properties of what is pushed, and what a list of names comes to."""

import pytest

from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Unavailable
from strongroom.sync.providers.contract import Fetched, present
from strongroom.sync.providers.objects import has_property, with_property, without_property

HELD = b'{"a":{"b":"1","c":"2"},"d.e":"3"}'


@pytest.mark.parametrize(
    ("name", "written", "left"),
    [
        ("a.b", b'{"a":{"b":"x","c":"2"},"d.e":"3"}', b'{"a":{"c":"2"},"d.e":"3"}'),
        ("d\\.e", b'{"a":{"b":"1","c":"2"},"d.e":"x"}', b'{"a":{"b":"1","c":"2"}}'),
        ("d.e", b'{"a":{"b":"1","c":"2"},"d.e":"3","d":{"e":"x"}}', HELD),
        ("f", b'{"a":{"b":"1","c":"2"},"d.e":"3","f":"x"}', HELD),
    ],
)
def test_a_property_is_written_and_taken_back_and_the_others_stay(
    name: str, written: bytes, left: bytes
) -> None:
    assert with_property(HELD, "k", name, b"x") == written
    assert without_property(HELD, "k", name) == left
    assert has_property(written, "k", name)


def test_nothing_is_left_of_an_object_without_its_last_property() -> None:
    assert without_property(b'{"a":"1"}', "k", "a") is None


def test_what_is_no_object_has_no_properties() -> None:
    for text in (b"plain", b"[1]"):
        with pytest.raises(Invalid, match="does not hold a JSON object"):
            with_property(text, "k", "a", b"x")
        with pytest.raises(Invalid, match="does not hold a JSON object"):
            without_property(text, "k", "a")


@pytest.mark.parametrize("refusal", [Denied("d", "no"), Unavailable("u", "away")])
def test_half_a_list_is_none_for_what_is_missing_would_look_gone(refusal: Refusal) -> None:
    one = Fetched("one", 1, b"x")
    assert present({"one": one, "two": NotFound("n", "gone since")}) == {"one": one}
    with pytest.raises(type(refusal)):
        present({"one": one, "two": refusal})
