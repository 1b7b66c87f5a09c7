"""`strongroom operator`: syncs ExternalSecrets into Secrets, until it is told to stop.

With one of Vault's verbs behind it (`operator init`, `operator unseal`, ...) it speaks to a store.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from strongroom.kube.api import KubeApi
    from strongroom.kube.client import KubeClient
    from strongroom.kube.config import KubeConfig
    from strongroom.kube.election import Election
    from strongroom.model.clock import Clock
    from strongroom.sync.assembly import Operator
    from strongroom.sync.senders import Senders
    from strongroom.sync.target import ResolveKind

EXAMPLE: Final = """example:
  strongroom operator --kubeconfig ~/.kube/config --install-crds
  strongroom operator                       # in a pod, with its own service account
  strongroom operator --listen 0.0.0.0:8080 --notice-token-file /etc/strongroom/notices
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its verbs."""
    from strongroom.app.key_ceremonies import register_ceremonies
    from strongroom.app.operator_verbs import EXAMPLES, register_verbs
    from strongroom.app.snapshot_verbs import register_snapshots

    parser = register_alone(commands)
    parser.epilog = EXAMPLE + EXAMPLES
    verbs = parser.add_subparsers(metavar="VERB", title="about a store's seal")
    register_verbs(verbs)
    register_ceremonies(verbs)
    register_snapshots(verbs)


def register_alone(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> argparse.ArgumentParser:
    """Add the command without its verbs, which take longer to load than an operator may."""
    parser = commands.add_parser(
        "operator",
        help="sync external-secrets.io objects; init, unseal and rekey a store",
    )
    add_cluster_arguments(parser)
    parser.add_argument(
        "--install-crds",
        action="store_true",
        help="apply the external-secrets.io definitions; those of another program are kept",
    )
    parser.add_argument(
        "--kube-audit-log",
        type=Path,
        metavar="F",
        help="the API server's audit log, to name who changed or deleted a Secret",
    )
    _add_serving(parser)
    _add_scope(parser)
    parser.set_defaults(run=run)
    return parser


def _add_serving(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("probes, metrics, notices, replicas")
    group.add_argument(
        "--listen", default="", metavar="HOST:PORT", help="/healthz /readyz /metrics /notices"
    )
    group.add_argument(
        "--notice-token-file", type=Path, metavar="F", help="the token that senders must know"
    )
    group.add_argument(
        "--notice-senders", type=Path, metavar="F", help="senders known by signed tokens, as YAML"
    )
    group.add_argument("--no-leader-election", action="store_true", help="there is one replica")
    group.add_argument(
        "--lease", default="strongroom-operator", metavar="NAME", help="that the leader holds"
    )
    group.add_argument(
        "--lease-namespace", default="", metavar="NS", help="else the operator's own"
    )


def _add_scope(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is served, and how fast")
    group.add_argument("--namespace", default="", metavar="NS", help="serve this namespace alone")
    group.add_argument(
        "--controller-class", default="", metavar="C", help="leave stores of other classes alone"
    )
    group.add_argument("--workers", type=int, default=48, metavar="N", help="objects at a time")
    group.add_argument(
        "--reads-per-second", type=float, default=500.0, metavar="N", help="of each store"
    )
    group.add_argument(
        "--no-data-hash",
        action="store_true",
        help="do not write External Secrets Operator's hash, against which values can be guessed",
    )
    group.add_argument(
        "--no-source-versions",
        action="store_true",
        help="do not write which versions a Secret holds, which the other operator takes off again",
    )
    group.add_argument(
        "--no-generators", action="store_true", help="ask no generators, and follow no states"
    )
    add_lending(group)
    group.add_argument(
        "--unsafe-allow-generic-targets",
        action="store_true",
        help="target.manifest may be of any kind, not a ConfigMap alone",
    )


def add_lending(parser: "argparse._ActionsContainer") -> None:
    """Add `--lend-identity`."""
    parser.add_argument(
        "--lend-identity",
        action="append",
        default=[],
        metavar="NS",
        help="stores of NS may send the operator's own identity to servers of their choice"
        ' (repeatable; "*": of every namespace)',
    )


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--kubeconfig` and `--context`."""
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="F", help="else KUBECONFIG, the pod, ~/.kube/config"
    )
    parser.add_argument("--context", default="", help="context of the kubeconfig")


def cluster_config(args: argparse.Namespace) -> "KubeConfig":
    """Which cluster the arguments and the environment mean."""
    from strongroom.app.home import home
    from strongroom.kube.config import in_cluster, load_kubeconfig
    from strongroom.model.clock import SystemClock
    from strongroom.model.errors import NotFound

    path = args.kubeconfig or os.environ.get("KUBECONFIG")
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    if host and not path:
        return in_cluster(host, os.environ.get("KUBERNETES_SERVICE_PORT", ""))
    try:
        file = Path(path or home() / ".kube" / "config")
        return load_kubeconfig(file, args.context, clock=SystemClock(), environment=os.environ)
    except NotFound as refusal:
        if path and os.pathsep in str(path):
            refusal.hint = "several files are not merged: kubectl config view --flatten makes one"
        elif hasattr(args, "no_cluster"):
            refusal.hint += "; --no-cluster does without a cluster"
        raise


def run(args: argparse.Namespace) -> int:
    """Run the controllers."""
    import gc
    import logging
    from threading import Thread

    gc.disable()

    from strongroom.wire import client

    Thread(target=client.load, daemon=True).start()

    import uvloop

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    uvloop.run(_operate(args))
    return 0


async def _operate(args: argparse.Namespace) -> None:
    import gc
    from random import SystemRandom

    from strongroom.kube.client import KubeClient
    from strongroom.model.clock import SystemClock
    from strongroom.sync.assembly import Doors, Operator, Options
    from strongroom.sync.generators.contract import Sources
    from strongroom.sync.generators.kinds import ServedKinds
    from strongroom.sync.generators.states import ServedGenerators
    from strongroom.sync.pace import Rate
    from strongroom.sync.providers.kinds import Providers
    from strongroom.sync.providers.references import Surroundings
    from strongroom.sync.reader import NoGenerators
    from strongroom.sync.templates import GoTemplates
    from strongroom.wire import client

    client.load()
    # What has been loaded stays, so it is never walked by the collector, nor was while it loaded.
    gc.freeze()
    gc.enable()
    clock = SystemClock()
    config = cluster_config(args)
    async with KubeClient(config, clock) as api:
        if args.install_crds:
            await _install(api, clock)
        lends_in = {*args.lend_identity, args.namespace}
        around = Surroundings(api, clock, dict(os.environ), lends_in)
        sources = Sources(around, SystemRandom())
        workshop = None if args.no_generators else ServedKinds(sources)
        doors = Doors(
            make=Providers(around),
            generators=(
                ServedGenerators(api, workshop, clock, controller_class=args.controller_class)
                if workshop
                else NoGenerators()
            ),
            workshop=workshop,
            render=GoTemplates(clock),
            who_changed=_who_changed(args.kube_audit_log),
            resolve=_resolve(args, api),
        )
        options = Options(
            namespace=args.namespace,
            controller_class=args.controller_class,
            workers=args.workers,
            rate=Rate(args.reads_per_second, 2 * args.reads_per_second),
            hashed=not args.no_data_hash,
            versioned=not args.no_source_versions,
            instance=_identity(),
        )
        operator = Operator(api, doors, clock, options)
        place = (args.lease_namespace or config.namespace, args.lease)
        election = None if args.no_leader_election else _election(api, clock, place)
        async with _page(args, operator, clock):
            print("strongroom: operator running", file=sys.stderr, flush=True)
            await _until_told([operator.run(election)])


def _resolve(args: argparse.Namespace, api: "KubeClient") -> "ResolveKind":
    from strongroom.sync.target import config_maps_only

    if not args.unsafe_allow_generic_targets:
        return config_maps_only
    from strongroom.app.cluster_kinds import any_kind

    return any_kind(api)


def _identity() -> str:
    """Tells replicas apart; a pod's host name is its own name."""
    import secrets

    return f"{socket.gethostname()}_{secrets.token_hex(4)}"


def _election(api: "KubeApi", clock: "Clock", place: tuple[str, str]) -> "Election":
    from strongroom.kube.election import Election

    return Election(api, clock, place, _identity())


@contextlib.asynccontextmanager
async def _page(
    args: argparse.Namespace, operator: "Operator", clock: "Clock"
) -> AsyncIterator[None]:
    """Listen while the operator runs, if it was asked for."""
    if not args.listen:
        yield
        return
    from strongroom.model.digits import port_number
    from strongroom.model.errors import Invalid
    from strongroom.sync.notices import NOTICE_BYTES
    from strongroom.wire.limits import Limits
    from strongroom.wire.listener import Listener

    host, _, port = args.listen.rpartition(":")
    number = port_number(port)
    if number is None:
        raise Invalid("bad-address", f"not HOST:PORT: {args.listen}", hint="127.0.0.1:8080")
    limits = Limits(body_bytes=NOTICE_BYTES, buffered_bytes=16 * NOTICE_BYTES)
    listener = Listener(operator.page(_senders(args, clock)), limits, clock)
    _, taken = await listener.start(host or "127.0.0.1", number)
    print(f"strongroom: operator listens on port {taken}", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        await listener.drain()


def _senders(args: argparse.Namespace, clock: "Clock") -> "Senders":
    from strongroom.app.notice_issuers import Issuers
    from strongroom.model.secret import Secret
    from strongroom.sync.senders import Senders, read_senders

    file: Path | None = args.notice_token_file
    token = Secret(file.read_bytes().strip()) if file else None
    if args.notice_senders is None:
        return Senders(token)
    return Senders(token, read_senders(args.notice_senders.read_text()), Issuers(clock))


async def _install(api: "KubeApi", clock: "Clock") -> None:
    """Apply the definitions and wait until they are served."""
    from strongroom.app.waiting import until
    from strongroom.kube.resource import CRDS
    from strongroom.model.errors import NotFound
    from strongroom.sync.crds import crds, is_ours

    for definition in crds():
        name = definition["metadata"]["name"]
        try:
            installed = await api.get(CRDS, name)
        except NotFound:
            installed = None
        if installed is not None and not is_ours(installed):
            # External Secrets Operator's own definitions serve as well, and are not ours to change.
            print(f"strongroom: {name} is installed already and kept", file=sys.stderr)
            continue
        await api.apply(CRDS, definition, "strongroom")

        async def established(name: str = name) -> bool | None:
            found = await api.get(CRDS, name)
            conditions = (found.get("status") or {}).get("conditions") or []
            states = {each["type"]: each["status"] for each in conditions}
            return True if states.get("Established") == "True" else None

        await until(f"the definition {name}", established, clock)


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
    from strongroom.kube.client import USER_AGENT

    async def ask(namespace: str, name: str) -> str:
        if log is None:
            return ""
        from strongroom.audit.kubernetes_log import last_change

        event = last_change(log, namespace, name, USER_AGENT)
        if event is None:
            return ""
        return f"{event.user} ({event.verb}, {event.user_agent.partition(' ')[0]})"

    return ask
