"""Reading etcd: values of a megabyte, a compaction meanwhile, a prefix without its slash, names of nothing."""

import argparse
import base64
import hashlib
import itertools
import json
import os
import struct
import threading
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from strongroom.app.encrypt.etcd_source import add_etcd_arguments, undefined
from strongroom.app.encrypt.migrate import add_arguments as add_migration
from strongroom.app.encrypt.prove import as_data, print_table
from strongroom.encrypt.coverage import Coverage
from strongroom.encrypt.etcd import read_prefix
from strongroom.encrypt.prove import prove
from strongroom.encrypt.snapshot import read_snapshot
from strongroom.model.errors import Invalid, TooLarge, Unavailable
from strongroom.wire.http import Response
from strongroom.wire.protobuf import encode

COMPACTED = b'{"code":11, "message":"etcdserver: mvcc: required revision has been compacted"}'
SEALED = b"k8s:enc:kms:v2:a:" + encode([(1, b"data"), (2, "k"), (3, b"seed"), (5, 1)])


class Etcd:
    """Keys in order, of which a reply carries so many; what it is told to refuse with, it does."""

    def __init__(self, count: int, fits: int) -> None:
        self.keys = [f"/registry/secrets/n/s{number:04}".encode() for number in range(count)]
        self.fits = fits
        self.limits: list[int] = []
        self.revisions: list[int] = []
        self.refusal = b""

    async def request(self, _method: str, _url: str, *, body: bytes) -> Response:
        asked = json.loads(body)
        self.limits.append(asked["limit"])
        self.revisions.append(asked.get("revision", 0))
        if self.refusal and asked.get("revision"):
            return Response(400, body=self.refusal)
        start = base64.b64decode(asked["key"])
        found = [key for key in self.keys if key >= start]
        page = found[: asked["limit"]]
        if len(page) > self.fits:
            raise TooLarge("reply-too-large", "the reply is too large")
        kvs = [{"key": base64.b64encode(key).decode(), "value": "eA=="} for key in page]
        # Others write meanwhile: the newest revision is another in each reply.
        newest = str(8 + len(self.limits))
        said = {"header": {"revision": newest}, "kvs": kvs, "more": len(found) > len(page)}
        return Response(200, body=json.dumps(said).encode())


async def keys(etcd: Etcd) -> list[str]:
    return [key async for key, _ in read_prefix(etcd, "http://e", "/registry/secrets/")]


async def test_values_of_a_megabyte_are_read_in_smaller_pages() -> None:
    etcd = Etcd(700, fits=60)
    assert [key.encode() for key in await keys(etcd)] == etcd.keys
    assert (etcd.limits[0], min(etcd.limits), len(etcd.limits) < 200) == (500, 7, True)
    # Too much twice; then the first page says of which moment all the others are.
    assert (etcd.revisions[:3], set(etcd.revisions[3:])) == ([0, 0, 0], {11})
    with pytest.raises(TooLarge):
        await keys(Etcd(3, fits=0))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (COMPACTED, "required revision has been compacted"),
        (b'{"error":"etcdserver: user name is empty"}', "user name is empty"),
        (b'{"message":"etcdserver: rpc not supported for learner"}', "for learner"),
        (b'{"message":"marked-value"}', ""),
        (b"marked-value", ""),
    ],
)
async def test_what_etcd_refuses_is_told_in_its_own_words_alone(body: bytes, said: str) -> None:
    etcd = Etcd(600, fits=500)
    etcd.refusal = body
    with pytest.raises(Unavailable, match="etcd answers 400") as caught:
        await keys(etcd)
    assert said in caught.value.message
    assert "marked-value" not in caught.value.message
    assert ("run it again" in caught.value.hint) is (body == COMPACTED)
    assert ("--snapshot" in caught.value.hint) is ("user name" in said)
    assert ("voting member" in caught.value.hint) is ("learner" in said)


@pytest.mark.parametrize("address", ["127.0.0.1:2379", "http://a:2379,http://b:2379", ""])
async def test_what_is_no_address_is_not_asked(address: str) -> None:
    etcd = Etcd(1, fits=1)
    with pytest.raises(Invalid, match="not the address of one etcd"):
        async for _ in read_prefix(etcd, address, "/registry/"):
            pass
    assert etcd.limits == []


@pytest.mark.parametrize("given", ["registry", "/registry", "/registry/", "registry/"])
def test_a_prefix_is_taken_as_the_api_server_takes_it(given: str) -> None:
    parser = argparse.ArgumentParser()
    add_etcd_arguments(parser)
    assert parser.parse_args(["--prefix", given]).prefix == "/registry"


def test_of_a_name_that_matches_nothing_it_is_said_that_nothing_was_proved(capsys) -> None:
    pairs = [("/registry/secrets/n/s", SEALED)]
    arguments = argparse.Namespace(list_all=False, snapshot=None)
    for names, empty in ((("secrets",), []), (("secrets", "configmap"), ["configmap"])):
        proof = prove(pairs, Coverage(names))
        assert (as_data(proof)["no_value_found"], proof.holds) == (empty, True)
        print_table(proof, None, arguments)
        said = "nothing was proved, of: configmap" in capsys.readouterr().out
        assert said is bool(empty)
    # Under a name that the cluster does not serve nothing can lie.
    proof.unserved.append("configmap")
    assert (as_data(proof)["not_served"], proof.holds) == (["configmap"], False)
    print_table(proof, None, arguments)
    said = capsys.readouterr().out
    assert "NOT PROVED: 1 ok" in said
    assert "'configmap' is no resource" in said
    assert "encrypt migrate" not in said  # Which would help nothing.


async def test_keys_of_any_bytes_are_all_read_one_by_one() -> None:
    etcd = Etcd(1, fits=1)
    etcd.keys += [etcd.keys[0] + more for more in (b"\0", b"\0\0", b"\0\1", b"\1", b"\xff")]
    assert len(await keys(etcd)) == len(etcd.keys) == 6


def test_a_snapshot_from_before_is_no_proof_of_a_migration() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_migration(parser)
    assert parser.parse_args([]).snapshot is None
    assert parser.parse_known_args(["--snapshot", "f"])[1] == ["--snapshot", "f"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x" * 8192 + bytes(32), "checksum"),
        (b"x" * 8000, "checksum"),
        (b"x" * 8192 + hashlib.sha256(b"x" * 8192).digest(), "not an etcd snapshot"),
        (b"x" * 8192, "not an etcd snapshot"),
    ],
)
def test_a_snapshot_that_is_not_what_was_saved_is_refused(tmp_path, content, said) -> None:
    """What is missing of it, or was changed, would be missing in the proof."""
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(Invalid, match=said):
        read_snapshot(tmp_path / "f")


def leaf(number: int, entries: list[tuple[int, bytes, bytes]]) -> bytes:
    """A leaf page of bbolt with everything in it: flag, key and value of each entry."""
    table, content = b"", b""
    for index, (flag, key, value) in enumerate(entries):
        offset = (len(entries) - index) * 16 + len(content)
        table += struct.pack("<IIII", flag, offset, len(key), len(value))
        content += key + value
    page = struct.pack("<QHHI", number, 2, len(entries), 0) + table + content
    return page + bytes(-len(page) % 4096)


def meta(transaction: int) -> bytes:
    """The page of a state whose root is page 2, with its checksum (FNV-1a)."""
    content = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, 4096, 0, 2, 0, 0, 0, transaction)
    checksum = 0xCBF29CE484222325
    for each in content:
        checksum = (checksum ^ each) * 0x100000001B3 % 2**64
    page = struct.pack("<QHHI", transaction % 2, 4, 0, 0) + content + struct.pack("<Q", checksum)
    return page + bytes(4096 - len(page))


def database(records: list[tuple[int, bytes, bytes, bool]]) -> bytes:
    """A member's file: revision, key, value and whether it is gone, in the order of revisions."""
    root = leaf(2, [(1, b"key", struct.pack("<QQ", 3, 0))])
    entries = [
        (
            0,
            struct.pack(">QcQ", revision, b"_", 0) + b"t" * gone,
            encode([(1, key), (5, value)]),
        )
        for revision, key, value, gone in records
    ]
    return meta(2) + meta(1) + root + leaf(3, entries)


def test_a_file_of_gigabytes_is_read_with_little_memory(tmp_path) -> None:
    """It is read on control-plane nodes, beside etcd."""
    secrets = [f"/registry/secrets/n/s{number:02}".encode() for number in range(48)]
    values = [b"k8s:enc:kms:v2:a:" + bytes([number]) * 500_000 for number in range(48)]
    gone = b"/registry/secrets/n/t"
    records = [(1, secrets[0], b"k8s\0old", False), (2, gone, b"k8s\0gone", False)]
    records += [(3 + n, *pair, False) for n, pair in enumerate(zip(secrets, values, strict=True))]
    (tmp_path / "db").write_bytes(database([*records, (99, gone, b"", True)]))
    del records
    tracemalloc.start()
    snapshot = read_snapshot(tmp_path / "db")
    for number, (key, value) in enumerate(snapshot.under("/registry/secrets/")):
        assert (key.encode(), value == values[number]) == (secrets[number], True)
    assert number == 47
    assert {value for _, value in snapshot.older_under("/registry/")} == {b"k8s\0old", b"k8s\0gone"}
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4_000_000


@pytest.mark.parametrize("now", [b"", bytes([8, 1]) * 8, bytes([255]) * 16])
def test_a_file_that_changes_while_it_is_read_proves_nothing(tmp_path, now: bytes) -> None:
    """What is in a place by now is another key's record, no record, or no message at all."""
    key = b"/registry/secrets/n/s"
    (tmp_path / "db").write_bytes(database([(1, key, b"k8s:enc:kms:v2:a:x", False)]))
    snapshot = read_snapshot(tmp_path / "db")
    other = database([(1, b"/registry/secrets/n/t", b"k8s:enc:kms:v2:a:x", False)])
    start, length = snapshot.current[key]
    other = other[:start] + (now * 9)[:length] + other[start + len((now * 9)[:length]) :]
    with (tmp_path / "db").open("r+b") as file:
        file.write(other)
    with pytest.raises(Invalid, match="not an etcd snapshot"):
        list(snapshot.under("/registry/"))


def test_a_member_that_is_written_to_meanwhile_proves_nothing(tmp_path) -> None:
    """Pages of the tree that is read have another use by now, so keys may be missing in it."""
    value = b"k8s:enc:kms:v2:a:x"
    records = [(n, b"/registry/secrets/n/%d" % n, value, False) for n in range(1, 5001)]
    (tmp_path / "db").write_bytes(database(records))
    assert len(read_snapshot(tmp_path / "db").current) == 5000
    done = threading.Event()

    def go_on() -> None:
        with (tmp_path / "db").open("r+b", buffering=0) as file:
            for transaction in itertools.count(4, 2):
                os.pwrite(file.fileno(), meta(transaction), 0)
                if done.is_set():
                    return

    etcd = threading.Thread(target=go_on)
    etcd.start()
    try:
        with pytest.raises(Invalid) as caught:
            read_snapshot(tmp_path / "db")
    finally:
        done.set()
        etcd.join()
    assert caught.value.code == "snapshot-in-use"


@pytest.mark.parametrize(
    "whole",
    [
        database([])[:12288] + leaf(4, []),  # A page of another place.
        database([(2, b"/a", b"k8s\0", False), (1, b"/b", b"k8s\0", False)]),
    ],
)
def test_a_copy_of_a_file_that_was_in_use_is_refused(tmp_path, whole: bytes) -> None:
    (tmp_path / "db").write_bytes(whole)
    with pytest.raises(Invalid, match="not an etcd snapshot"):
        read_snapshot(tmp_path / "db")


def test_of_two_states_the_newest_that_is_whole_counts(tmp_path) -> None:
    record = (1, b"/registry/secrets/n/s", b"k8s:enc:kms:v2:a:x", False)
    torn = meta(3)[:72] + b"x" + meta(3)[73:]
    (tmp_path / "db").write_bytes(meta(2) + torn + database([record])[8192:])
    assert list(read_snapshot(tmp_path / "db").current) == [record[1]]


async def test_the_etcd_of_an_aggregated_server_does_not_tell_which_names_are_served() -> None:
    """It has no definitions, and with a resource that has no values nothing could be proved."""
    prefix, stored = "/registry/wardle", set[str]()

    async def read(start: str) -> AsyncIterator[tuple[str, bytes]]:
        for key in sorted(stored):
            if key.startswith(start):
                yield key, b""

    names = ["fischers.wardle.example.com", "things.example.com"]
    assert await undefined(read, names, prefix) == []
    # That of a kube-apiserver does.
    stored.add(f"{prefix}/apiregistration.k8s.io/apiservices/v1.apps")
    assert await undefined(read, names, prefix) == names
    folder = f"{prefix}/apiextensions.k8s.io/customresourcedefinitions"
    stored |= {f"{folder}/things.example.com", f"{folder}/fischers.wardle.example.com.au"}
    assert await undefined(read, names, prefix) == names[:1]
