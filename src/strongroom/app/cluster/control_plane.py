"""etcd, kube-apiserver and the controller manager on loopback, in one folder, on free ports."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from strongroom.app.cluster.binaries import Binaries
from strongroom.app.dev.processes import Processes
from strongroom.app.waiting import until
from strongroom.crypto.x509_dev import issue
from strongroom.kube.client import KubeClient
from strongroom.kube.config import KubeConfig
from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal
from strongroom.model.secret import Secret

EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST_PORT: Final = 12_000
READY_SECONDS: Final = 240.0
SECOND: Final = "kube-apiserver-2"
SERVICE_RANGE: Final = "10.96.0.0/16"
AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "Metadata",
            "resources": [
                {
                    "group": "",
                    "resources": [
                        *("secrets", "serviceaccounts/token"),
                        *("pods/exec", "pods/attach", "pods/ephemeralcontainers"),
                    ],
                }
            ],
        },
        {"level": "None"},
    ],
}
# Whoever shows `client.crt` of the cluster's folder, which has no rights of its own.
CERTIFICATE_USER: Final = "certificate-user"
IDENTITIES: Final = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "node": ("system:node:node1", "system:nodes"),
}


def free_port() -> int:
    """A TCP port nobody listens on now, and that no connection is given meanwhile.

    That is one below those the kernel takes from when nobody says which (ip(7)), if there is room.
    """
    room = int(EPHEMERAL.read_text().split()[0]) - LOWEST_PORT
    while True:
        port = LOWEST_PORT + secrets.randbelow(room) if room > 1000 else 0
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Ports:
    """What the parts listen on."""

    api: int
    etcd: int
    etcd_peer: int
    controller_manager: int


class ControlPlane:
    """One cluster in one folder; its processes belong to the session that is given."""

    def __init__(
        self, folder: Path, binaries: Binaries, processes: Processes, clock: Clock
    ) -> None:
        self.folder = folder
        self.binaries = binaries
        self.processes = processes
        self._clock = clock
        self._ports = Ports(*(free_port() for _ in range(4)))
        self._tokens = {name: secrets.token_hex(16) for name in IDENTITIES}
        self.encryption: Path | None = None
        self.audit_policy: Mapping[str, object] = AUDIT_POLICY
        self.reloads_encryption = False
        self.controllers = binaries.has("kube-controller-manager")

    @property
    def url(self) -> str:
        """The API server."""
        return f"https://127.0.0.1:{self._ports.api}"

    @property
    def ca_file(self) -> Path:
        """What the API server's certificate is verified with."""
        return self.folder / "certs" / "apiserver.crt"

    @property
    def admin_token(self) -> str:
        """The bearer token of a cluster administrator."""
        return self._tokens["admin"]

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "admin.kubeconfig"

    @property
    def etcd_url(self) -> str:
        """etcd's client address."""
        return f"http://127.0.0.1:{self._ports.etcd}"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log."""
        return self.folder / "kube-audit.log"

    def config(self) -> KubeConfig:
        """How a client of ours reaches it as administrator."""
        return KubeConfig(
            server=self.url, ca_data=self.ca_file.read_text(), token=Secret(self.admin_token)
        )

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl as administrator and return what it prints."""
        done = subprocess.run(
            [str(self.binaries.path("kubectl")), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
        )
        return done.stdout

    async def start(self, encryption: Path | None = None) -> None:
        """Start everything and wait until it is ready; `encryption` is a provider configuration."""
        self.encryption = encryption
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_files()
        self.start_etcd()
        await self._start_apiserver()
        if self.controllers:
            self._start_controller_manager()
            await until("the default service account", self._default_account, self._clock)

    async def restart_apiserver(self, encryption: Path | None) -> None:
        """End the API server and start it with another encryption configuration.

        It is not asked to end, since it would wait for its watchers first.
        """
        self.processes.kill("kube-apiserver")
        self.encryption = encryption
        await self._start_apiserver()

    def kill_apiservers(self) -> None:
        """End the API servers at once."""
        for name in ("kube-apiserver", SECOND):
            if self.processes.runs(name):
                self.processes.kill(name)

    async def start_second(self, encryption: Path | None) -> KubeConfig:
        """Another API server on the same etcd, and how an administrator reaches it."""
        port, name = free_port(), SECOND
        self.processes.start(name, self._apiserver_command(port, encryption))
        config = self.config().at(f"https://127.0.0.1:{port}")

        async def ready() -> bool | None:
            return await self._ready(config, name)

        await until("the second API server", ready, self._clock, seconds=READY_SECONDS)
        return config

    async def _default_account(self) -> bool | None:
        async with KubeClient(self.config(), self._clock) as api:
            await api.raw("/api/v1/namespaces/default/serviceaccounts/default")
        return True

    def _write_files(self) -> None:
        made = issue(("service-accounts",), self._clock.now())
        _write_private(self.folder / "sa.key", made.key)
        (self.folder / "sa.crt").write_bytes(made.certificate)
        # How the API server proves itself to the kubelet, for logs and exec.
        made = issue(("kube-apiserver",), self._clock.now())
        _write_private(self.folder / "kubelet-client.key", made.key)
        (self.folder / "kubelet-client.crt").write_bytes(made.certificate)
        (self.folder / "kubelet-ca.crt").write_bytes(made.authority)
        # A client certificate's name is the user's.
        made = issue((CERTIFICATE_USER,), self._clock.now())
        _write_private(self.folder / "client.key", made.key)
        (self.folder / "client.crt").write_bytes(made.certificate)
        (self.folder / "client-ca.crt").write_bytes(made.authority)
        rows = [
            f'{self._tokens[name]},{user},{name},"{group}"'
            for name, (user, group) in IDENTITIES.items()
        ]
        tokens = self.folder / "tokens.csv"
        tokens.touch(0o600)
        tokens.write_text("\n".join(rows) + "\n")
        (self.folder / "audit-policy.yaml").write_text(yaml.safe_dump(self.audit_policy))
        for name, token in self._tokens.items():
            self.write_kubeconfig(self.folder / f"{name}.kubeconfig", token)

    def write_kubeconfig(self, path: Path, token: str) -> None:
        """Write a kubeconfig, mode 0600, for whoever has a bearer token."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        path.touch(0o600)
        # JSON is YAML, and read by whoever has not loaded the library for the other.
        path.write_text(json.dumps(config))

    def start_etcd(self) -> None:
        """Start etcd alone."""
        client, peer = self.etcd_url, f"http://127.0.0.1:{self._ports.etcd_peer}"
        command = [
            str(self.binaries.path("etcd")),
            *("--data-dir", str(self.folder / "etcd")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
            "--unsafe-no-fsync",
        ]
        self.processes.start("etcd", command)

    def _apiserver_command(self, port: int, encryption: Path | None) -> list[str]:
        folder = self.folder
        command = [
            str(self.binaries.path("kube-apiserver")),
            *("--etcd-servers", self.etcd_url, "--secure-port", str(port)),
            *("--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"),
            *("--cert-dir", str(folder / "certs"), "--token-auth-file", str(folder / "tokens.csv")),
            *("--client-ca-file", str(folder / "client-ca.crt")),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--service-account-key-file", str(folder / "sa.crt")),
            *("--service-account-signing-key-file", str(folder / "sa.key")),
            *("--authorization-mode", "Node,RBAC", "--service-cluster-ip-range", SERVICE_RANGE),
            *("--audit-policy-file", str(folder / "audit-policy.yaml")),
            *("--audit-log-path", str(self.audit_log), "--audit-log-mode", "blocking"),
            *("--kubelet-preferred-address-types", "InternalIP,Hostname"),
            *("--kubelet-client-certificate", str(folder / "kubelet-client.crt")),
            *("--kubelet-client-key", str(folder / "kubelet-client.key")),
            "--allow-privileged",
        ]
        if encryption:
            command += ["--encryption-provider-config", str(encryption)]
            if self.reloads_encryption:
                command += ["--encryption-provider-config-automatic-reload=true"]
        return command

    async def _start_apiserver(self) -> None:
        command = self._apiserver_command(self._ports.api, self.encryption)
        self.processes.start("kube-apiserver", command)
        await until("the API server", self._ready, self._clock, seconds=READY_SECONDS)

    async def _ready(
        self, config: KubeConfig | None = None, name: str = "kube-apiserver"
    ) -> bool | None:
        self.processes.check(name)
        self.processes.check("etcd")
        try:
            async with KubeClient(config or self.config(), self._clock) as api:
                await api.raw("/readyz")
        except (Refusal, OSError):
            return None
        return True

    def _start_controller_manager(self) -> None:
        command = [
            str(self.binaries.path("kube-controller-manager")),
            *("--kubeconfig", str(self.folder / "controller-manager.kubeconfig")),
            *("--service-account-private-key-file", str(self.folder / "sa.key")),
            *("--root-ca-file", str(self.ca_file), "--leader-elect=false"),
            *("--secure-port", str(self._ports.controller_manager)),
            *("--bind-address", "127.0.0.1", "--controllers", "*,-nodeipam"),
            "--use-service-account-credentials",
        ]
        self.processes.start("kube-controller-manager", command)


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(content)
