"""What values in etcd are, and what the proof makes of them."""

import argparse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.app.encrypt.prove import as_data, coverage_of, print_table
from strongroom.encrypt.check.configuration import Configuration, parse
from strongroom.encrypt.coverage import Coverage, Expected, of_configuration
from strongroom.encrypt.keyspace import definition_of, folder_of, known, place_of, resource_of
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
        (kms("a", "k1") + encode([(2, "k2")]), Stored("kms-v2", "a", "k2")),
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
        kms("x", "k")[:-4],
        kms("x", "k")[:-3],  # A byte of the seed is missing.
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


def test_what_serves_a_custom_resource_lies_under_its_name() -> None:
    folder = "/p/apiextensions.k8s.io/customresourcedefinitions"
    assert definition_of("things.example.com", "/p/") == f"{folder}/things.example.com"
    extensions = "customresourcedefinitions.apiextensions.k8s.io"
    for name, expected in (
        ("secrets", True), ("jobs.batch", True), (extensions, True),
        ("secret", False), ("jobs", False), ("things.example.com", False),
    ):  # fmt: skip
        assert known(name) is expected, name


HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"


def configured(*entries: str) -> Configuration:
    return parse((HEAD + "\n".join(f"- {each}" for each in entries)).encode())


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


def test_what_a_configuration_names_and_leaves_in_plain_text_is_said(capsys) -> None:
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
    assert proof.still_under == {}
    assert [coverage.may_be_sealed(name) for name in ("secrets", "configmaps", "pods")] == [
        True, False, False,
    ]  # fmt: skip
    assert not Coverage().may_be_sealed("secrets")
    # A key that some of the rest is under from before opens that alone.
    pairs += [(f"/registry/secrets/d/{key}", kms("a", key)) for key in ("old", "older", "old")]
    proof = prove(pairs, coverage)
    assert (proof.holds, proof.still_under) == (True, {"secrets": {"old", "older"}})
    assert as_data(proof)["still_under"] == {"secrets": ["old", "older"]}
    print_table(proof, None, argparse.Namespace(list_all=False, snapshot=None))
    assert "From before, secrets are still under: old, older" in capsys.readouterr().out


def test_of_names_of_which_one_begins_another_each_is_told() -> None:
    """`a` and `a:b` are two keys, and a value under the second begins as one under the first."""
    long = "l" * 65
    secret = "A" * 43 + "="
    keys = ", ".join(f"{{name: '{name}', secret: {secret}}}" for name in ("a", "a:b", "a:b:c"))
    coverage = of_configuration(
        configured(
            f"{{resources: [secrets], providers: [{{aescbc: {{keys: [{keys}]}}}}]}}",
            f"{{resources: [pods], providers: [{KMS_A.replace('name: a', f'name: {long}')}]}}",
        )
    )
    pairs = [
        (f"/registry/secrets/d/{name.count(':')}", f"k8s:enc:aescbc:v1:{name}:\0".encode())
        for name in ("a", "a:b", "a:b:c")
    ]
    proof = prove([*pairs, ("/registry/pods/d/p", kms(long, "k"))], coverage)
    assert {row.name: (row.stored.provider, row.verdict) for row in proof.rows} == {
        "0": ("a", "ok"), "1": ("a:b", "other-provider"), "2": ("a:b:c", "other-provider"),
        "p": (long, "ok"),
    }  # fmt: skip


ENTRIES = (
    "{resources: [secrets], providers: [{kms: {apiVersion: v2, name: a, endpoint: 'unix://%s'}}]}",
    "{resources: [pods], providers: [{kms: {apiVersion: v2, name: b, endpoint: 'unix://%s'}}]}",
)


async def test_of_several_providers_those_at_the_socket_have_the_key(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to(tmp_path / "run")
    ours, other = tmp_path / "run" / "kms.sock", tmp_path / "run" / "other.sock"
    again, file = tmp_path / "var" / "kms.sock", tmp_path / "e.yaml"

    async def keys(first: Path, second: Path, provider: str = "") -> list[str]:
        file.write_text(HEAD + "".join(f"- {each}\n" for each in ENTRIES) % (first, second))
        words = {
            "covered_by": file, "resource": [], "key_id": "k", "kms_socket": ours,
            "provider": provider,
        }  # fmt: skip
        coverage = await coverage_of(argparse.Namespace(**words))
        return [getattr(coverage.expected(name), "key_id", "none") for name in ("secrets", "pods")]

    assert await keys(ours, other) == ["k", ""]
    # The same place by another name, of which one of the two alone would have looked free of keys.
    assert await keys(again, other) == ["k", ""]
    assert await keys(ours, again) == ["k", "k"]
    # In the API server's pod the socket has another name: there the provider's name tells, and
    # whatever else is at the same endpoint has the key too.
    inside = Path("/inside/kms.sock")
    assert await keys(inside, other, "a") == ["k", ""]
    assert await keys(inside, inside, "a") == ["k", "k"]
    assert await keys(ours, other, "b") == ["k", ""]
    for provider in ("", "strongroom"):
        with pytest.raises(Invalid, match=r"none has .*kms\.sock"):
            await keys(other, other, provider)
