"""Examples of commands that run on, and of those that need a cluster, are run as they stand.

Paths of the examples become paths of a folder, and addresses those of servers that are there.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.app.transcript import environment

from strongroom.app.cluster.control_plane import free_port
from strongroom.app.command_tree import tree
from strongroom.app.dev.processes import TIED_TO_PARENT
from strongroom.app.waiting import Hopeless, until
from strongroom.crypto.x509_dev import issue
from strongroom.encrypt.kms.plugin import ask_status
from strongroom.model.clock import SystemClock
from strongroom.wire.client import HttpClient

pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]
CLOCK = SystemClock()


def examples(verb: str) -> list[str]:
    """The lines of a command's help, joined where they go on, without what is said of them."""
    text = next(node for node in tree() if node.words[0] == verb).parser.epilog or ""
    lines = text.replace("\\\n", " ").splitlines()
    return [
        " ".join(line.partition("  #")[0].split())
        for line in lines
        if line.lstrip().startswith("strongroom ")
    ]


MANIFEST = """
apiVersion: external-secrets.io/v1
kind: SecretStore
metadata: {name: store, namespace: prod}
spec: {provider: {fake: {data: [{key: /db, value: planned}]}}}
---
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: db, namespace: prod}
spec:
  secretStoreRef: {name: store}
  refreshInterval: 1h
  data: [{secretKey: password, remoteRef: {key: /db}}]
"""


class Place:
    """A short folder with what examples name, in which their commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = {
            "/var/lib/strongroom": f"{folder}/lib",
            "/etc/strongroom": f"{folder}/etc",
            "/run/strongroom": f"{folder}/run",
            "/etc/vault.d": f"{folder}/vault.d",
        }
        for name in ("lib", "etc", "run", "vault.d"):
            (folder / name).mkdir()
        self.home = environment(folder)
        self.running: list[subprocess.Popen[bytes]] = []

    def line(self, example: str, more: str = "") -> str:
        """The example as it is run here."""
        for old, new in self.paths.items():
            example = example.replace(old, new)
        return f"{example} {more}".strip()

    async def run(self, example: str, expect: int = 0, more: str = "") -> str:
        """Run to its end; what it printed."""
        done = await asyncio.to_thread(
            subprocess.run, ["bash", "-c", self.line(example, more)], cwd=self.folder,
            env=self.home, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == expect, (example, done.stdout, done.stderr)
        return done.stdout

    def begin(self, example: str, more: str = "") -> subprocess.Popen[bytes]:
        """Run on; `log` in the folder has what it says."""
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*TIED_TO_PARENT, "bash", "-c", f"exec {self.line(example, more)}"],
                cwd=self.folder, env=self.home, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.running.append(process)
        return process

    async def answers(self, process: subprocess.Popen[bytes], url: str, ca: Path | None) -> None:
        """Wait until a server answers with 200."""

        async def there() -> bool | None:
            if process.poll() is not None:
                raise Hopeless("ended", (self.folder / "log").read_text())
            async with HttpClient(ca_file=ca) as http:
                reply = await http.request("GET", url)
            return True if reply.status == 200 else None

        await until(url, there, CLOCK, seconds=120)

    @staticmethod
    async def end(process: subprocess.Popen[bytes]) -> None:
        """As a service manager ends it; it must say that all is well."""
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0


@pytest.fixture
def place() -> Iterator[Place]:
    # Short, because unix sockets lie in it.
    folder = Path(tempfile.mkdtemp(prefix="sr-"))
    made = Place(folder)
    yield made
    for process in made.running:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


async def test_servers_start_as_their_examples_say(place: Place) -> None:
    given = issue(("127.0.0.1", "localhost"), CLOCK.now())
    (place.folder / "server.pem").write_bytes(given.certificate)
    (place.folder / "server.key").write_bytes(given.key)
    (place.folder / "ca.pem").write_bytes(given.authority)
    ports = [free_port() for _ in range(4)]
    (place.folder / "vault.d/store.hcl").write_text(
        f'storage "file" {{ path = "{place.folder}/file" }}\n'
        f'listener "tcp" {{ address = "127.0.0.1:{ports[2]}"\n tls_disable = true }}\n'
        f'seal "static" {{ current_key_id = "a"\n current_key = "file://{place.folder}/etc/k" }}\n'
    )
    (place.folder / "etc/k").write_bytes(bytes(32))
    found = examples("server")
    more = (
        f"--listen 0.0.0.0:{ports[0]}",
        f"--listen 127.0.0.1:{ports[1]}",
        "",
        f"-dev-listen-address=127.0.0.1:{ports[3]}",
    )
    assert len(found) == len(more)
    for at, example in enumerate(found):
        scheme, ca = ("https", place.folder / "ca.pem") if at == 0 else ("http", None)
        process = place.begin(example, more[at])
        url = f"{scheme}://127.0.0.1:{ports[at]}/v1/sys"
        await place.answers(process, f"{url}/seal-status", ca)
        await place.end(process)


async def test_the_plugin_and_its_keys_as_the_examples_say(place: Place) -> None:
    serve, again, prepare, promote, drill = examples("kms")
    process = place.begin(serve)

    async def up() -> bool | None:
        if process.poll() is not None:
            raise Hopeless("ended", (place.folder / "log").read_text())
        return True if (await ask_status(place.folder / "run/kms.sock")).healthz == "ok" else None

    await until("the plugin", up, CLOCK, seconds=60)
    await place.end(process)
    # The file of the example, with a key file in place of the backends of elsewhere.
    text = (next(node for node in tree() if node.words[0] == "kms").parser.epilog or "").partition(
        "with kms.yaml:\n"
    )[2]
    setting = yaml.safe_load(text.partition("and in the EncryptionConfiguration")[0])
    assert {each["type"] for each in setting["backends"]} == {"pkcs11", "transit"}
    setting["backends"] = [
        {"name": "key-file", "type": "key_file", "path": "/etc/strongroom/kms.key"}
    ]
    setting["state"] = "/var/lib/strongroom/second.json"
    port = free_port()
    setting["listen"] = f"127.0.0.1:{port}"
    for file in ("kms.yaml", "etc/kms.yaml"):
        (place.folder / file).write_text(place.line(yaml.safe_dump(setting)))
    (place.folder / "etc/offline.key").write_bytes(os.urandom(32))
    await place.run("openssl genrsa -out escrow.pem 3072 2> /dev/null")
    await place.run("openssl rsa -in escrow.pem -pubout -out /etc/strongroom/escrow.pem 2> log")
    await place.run("chmod 600 etc/offline.key escrow.pem")
    process = place.begin(again)
    await place.answers(process, f"http://127.0.0.1:{port}/readyz", None)
    await place.run(prepare)
    process.send_signal(signal.SIGHUP)

    async def both() -> bool | None:
        await place.run(f"curl -s http://127.0.0.1:{port}/keys > node2.json")
        said = json.loads((place.folder / "node2.json").read_text())
        return True if len(said["decrypts"]) == 2 else None

    await until("the prepared key", both, CLOCK, seconds=60)
    await place.run(promote)
    await place.run(drill)
    await place.end(process)


async def test_sync_and_its_operator_as_the_examples_say(place: Place, cluster) -> None:
    place.home["KUBECONFIG"] = str(cluster.kubeconfig)
    (place.folder / ".kube").mkdir()
    shutil.copy(cluster.kubeconfig, place.folder / ".kube/config")
    (place.folder / "externalsecrets.yaml").write_text(MANIFEST)
    (place.folder / "etc/notices").write_text("a-token-of-senders-of-notices")
    with_definitions, alone, noticed, *_ = examples("operator")
    cluster.kubectl("create", "namespace", "prod")
    try:
        for example in (with_definitions, alone, noticed):
            port = free_port()
            listen = f"--listen 127.0.0.1:{port}"
            process = place.begin(example.replace("--listen 0.0.0.0:8080", ""), listen)
            await place.answers(process, f"http://127.0.0.1:{port}/healthz", None)
            if example == with_definitions:
                await _synced(place, cluster)
            await place.end(process)
    finally:
        cluster.kubectl("delete", "namespace", "prod", "--wait=false")


async def _synced(place: Place, cluster) -> None:
    """Plan, apply, and explain, while an operator runs."""
    text, as_json = examples("sync")
    store, _, wanted = MANIFEST.partition("---")
    cluster.kubectl("apply", "-f", "-", stdin=store)
    assert "prod/db" in await place.run(text)
    assert "planned" not in await place.run(as_json)
    cluster.kubectl("apply", "-f", "-", stdin=wanted)

    async def written() -> bool | None:
        said = cluster.kubectl("get", "secret", "-n", "prod", "db", "-o", "name", check=False)
        return True if "secret/db" in said else None

    await until("the Secret", written, CLOCK, seconds=60)
    chain, as_json = examples("explain")
    assert "planned" not in await place.run(chain)
    assert json.loads(await place.run(as_json))


async def test_proof_and_migration_as_the_examples_say(place: Place, cluster) -> None:
    place.home["KUBECONFIG"] = str(cluster.kubeconfig)
    process = place.begin(examples("kms")[0])

    async def up() -> bool | None:
        return True if (await ask_status(place.folder / "run/kms.sock")).healthz == "ok" else None

    await until("the plugin", up, CLOCK, seconds=60)
    place.paths["http://127.0.0.1:2379"] = cluster.etcd_url
    place.paths["/etc/kubernetes/manifests/kube-apiserver.yaml"] = "apiserver.txt"
    (place.folder / "apiserver.txt").write_text("kube-apiserver --etcd-prefix=/registry\n")
    for name in ("e", "f"):
        literal = f"--from-literal=k={name}"
        cluster.kubectl("create", "secret", "generic", f"example-{name}", literal)
    _, live, _, migrate, prove, snapshot, hidden = examples("encrypt")
    # Nothing is encrypted: each says so, by its status, and the plan is printed all the same.
    assert "E01" in await place.run(live, expect=1)
    assert "plan" in (await place.run(migrate)).lower()
    assert "NOT PROVED" in await place.run(prove, expect=3)
    database = next((cluster.folder / "etcd").rglob("db"))
    shutil.copy(database, place.folder / "backup.db")
    assert "NOT PROVED" in await place.run(snapshot, expect=3)
    await place.run(hidden, expect=3)
    await place.end(process)
