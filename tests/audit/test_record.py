"""Records: Vault's fields, strings hidden, numbers and times clear."""

import asyncio
import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.record import (
    MAX_DEPTH,
    RecordForm,
    RecordWriter,
    client_id,
    request_fragment,
    request_head,
    request_line,
    response_line,
)
from strongroom.crypto.mac import KeyedHmac
from strongroom.model.principal import Principal

MAC = KeyedHmac(b"k" * 32)
WHO = Principal(
    "kubernetes-tour-db", "acc", ("default", "app"), {"pod_name": "db-0", "token_id": "JTI=1"}
)


def test_a_pair_of_records_reads_as_vault_writes_them() -> None:
    """Same request object in both; the version stays a number; no value is in them."""
    writer = RecordWriter(MAC)
    auth, asker = writer.caller(WHO, "hvs.canary")
    mount = {"mount_point": "secret/", "mount_type": "kv"}
    head = request_head("read", "secret/data/prod/db", mount)
    request = request_fragment("id-1", head, "127.0.0.1", rest=asker)
    response = b'{"mount_type":"kv","data":%b}' % writer.data_fragment(
        {
            "data": {"password": "canary"},
            "metadata": {"version": 2, "created_time": "2026-11-24T10:00:00Z"},
        }
    )
    stamp = b"2026-11-24T10:00:01Z"
    first = json.loads(request_line(stamp, auth, request))
    second = json.loads(response_line(stamp, auth, request, response))
    assert (first["type"], second["type"]) == ("request", "response")
    assert first["request"] == second["request"]
    assert first["request"]["path"] == "secret/data/prod/db"
    assert "remote_port" not in first["request"]
    assert first["auth"]["metadata"] == {"pod_name": "db-0", "token_id": "JTI=1"}
    assert first["auth"]["client_token"] == MAC.vault_form(b"hvs.canary")
    assert first["auth"]["accessor"] == MAC.vault_form(b"acc")
    assert first["request"]["client_token"] == first["auth"]["client_token"]
    assert first["request"]["client_token_accessor"] == first["auth"]["accessor"]
    metadata = second["response"]["data"]["metadata"]
    assert metadata == {"version": 2, "created_time": "2026-11-24T10:00:00Z"}
    assert "canary" not in json.dumps([first, second])


def test_an_error_and_an_unknown_caller() -> None:
    """Both have a record too."""
    auth, asker = RecordWriter(MAC).caller(None, "")
    line = response_line(b"t", auth, b"{}", error='permission "denied"')
    assert json.loads(line)["error"] == 'permission "denied"'
    assert (json.loads(line)["auth"], asker) == ({"token_type": "default"}, b"")


def test_of_a_token_that_is_none_its_hash_is_kept() -> None:
    """A search for a token that was revoked finds who goes on using it."""
    auth, asker = RecordWriter(MAC).caller(None, "hvs.canary")
    assert json.loads(auth) == {"token_type": "default"}
    assert json.loads(b"{" + asker[1:] + b"}") == {"client_token": MAC.vault_form(b"hvs.canary")}


@pytest.mark.parametrize(
    ("own", "entity", "text"),
    [
        (("b", "a"), "", "a\x7fb\0root"),
        (("root",), "", "root\0root"),
        ((), "", "root"),
        (("a",), "e-1", ""),
    ],
)
def test_who_counts_as_one_client_is_what_vault_says(own, entity: str, text: str) -> None:
    """Its entity; without one all tokens whose own policies are the same."""
    who = Principal("d", "acc", (*own, "more"), token_policies=own, entity_id=entity)
    hashed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert client_id(who) == (entity or hashed)


def test_raw_and_clear_accessor_are_choices() -> None:
    """Made by name."""
    writer = RecordWriter(MAC, RecordForm(hmac_accessor=False, log_raw=True))
    auth, asker = writer.caller(WHO, "t")
    said = json.loads(b"{" + asker[1:] + b"}")
    for found in json.loads(auth)["accessor"], said["client_token_accessor"]:
        assert found == "acc"
    assert json.loads(auth)["client_token"] == said["client_token"] == "t"
    assert json.loads(writer.data_fragment({"a": "b"})) == {"a": "b"}


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.just("canary-x")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("kv", max_size=3), inner, max_size=3)
    ),
)


@given(st.dictionaries(st.text("kv", max_size=3), JSON, max_size=4))
def test_no_string_value_is_ever_clear(data) -> None:
    """Wherever it stands."""
    assert b"canary" not in RecordWriter(MAC).data_fragment(data)


@pytest.mark.parametrize("make", [lambda inner: {"k": inner}, lambda inner: [inner]])
def test_what_is_nested_deeper_than_a_record_goes_is_named_as_that(make) -> None:
    """Bodies may be deeper than what writes JSON goes, and then nobody could be answered."""
    writer = RecordWriter(MAC)
    for depth, left in ((MAX_DEPTH - 1, True), (MAX_DEPTH, False), (290, False)):
        value: object = "canary"
        for _ in range(depth):
            value = make(value)
        for line in (
            writer.data_fragment({"k": value}),
            asyncio.run(writer.data_fragment_by_parts({"k": value})),
        ):
            assert b"canary" not in line
            assert (writer.hashed("canary").encode() in line) == left
            assert (b'"too deep"' in line) == (not left)


@pytest.mark.parametrize(
    "value",
    [
        "canary" * 4,
        "canary" * 5,
        "2026-11-24T10:00:00Zcanary",
        "2026-11-24T10:00:00.canaryZ",
        "2026-11-24T10:00:00.5canary+00:00",
        "2026-11-24T10:00:00aZ",
        "2026-13-24T10:00:00Z",
        "2026-11-24 10:00:00+canary",
    ],
)
def test_what_is_as_long_as_a_time_and_is_none_is_hidden(value: str) -> None:
    writer = RecordWriter(MAC)
    for data in ({"k": value}, {"k": [value]}, {"k": {"k": value}}):
        for line in writer.data_fragment(data), asyncio.run(writer.data_fragment_by_parts(data)):
            assert value.encode() not in line
            assert MAC.vault_form(value.encode()).encode() in line


def test_what_is_clear_by_name_is_so_at_the_top_alone() -> None:
    """As a mount's `audit_non_hmac_request_keys` says."""
    writer, data = RecordWriter(MAC), {"a": "open", "b": {"a": "canary"}, "c": "canary"}
    hidden = MAC.vault_form(b"canary")
    for line in (
        writer.data_fragment(data, ("a",)),
        asyncio.run(writer.data_fragment_by_parts(data, ("a",))),
    ):
        assert json.loads(line) == {"a": "open", "b": {"a": hidden}, "c": hidden}
    raw = RecordWriter(MAC, RecordForm(log_raw=True))
    assert json.loads(asyncio.run(raw.data_fragment_by_parts(data))) == data


def test_only_lists_are_cut_short_and_only_where_that_was_said() -> None:
    data, hidden = {"keys": ["a"], "key_info": {"a": {}}}, [MAC.vault_form(b"a")]
    usual, short = RecordWriter(MAC), RecordWriter(MAC, RecordForm(elide_lists=True))
    assert json.loads(short.response_data(data, is_list=True)) == {"keys": 1, "key_info": 1}
    for writer, is_list in ((usual, True), (short, False)):
        assert json.loads(writer.response_data(data, is_list=is_list))["keys"] == hidden


def test_a_token_without_accessor_has_none_in_its_record() -> None:
    auth, asker = RecordWriter(MAC).caller(Principal("token", "", ("default",)), "hvb.canary")
    assert json.loads(auth)["accessor"] == ""
    assert b"accessor" not in asker
