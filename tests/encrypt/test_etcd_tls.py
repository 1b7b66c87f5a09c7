"""The proof against an etcd that asks for a client certificate, as kubeadm's, k3s' and RKE2's do."""

import asyncio
import base64
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.app.cluster.binaries import resolve
from strongroom.app.cluster.control_plane import free_port
from strongroom.app.dev.processes import Processes
from strongroom.app.main import main
from strongroom.app.waiting import until
from strongroom.crypto.x509_dev import issue
from strongroom.model.clock import SystemClock
from strongroom.wire.client import HttpClient
from strongroom.wire.protobuf import encode

CLOCK = SystemClock()
SEALED = b"k8s:enc:kms:v2:strongroom:" + encode([(1, b"data"), (2, "k1"), (3, b"seed"), (5, 1)])


@dataclass
class Etcd:
    """Where it is, and what opens it."""

    url: str
    folder: Path

    @property
    def trust(self) -> list[str]:
        return ["--etcd", self.url, "--ca-file", str(self.folder / "ca")]

    @property
    def words(self) -> list[str]:
        return [*self.trust, "--cert", str(self.folder / "crt"), "--key", str(self.folder / "key")]

    async def put(self, name: str, value: bytes) -> bool | None:
        pair = {"key": f"/registry/secrets/default/{name}".encode(), "value": value}
        body = json.dumps({part: base64.b64encode(each).decode() for part, each in pair.items()})
        own = (self.folder / "crt", self.folder / "key")
        async with HttpClient(ca_file=self.folder / "ca", client_certificate=own) as http:
            reply = await http.request("POST", f"{self.url}/v3/kv/put", body=body.encode())
        return True if reply.status == 200 else None


@pytest.fixture
async def etcd() -> AsyncIterator[Etcd]:
    with (
        tempfile.TemporaryDirectory(prefix="sr-", ignore_cleanup_errors=True) as name,
        Processes(Path(name) / "logs") as processes,
    ):
        folder = Path(name)
        made = issue(("127.0.0.1",), CLOCK.now())
        for part, content in (
            ("ca", made.authority), ("crt", made.certificate), ("key", made.key)
        ):  # fmt: skip
            (folder / part).write_bytes(content)
        url, peer = f"https://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        command = [
            str(resolve().path("etcd")), "--data-dir", str(folder / "data"), "--unsafe-no-fsync",
            "--listen-client-urls", url, "--advertise-client-urls", url,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--client-cert-auth",
            "--trusted-ca-file", str(folder / "ca"), "--cert-file", str(folder / "crt"),
            "--key-file", str(folder / "key"),
        ]  # fmt: skip
        processes.start("etcd", command)
        started = Etcd(url, folder)

        async def up() -> bool | None:
            processes.check("etcd")
            return await started.put("sealed", SEALED)

        await until("etcd", up, CLOCK, seconds=120)
        yield started


@pytest.mark.cluster
async def test_prove_reads_an_etcd_behind_client_certificates_and_says_what_it_lacks(
    etcd: Etcd, capsys
) -> None:
    async def prove(*words: str) -> tuple[int, str, str]:
        status = await asyncio.to_thread(main, ["encrypt", "prove", "--format", "json", *words])
        return status, *capsys.readouterr()

    status, out, _ = await prove(*etcd.words, "--provider", "strongroom", "--key-id", "k1")
    assert (status, json.loads(out)["counts"]) == (0, {"ok": 1})
    await etcd.put("planted", b"k8s\x00marked-value")
    status, out, err = await prove(*etcd.words)
    assert (status, json.loads(out)["counts"]["plaintext"]) == (3, 1)
    assert "marked-value" not in out + err
    # Without a certificate, or with trust in another authority, nothing is read and it is said why.
    (etcd.folder / "other").write_bytes(issue(("127.0.0.1",), CLOCK.now()).authority)
    for words, hint in (
        (etcd.trust, "--cert"),
        (["--etcd", etcd.url, "--ca-file", str(etcd.folder / "other")], "--ca-file"),
        (["--etcd", etcd.url], "--ca-file"),
        (["--etcd", etcd.url.replace("https", "http")], "https"),
    ):
        status, out, err = await prove(*words)
        # The refusal is the one document, in place of what was asked for.
        said = json.loads(out)
        assert (status, "counts" in said, hint in said["hint"]) == (2, False, True), (words, said)
