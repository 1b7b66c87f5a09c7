"""One process's store: the parts put together, and the first rows of a new cluster."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from strongroom.audit.devices import AuditBroker
from strongroom.audit.record import RecordWriter
from strongroom.crypto.mac import KeyedHmac
from strongroom.crypto.tokens import new_token
from strongroom.model.clock import Clock
from strongroom.model.secret import Secret
from strongroom.store.auth.kubernetes import KubernetesAuth, TokenReviewer
from strongroom.store.auth.token import TokenAuth
from strongroom.store.call import Backend, Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import ClusterRow, Engine, MountRow, Transaction
from strongroom.store.feed import ChangeFeed
from strongroom.store.pipeline import Pipeline
from strongroom.store.routing import Router
from strongroom.store.seal.key_file import Seal, initialise_or_unseal
from strongroom.store.secrets.kv2 import Kv2
from strongroom.store.sessions import Sessions
from strongroom.store.system.audit_devices import AuditDevices
from strongroom.store.system.backend import System
from strongroom.store.system.consumers import Consumers
from strongroom.store.system.metrics import Metrics
from strongroom.store.system.mounts import MountPreflight, Mounts
from strongroom.store.system.policies import DEFAULT_POLICY, Capabilities, Policies
from strongroom.store.system.status import Status
from strongroom.store.tokens import Grant, new_row

TOKEN_PURPOSE = b"token id"
AUDIT_PURPOSE = b"audit record"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process brings: its clock, devices, the reviewer of tokens, name and number."""

    clock: Clock
    broker: AuditBroker
    reviewer: TokenReviewer
    program_version: str = ""
    worker: int = 0


async def open_cluster(
    engine: Engine,
    barrier: Barrier,
    seal: Seal,
    clock: Clock,
    new_id: Callable[[], uuid.UUID] = uuid.uuid4,
) -> Secret | None:
    """Unseal; on an empty database initialise first, and return the root token."""
    root = new_token()

    def first_rows(transaction: Transaction) -> None:
        for row in first_mounts(new_id):
            transaction.put_mount(row)
        transaction.put_policy("default", DEFAULT_POLICY)
        grant = Grant(policies=("root",), display_name="root", path="auth/token/root")
        token_id = barrier.mac(TOKEN_PURPOSE).digest(root.encode())
        transaction.put_token(new_row(grant, token_id, new_id().hex[:24], clock.now()))

    def new_cluster() -> ClusterRow:
        cluster_id = str(new_id())
        return ClusterRow(cluster_id, f"strongroom-{cluster_id[:8]}", seal.type, b"", clock.now())

    done = await initialise_or_unseal(engine, barrier, seal, new_cluster, first_rows)
    return Secret(root) if done.first else None


def first_mounts(new_id: Callable[[], uuid.UUID]) -> list[MountRow]:
    """What every cluster has from the start."""

    def row(kind: str, path: str, mount_type: str, description: str, **options: str) -> MountRow:
        accessor = f"{'auth_' if kind == 'auth' else ''}{mount_type}_{new_id().hex[:8]}"
        return MountRow(kind, path, mount_type, str(new_id()), accessor, description, options)

    return [
        row("secret", "secret/", "kv", "versioned secrets", version="2"),
        row("secret", "sys/", "system", "the store itself"),
        row("auth", "token/", "token", "token based credentials"),
    ]


def assemble(engine: Engine, barrier: Barrier, around: Surroundings) -> Pipeline:
    """The handler of one process on an unsealed engine."""
    token_mac = _once(lambda: barrier.mac(TOKEN_PURPOSE))
    writer = RecordWriter(barrier.mac(AUDIT_PURPOSE))
    sessions = Sessions(engine.view, token_mac, writer)
    context = Context(engine, around.clock, sessions, around.broker, writer)
    metrics = Metrics(context, around.worker)
    feed = ChangeFeed(engine, sessions, around.clock)
    backends: dict[str, Backend] = {
        "kv2": Kv2(context),
        "token": TokenAuth(context),
        "kubernetes": KubernetesAuth(context, around.reviewer),
    }
    system = System(
        (
            Status(context, around.program_version),
            MountPreflight(context),
            Mounts(context, "secret", {"kv"}, uuid.uuid4),
            Mounts(context, "auth", {"kubernetes"}, uuid.uuid4),
            Policies(context),
            Capabilities(context),
            AuditDevices(context),
            Consumers(context),
            metrics,
            _FeedEndpoint(),
        )
    )
    router = Router(engine.view, {**backends, "system": system})
    return Pipeline(context, router, metrics, feed)


class _FeedEndpoint:
    """The feed's place in the table; the pipeline hands its connection over."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return (Endpoint("events/subscribe/{type*}", {"read": self._never}),)

    @staticmethod
    def _never(call: Call) -> Result:  # noqa: ARG004 - the handler's shape
        return Result()


def _once(make: Callable[[], KeyedHmac]) -> Callable[[], KeyedHmac]:
    kept: list[KeyedHmac] = []

    def get() -> KeyedHmac:
        if not kept:
            kept.append(make())
        return kept[0]

    return get
