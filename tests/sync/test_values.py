"""Specs, values and the wanted Secret: the pure parts."""

import pytest

from strongroom.model.errors import Conflict, Invalid, NotFound, Refusal
from strongroom.sync.desired import actor, build, check_consent, compare, created_by, describe
from strongroom.sync.providers.vault import VaultSettings, split_key
from strongroom.sync.spec import RemoteRef, parse_duration, parse_spec
from strongroom.sync.stores import allows
from strongroom.sync.values import convert, decode, extract, pick

STORE = {"name": "s"}
ROW = {"secretKey": "k", "remoteRef": {"key": "prod/db", "property": "p"}}


def external(**spec) -> dict:
    spec.setdefault("secretStoreRef", STORE)
    metadata = {
        "name": "db",
        "namespace": "n",
        "uid": "u1",
        "generation": 1,
        "labels": {"team": "x"},
    }
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": metadata,
        "spec": spec,
    }


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"data": [ROW], "secretStoreRef": {}},
        {"data": [{"secretKey": "a b", "remoteRef": {"key": "x"}}]},
        {"data": [{"secretKey": "a", "remoteRef": {}}]},
        {"data": [ROW], "refreshInterval": "soon"},
        {"data": [ROW], "target": {"creationPolicy": "Merge", "deletionPolicy": "Delete"}},
        {"data": [ROW], "target": {"creationPolicy": "None", "deletionPolicy": "Merge"}},
        {"data": [ROW], "target": {"template": {"data": {"a": "b"}}}},
        {"dataFrom": [{"find": {"name": {"regexp": ".*"}}}]},
        {"dataFrom": [{"sourceRef": {"generatorRef": {"kind": "Password"}}}]},
    ],
)
def test_a_spec_that_cannot_be_is_refused(spec: dict) -> None:
    with pytest.raises(Invalid):
        parse_spec(external(**spec))


def test_defaults_are_the_ones_users_know() -> None:
    spec = parse_spec(external(data=[ROW]))
    assert (spec.target, spec.creation, spec.deletion, spec.refresh_seconds) == (
        "db",
        "Owner",
        "Retain",
        3600.0,
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("1h30m", 5400), ("0", 0), ("15s", 15), ("1h0m0s", 3600), (30, 30)],
)
def test_durations(text, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_properties_exact_first_then_path_into_json_text() -> None:
    data = {"a.b": "exact", "a": {"b": "nested"}, "text": '{"x": ["y", "z"]}', "n": 5, "t": True}
    assert pick(data, RemoteRef("k", "a.b")) == b"exact"
    assert pick({"a": {"b": "nested"}}, RemoteRef("k", "a.b")) == b"nested"
    assert pick(data, RemoteRef("k", "text.x.1")) == b"z"
    assert pick(data, RemoteRef("k", "n")) == b"5"
    assert pick(data, RemoteRef("k", "t")) == b"true"
    assert pick({"x": "y"}, RemoteRef("k")) == b'{"x":"y"}'
    with pytest.raises(NotFound):
        pick(data, RemoteRef("k", "missing"))


def test_extract_makes_keys_and_refuses_collisions() -> None:
    assert extract({"a b": "1", "c": {"d": 2}}, RemoteRef("k")) == {"a_b": b"1", "c": b'{"d":2}'}
    with pytest.raises(Invalid):
        extract({"a b": "1", "a/b": "2"}, RemoteRef("k"))
    with pytest.raises(Invalid):
        extract({"x": "text"}, RemoteRef("k", "x"))
    assert convert("a b", "Unicode") == "a_U0020_b"


def test_decoding_never_shows_the_value() -> None:
    assert decode(b"dg==", RemoteRef("k", decoding="Base64")) == b"v"
    assert decode(b"-_-_", RemoteRef("k", decoding="Base64URL")) == b"\xfb\xff\xbf"
    assert decode(b"not base64!", RemoteRef("k", decoding="Auto")) == b"not base64!"
    for refused in (RemoteRef("k", decoding="Base64"), RemoteRef("k", refuse_null_bytes=True)):
        with pytest.raises(Invalid) as error:
            decode(b"marked!\0", refused)
        assert "marked" not in str(error.value)


@pytest.mark.parametrize(
    ("mount", "key", "expected"),
    [
        ("secret", "prod/db", ("secret", "prod/db")),
        ("secret", "secret/data/prod/db", ("secret", "prod/db")),
        ("secret", "secret/prod/db", ("secret", "prod/db")),
        ("secret", "/prod/db/", ("secret", "prod/db")),
        ("", "secret/data/prod/db", ("secret", "prod/db")),
        ("", "secret/prod/db", ("secret", "prod/db")),
        ("secret", "data/x", ("secret", "data/x")),
    ],
)
def test_keys_in_every_form_users_write(mount: str, key: str, expected: tuple[str, str]) -> None:
    assert split_key(key, VaultSettings("https://s", mount, "v2", "", "")) == expected


def test_a_key_without_a_path_and_a_bad_store_are_refused() -> None:
    with pytest.raises(Invalid):
        split_key("secret", VaultSettings("https://s", "", "v2", "", ""))
    for spec in (
        {},
        {"server": "nowhere"},
        {"server": "https://s", "version": "v3"},
        {"server": "https://s", "caBundle": "!"},
    ):
        with pytest.raises(Refusal):
            VaultSettings.from_spec(spec)


def test_the_secret_carries_owner_labels_and_versions() -> None:
    item = external(data=[ROW])
    made = build(item, parse_spec(item), {"k": b"v"}, {"secret/data/prod/db": 3})
    metadata = made["metadata"]
    assert metadata["ownerReferences"][0]["uid"] == "u1"
    assert metadata["labels"]["reconcile.external-secrets.io/created-by"] == created_by("n", "db")
    assert metadata["labels"]["team"] == "x"
    assert metadata["annotations"]["strongroom.dev/source-versions"] == '{"secret/data/prod/db": 3}'
    assert made["data"] == {"k": "dg=="}


def test_differences_name_keys_and_no_values() -> None:
    item = external(data=[ROW])
    wanted = build(item, parse_spec(item), {"k": b"v", "l": b"w"}, {})
    assert compare(None, wanted, whole=True).missing
    current = {"metadata": wanted["metadata"], "data": {"k": "bWFya2Vk", "extra": "eA=="}}
    found = compare(current, wanted, whole=True)
    assert (found.changed, found.removed, found.added) == (("k",), ("l",), ("extra",))
    assert compare(current, wanted, whole=False).added == ()
    assert not compare(
        {"metadata": wanted["metadata"], "data": wanted["data"]}, wanted, whole=True
    ).any
    assert "marked" not in describe(found, "db")


def test_nothing_is_taken_over_without_consent() -> None:
    item = external(data=[ROW])
    spec = parse_spec(item)
    bare = {"metadata": {"name": "db"}}
    check_consent(item, spec, None)
    with pytest.raises(Conflict):
        check_consent(item, spec, bare)
    item["metadata"]["annotations"] = {"strongroom.dev/adopt": "true"}
    check_consent(item, spec, bare)
    other = {
        "metadata": {
            "ownerReferences": [{"controller": True, "uid": "other", "kind": "X", "name": "y"}]
        }
    }
    with pytest.raises(Conflict):
        check_consent(item, spec, other)


def test_the_actor_is_the_newest_manager_of_data_that_is_not_us() -> None:
    def entry(manager: str, time: str, field: str = "f:data") -> dict:
        return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": {field: {}}}

    item = {
        "metadata": {
            "managedFields": [
                entry("us", "3"),
                entry("kubectl-edit", "2"),
                entry("old", "1"),
                entry("x", "9", "f:metadata"),
            ]
        }
    }
    assert actor(item, "us") == "kubectl-edit (Update at 2)"
    assert actor({"metadata": {}}, "us") == ""


def test_cluster_stores_let_namespaces_in() -> None:
    assert allows({"namespaces": ["a"]}, "a", {})
    assert allows({"namespaceRegexes": ["team-.*"]}, "team-x", {})
    assert allows({"namespaceSelector": {"matchLabels": {"env": "prod"}}}, "z", {"env": "prod"})
    assert not allows({"namespaceSelector": {}, "namespaces": ["a"]}, "z", {})
