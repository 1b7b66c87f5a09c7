"""`strongroom operator`: syncs ExternalSecrets into Secrets, until it is told to stop."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from strongroom.kube.config import KubeConfig

EXAMPLE: Final = """example:
  strongroom operator --kubeconfig ~/.kube/config --install-crds
  strongroom operator                       # in a pod, with its own service account
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "operator",
        help="sync external-secrets.io objects into Secrets",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_cluster_arguments(parser)
    parser.add_argument(
        "--install-crds", action="store_true", help="apply the external-secrets.io definitions"
    )
    parser.add_argument(
        "--kube-audit-log",
        type=Path,
        metavar="F",
        help="the API server's audit log, to name who changed or deleted a Secret",
    )
    parser.set_defaults(run=run)


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--kubeconfig` and `--context`."""
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="F", help="else KUBECONFIG, the pod, ~/.kube/config"
    )
    parser.add_argument("--context", default="", help="context of the kubeconfig")


def cluster_config(args: argparse.Namespace) -> "KubeConfig":
    """Which cluster the arguments and the environment mean."""
    from strongroom.kube.config import in_cluster, load_kubeconfig

    path = args.kubeconfig or os.environ.get("KUBECONFIG")
    if path:
        return load_kubeconfig(Path(path), args.context)
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    if host:
        return in_cluster(host, os.environ.get("KUBERNETES_SERVICE_PORT", ""))
    return load_kubeconfig(Path.home() / ".kube" / "config", args.context)


def run(args: argparse.Namespace) -> int:
    """Run the controllers."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_operate(args))
    return 0


async def _operate(args: argparse.Namespace) -> None:
    from strongroom.kube.client import KubeClient
    from strongroom.kube.resource import CRDS
    from strongroom.model.clock import SystemClock
    from strongroom.sync.controller import SyncController
    from strongroom.sync.crds import CLUSTER_SECRET_STORES, SECRET_STORES, crds
    from strongroom.sync.store_controller import StoreController
    from strongroom.sync.stores import Stores, VaultStores

    clock = SystemClock()
    async with KubeClient(cluster_config(args), clock) as api:
        if args.install_crds:
            for definition in crds():
                await api.apply(CRDS, definition, "strongroom")
        stores = Stores(api, VaultStores(api, clock))
        sync = SyncController(api, stores, clock, _who_changed(args.kube_audit_log))
        runs = [sync.run()]
        for resource in (SECRET_STORES, CLUSTER_SECRET_STORES):
            runs.append(StoreController(api, resource, stores, clock).run())
        print("strongroom: operator running", file=sys.stderr, flush=True)
        await _until_told(runs)
        await stores.close()


async def _until_told(runs: "list[asyncio.coroutines.Coroutine[None, None, None]]") -> None:  # type: ignore[name-defined]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks = [asyncio.ensure_future(each) for each in runs]
    waiting = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
    for task in (*tasks, waiting):
        task.cancel()
    await asyncio.gather(*tasks, waiting, return_exceptions=True)
    for task in done - {waiting}:
        task.result()


def _who_changed(log: Path | None) -> Callable[[str, str], Awaitable[str]]:
    from strongroom.audit.kubernetes_log import last_change
    from strongroom.kube.client import USER_AGENT

    async def ask(namespace: str, name: str) -> str:
        event = last_change(log, namespace, name, USER_AGENT) if log else None
        if event is None:
            return ""
        return f"{event.user} ({event.verb}, {event.user_agent.partition(' ')[0]})"

    return ask
