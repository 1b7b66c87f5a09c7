"""The normaliser: one canonical form, and the path authorised is the path executed."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.model.errors import Invalid, Refusal
from strongroom.store.normalise import Canonical, canonical_path, normalise

JSON = "application/json"


@pytest.mark.parametrize(
    ("method", "target", "operation", "path"),
    [
        ("GET", "/v1/secret/data/a", "read", "secret/data/a"),
        ("GET", "/v1/secret/data/a/", "read", "secret/data/a"),
        ("GET", "/v1/secret//data/a", "read", "secret/data/a"),
        ("GET", "/v1/secret/data/a%20b%2Fc", "read", "secret/data/a b/c"),
        ("GET", "/v1/secret/metadata?list=true", "list", "secret/metadata/"),
        ("LIST", "/v1/secret/metadata/?list=true", "list", "secret/metadata/"),
        ("POST", "/v1/secret/data/a", "update", "secret/data/a"),
        ("PUT", "/v1/secret/data/a", "update", "secret/data/a"),
        ("PUT", "/v1/secret//data/a", "update", "secret/data/a"),
        ("PUT", "/v1/secret/data/a?help=1&list=true", "update", "secret/data/a"),
        ("DELETE", "/v1/secret/data/a?help=1", "delete", "secret/data/a"),
        ("GET", "/v1/secret/data/a?help=1", "help", "secret/data/a"),
        ("DELETE", "/v1/secret/data/a", "delete", "secret/data/a"),
    ],
)
def test_canonical_forms(method: str, target: str, operation: str, path: str) -> None:
    found = normalise(method, target, b"", JSON)
    assert (found.operation, found.path) == (operation, path)


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/", b""),
        ("GET", "/v2/secret/data/a", b""),
        ("GET", "/v1/", b""),
        ("GET", "/v1/a/../sys/mounts", b""),
        ("GET", "/v1/a/%2e%2e/sys", b""),
        ("GET", "/v1/a%00b", b""),
        ("GET", "/v1/a%ffb", b""),
        ("GET", "/v1/a%0ab", b""),
        ("POST", "/v1/a/", b"{}"),
        ("POST", "/v1/a", b"{"),
        ("POST", "/v1/a", b"[1]"),
        ("POST", "/v1/a", b"nonsense"),
        ("PATCH", "/v1/a", b"{}"),
        ("BREW", "/v1/a", b""),
    ],
)
def test_refusals(method: str, target: str, body: bytes) -> None:
    with pytest.raises(Refusal):
        normalise(method, target, body, JSON)


def test_curl_says_form_and_means_json() -> None:
    form = "application/x-www-form-urlencoded"
    assert normalise("POST", "/v1/a", b'{"x": 1}', form).data == {"x": 1}
    assert normalise("POST", "/v1/a", b"x=1&y=2", form).data == {"x": "1", "y": "2"}


@given(st.text(min_size=1, max_size=60))
def test_normalising_again_changes_nothing(text: str) -> None:
    try:
        once = canonical_path("/v1/" + quote(text, safe=""))
    except Refusal:
        return
    assert canonical_path("/v1/" + quote(once, safe="/")) == once
    assert "//" not in once
    assert not {".", ".."} & set(once.split("/"))


@given(st.binary(max_size=40), st.sampled_from(["GET", "LIST", "DELETE"]))
def test_raw_bytes_are_refused_or_canonical(raw: bytes, method: str) -> None:
    try:
        found = normalise(method, "/v1/" + raw.decode("latin-1"), b"", JSON)
    except (Invalid, Refusal):
        return
    assert isinstance(found, Canonical)
    assert not found.path.startswith("/")
    assert found.path.isprintable()
