"""What the tour stands on: the store, the KMS plugin, the cluster, the operator, in one folder."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from strongroom.app.cluster.binaries import resolve
from strongroom.app.cluster.control_plane import ControlPlane, free_port
from strongroom.app.cluster.node import Node, missing_capabilities
from strongroom.app.dev.manifests import (
    STORE_AUDIENCE,
    SYSTEM,
    identities,
    operator_parts,
    reviewer_rights,
)
from strongroom.app.dev.processes import Processes, die_with_parent
from strongroom.app.waiting import until
from strongroom.encrypt.kms.plugin import ask_status
from strongroom.kube.client import KubeClient
from strongroom.kube.token_review import request_token
from strongroom.model.clock import Clock
from strongroom.model.errors import Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.rbac import NAME as OPERATOR
from strongroom.wire.client import HttpClient
from strongroom.wire.vault import VaultClient

PORT: Final = 8200
DAY: Final = 86400
SOURCE: Final = Path(__file__).resolve().parents[3] / "strongroom"
PROVIDERS: Final = """\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - kms: {{apiVersion: v2, name: strongroom, endpoint: 'unix://{socket}'}}
  - identity: {{}}
"""


class Bed:
    """One session; everything it starts ends with `processes`."""

    def __init__(self, folder: Path, processes: Processes, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.processes = processes
        self.port = _preferred_port()
        self._control: ControlPlane | None = None
        self.node: Node | None = None
        self.node_address = ""

    # the store

    @property
    def address(self) -> str:
        """The store, for this machine."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def root_token_file(self) -> Path:
        """Mode 0600."""
        return self.folder / "store" / "root-token"

    @property
    def store_log(self) -> Path:
        """The store's audit log."""
        return self.folder / "store" / "audit.log"

    @property
    def control(self) -> ControlPlane:
        """The control plane, once it was started."""
        if self._control is None:
            raise Unavailable("no-cluster", "the cluster was not started")
        return self._control

    def _server(self, *more: str) -> Sequence[str]:
        store = str(self.folder / "store")
        key = str(self.folder / "seal.key")
        return ("server", "--data", store, "--seal-key-file", key, "--workers", "1", *more)

    async def start_store(self) -> None:
        """Start it and wait until it serves."""
        self.processes.strongroom("store", *self._server("--listen", f"127.0.0.1:{self.port}"))

        async def serves() -> bool | None:
            self.processes.check("store")
            async with HttpClient() as http:
                reply = await http.request("GET", f"{self.address}/v1/sys/health")
            return True if reply.status == 200 else None

        await until("the store", serves, self.clock)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[VaultClient]:
        """A client with the root token."""
        async with HttpClient() as http:
            token = Secret(self.root_token_file.read_text().strip())
            yield VaultClient(self.address, token, http)

    # the cluster

    async def build(self) -> None:
        """Make the binaries ready; progress goes to standard error."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "strongroom.app.cluster", "build"),
            preexec_fn=die_with_parent,
            start_new_session=True,
        )
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            os.killpg(process.pid, signal.SIGTERM)
            await process.wait()
            raise
        if status:
            raise Unavailable("no-binaries", "the cluster binaries could not be made ready")

    async def start_cluster(self) -> None:
        """Start API server, etcd and controller manager, and the identities of the tour."""
        binaries = resolve(again=True)
        self._control = ControlPlane(self.folder / "cluster", binaries, self.processes, self.clock)
        await self._control.start()
        self.apply(*identities(), *operator_parts(), *reviewer_rights())

    def encryption(self) -> Path:
        """The API server's encryption configuration, as people write it."""
        path = self.folder / "encryption.yaml"
        path.write_text(PROVIDERS.format(socket=self.kms_socket))
        return path

    @property
    def kms_socket(self) -> Path:
        """Where the plugin listens."""
        return self.folder / "kms.sock"

    async def start_kms(self) -> None:
        """Start the plugin with a key file of its own."""
        key, state = str(self.folder / "kms.key"), str(self.folder / "kms.json")
        self.processes.strongroom(
            "kms", "kms", "serve", "--create-key", "--socket", str(self.kms_socket),
            "--key-file", key, "--state", state,
        )  # fmt: skip

        async def healthy() -> bool | None:
            self.processes.check("kms")
            return True if (await ask_status(self.kms_socket)).healthz == "ok" else None

        await until("the KMS plugin", healthy, self.clock)

    async def connect_store(self) -> None:
        """Let the store review this cluster's tokens (Kubernetes auth)."""
        control = self.control
        async with KubeClient(control.config(), self.clock) as api, self.store() as store:
            reviewer = await request_token(api, SYSTEM, "reviewer", (), DAY)
            await store.request("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
            config = {
                "kubernetes_host": control.url,
                "kubernetes_ca_cert": control.ca_file.read_text(),
                "token_reviewer_jwt": reviewer.reveal_text(),
            }
            await store.request("POST", "auth/kubernetes/config", config)

    async def grant(self, role: str, namespace: str, path: str) -> None:
        """Let a service account of the same name read a path of the store."""
        policy = f'path "{path}" {{ capabilities = ["read"] }}\n'
        bound = {
            "bound_service_account_names": role,
            "bound_service_account_namespaces": namespace,
            "audience": STORE_AUDIENCE,
            "policies": role,
            "ttl": "1h",
        }
        async with self.store() as store:
            await store.request("PUT", f"sys/policies/acl/{role}", {"policy": policy})
            await store.request("POST", f"auth/kubernetes/role/{role}", bound)

    async def start_operator(self) -> None:
        """Start the operator as its own service account."""
        path = self.folder / "operator.kubeconfig"
        async with KubeClient(self.control.config(), self.clock) as api:
            token = await request_token(api, SYSTEM, OPERATOR, (), DAY)
        self.control.write_kubeconfig(path, token.reveal_text())
        self.processes.strongroom(
            "operator", "operator", "--kubeconfig", str(path),
            "--lease-namespace", SYSTEM, "--kube-audit-log", str(self.control.audit_log),
        )  # fmt: skip

        async def runs() -> bool | None:
            self.processes.check("operator")
            return (
                True if "operator running" in self.processes.log("operator").read_text() else None
            )

        await until("the operator", runs, self.clock)

    def missing_for_node(self) -> list[str]:
        """What this machine lacks to host pods."""
        return missing_capabilities(self.control)

    async def start_node(self) -> None:
        """Start a node for real pods, and serve the store to them over TLS."""
        self.node = Node(self.control, self.clock)
        await self.node.start([(SOURCE, "/opt/strongroom/strongroom")])
        listen = f"{self.node.gateway}:{free_port()}"
        self.processes.strongroom(
            "store-for-pods", *self._server("--listen", listen, "--tls-self-signed")
        )
        self.node_address = f"https://{listen}"

        async def serves() -> bool | None:
            self.processes.check("store-for-pods")
            async with HttpClient(ca_file=self.ca_file) as http:
                reply = await http.request("GET", f"{self.node_address}/v1/sys/health")
            return True if reply.status == 200 else None

        await until("the store for pods", serves, self.clock)

    @property
    def ca_file(self) -> Path:
        """The authority of the store's certificate for pods."""
        return self.folder / "store" / "ca.pem"

    # what a user would type

    def apply(self, *manifests: dict[str, Any]) -> None:
        """`kubectl apply --server-side -f -` of a list."""
        whole = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.control.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(whole))

    async def cli(self, *words: str, stdin: str = "", expect: int = 0) -> list[str]:
        """Run `strongroom WORDS` as the user would after the three lines; its output's lines.

        Raises Unavailable when the status is not the expected one.
        """
        environment = {
            **os.environ,
            "VAULT_ADDR": self.address,
            "VAULT_TOKEN": self.root_token_file.read_text().strip(),
            "COLUMNS": "150",
        }
        if self._control:
            environment["KUBECONFIG"] = str(self._control.kubeconfig)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "strongroom", *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        out, err = await process.communicate(stdin.encode())
        if process.returncode != expect:
            said = (err or out).decode(errors="replace").strip()[-400:]
            raise Unavailable("step-failed", f"strongroom {' '.join(words)}: {said}")
        return out.decode().rstrip().splitlines()

    def stop_node(self) -> None:
        """Take the node away; its mounts and namespaces do not end with its processes."""
        if self.node is not None:
            self.node.stop()


def _preferred_port() -> int:
    """Vault's own port when it is free, so that habits work; else another."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return free_port()
    return PORT
