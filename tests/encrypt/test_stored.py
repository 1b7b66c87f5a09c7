"""What values in etcd are, and what the proof makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.encrypt.check.configuration import Configuration, parse
from strongroom.encrypt.coverage import Coverage, Expected, of_configuration
from strongroom.encrypt.keyspace import folder_of, place_of, resource_of
from strongroom.encrypt.prove import prove
from strongroom.encrypt.stored import Stored, classify, evidence
from strongroom.model.errors import Invalid
from strongroom.wire.protobuf import bytes_of, decode, encode, map_entry, text_of


def kms(provider: str, key_id: str) -> bytes:
    return f"k8s:enc:kms:v2:{provider}:".encode() + encode(
        [(1, b"data"), (2, key_id), (3, b"seed"), (5, 1)]
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (kms("strongroom", "k1"), Stored("kms-v2", "strongroom", "k1")),
        (b"k8s:enc:kms:v1:old:\x00\x01x", Stored("kms-v1", "old")),
        (b"k8s:enc:aescbc:v1:key1:\x00x", Stored("aescbc", "key1")),
        (b"k8s:enc:aesgcm:v1:key1:\x00x", Stored("aesgcm", "key1")),
        (b"k8s:enc:secretbox:v1:key1:\x00x", Stored("secretbox", "key1")),
        (b"k8s\x00\n\x0c\n\x02v1", Stored("plaintext", detail="protobuf")),
        (b'{"kind":"Secret"}', Stored("plaintext", detail="JSON")),
    ],
)
def test_forms(value: bytes, expected: Stored) -> None:
    assert classify(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"k8s:enc:kms:v2:",
        b"k8s:enc:kms:v2:x:\xff",
        b"k8s:enc:kms:v2:x:",
        b"k8s:enc:new:v9:k:",
        b"\x01\x02",
    ],
)
def test_what_is_not_understood_is_never_called_encrypted(value: bytes) -> None:
    assert not classify(value).encrypted


def test_every_way_of_not_being_under_the_key_is_told_apart() -> None:
    pairs = [
        ("/registry/secrets/a/good", kms("strongroom", "k2")),
        ("/registry/secrets/a/before", b"k8s\x00plain"),
        ("/registry/secrets/b/old", kms("strongroom", "k1")),
        ("/registry/secrets/b/foreign", kms("other", "k2")),
        ("/registry/secrets/b/local", b"k8s:enc:aescbc:v1:k:x"),
    ]
    coverage = Coverage(given=Expected("strongroom", "k2"))
    proof = prove(pairs, coverage)
    verdicts = {row.name: row.verdict for row in proof.rows}
    assert verdicts == {
        "good": "ok",
        "before": "plaintext",
        "old": "other-key",
        "foreign": "other-provider",
        "local": "weaker",
    }
    assert not proof.holds
    assert prove(pairs[:1], coverage).holds
    assert not prove([], Coverage()).holds


def test_evidence_shows_the_prefix_and_nothing_of_a_plain_value() -> None:
    assert evidence(kms("strongroom", "k1")).startswith("k8s:enc:kms:v2:strongroom:")
    assert evidence(b"k8s\x00marked") == ""


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(message: bytes) -> None:
    try:
        fields = list(decode(message))
    except Invalid:
        return
    assert all(number > 0 for number, _ in fields)
    classify(b"k8s:enc:kms:v2:x:" + message)


@given(
    st.text(max_size=20),
    st.binary(max_size=50),
    st.integers(0, 2**63),
    st.dictionaries(st.text(max_size=5), st.binary(max_size=5)),
)
def test_what_is_encoded_is_decoded(
    text: str, content: bytes, number: int, entries: dict[str, bytes]
) -> None:
    found: dict[int, list[int | bytes]] = {}
    for key, value in decode(encode([(1, text), (2, content), (3, number), (4, entries)])):
        found.setdefault(key, []).append(value)
    assert text_of(found.get(1, [b""])[0]) == text
    assert bytes_of(found.get(2, [b""])[0]) == content
    assert found.get(3, [0])[0] == number
    assert dict(map_entry(each) for each in found.get(4, [])) == entries


# keys and coverage


@pytest.mark.parametrize(
    ("key", "resource", "place"),
    [
        ("/registry/secrets/default/a", "secrets", ("default", "a")),
        ("/registry/minions/node1", "nodes", ("", "node1")),
        ("/registry/services/specs/default/a", "services", ("default", "a")),
        ("/registry/services/endpoints/default/a", "endpoints", ("default", "a")),
        ("/registry/ingress/default/a", "ingresses.networking.k8s.io", ("default", "a")),
        ("/registry/deployments/default/a", "deployments.apps", ("default", "a")),
        ("/registry/leases/ns/a", "leases.coordination.k8s.io", ("ns", "a")),
        ("/registry/example.com/things/ns/a", "things.example.com", ("ns", "a")),
        ("/registry/new-ones/ns/a", "new-ones", ("ns", "a")),
        ("/registry/ranges/serviceips", "", None),
        ("/registry/masterleases/10.0.0.1", "", None),
        ("/other/secrets/default/a", "", None),
    ],
)
def test_a_key_says_its_resource_and_place(key: str, resource: str, place) -> None:
    assert resource_of(key) == resource
    if place is not None:
        assert place_of(key, resource) == place
        assert key.startswith(folder_of(resource))


def configured(*entries: str) -> Configuration:
    head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
    return parse((head + "\n".join(f"- {each}" for each in entries)).encode())


KMS_A = "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a'}}"
LOCAL = "{secretbox: {keys: [{name: k1, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}}"


def test_a_configuration_says_what_is_read_and_under_what_each_should_be() -> None:
    configuration = configured(
        "{resources: [events], providers: [{identity: {}}]}",
        f"{{resources: [secrets], providers: [{LOCAL}, {{identity: {{}}}}]}}",
        f"{{resources: ['*.*'], providers: [{KMS_A}]}}",
    )
    coverage = of_configuration(configuration, {"a": "k2"})
    assert coverage.folders() == ["/registry/"]
    pairs = [
        ("/registry/secrets/d/local", b"k8s:enc:secretbox:v1:k1:x"),
        ("/registry/secrets/d/other-key", b"k8s:enc:secretbox:v1:k0:x"),
        ("/registry/secrets/d/kms", kms("a", "k2")),
        ("/registry/configmaps/d/good", kms("a", "k2")),
        ("/registry/configmaps/d/old", kms("a", "k1")),
        ("/registry/example.com/things/d/plain", b'{"kind":"Thing"}'),
        ("/registry/events/d/opted-out", b"k8s\x00"),
        ("/registry/ranges/serviceips", b"k8s\x00"),
    ]
    proof = prove(pairs, coverage)
    assert {row.name: row.verdict for row in proof.rows} == {
        "local": "ok",
        "other-key": "other-provider",
        "kms": "other-provider",
        "good": "ok",
        "old": "other-key",
        "plain": "plaintext",
    }
    assert dict(proof.uncovered) == {"events": 1, "": 1}
    named = of_configuration(configured(f"{{resources: [secrets], providers: [{KMS_A}]}}"))
    assert named.folders() == ["/registry/secrets/"]


def test_what_a_configuration_names_and_leaves_in_plain_text_is_said() -> None:
    """As with `identity` in front: the proof is of the rest, and says so."""
    coverage = of_configuration(
        configured(
            f"{{resources: [secrets], providers: [{{identity: {{}}}}, {KMS_A}]}}",
            f"{{resources: [configmaps], providers: [{KMS_A}]}}",
        )
    )
    assert (coverage.resources, coverage.plain) == (("configmaps",), ("secrets",))
    assert coverage.folders() == ["/registry/configmaps/", "/registry/secrets/"]
    pairs = [("/registry/configmaps/d/c", kms("a", "k")), ("/registry/secrets/d/s", b"k8s\x00")]
    proof = prove(pairs, coverage)
    assert (proof.holds, proof.empty, dict(proof.uncovered)) == (True, [], {"secrets": 1})
