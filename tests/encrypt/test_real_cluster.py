"""The plugin, the checks, the migration and the proof against real API servers on real etcd."""

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.app.waiting import until
from strongroom.crypto.keyfile import create_key_file
from strongroom.encrypt.check.api_metrics import RELOADS, of
from strongroom.encrypt.kms.plugin import ask_status
from strongroom.kube.client import KubeClient
from strongroom.kube.config import load_kubeconfig
from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Refusal, Unavailable
from strongroom.wire.client import HttpClient

CLOCK = SystemClock()
IDENTITY = "{identity: {}}"
MARKED = "marked-value"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


async def test_every_silent_plaintext_configuration_writes_it_and_is_found(lab) -> None:
    await lab.plugin()
    kms = lab.kms()
    await lab.control.start()
    await lab.put("e01")
    assert (await lab.check(None))["E01"] == "error"
    cases = [
        ("E02", [("secrets", [IDENTITY, kms])]),
        ("E02", [("configmaps, '*.apps'", [kms, IDENTITY])]),  # Nothing names them.
        ("E05", [("secret, secrets.v1, secrets.core", [kms, IDENTITY])]),
        ("E07", [("secrets", [IDENTITY]), ("secrets", [kms])]),
        ("E08", [("secrets", [IDENTITY]), ("'*.*'", [kms, IDENTITY])]),
    ]
    written = {"e01"}
    for number, (check, entries) in enumerate(cases):
        config, name = lab.encryption(*entries), f"{check.lower()}-{number}"
        await lab.control.restart_apiserver(config)
        await lab.put(name)
        written.add(name)
        assert (await lab.verdicts())[name] == "plaintext"
        assert (await lab.check(config))[check] == "error", check
    # E10: the file is right, and nobody has loaded it.
    good = lab.encryption(("secrets", [kms, IDENTITY]), name="good.yaml")
    loaded = lab.encryption(("secrets", [IDENTITY, kms]), name="loaded.yaml")
    lab.control.reloads_encryption = True  # The metric of what is loaded comes with the reloader.
    await lab.control.restart_apiserver(loaded)
    shutil.copy(good, loaded)
    await lab.put("e10")
    assert (await lab.verdicts())["e10"] == "plaintext"
    assert (await lab.check(loaded))["E10"] == "error"
    # Nor has a server that does not reload: its start and the file's time tell.
    lab.control.reloads_encryption = False
    shutil.copy(lab.encryption(("secrets", [IDENTITY, kms])), loaded)
    await lab.control.restart_apiserver(loaded)
    shutil.copy(good, loaded)
    await lab.put("e10-no-reload")
    assert (await lab.verdicts())["e10-no-reload"] == "plaintext"
    assert (await lab.check(loaded))["E10"] == "error"
    # E06: another resource that holds credentials.
    await lab.put("e06", resource=CONFIG_MAPS)
    assert (await lab.verdicts("--resource", "configmaps"))["e06"] == "plaintext"
    assert (await lab.check(good))["E06"] == "note"
    # The right one, loaded: new values are sealed, and the old ones are still found.
    await lab.control.restart_apiserver(good)
    await lab.put("good")
    status, proof = await lab.prove("--kms-socket", str(lab.socket()), "--provider", "strongroom")
    verdicts = {each["name"]: each["verdict"] for each in proof["secrets"]}
    assert status == 3
    assert {name for name, verdict in verdicts.items() if verdict == "plaintext"} == written | {
        "e10", "e10-no-reload"
    }  # fmt: skip
    assert verdicts["good"] == "ok"
    found = await lab.check(good)
    assert found["E09"] == "error"
    assert not {"E01", "E02", "E05", "E07", "E08", "E10"} & set(found)
    # Migrated, proved both ways; then identity is advised away, and only then.
    status, said = await lab.run(
        "encrypt",
        "migrate",
        "--kubeconfig",
        str(lab.control.kubeconfig),
        "--kms-socket",
        str(lab.socket()),
        "--etcd",
        lab.control.etcd_url,
    )
    assert (status, "PROVED" in said) == (0, True), said
    assert "E09" not in await lab.check(good)
    assert (await lab.check(good))["E03"] == "warning"
    status, said = await lab.run(
        "encrypt",
        "prove",
        "--two-pass",
        "--kubeconfig",
        str(lab.control.kubeconfig),
        "--format",
        "json",
    )
    assert (status, json.loads(said)["second"]["rewritten"]) == (0, 0), said
    # An attacker writes a value into etcd: it is found, and identity may not go yet.
    await lab.plant("/registry/secrets/default/planted", b"k8s\x00\n\x0c\n\x02v1\x12\x06Secret")
    status, proof = await lab.prove("--kms-socket", str(lab.socket()))
    assert (status, proof["counts"]["plaintext"]) == (3, 1)
    assert "E03" not in await lab.check(good)
    only = lab.encryption(("secrets", [kms]), name="only.yaml")
    assert (await lab.check(only))["E04"] == "error"


async def test_servers_that_differ_and_files_that_never_arrive(lab) -> None:
    """E11 and E13: the file on the disk is right, and plaintext is written all the same.

    The server beside it reloads a good file, whose plugin came late and comes once more. Reloading
    polls the file once a minute, so both servers are waited for together.
    """
    lab.control.reloads_encryption = True
    first = lab.encryption(("secrets", [IDENTITY]), name="first.yaml")
    await lab.control.start(first)
    good = lab.encryption(("secrets", [IDENTITY]), name="good.yaml")
    second = await lab.control.start_second(good)
    await lab.put("plain", second)
    await lab.plugin()
    lab.encryption(("secrets", [lab.kms(), IDENTITY]), name="good.yaml")
    # The new file of the first names a plugin that is not there: it is not loaded, the old one stays.
    lab.encryption(("secrets", [lab.kms("dead", 9), lab.kms(), IDENTITY]), name="first.yaml")

    async def reloaded() -> bool | None:
        samples = of(await lab.metrics(second), RELOADS, status="success")
        return True if sum(each.value for each in samples) else None

    await until("the second server to reload", reloaded, CLOCK, seconds=150)
    # E13: the servers have different files.
    await lab.put("by-first")
    await lab.put("by-second", second)
    found = await lab.verdicts()
    assert (found["by-first"], found["by-second"]) == ("plaintext", "ok")
    urls = (lab.control.url, second.server)
    assert (await lab.check(first, good, urls=urls))["E13"] == "error"

    async def failed() -> bool | None:
        samples = of(await lab.metrics(), RELOADS, status="failure")
        return True if sum(each.value for each in samples) else None

    await until("a reload to fail", failed, CLOCK, seconds=150)
    await lab.put("e11")
    assert (await lab.verdicts())["e11"] == "plaintext"
    found = await lab.check(first, good, urls=urls)
    assert (found["E11"], found["E10"], found["E15"]) == ("error", "error", "error")
    lab.processes.stop("kms1")
    assert await lab.get("plain", second) == MARKED
    await lab.put("coasting", second)
    await lab.plugin()
    assert await lab.get("coasting", second) == MARKED


@pytest.fixture
def bind(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A file, and where it is mounted as a file."""
    source, mounted = tmp_path / "source.yaml", tmp_path / "mounted.yaml"
    source.touch()
    mounted.touch()
    if subprocess.run(["mount", "--bind", source, mounted], check=False).returncode:
        pytest.skip("this process may not mount")
    yield source, mounted
    subprocess.run(["umount", "--lazy", mounted], check=True)


async def test_a_file_mounted_as_a_file_is_never_seen_again(bind, lab) -> None:
    """E12: a bind mount keeps the inode, and an atomic replacement is another one."""
    await lab.plugin()
    source, mounted = bind
    lab.encryption(("secrets", [IDENTITY, lab.kms()]), name=str(source))
    lab.control.reloads_encryption = True
    await lab.control.start(mounted)
    lab.encryption(("secrets", [lab.kms(), IDENTITY]), name=f"{source}.new").rename(source)
    assert source.read_text() != mounted.read_text()
    await lab.put("e12")
    assert (await lab.verdicts())["e12"] == "plaintext"
    flags = (
        f"--encryption-provider-config={mounted}",
        "--encryption-provider-config-automatic-reload=true",
    )
    mount = {"name": "e", "mountPath": str(mounted)}
    pod = {
        "containers": [{"command": ["kube-apiserver", *flags], "volumeMounts": [mount]}],
        "volumes": [{"name": "e", "hostPath": {"path": str(source), "type": "File"}}],
    }
    manifest = lab.folder / "manifest.yaml"
    manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", "spec": pod}))
    words = ("--manifest", str(manifest), "--live", *lab.kubeconfig, "--format", "json")
    _, said = await lab.run("encrypt", "check", *words)
    found = {each["check"]: each["severity"] for each in json.loads(said)["findings"]}
    assert found["E12"] == "warning"
    assert found["E10"] == "error"  # What was loaded is not what the host's file says.


async def test_what_the_checks_call_no_start_is_none(lab) -> None:
    """The verdict "does not start" against the server itself, and its opposite."""
    await lab.plugin()
    kms, other = lab.kms("a"), lab.kms("b")
    refused = [
        [("'*.*'", [kms]), ("secrets", [other])],
        [("secrets, '*.'", [kms])],
        [("secrets", [kms]), ("configmaps", [kms])],
        [("Secrets", [kms])],
        [("secrets", ["{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', cachesize: 5}}"])],
        [("secrets", ["{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', colour: red}}"])],
    ]
    await lab.control.start()
    for entries in refused:
        config = lab.encryption(*entries)
        status, said = await lab.run(
            "encrypt", "check", "--config", str(config), "--format", "json"
        )
        assert (status, "E00" in {each["check"] for each in json.loads(said)["findings"]}) == (
            1,
            True,
        ), entries
        with pytest.raises(Unavailable) as caught:
            await lab.control.start_second(config)
        assert caught.value.code == "process-ended", entries
        lab.processes.stop("kube-apiserver-2")
    config = lab.encryption(("secrets, configmaps", [kms]), ("'*.*'", [other, IDENTITY]))
    status, said = await lab.run("encrypt", "check", "--config", str(config), "--format", "json")
    assert "E00" not in {each["check"] for each in json.loads(said)["findings"]}
    await lab.control.restart_apiserver(config)
    await lab.put("sealed", resource=CONFIG_MAPS)
    _, proof = await lab.prove(
        "--covered-by",
        str(lab.encryption(("secrets, configmaps", [kms]), name="n.yaml")),
        "--provider",
        "a",
    )
    assert {each["name"]: each["verdict"] for each in proof["secrets"]}["sealed"] == "ok"


async def test_two_api_servers_rotate_in_two_phases_and_migrate(lab) -> None:
    lab.control.reloads_encryption = True
    await lab.plugin(1)
    shutil.copy(lab.folder / "state1.json", lab.folder / "state2.json")
    await lab.plugin(2)
    one = lab.encryption(("secrets", [lab.kms(number=1), IDENTITY]), name="one.yaml")
    two = lab.encryption(("secrets", [lab.kms(number=2), IDENTITY]), name="two.yaml")
    await lab.control.start(one)
    second = await lab.control.start_second(two)
    await lab.put("by-one")
    await lab.put("by-two", second)
    assert await lab.get("by-two") == await lab.get("by-one", second) == MARKED
    old = (await ask_status(lab.socket(1))).key_id
    config = ("--config", str(lab.folder / "kms1.yaml"))
    peer = ("--peer", f"http://127.0.0.1:{lab.page(2)}")
    assert (await lab.run("kms", "prepare", *config))[0] == 0
    # Phase two is refused while the other node does not have the key.
    status, said = await lab.run("kms", "promote", *config, *peer)
    assert (status, "peer-not-ready" in said) == (2, True)
    shutil.copy(lab.folder / "state1.json", lab.folder / "state2.json")
    lab.processes.signal("kms2", 1)

    async def promoted() -> bool | None:
        return True if (await lab.run("kms", "promote", *config, *peer))[0] == 0 else None

    await until("the promotion", promoted, CLOCK, seconds=120)
    lab.processes.signal("kms1", 1)

    async def ahead() -> bool | None:
        return True if (await ask_status(lab.socket(1))).key_id != old else None

    await until("the first node", ahead, CLOCK)
    assert (await ask_status(lab.socket(2))).key_id == old
    assert await lab.get("by-two") == await lab.get("by-one", second) == MARKED
    shutil.copy(lab.folder / "state1.json", lab.folder / "state2.json")
    lab.processes.signal("kms2", 1)
    # The barrier holds until both servers have polled, at most a minute; then everything moves.
    status, said = await lab.run(
        "encrypt", "migrate", "--kubeconfig", str(lab.control.kubeconfig), "--api-server", second.server,
        "--kms-socket", str(lab.socket(2)), "--etcd", lab.control.etcd_url,
    )  # fmt: skip
    assert (status, "PROVED" in said) == (0, True), said
    assert "every API server uses the key" in said
    new = (await ask_status(lab.socket(1))).key_id
    _, proof = await lab.prove("--kms-socket", str(lab.socket(1)))
    assert {each["key_id"] for each in proof["secrets"]} == {new}
    # Then the old key may go, and everything is still read, by both.
    assert (await lab.run("kms", "retire", old, *config))[0] == 2
    (lab.folder / "proof.json").write_text(json.dumps(proof))
    proved = ("--proof", str(lab.folder / "proof.json"))
    status, said = await lab.run("kms", "retire", old, *config, *proved)
    assert (status, "Nothing is under it of: secrets" in said) == (0, True), said
    lab.processes.signal("kms1", 1)
    assert await lab.get("by-one") == await lab.get("by-two", second) == MARKED


async def test_an_outage_of_the_backend_and_a_restart_of_both(lab) -> None:
    create_key_file(lab.folder / "offline.key")
    offline = {
        "offline_cache": str(lab.folder / "offline.json"),
        "offline_key_file": str(lab.folder / "offline.key"),
    }
    await lab.plugin(**offline)
    await lab.control.start(lab.encryption(("secrets", [lab.kms(), IDENTITY])))
    await lab.put("before")
    # The backend is gone; the plugin and the API server start again.
    (lab.folder / "kms.key").rename(lab.folder / "away.key")
    lab.processes.stop("kms1")
    (lab.folder / "kms.key").write_text("")
    await lab.plugin(**offline)
    await lab.control.restart_apiserver(lab.control.encryption)
    assert await lab.get("before") == MARKED
    await lab.put("during")
    assert await lab.get("during") == MARKED
    # Without the cache the plugin says that it waits, the API server is not ready, nothing is lost.
    lab.processes.stop("kms1")
    (lab.folder / "offline.json").unlink()
    lab.start_plugin(**offline)
    await lab.plugin_says("too few backends open the key")
    (lab.folder / "away.key").rename(lab.folder / "kms.key")
    await lab.plugin_is_ready()
    await lab.control.restart_apiserver(lab.control.encryption)
    assert await lab.get("during") == MARKED


async def test_a_snapshot_file_tells_what_is_and_what_was(lab) -> None:
    await lab.plugin()
    await lab.control.start()
    await lab.put("was-plain")
    await lab.control.restart_apiserver(lab.encryption(("secrets", [lab.kms(), IDENTITY])))
    await lab.put("sealed")
    await lab.run(
        "encrypt",
        "migrate",
        "--kubeconfig",
        str(lab.control.kubeconfig),
        "--kms-socket",
        str(lab.socket()),
    )
    async with HttpClient() as http:
        reply = await http.request(
            "POST", f"{lab.control.etcd_url}/v3/maintenance/snapshot", body=b"{}"
        )
    blob = b"".join(
        base64.b64decode(json.loads(line)["result"].get("blob", ""))
        for line in reply.body.splitlines()
        if line.strip()
    )
    (lab.folder / "snapshot.db").write_bytes(blob)
    words = (
        "encrypt",
        "prove",
        "--snapshot",
        str(lab.folder / "snapshot.db"),
        "--kms-socket",
        str(lab.socket()),
        "--format",
        "json",
    )
    status, said = await lab.run(*words)
    proof = json.loads(said)
    assert (status, proof["holds"], proof["method"]) == (0, True, "snapshot")
    assert {each["name"] for each in proof["secrets"]} == {"was-plain", "sealed"}
    # It is encrypted now; what it was before is still in the file until compaction and defrag.
    assert proof["older_plaintext"] >= 1
    (lab.folder / "broken.db").write_bytes(blob[: len(blob) // 3])
    (lab.folder / "other.db").write_bytes(b"x" * 9000)
    changed = bytearray(blob)
    changed[len(blob) // 2] ^= 1
    (lab.folder / "changed.db").write_bytes(changed)
    for name in ("broken.db", "other.db", "changed.db", "absent.db"):
        status, _ = await lab.run("encrypt", "prove", "--snapshot", str(lab.folder / name))
        assert status in (2, 3)


READER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "migrator"},
    "rules": [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "patch"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ],
}
FLOW = "flowcontrol.apiserver.k8s.io/v1"
# One request at a time, and what comes beside it is refused.
LEVEL = {
    "apiVersion": FLOW,
    "kind": "PriorityLevelConfiguration",
    "metadata": {"name": "narrow"},
    "spec": {
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        },
    },
}  # fmt: skip


def flow_schema(account: str) -> dict:
    """All that an account asks for goes to the narrow level."""
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True}
    who = {"namespace": "default", "name": account}
    rule = {
        "subjects": [{"kind": "ServiceAccount", "serviceAccount": who}],
        "resourceRules": [{**everything, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }
    level = {"priorityLevelConfiguration": {"name": "narrow"}}
    spec = {**level, "matchingPrecedence": 50, "rules": [rule]}
    return {
        "apiVersion": FLOW, "kind": "FlowSchema", "metadata": {"name": account}, "spec": spec,
    }  # fmt: skip


def account(lab, name: str) -> Path:
    """A service account on the narrow level, and its kubeconfig."""
    lab.control.kubectl("apply", "-f", "-", stdin=json.dumps(flow_schema(name)))
    lab.control.kubectl("create", "serviceaccount", name)
    subject = f"--serviceaccount=default:{name}"
    lab.control.kubectl("create", "clusterrolebinding", name, "--clusterrole=migrator", subject)
    path = lab.folder / f"{name}.kubeconfig"
    lab.control.write_kubeconfig(path, lab.control.kubectl("create", "token", name).strip())
    return path


async def patches(lab, code: int) -> float:
    """How many patches of secrets the API server answered with this code."""
    async with KubeClient(lab.control.config(), CLOCK) as api:
        text = (await api.raw("/metrics")).decode()
    labels = (f'code="{code}"', 'resource="secrets"', 'verb="PATCH"')
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("apiserver_request_total{") and all(each in line for each in labels)
    )


async def crowd(lab, kubeconfig: Path, stop: asyncio.Event) -> None:
    """Others who want the one place."""

    async def one() -> None:
        async with KubeClient(load_kubeconfig(kubeconfig), CLOCK) as api:
            while not stop.is_set():
                with contextlib.suppress(Refusal):
                    await api.raw("/api/v1/secrets")

    await asyncio.gather(*(one() for _ in range(8)))


async def test_migration_yields_to_priority_and_fairness_and_to_another_writer(lab) -> None:
    count = 80  # enough work at that rate to be met by a crowd that is slow to gather
    await lab.plugin()
    await lab.control.start()
    for number in range(count):
        await lab.put(f"s{number:02}")
    await lab.control.restart_apiserver(lab.encryption(("secrets", [lab.kms(), IDENTITY])))
    for item in (READER, LEVEL):
        lab.control.kubectl("create", "-f", "-", stdin=json.dumps(item))
    migrator, others = account(lab, "migrator"), account(lab, "others")
    written: dict[str, str] = {}
    async with KubeClient(lab.control.config(), CLOCK) as api:
        migrating = asyncio.create_task(
            lab.run_beside(
                "encrypt", "migrate", "--kubeconfig", str(migrator), "--etcd",
                lab.control.etcd_url, "--kms-socket", str(lab.socket()), "--rate", "10",
            )
        )  # fmt: skip

        async def write_on() -> None:
            number = 0
            while not migrating.done():
                name, value = f"s{number % count:02}", f"{MARKED}-{number}"
                await api.merge_patch(SECRETS, name, "default", {"stringData": {"k": value}})
                written[name] = value
                number += 1
                await CLOCK.sleep(0.02)

        async def at_work() -> bool | None:
            return True if await patches(lab, 200) > 3 else None

        # Nobody else patches yet, so these are its own: it is past what it asks for beforehand.
        await until("the migration to be at work", at_work, CLOCK, seconds=240)
        writing = asyncio.create_task(write_on())
        stop = asyncio.Event()
        crowding = asyncio.create_task(crowd(lab, others, stop))

        async def refused() -> bool | None:
            assert not migrating.done(), await migrating
            return True if await patches(lab, 429) > 2 else None

        await until("the server to refuse the migration", refused, CLOCK, seconds=120)
        stop.set()
        await crowding
        status, said = await migrating
        await writing
        assert (status, "PROVED" in said) == (0, True), said
        assert "the server was busy" in said
        assert len(written) > 10  # A busy machine may not come to write each of them.
        for name, value in written.items():
            stored = (await api.get(SECRETS, name, "default"))["data"]["k"]
            assert base64.b64decode(stored).decode() == value
    assert set((await lab.verdicts()).values()) == {"ok"}
