"""The cluster of the suite: a control plane started once, and a node where the machine has one."""

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from strongroom.app.cluster.binaries import cache_folder, resolve
from strongroom.app.cluster.control_plane import ControlPlane
from strongroom.app.cluster.node import Node, missing_capabilities
from strongroom.app.dev.processes import Processes
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Unavailable

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="session")
def background() -> Iterator[Run]:
    """Runs coroutines on a loop of its own, in a thread that lives as long as the session.

    Child processes end with the thread that started them, so it must not be a test's.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def cluster_folder() -> Iterator[Path]:
    # Short: a unix socket's path has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="sr-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(cluster_folder: Path, background: Run) -> Iterator[ControlPlane]:
    """A real API server on real etcd."""
    if not os.environ.get("CI") and not (cache_folder() / "kube-apiserver").exists():
        pytest.skip("the cluster binaries are not built; script/test builds them")
    with Processes(cluster_folder / "logs") as processes:
        control = ControlPlane(cluster_folder, resolve(), processes, SystemClock())
        background(control.start())
        yield control


@dataclass(frozen=True)
class NodeCluster:
    """A control plane with one node."""

    control: ControlPlane
    node: Node


@pytest.fixture(scope="session")
def node_cluster(cluster: ControlPlane, background: Run) -> Iterator[NodeCluster]:
    """The cluster with a node for real pods; fails in CI where the machine cannot host one."""
    missing = missing_capabilities(cluster)
    if missing:
        said = "this machine cannot host a node: " + "; ".join(missing)
        if os.environ.get("CI") and os.environ.get("STRONGROOM_ALLOW_NO_NODE") != "1":
            pytest.fail(said + " (STRONGROOM_ALLOW_NO_NODE=1 accepts that)")
        pytest.skip(said)
    node = Node(cluster, SystemClock())
    package = Path(__file__).resolve().parents[1] / "src" / "strongroom"
    try:
        background(node.start([(package, "/opt/strongroom/strongroom")]))
    except Unavailable as refusal:
        node.stop()
        pytest.fail(str(refusal))
    yield NodeCluster(cluster, node)
    node.stop()
