"""Each trap as it lies on a node's disk, found by the command; a clean node has none of them."""

import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from strongroom.app.encrypt.check import _plugins
from strongroom.app.main import main
from strongroom.encrypt.check.configuration import parse
from strongroom.encrypt.check.facts import ConfigFile, Facts, Server
from strongroom.encrypt.check.registry import check
from strongroom.encrypt.kms.messages import SERVICE, StatusResponse
from strongroom.encrypt.setup import encryption_configuration, kms_configuration, static_pod
from strongroom.wire.grpc_unix import UnixServer

KMS = "{kms: {apiVersion: v2, name: strongroom, endpoint: 'unix:///run/strongroom/kms.sock'}}"
AESCBC = "{aescbc: {keys: [{name: k, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}}"
IDENTITY = "{identity: {}}"
HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
RELOADS = "apiserver_encryption_config_controller_automatic_reloads_total"
LOADED = "apiserver_encryption_config_controller_last_config_info"
ROTATED = 1_700_000_000
# What is only advice on a node that is as `init` leaves it.
ADVICE = {"E03", "E06"}


def entries(*given: tuple[str, list[str]]) -> str:
    lines = [
        f"- {{resources: [{names}], providers: [{', '.join(providers)}]}}\n"
        for names, providers in given
    ]
    return HEAD + "".join(lines)


class Node:
    """The files of a control-plane node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config(encryption_configuration())
        self.pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "spec": {
                "containers": [
                    {
                        "command": [
                            "kube-apiserver",
                            "--encryption-provider-config=/enc/encryption.yaml",
                            "--encryption-provider-config-automatic-reload=true",
                            "--service-cluster-ip-range=10.96.0.0/12",
                        ],
                        "livenessProbe": {"httpGet": {"path": "/livez"}},
                        "volumeMounts": [{"name": "enc", "mountPath": "/enc"}],
                    }
                ],
                "volumes": [{"name": "enc", "hostPath": {"path": "/enc", "type": "Directory"}}],
            },
        }
        self.write("kms.yaml", kms_configuration("c1"))
        self.write("kms-pod.yaml", static_pod("image"))
        self.backup(ROTATED + 60)
        self.words: list[str] = []

    @property
    def container(self) -> dict:
        return self.pod["spec"]["containers"][0]  # type: ignore[index]

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o600)
        return path

    def config(self, content: str) -> None:
        self.write("enc/encryption.yaml", content)

    def metrics(self, *lines: str) -> None:
        self.words += ["--metrics", str(self.write("metrics", "\n".join(lines)))]

    def backup(self, taken: float) -> None:
        path = self.write("backups/etcd.db", "")
        os.utime(path, (taken, taken))

    def found(self, capsys) -> dict[str, list[str]]:
        """Severities by check, as the command says them."""
        manifest = self.write("kube-apiserver.yaml", json.dumps(self.pod))
        words = ["--manifest", str(manifest), "--root", str(self.folder), *self.words]
        words += ["--plugin-config", str(self.folder / "kms.yaml")]
        words += ["--plugin-manifest", str(self.folder / "kms-pod.yaml")]
        words += ["--backups", str(self.folder / "backups"), "--rotated", "2023-11-14T22:13:20Z"]
        capsys.readouterr()
        status = main(["encrypt", "check", *words, "--format", "json"])
        found: dict[str, list[str]] = {}
        for each in json.loads(capsys.readouterr().out)["findings"]:
            found.setdefault(each["check"], []).append(each["severity"])
        assert status == int(any("error" in each for each in found.values()))
        return found


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_clean_node_has_none(node: Node, capsys) -> None:
    node.metrics(f'{LOADED}{{hash="{parse(encryption_configuration().encode()).digest}"}} 1')
    assert set(node.found(capsys)) == ADVICE


def no_flag(node: Node) -> None:
    node.container["command"] = ["kube-apiserver"]


def mounted_as_file(node: Node) -> None:
    node.container["volumeMounts"][0]["mountPath"] = "/enc/encryption.yaml"
    host = {"path": "/enc/encryption.yaml", "type": "File"}
    node.pod["spec"]["volumes"][0]["hostPath"] = host


def another_server(node: Node) -> None:
    other = node.write("other.yaml", entries(("secrets", [AESCBC])))
    here = str(node.folder / "enc/encryption.yaml")
    node.words += ["--config", here, "--config", str(other)]


def readable(node: Node) -> None:
    (node.folder / "enc/encryption.yaml").chmod(0o644)


def backend_in_the_cluster(node: Node, address: str = "https://vault.vault.svc:8200") -> None:
    backend = {"name": "v", "type": "transit", "address": address, "key": "k", "token_file": "/t"}
    given = {"socket": "/s", "state": "/t", "backends": [backend]}
    node.write("kms.yaml", json.dumps(given))


def a_pod_with_a_secret(node: Node) -> None:
    spec = {
        "hostNetwork": True,
        "containers": [{"name": "kms"}],
        "volumes": [{"name": "token", "secret": {"secretName": "t"}}],
    }
    node.write("kms-pod.yaml", json.dumps({"apiVersion": "v1", "kind": "Pod", "spec": spec}))


def configured(*given: tuple[str, list[str]]) -> Callable[[Node], None]:
    return lambda node: node.config(entries(*given))


def probing(path: str) -> Callable[[Node], None]:
    return lambda node: node.container.update(livenessProbe={"httpGet": {"path": path}})


ABSTRACT = KMS.replace("unix:///run/strongroom/kms.sock", "unix:///@kms")
TRAPS: list[tuple[str, str, Callable[[Node], None]]] = [
    ("E00", "error", configured(("secrets, '*.'", [KMS]))),
    ("E00", "error", lambda node: node.config("kind: Pod")),
    ("E01", "error", no_flag),
    ("E02", "error", configured(("secrets", [IDENTITY, KMS]))),
    ("E02", "error", configured(("configmaps", [KMS]))),
    ("E05", "error", configured(("secret", [KMS]), ("secrets", [KMS]))),
    ("E05", "error", configured(("secrets, secrets.v1", [KMS]))),
    ("E07", "error", configured(("secrets", [IDENTITY]), ("secrets", [KMS]))),
    ("E08", "error", configured(("secrets", [IDENTITY]), ("'*.*'", [KMS]))),
    ("E08", "warning", configured(("events", [IDENTITY]), ("'*.*'", [KMS]))),
    ("E10", "error", lambda node: node.metrics(f'{LOADED}{{hash="sha256:00"}} 1')),
    ("E11", "error", lambda node: node.metrics(f'{RELOADS}{{status="failure"}} 3')),
    ("E12", "warning", mounted_as_file),
    ("E13", "error", another_server),
    ("E16", "warning", configured(("secrets", [AESCBC]))),
    ("E17", "error", configured(("secrets", [KMS.replace("apiVersion: v2, ", "")]))),
    ("E19", "warning", readable),
    ("E20", "error", configured(("secrets", [ABSTRACT]))),
    ("E21", "error", backend_in_the_cluster),
    ("E21", "error", lambda node: backend_in_the_cluster(node, "https://10.96.0.7:8200")),
    ("E21", "error", a_pod_with_a_secret),
    ("E22", "error", probing("/healthz")),
    ("E24", "warning", lambda node: node.backup(ROTATED - 60)),
]


@pytest.mark.parametrize(
    ("name", "severity", "spring"),
    TRAPS,
    ids=[f"{name}-{number}" for number, (name, *_) in enumerate(TRAPS)],
)
def test_a_trap_on_disk_is_found(node: Node, capsys, name: str, severity: str, spring) -> None:
    assert name not in node.found(capsys)
    spring(node)
    assert severity in node.found(capsys)[name]


# what a socket says


class Foreign:
    """Plugins of other makers on real sockets; what each calls its key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[UnixServer] = []

    async def start(self, name: str, key_id: str, healthz: str = "ok") -> Path:
        async def status(message: bytes) -> bytes:
            return StatusResponse("v2", healthz, key_id).dumps()

        self.servers.append(UnixServer(SERVICE, {"Status": status}))
        await self.servers[-1].start(self.folder / name)
        return self.folder / name

    async def found(self, *names: str) -> dict[str, list[str]]:
        listed = ", ".join(
            f"{{kms: {{apiVersion: v2, name: {name}, endpoint: 'unix://{self.folder / name}'}}}}"
            for name in names
        )
        config = ConfigFile("e", parse(entries(("secrets", [listed])).encode()))
        servers = (Server("s", config=config),)
        report = check(Facts(servers=servers, plugins=await _plugins(servers)))
        found: dict[str, list[str]] = {}
        for each in report.findings:
            found.setdefault(each.check, []).append(each.severity)
        return found


@pytest.fixture
async def foreign() -> AsyncIterator[Foreign]:
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        made = Foreign(Path(folder))
        yield made
        for each in made.servers:
            await each.stop()


async def test_what_plugins_say_on_their_sockets_is_judged(foreign: Foreign) -> None:
    first = await foreign.start("a", "Zq81kD")
    assert not {"E15", "E18", "E20"} & set(await foreign.found("a"))
    # E15: one that is away, one that says so.
    assert (await foreign.found("a", "dead"))["E15"] == ["error"]
    await foreign.start("ill", "x1", "the KMS is away")
    assert (await foreign.found("a", "ill"))["E15"] == ["error"]
    # E18: a version number, and an id that two share.
    await foreign.start("numbers", "3")
    assert (await foreign.found("a", "numbers"))["E18"] == ["warning"]
    await foreign.start("b", "Zq81kD")
    assert (await foreign.found("a", "b"))["E18"] == ["error"]
    first.chmod(0o666)
    assert (await foreign.found("a"))["E20"] == ["error"]


async def test_a_socket_that_may_not_be_looked_at_is_told_and_not_called_dead(
    foreign: Foreign, capsys
) -> None:
    await foreign.start("a", "Zq81kD")
    hidden = "x" * 300  # Refused by the kernel before anything is looked up, as a closed folder is.
    assert "E15" not in await foreign.found("a", hidden)
    assert "was not asked" in capsys.readouterr().err
    config = ConfigFile(
        "e",
        parse(
            entries(
                ("secrets", [f"{{kms: {{apiVersion: v2, name: a, endpoint: 'unix:///{hidden}'}}}}"])
            ).encode()
        ),
    )
    assert await _plugins((Server("s", config=config),)) is None
