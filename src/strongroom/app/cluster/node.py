"""A node with real pods: containerd of its own, a bridge network, scheduler and kubelet.

Nothing of the machine's own container runtime is touched, and nothing is left behind.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from strongroom.app.cluster.control_plane import ControlPlane, free_port
from strongroom.app.cluster.image import BUSYBOX, busybox_layer, python_layer, write_archive
from strongroom.app.waiting import until
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import Resource
from strongroom.model.clock import Clock
from strongroom.model.errors import Unavailable

NODES: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
NAME: Final = "node1"
SHELL_IMAGE: Final = "strongroom.local/shell:dev"
PYTHON_IMAGE: Final = "strongroom.local/python:dev"
CNI_PLUGINS: Final = Path("/usr/lib/cni")
NETWORK_NAMESPACES: Final = Path("/run/netns")
SUBNET: Final = "10.88.{number}"

CONTAINERD: Final = """\
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
"""


def missing_capabilities(control: ControlPlane) -> list[str]:
    """What this machine lacks to host a node, each as a sentence; empty when it can."""
    found = []
    if os.geteuid() != 0:
        found.append("root is needed to make network namespaces and mounts")
    for program in ("containerd", "containerd-shim-runc-v2", "runc", "ctr", "ip"):
        if shutil.which(program) is None:
            found.append(f"{program} is not installed")
    if not (CNI_PLUGINS / "bridge").exists():
        found.append("the CNI plugins are not installed (containernetworking-plugins)")
    if not BUSYBOX.exists():
        found.append("a static busybox is not installed (busybox-static)")
    if not control.binaries.has("kubelet", "kube-scheduler", "kube-controller-manager"):
        found.append("the cluster binaries have no kubelet and scheduler")
    if not found and subprocess.run(["unshare", "-n", "-m", "true"], check=False).returncode:
        found.append("this machine does not allow new network and mount namespaces")
    return found


class Node:
    """One node beside a control plane."""

    def __init__(self, control: ControlPlane, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._folder = control.folder / "n"
        number = control.folder.stat().st_ino % 200 + 20
        self._subnet = SUBNET.format(number=number)
        self._bridge = f"strongroom{number}"
        self._namespaces_before: set[str] = set()

    @property
    def gateway(self) -> str:
        """The host's address as pods see it."""
        return f"{self._subnet}.1"

    async def start(self, packages: Sequence[tuple[Path, str]] = ()) -> None:
        """Start everything and wait until the node is ready; `packages` go into PYTHON_IMAGE.

        Raises Unavailable naming what the machine lacks.
        """
        missing = missing_capabilities(self._control)
        if missing:
            raise Unavailable("no-node", "this machine cannot host a node: " + "; ".join(missing))
        self._namespaces_before = _network_namespaces()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_bridge()
        self._write_files()
        processes = self._control.processes
        processes.start(
            "containerd", ["containerd", "--config", str(self._folder / "containerd.toml")]
        )
        await until("containerd", self._containerd_answers, self._clock)
        self._import(SHELL_IMAGE, busybox_layer(), ("/bin/sleep", "2147483647"))
        self._import(PYTHON_IMAGE, python_layer(packages), ("/usr/bin/python3",))
        processes.start(
            "kube-scheduler",
            [
                str(self._control.binaries.path("kube-scheduler")),
                *("--kubeconfig", str(self._control.folder / "scheduler.kubeconfig")),
                *("--secure-port", str(free_port()), "--bind-address", "127.0.0.1"),
                "--leader-elect=false",
            ],
        )
        self._start_kubelet()
        await until("the node", self._ready, self._clock, seconds=240)

    def _make_bridge(self) -> None:
        # Made here and not by the first pod, so that servers can listen on it from the start.
        subprocess.run(["ip", "link", "add", self._bridge, "type", "bridge"], check=False)
        address = f"{self.gateway}/24"
        subprocess.run(["ip", "addr", "add", address, "dev", self._bridge], check=False)
        subprocess.run(["ip", "link", "set", self._bridge, "up"], check=True)

    def _write_files(self) -> None:
        folder = self._folder
        (folder / "cni").mkdir(exist_ok=True)
        network = {
            "cniVersion": "0.4.0",
            "name": self._bridge,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self._bridge,
                    "isGateway": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(folder / "cni-data"),
                        "ranges": [[{"subnet": f"{self._subnet}.0/24"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }
        (folder / "cni" / "10-bridge.conflist").write_text(json.dumps(network))
        config = CONTAINERD.format(
            folder=folder, image=SHELL_IMAGE, plugins=CNI_PLUGINS, snapshotter=_snapshotter(folder)
        )
        (folder / "containerd.toml").write_text(config)
        kubelet = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.gateway,
            "port": free_port(),
            "healthzPort": 0,
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(self._control.folder / "kubelet-ca.crt")},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
            "clusterDNS": [],
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": False,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "1Mi"},
            "syncFrequency": "2s",
            "podLogsDir": str(folder / "pod-logs"),
        }
        (folder / "kubelet.yaml").write_text(yaml.safe_dump(kubelet))

    def _start_kubelet(self) -> None:
        command = [
            str(self._control.binaries.path("kubelet")),
            *("--kubeconfig", str(self._control.folder / "node.kubeconfig")),
            *("--config", str(self._folder / "kubelet.yaml"), "--hostname-override", NAME),
            *("--root-dir", str(self._folder / "kubelet"), "--node-ip", self.gateway),
            *("--cert-dir", str(self._folder / "kubelet-certs")),
        ]
        self._control.processes.start("kubelet", command)

    def _ctr(self, *arguments: str, check: bool = False) -> str:
        address = str(self._folder / "containerd.sock")
        done = subprocess.run(
            ["ctr", "--address", address, "-n", "k8s.io", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise Unavailable("containerd", f"ctr {arguments[0]}: {done.stderr.strip()[-300:]}")
        return done.stdout

    async def _containerd_answers(self) -> bool | None:
        self._control.processes.check("containerd")
        return True if "Version" in self._ctr("version") else None

    def _import(self, name: str, layer: bytes, command: Sequence[str]) -> None:
        archive = self._folder / "image.tar"
        write_archive(archive, name, layer, command)
        arguments = ("--snapshotter", _snapshotter(self._folder), str(archive))
        self._ctr("images", "import", *arguments, check=True)
        archive.unlink()

    async def _ready(self) -> bool | None:
        self._control.processes.check("kubelet")
        async with KubeClient(self._control.config(), self._clock) as api:
            node = await api.get(NODES, NAME)
        conditions = node.get("status", {}).get("conditions", [])
        states = {each["type"]: each["status"] for each in conditions}
        # A taint that says "not ready" outlives the condition for a moment.
        return True if states.get("Ready") == "True" and not node["spec"].get("taints") else None

    def stop(self) -> None:
        """End pods, kubelet and containerd, and take away mounts, bridge and namespaces."""
        processes = self._control.processes
        for name in ("kubelet", "kube-scheduler"):
            with contextlib.suppress(KeyError):
                processes.stop(name)
        for task in self._ctr("tasks", "ls", "-q").split():
            self._ctr("tasks", "kill", "--signal", "SIGKILL", "--all", task)
            self._ctr("tasks", "rm", "--force", task)
        with contextlib.suppress(KeyError):
            processes.stop("containerd")
        _kill_shims(str(self._folder))
        for namespace in _network_namespaces() - self._namespaces_before:
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
        _unmount_below(self._folder)
        subprocess.run(["ip", "link", "del", self._bridge], check=False, capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def _snapshotter(folder: Path) -> str:
    # overlayfs cannot lie on overlayfs; copying files always works and is slower.
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, filesystem, *_ = line.split()
        if str(folder.resolve()).startswith(place) and len(place) > len(best):
            best, kind = place, filesystem
    return "native" if kind in ("overlay", "fuse-overlayfs", "9p") else "overlayfs"


def _network_namespaces() -> set[str]:
    if not NETWORK_NAMESPACES.exists():
        return set()
    return {path.name for path in NETWORK_NAMESPACES.iterdir() if path.name.startswith("cni-")}


def _kill_shims(marker: str) -> None:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if b"containerd-shim" in words[0] and any(
                    marker.encode() in each for each in words
                ):
                    os.kill(int(process.name), signal.SIGKILL)


def _unmount_below(folder: Path) -> None:
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted(places, reverse=True):
        if place.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
