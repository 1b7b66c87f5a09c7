"""The commands of the pages about running the store and about encryption at rest, run as they are.

Of the latter those that need no cluster; `test_process_examples` has migration and proof.
"""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from tests.app.test_process_examples import CLOCK, Place, place
from tests.app.transcript import BLOCK

from strongroom.app.cluster.control_plane import free_port
from strongroom.app.waiting import until
from strongroom.model.clock import rfc3339

__all__ = ["place"]  # the fixture
pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]
DOCS = Path(__file__).resolve().parents[2] / "docs"
STANZAS = re.compile(r"^```hcl\n(.*?)^```$", re.M | re.S)


def lines(block: str) -> list[str]:
    """A block's commands, without what is said of them."""
    return [" ".join(line.partition("  #")[0].split()) for line in block.splitlines() if line]


async def serving(place: Place, command: str, port: int, more: str = "") -> subprocess.Popen[bytes]:
    process = place.begin(command, more)
    await place.answers(process, f"http://127.0.0.1:{port}/livez", None)
    return process


async def test_the_page_about_running_the_store(place: Place) -> None:
    port = free_port()
    # A name of its own: `pgrep` must not find the server of another run of this test.
    place.paths |= {"127.0.0.1:8200": f"127.0.0.1:{port}", "store.hcl": f"store-{port}.hcl"}
    text = (DOCS / "store-operations.md").read_text()
    dev, flags, configured, seal, other, rotated, asked, snapshots = BLOCK.findall(text)

    await place.end(
        await serving(place, dev.strip(), port, f"-dev-listen-address=127.0.0.1:{port}")
    )
    process = await serving(place, flags.strip(), port, f"--listen 127.0.0.1:{port}")
    assert (place.folder / "data/root-token").read_text().startswith("hvs.")
    await place.end(process)

    *written, start = configured.strip().splitlines()
    assert "The configuration is valid" in await place.run("\n".join(written))
    process = await serving(place, start, port)
    address, status, init, unseal, close = lines(seal)
    place.home["VAULT_ADDR"] = place.line(address).partition("=")[2]
    assert "operator init" in await place.run(status, expect=2)
    made = await place.run(init)
    keys = re.findall(r"^Unseal Key \d: (\S+)$", made, re.M)[:2]
    place.home["VAULT_TOKEN"] = re.findall(r"^Initial Root Token: (\S+)$", made, re.M)[0]

    async def opened() -> None:
        for key in keys:
            await place.run(unseal.replace("KEY", key))
        await place.run(status)

    await opened()
    assert "sealed" in await place.run(close)
    await place.run(status, expect=2)
    await opened()

    await place.run(f"set -e\n{other}")
    postgresql, transit, devices = STANZAS.findall(text)
    await _sealed_by(place, transit)
    listener = 'listener "unix" { address = "s" }\n'
    for number, each in enumerate((postgresql, 'storage "inmem" {}\n' + devices)):
        (place.folder / f"{number}.hcl").write_text(listener + each)
        tested = await place.run(f"strongroom server -test-config -config={number}.hcl")
        assert "The configuration is valid" in tested

    await place.run(f"set -e\n{rotated}")
    log = place.folder / "store-audit.log"

    async def written_anew() -> bool | None:
        await place.run("strongroom token lookup")
        return True if log.exists() and log.stat().st_size else None

    await until("a new audit file", written_anew, CLOCK, seconds=60)
    said = await place.run(f"set -eo pipefail\n{asked}")
    assert '"to-file/"' in said
    assert '"hash":"hmac-sha256:' in said
    assert 'strongroom_audit_failures_total{device="to-file"' in said
    assert "The store is as it was" in await place.run(f"set -e\n{snapshots}")
    await place.end(process)


async def _sealed_by(place: Place, stanza: str) -> None:
    """Another store whose seal is the key that was just made opens by itself, also anew."""
    port = free_port()
    address = place.home["VAULT_ADDR"]
    assert "https://other.example:8200" in stanza
    (place.folder / "other.hcl").write_text(
        f'storage "file" {{ path = "{place.folder}/other" }}\nworkers = 1\n'
        f'listener "tcp" {{ address = "127.0.0.1:{port}"\n tls_disable = true }}\n'
        + stanza.replace("https://other.example:8200", address)
    )
    here = f"export VAULT_ADDR=http://127.0.0.1:{port}\n"
    for opening in ("strongroom operator init", "true"):
        process = await serving(place, "strongroom server -config=other.hcl", port)
        await place.run(here + opening)
        await place.answers(process, f"http://127.0.0.1:{port}/readyz", None)
        await place.run(f"{here}strongroom status")
        await place.end(process)


# What the page shows and this test leaves to others: installing, and what needs a cluster.
ELSEWHERE = (
    "python3 -m venv",
    "/opt/strongroom/bin/pip install",
    "ln -s",
    "strongroom encrypt check --manifest",
    "strongroom encrypt migrate",
    "strongroom encrypt prove",
    "kubectl get secrets -A",
)


async def test_the_page_about_encryption_at_rest(place: Place) -> None:
    text = (DOCS / "encrypt.md").read_text()
    shown = [line for block in BLOCK.findall(text) for line in lines(block)]
    mine = [line for line in shown if not line.startswith(ELSEWHERE)]
    check, generated, public, init, rewrap, drill, prepare, ask, promote, retire, recover = mine
    assert all(any(line.startswith(each) for line in shown) for each in ELSEWHERE)

    identity = {"resources": ["secrets"], "providers": [{"identity": {}}]}
    kind = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration"}
    (place.folder / "encryption.yaml").write_text(json.dumps({**kind, "resources": [identity]}))
    assert json.loads(await place.run(check, expect=1))["runs"]
    for line in (generated, public, init):
        await place.run(line)
    await place.run(
        "set -e; cd strongroom-encryption; cp kms.key escrow.pem /etc/strongroom\n"
        "for state in kms two; do cp kms.json /var/lib/strongroom/$state.json; done"
    )
    ports = {name: free_port() for name in ("kms", "two")}
    for name, port in ports.items():
        setting = (place.folder / "strongroom-encryption/kms.yaml").read_text()
        setting = setting.replace("kms.json", f"{name}.json").replace("kms.sock", f"{name}.sock")
        setting = place.line(setting.replace("8085", str(port)))
        (place.folder / f"etc/{name}.yaml").write_text(setting)
    assert "wrapped 1 key anew" in await place.run(rewrap)
    assert "PASSED" in await place.run(drill)

    processes = {}
    for name, port in ports.items():
        serve = f"strongroom kms serve --config /etc/strongroom/{name}.yaml"
        processes[name] = place.begin(serve)
        await place.answers(processes[name], f"http://127.0.0.1:{port}/readyz", None)
    ask = ask.removeprefix("ssh cp2 ").replace("8085", str(ports["two"]))
    await place.run(prepare)
    await place.run(ask)
    await place.run(promote, expect=2)  # as the page says
    await place.run("cp /var/lib/strongroom/kms.json /var/lib/strongroom/two.json")
    for process in processes.values():
        process.send_signal(signal.SIGHUP)

    async def both() -> bool | None:
        await place.run(ask)
        return (
            True
            if len(json.loads((place.folder / "cp2.json").read_text())["decrypts"]) == 2
            else None
        )

    await until("the prepared key", both, CLOCK, seconds=60)
    old = json.loads((place.folder / "cp2.json").read_text())["current"]
    await place.run(promote)
    keys = json.loads((place.folder / "cp2.json").read_text())["decrypts"]
    (new,) = set(keys) - {old}
    # What a proof says on the cluster that is not here.
    expected = {"secrets": {"form": "kms-v2", "provider": "strongroom", "key_id": new}}
    proof = {"holds": True, "expected": expected, "began": rfc3339(CLOCK.now()), "still_under": {}}
    (place.folder / "proof.json").write_text(json.dumps(proof))
    await place.run(retire.replace("OLD_KEY_ID", old), expect=2)  # the plugin uses it still
    processes["kms"].send_signal(signal.SIGHUP)
    here = ask.replace(str(ports["two"]), str(ports["kms"]))

    async def moved() -> bool | None:
        await place.run(here)
        return json.loads((place.folder / "cp2.json").read_text())["current"] != old or None

    await until("the promoted key", moved, CLOCK, seconds=60)
    await place.run(retire.replace("OLD_KEY_ID", old))
    for process in processes.values():
        await place.end(process)
    await place.run(recover)
    assert (place.folder / "kms.json").exists()
