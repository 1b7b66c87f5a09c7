"""How much structure a body may have: refused before it is parsed, whoever sends it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.model.errors import Invalid, TooLarge
from strongroom.store.json_limits import MAX_DEPTH, MAX_ELEMENTS, MAX_STRING_BYTES, check_json
from strongroom.store.normalise import MAX_FORM_BYTES, normalise


@pytest.mark.parametrize(
    "text",
    [
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b"[" + b"1," * MAX_ELEMENTS + b"1]",
        b"[" + b"[]," * (MAX_ELEMENTS // 2) + b"[]]",
        b'{"a":"' + b"x" * (MAX_STRING_BYTES + 1) + b'"}',
    ],
    ids=["lists", "objects", "elements", "empty lists", "string"],
)
@pytest.mark.long
def test_too_much_structure_is_refused(text) -> None:
    with pytest.raises(TooLarge):
        check_json(text)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30])
def test_a_number_that_would_be_rounded_is_refused(number) -> None:
    with pytest.raises(Invalid, match="64 bits"):
        check_json(json.dumps({"n": number}).encode())


@pytest.mark.parametrize(
    "value",
    [
        {"n": 2**64 - 1},
        {"n": -(2**63)},
        {"n": str(10**30)},
        {"n": 1e300},
        {"k": "[" * 1000 + "," * (MAX_ELEMENTS + 1)},
        {"k": 'quote " and \\ and [' * 400},
        {"deep": json.loads("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))},
    ],
    ids=["largest", "smallest", "digits in a string", "float", "brackets", "quotes", "deep"],
)
def test_what_only_looks_like_structure_is_let_through(value) -> None:
    check_json(json.dumps(value).encode())


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        b"[" * 301 + b'"' + b'\\"' * 100_000,
        b"[" * 301 + b'"' + b"\\\\" * 100_000 + b"\\",
        b"[" * 301 + b'""' * 8_000_000,
        b"{" * 200 + b"}" * 300 + b"]" * 16_000_000 + b"{" * 200,
        b'{"a":"' + b'\\"' * (MAX_STRING_BYTES // 2 + 1),
    ],
    ids=["quotes", "backslashes", "strings", "ends", "a string without its end"],
)
def test_what_is_no_json_takes_no_longer_to_look_through(text) -> None:
    """Nobody is authenticated yet: 100,000 quotes once took a minute, in which nobody is served."""
    with pytest.raises((TooLarge, Invalid)):
        normalise("POST", "/v1/secret/data/a", text, "application/json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
@pytest.mark.long
def test_ordinary_json_is_never_refused(value) -> None:
    check_json(json.dumps(value).encode())
    check_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


async def test_the_limits_hold_before_authentication(store) -> None:
    nested = b"[" * 5000 + b"]" * 5000
    status, said = await store.ask("PUT", "secret/data/a", b'{"data":' + nested + b"}", token="")
    assert status == 413
    assert "nested" in said["errors"][0]
    status, said = await store.ask("PUT", "secret/data/a", {"data": {"n": 2**70}})
    assert status == 400
    assert "as a string" in said["errors"][0]


async def test_a_form_has_a_bound_of_its_own(store) -> None:
    """Each `%41` of it is an object of its own while it is decoded."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"a=" + b"%41" * (MAX_FORM_BYTES // 3)
    status, said = await store.ask("PUT", "secret/data/a", body, **form)
    assert status == 413
    assert "JSON" in said["errors"][0]
    # A stranger's is not even looked at.
    assert (await store.ask("PUT", "secret/data/a", body, token="", **form))[0] == 403
    assert normalise("PUT", "/v1/a", b"a=%41", form["Content-Type"]).data
