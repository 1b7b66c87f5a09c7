"""One process's store: the parts put together, and the first rows of a new cluster."""

import math
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strongroom.audit.devices import AuditBroker
from strongroom.audit.record import RecordWriter
from strongroom.crypto.aead import Tampered
from strongroom.crypto.mac import KeyedHmac
from strongroom.crypto.tokens import new_accessor, new_token
from strongroom.model.clock import Clock
from strongroom.model.errors import Unavailable
from strongroom.model.secret import Secret
from strongroom.store import tools
from strongroom.store.auth.approle import AppRole
from strongroom.store.auth.cert import CertAuth
from strongroom.store.auth.jwt import JwtAuth
from strongroom.store.auth.key_sets import KeySets
from strongroom.store.auth.kubernetes import KubernetesAuth
from strongroom.store.auth.kubernetes_cluster import TokenReviewer
from strongroom.store.auth.token import TokenAuth
from strongroom.store.auth.userpass import Userpass
from strongroom.store.batch_tokens import BatchTokens
from strongroom.store.call import Backend, Call, Endpoint, Result
from strongroom.store.context import REQUEST_SECONDS, Context
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Engine, MountRow, Transaction
from strongroom.store.expiration import Expiration
from strongroom.store.feed import ChangeFeed, no_event_type
from strongroom.store.front import Front
from strongroom.store.identity.backend import IdentityBackend
from strongroom.store.identity.key_rotation import KEY_SECONDS, rotation_of_next
from strongroom.store.leasing import Leases
from strongroom.store.notices import Notices
from strongroom.store.pipeline import Pipeline
from strongroom.store.quotas import put_default_quota
from strongroom.store.recording import Recording
from strongroom.store.routing import Router
from strongroom.store.seal.cluster import ClusterSeal, NewCluster
from strongroom.store.seal.stored import Split
from strongroom.store.secrets.cubbyhole import Cubbyhole
from strongroom.store.secrets.kv1 import Kv1
from strongroom.store.secrets.kv2 import Kv2
from strongroom.store.secrets.transit import Transit
from strongroom.store.sessions import Sessions
from strongroom.store.system.audit_devices import AuditDevices
from strongroom.store.system.backend import Part, System
from strongroom.store.system.configuration import Configuration
from strongroom.store.system.consumers import Consumers
from strongroom.store.system.cors import Cors
from strongroom.store.system.counters import Counters
from strongroom.store.system.explain import Explain
from strongroom.store.system.host import HostInfo
from strongroom.store.system.leases import LeaseEndpoints
from strongroom.store.system.locked_users import LockedUsers
from strongroom.store.system.loggers import Loggers
from strongroom.store.system.metrics import Metrics
from strongroom.store.system.mounts import Mounts, taken_places
from strongroom.store.system.nodes import Nodes
from strongroom.store.system.not_served import NotServed
from strongroom.store.system.openapi import OpenApi
from strongroom.store.system.password_policies import PasswordPolicies
from strongroom.store.system.plugins import PluginCatalog
from strongroom.store.system.policies import DEFAULT_POLICY, Capabilities, Policies
from strongroom.store.system.quotas import QuotaEndpoints
from strongroom.store.system.remount import Remount
from strongroom.store.system.rotation import KeyRotation, rotate_when_due
from strongroom.store.system.seal import ROOT_GRANT, SealPaths, Unseal
from strongroom.store.system.snapshots import SnapshotEndpoints
from strongroom.store.system.status import About, Init, Status
from strongroom.store.system.user_interface import UserInterface
from strongroom.store.system.version_history import VersionHistory, noting
from strongroom.store.system.wrapping import WrappingEndpoints
from strongroom.store.tokens import Bounds, new_row
from strongroom.store.upkeep import CHORES, Chore, Upkeep, nothing
from strongroom.store.wrapping import Wrapping

TOKEN_PURPOSE = b"token id"
ROTATION_SECONDS = 300.0
AUDIT_PURPOSE = b"audit record"
FINGERPRINT_PURPOSE = b"value fingerprint"
# Types with one mount that is there from the start.
FIXED_TYPES = frozenset({"system", "cubbyhole", "identity", "token"})
SECRETS_ENGINES = frozenset({"kv", "transit"})
AUTH_METHODS = frozenset({"approle", "cert", "jwt", "kubernetes", "oidc", "userpass"})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process brings: its clock, devices, the reviewer of tokens, name and number.

    `api_audit` lets the API enable devices.
    """

    clock: Clock
    broker: AuditBroker
    reviewer: TokenReviewer
    seal: ClusterSeal
    about: About = field(default_factory=About)
    worker: int = 0
    system: Bounds = field(default_factory=Bounds)
    # Engines beside the built-in ones, by the type they are mounted as.
    engines: Mapping[str, Callable[[Context, Leases], Backend]] = field(default_factory=dict)
    api_audit: bool = False
    # What else keeps this process from serving, by part; see `Front`.
    problems: Callable[[], Mapping[str, str]] = dict
    # Where large files wait, None for the system's own.
    folder: Path | None = None
    # What it says of its configuration; nothing in it is secret.
    configuration: Callable[[], Mapping[str, Any]] = dict
    # When users are locked, by login method or "all", where a mount is not tuned.
    lockout: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notices: Notices = field(default_factory=Notices)
    # How long a call may take.
    request_seconds: float = REQUEST_SECONDS


async def initialise(
    seal: ClusterSeal,
    barrier: Barrier,
    clock: Clock,
    splits: tuple[Split | None, Split | None] = (None, None),
    *,
    with_kv: bool = False,
    root_token: str = "",
) -> tuple[NewCluster, Secret] | None:
    """A new cluster's keys and root token; None when it is there.

    `splits` are those of the unseal and of the recovery key; `with_kv` mounts `secret/`.
    """
    root = root_token or new_token()

    def first_rows(transaction: Transaction) -> None:
        for row in first_mounts(uuid.uuid4, with_kv=with_kv):
            transaction.put_mount(row)
        transaction.put_policy("default", DEFAULT_POLICY)
        put_default_quota(transaction)
        token_id = barrier.mac(TOKEN_PURPOSE).digest(root.encode())
        transaction.put_token(new_row(ROOT_GRANT, token_id, new_accessor(), clock.now()))

    unseal, recovery = splits
    made = await seal.initialise(unseal or Split(), recovery, first_rows)
    return (made, Secret(root)) if made else None


async def open_cluster(
    engine: Engine, seal: ClusterSeal, barrier: Barrier, clock: Clock
) -> Secret | None:
    """Unseal with the backend; on an empty database initialise first, and return the root token.

    Raises Unavailable(`still-sealed`) when the seal does not open by itself.
    """
    root = await engine.waiting(_opened(seal, barrier, clock))
    if root is None:
        await engine.transact(add_missing_mounts)
    return root


async def _opened(seal: ClusterSeal, barrier: Barrier, clock: Clock) -> Secret | None:
    if seal.row() is None:
        made = await initialise(seal, barrier, clock, with_kv=True)
        if made is not None:
            return made[1]
    if seal.sealed and not await seal.unseal_by_itself():
        raise Unavailable("still-sealed", f"the cluster stays sealed: {seal.waiting_for}")
    return None


def upkeep(
    engine: Engine,
    barrier: Barrier,
    clock: Clock,
    seal: ClusterSeal,
    notices: Notices | None = None,
    version: str = "",
) -> Upkeep:
    """This process's part in the background work of the cluster."""

    def due(transaction: Transaction, now: float) -> bool:
        return rotate_when_due(transaction, seal, now)

    chores = (
        # However the cluster was unsealed: its next leader looks once.
        Chore("mounts of this version", math.inf, missing_mounts),
        *CHORES,
        Chore("automatic key rotation", ROTATION_SECONDS, due),
        Chore("keys of identity tokens", KEY_SECONDS, nothing, prepare=rotation_of_next),
        noting(version),
    )
    return Upkeep(engine, barrier, clock, uuid.uuid4().hex, chores, notices=notices)


def first_mounts(new_id: Callable[[], uuid.UUID], *, with_kv: bool) -> list[MountRow]:
    """What a cluster has from the start."""

    def row(kind: str, path: str, mount_type: str, description: str, **options: str) -> MountRow:
        accessor = f"{'auth_' if kind == 'auth' else ''}{mount_type}_{new_id().hex[:8]}"
        return MountRow(kind, path, mount_type, str(new_id()), accessor, description, options)

    kv = row("secret", "secret/", "kv", "versioned secrets", version="2")
    return [
        *([kv] if with_kv else []),
        row("secret", "cubbyhole/", "cubbyhole", "per-token private secret storage"),
        row("secret", "sys/", "system", "the store itself"),
        row("secret", "identity/", "identity", "who callers are, across auth methods"),
        row("auth", "token/", "token", "token based credentials"),
    ]


def add_missing_mounts(transaction: Transaction) -> None:
    """Give a cluster of an earlier version the mounts that cannot be enabled by hand."""
    there = {(row.kind, row.path) for row in taken_places(transaction)}
    for row in first_mounts(uuid.uuid4, with_kv=False):
        if row.type in FIXED_TYPES and (row.kind, row.path) not in there:
            transaction.put_mount(row)


def missing_mounts(transaction: Transaction, now: float) -> bool:  # noqa: ARG001 - a chore
    """The same as a chore."""
    add_missing_mounts(transaction)
    return False


def assemble(engine: Engine, barrier: Barrier, around: Surroundings) -> Pipeline:
    """The handler of one process on an unsealed engine."""
    token_mac = _once(lambda: barrier.mac(TOKEN_PURPOSE))
    writer = RecordWriter(barrier.mac(AUDIT_PURPOSE))
    batch = BatchTokens(barrier)
    sessions = Sessions(engine.view, token_mac, writer, batch)
    fingerprints = _once(lambda: barrier.mac(FINGERPRINT_PURPOSE))
    context = Context(
        engine,
        around.clock,
        sessions,
        Recording(around.broker, writer),
        batch,
        around.seal,
        lambda value: fingerprints().vault_form(value),
        around.system,
        lockout=around.lockout,
        notices=around.notices,
        request_seconds=around.request_seconds,
    )
    metrics = Metrics(context, around.worker)
    feed = ChangeFeed(engine, sessions, around.clock, around.notices)
    key_sets = KeySets(around.clock)
    jwt, cert = JwtAuth(context, barrier, key_sets), CertAuth(context)
    backends: dict[str, Backend] = {
        "kv1": Kv1(context),
        "kv2": Kv2(context),
        "cubbyhole": Cubbyhole(context),
        "transit": Transit(context),
        "identity": IdentityBackend(context, around.about.address),
        "token": TokenAuth(context, cert.before_renewal),
        "approle": AppRole(context),
        "userpass": Userpass(context),
        "cert": cert,
        "jwt": jwt,
        "oidc": jwt,
        "kubernetes": KubernetesAuth(context, around.reviewer, key_sets),
    }
    leases = Leases(engine, around.clock, context.quotas, backends)
    for name, build in around.engines.items():
        backends[name] = build(context, leases)
    devices, loggers = AuditDevices(context, allow=around.api_audit), Loggers(context)
    # Some of the system's endpoints ask the table they are part of.
    router = Router(engine.view, backends, around.notices)
    own: tuple[Part, ...] = (devices, metrics, loggers)
    backends["system"] = System(
        (*_around(context, barrier, around, leases, router), *_parts(context), *own, NotServed())
    )
    expiration = Expiration(engine, around.clock, leases)
    pipeline = Pipeline(context, router, metrics, feed, expiration)
    pipeline.on_generation = _in_turn(
        around.notices, devices.reload, loggers.reload, cert.forget_removed
    )
    return pipeline


def _around(
    context: Context, barrier: Barrier, around: Surroundings, leases: Leases, router: Router
) -> tuple[Part, ...]:
    """What `sys/` says of the process, its mounts and its leases."""
    return (
        *public_parts(barrier, around),
        SealPaths(context),
        OpenApi(context, router.described, around.about.program_version),
        Explain(context, router.find),
        Capabilities(context, router.find),
        Consumers(context, router.type_of),
        Mounts(context, leases, "secret", {*SECRETS_ENGINES, *around.engines}),
        Mounts(context, leases, "auth", AUTH_METHODS),
        Remount(context, leases),
        LeaseEndpoints(context, leases),
        Configuration(around.configuration),
        PluginCatalog(
            {"auth": AUTH_METHODS, "secret": {*SECRETS_ENGINES, *around.engines}},
            around.about.program_version,
        ),
        Nodes(context, around.about, socket.gethostname),
        VersionHistory(context, around.about),
        KeyRotation(context, lambda: barrier.uncounted),
        SnapshotEndpoints(context, barrier, around.about.program_version, around.folder),
    )


def _parts(context: Context) -> tuple[Part, ...]:
    """What `sys/` has that needs nothing but the context."""
    return (
        Cors(context),
        _Alone(tools.endpoints("tools/")),
        UserInterface(context),
        QuotaEndpoints(context),
        WrappingEndpoints(Wrapping(context)),
        PasswordPolicies(context),
        Policies(context),
        LockedUsers(context),
        HostInfo(context),
        Counters(context),
        _Alone((Endpoint("events/subscribe/{type*}", {"read": _subscribed}),)),
    )


def public_parts(barrier: Barrier, around: Surroundings) -> tuple[Status, Unseal, Init]:
    """What answers anybody, sealed or not."""
    seal, clock = around.seal, around.clock
    status = Status(seal, clock, around.about)

    async def new_cluster(
        unseal: Split | None, recovery: Split | None
    ) -> tuple[NewCluster, Secret] | None:
        return await initialise(seal, barrier, clock, (unseal, recovery))

    return status, Unseal(seal, status), Init(seal, new_cluster)


def front(engine: Engine, barrier: Barrier, around: Surroundings) -> Front:
    """The handler of one process, sealed or not."""
    parts = public_parts(barrier, around)

    def problems() -> dict[str, str]:
        found = dict(around.problems())
        if around.broker.silent:
            found["audit"] = "no device records: " + "; ".join(around.broker.failing.values())
        return found

    return Front(
        engine,
        around.seal,
        tuple(each for part in parts for each in part.endpoints),
        lambda: assemble(engine, barrier, around),
        problems,
    )


@dataclass(frozen=True, slots=True)
class _Alone:
    """Endpoints that need nothing."""

    endpoints: Sequence[Endpoint]


def _subscribed(call: Call) -> Result:  # noqa: ARG001 - the handler's shape
    """The feed has a place in the table; the pipeline hands its connection over."""
    raise no_event_type()


def _in_turn(notices: Notices, *steps: Callable[[], None]) -> Callable[[], None]:
    def every() -> None:
        for step in steps:
            try:
                step()
            except Tampered as damaged:
                notices.met(damaged)  # What it had before holds, and all else is served.

    return every


def _once(make: Callable[[], KeyedHmac]) -> Callable[[], KeyedHmac]:
    kept: list[KeyedHmac] = []

    def get() -> KeyedHmac:
        if not kept:
            kept.append(make())
        return kept[0]

    return get
