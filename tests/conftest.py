"""What tests share: a whole store in this process, and a real cluster started once a session."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import hvac
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import settings

from strongroom.app.cluster.binaries import cache_folder, resolve
from strongroom.app.cluster.control_plane import ControlPlane, free_port
from strongroom.app.cluster.node import Node, missing_capabilities
from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.app.dev.processes import TIED_TO_PARENT, Processes
from strongroom.app.waiting import until
from strongroom.audit.devices import AuditBroker, MemoryDevice
from strongroom.crypto.keyfile import create_key_file
from strongroom.crypto.x509_dev import issue
from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.errors import Denied, NotFound, Unavailable
from strongroom.model.principal import ReviewedToken
from strongroom.model.secret import Secret
from strongroom.store.assembly import Surroundings, assemble, open_cluster
from strongroom.store.auth.kubernetes_cluster import ApiServer, PodIdentity
from strongroom.store.call import Backend, Call, Endpoint, Result
from strongroom.store.context import REQUEST_SECONDS, Context
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Engine, LeaseRow, MountRow, View
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.leasing import Leases, Terms
from strongroom.store.parameters import fields
from strongroom.store.pipeline import Pipeline
from strongroom.store.seal.backends import AutoSeal
from strongroom.store.seal.cluster import ClusterSeal, SealSetting
from strongroom.store.spool import SnapshotSpool
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Request, Response
from strongroom.wire.keywrap.azure_fake import AzureVaultFake
from strongroom.wire.keywrap.google_fake import GoogleKmsFake
from strongroom.wire.keywrap.key_file import KeyFileWrapper
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Exchange, Handler, Listener
from strongroom.wire.tls import server_context

# A run in the background may ignore interrupts, and the programs that tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A run that is told to end takes with it what it has started and mounted.
signal.signal(signal.SIGTERM, signal.default_int_handler)

# How long an example takes says how busy the machine is, not whether the property holds.
settings.register_profile("strongroom", deadline=None)
settings.load_profile("strongroom")

GOOGLE_KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
# A machine that also runs other tests may stand still for seconds: that is no answer of the store.
PATIENCE = 10.0
STORE_TESTS = Path(__file__).parent / "store"
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


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """moto's server, which plays AWS, in a process of its own."""
    port = free_port()
    process = subprocess.Popen(
        [*TIED_TO_PARENT, sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"

    async def up() -> bool | None:
        async with HttpClient() as http:
            reply = await http.request("GET", f"{address}/moto-api/data.json")
        return True if reply.status == 200 else None

    asyncio.run(until("moto", up, SystemClock(), seconds=120))
    yield address
    process.terminate()
    process.wait()


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A token with one AES key, as an administrator makes it."""
    if not SOFTHSM.exists() or shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "conf")  # The library reads it when it is loaded.
    words = ["--init-token", "--free", "--label", "strongroom", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(["softhsm2-util", *words], check=True, capture_output=True)
    import pkcs11

    token = pkcs11.lib(str(SOFTHSM)).get_token(token_label="strongroom")
    with token.open(rw=True, user_pin="1234") as session:
        session.generate_key(pkcs11.KeyType.AES, 256, label="kek", id=b"\x01", store=True)
    (folder / "pin").write_text("1234\n")
    return {
        "library": str(SOFTHSM),
        "token": "strongroom",
        "key": "kek",
        "pin_file": str(folder / "pin"),
    }


async def over_tls(
    handler: Handler, folder: Path, issued: float | None = None
) -> tuple[Listener, str, Path]:
    """A handler over TLS, its address, and the authority to trust; `issued` now by default."""
    folder.mkdir()
    made = issue(("localhost", "127.0.0.1"), issued or SystemClock().now())
    for name, content in (("ca", made.authority), ("crt", made.certificate), ("key", made.key)):
        (folder / name).write_bytes(content)
    listener = Listener(handler, Limits(), SystemClock())
    _, port = await listener.start(
        "127.0.0.1", 0, tls=server_context(folder / "crt", folder / "key")
    )
    return listener, f"https://localhost:{port}", folder / "ca"


@pytest.fixture
async def google_kms(tmp_path: Path) -> AsyncIterator[tuple[GoogleKmsFake, dict[str, str]]]:
    fake = GoogleKmsFake()
    fake.add(GOOGLE_KEY)
    listener, address, ca = await over_tls(fake, tmp_path / "google")
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"client_email": "a@p", "private_key": pem.decode(), "token_uri": f"{address}/token"}
    (tmp_path / "sa.json").write_text(json.dumps(account))
    yield (
        fake,
        {
            "key": GOOGLE_KEY,
            "key_file": str(tmp_path / "sa.json"),
            "endpoint": address,
            "ca_file": str(ca),
        },
    )
    await listener.drain(0.1)


@pytest.fixture
async def azure_vault(tmp_path: Path) -> AsyncIterator[tuple[AzureVaultFake, dict[str, str]]]:
    fake = AzureVaultFake()
    fake.add("kek")
    listener, fake.address, ca = await over_tls(fake, tmp_path / "azure")
    (tmp_path / "secret").write_text("s")
    yield (
        fake,
        {
            "vault": fake.address,
            "key": "kek",
            "tenant": "t",
            "client": "c",
            "secret_file": str(tmp_path / "secret"),
            "login": fake.address,
            "ca_file": str(ca),
        },
    )
    await listener.drain(0.1)


@dataclass(frozen=True)
class NodeCluster:
    """A control plane with one node."""

    control: ControlPlane
    node: Node


@pytest.fixture
def lone_kubelet() -> Iterator[None]:
    """One test of the machine at a time has it: two kubelets end each other's pods."""
    with (Path(tempfile.gettempdir()) / "strongroom-tests-kubelet").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def node_cluster(
    cluster: ControlPlane, background: Run, lone_kubelet: None
) -> Iterator[NodeCluster]:
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


@pytest.fixture(scope="session")
def postgres_server(background: Run) -> Iterator[ThrowawayPostgres]:
    """One PostgreSQL for all tests that only need a database; it forgets on power loss."""
    folder = Path(tempfile.mkdtemp(prefix="sr-pg-"))
    server = ThrowawayPostgres(folder, durable=False)
    try:
        background(_started(server))
        yield server
        server.stop()
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


async def _started(server: ThrowawayPostgres) -> None:
    server.start()


@dataclass
class Used:
    """Databases that nobody needs any more; they are dropped many at a time.

    Each is eight megabytes in three hundred files: all of a session take minutes to remove at once.
    """

    server: ThrowawayPostgres
    names: list[str] = field(default_factory=list)

    def leave(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) >= 25:
            # One that stays costs space alone.
            with contextlib.suppress(Unavailable):
                self.server.drop_databases(self.names)
            self.names.clear()


@pytest.fixture(scope="session")
def used_databases(postgres_server: ThrowawayPostgres) -> Used:
    return Used(postgres_server)


@pytest.fixture
def postgres_url(postgres_server: ThrowawayPostgres, used_databases: Used) -> Iterator[str]:
    """An empty database."""
    name = f"t{uuid.uuid4().hex[:12]}"
    yield postgres_server.create_database(name)
    used_databases.leave(name)


class FakeReviewer:
    """Knows the tokens, labels and annotations it was told; the same refusals as the cluster's.

    `forbidden` names what the reviewer may not ask: "reviews", "namespaces", "serviceaccounts".
    """

    def __init__(self) -> None:
        self.known: dict[str, ReviewedToken] = {}
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.servers: list[ApiServer] = []
        self.identity: PodIdentity | None = None
        self.labels: dict[str, dict[str, str]] = {}
        self.notes: dict[tuple[str, str], dict[str, str]] = {}
        self.forbidden: set[str] = set()

    def pod(self) -> PodIdentity | None:
        return self.identity

    def _check(self, what: str) -> None:
        if what in self.forbidden:
            raise Denied("kube-forbidden", f"{what} are forbidden")

    async def review(
        self, server: ApiServer, token: Secret, audiences: Sequence[str]
    ) -> ReviewedToken:
        self.asked.append((server.host, tuple(audiences)))
        self.servers.append(server)
        self._check("reviews")
        found = self.known.get(token.reveal_text())
        if found is None:
            raise Denied("token-not-authenticated", "the cluster does not know this token")
        return found

    async def namespace_labels(self, server: ApiServer, namespace: str) -> dict[str, str]:
        self._check("namespaces")
        if namespace not in self.labels:
            raise NotFound("kube-not-found", "no such namespace")
        return self.labels[namespace]

    async def annotations(self, server: ApiServer, namespace: str, account: str) -> dict[str, str]:
        self._check("serviceaccounts")
        if (namespace, account) not in self.notes:
            raise NotFound("kube-not-found", "no such service account")
        return self.notes[namespace, account]


@dataclass
class Issuer:
    """An engine that hands out names with an end; what stands in the world is `names`.

    `broken` says what goes wrong: "make" before the name is there, "killed" after it, "revoke".
    """

    context: Context
    leases: Leases
    names: set[str] = field(default_factory=set)
    renewed: dict[str, float] = field(default_factory=dict)
    undone: list[str] = field(default_factory=list)
    broken: str = ""
    # Awaited with the lease's id when it is written down and nothing is made yet.
    meanwhile: Callable[[str], Awaitable[None]] | None = None

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (Endpoint("creds/{role}", {"read": self._issue}, takes=fields(seconds="ttl")),)

    def exists(self, call: Call) -> bool:
        return True

    async def _issue(self, call: Call) -> Result:
        name = f"u{len(self.names)}-{call.request_id}"
        terms = Terms(ttl=call.seconds("ttl"), data={"name": name})
        lease = await self.leases.intend(call, self.context.bounds(call.mount), terms)
        if self.broken == "make":
            raise Unavailable("broken", "the backend is away")
        if self.meanwhile is not None:
            await self.meanwhile(lease.id)
        self.names.add(name)
        if self.broken == "killed":
            raise KeyError("as if the process had ended here")
        answer = self.leases.answer({"name": name}, await self.leases.confirm(lease))
        answer.headers = (("X-Back", "1"), ("X-Inner", "not for callers"))
        return answer

    async def revoke_lease(self, mount: MountRow, lease: LeaseRow) -> None:
        if self.broken == "revoke":
            raise Unavailable("broken", "the backend is away")
        self.names.discard(lease.data["name"])
        self.undone.append(lease.id)

    async def renew_lease(self, mount: MountRow, lease: LeaseRow) -> None:
        self.renewed[lease.id] = lease.expires


class CountedSpool(SnapshotSpool):
    """Counts the bodies that it was to keep."""

    kept = 0

    def open(self) -> BinaryIO:
        self.kept += 1
        return super().open()


@dataclass
class Store:
    """A running store and how to talk to it."""

    port: int
    root: str
    clock: SimulatedClock
    device: MemoryDevice
    reviewer: FakeReviewer
    engine: Engine
    barrier: Barrier
    seal: ClusterSeal
    http: HttpClient
    handler: Pipeline
    issuers: list[Issuer]
    spool: CountedSpool
    clients: list[hvac.Client] = field(default_factory=list)
    # What the TLS layer would say the client showed.
    certificate: bytes | None = None
    chain: tuple[bytes, ...] = ()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def hvac(self, token: str = "") -> hvac.Client:
        client = hvac.Client(url=self.address, token=token or self.root)
        self.clients.append(client)
        return client

    async def run(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A blocking client call beside the loop."""
        return await asyncio.to_thread(call, *args, **kwargs)

    async def ask(
        self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON of one request; `path` follows `/v1/`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is None:
            token = self.root
        if token:
            sent["X-Vault-Token"] = token
        content = (
            body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        )
        reply: Response = await self.http.request(
            method, f"{self.address}/v1/{path}", headers=sent, body=content
        )
        try:
            return reply.status, json.loads(reply.body) if reply.body else None
        except ValueError:
            return reply.status, reply.body.decode(errors="replace")

    async def expire(self) -> int:
        """What runs in the background, now; how much had come to its end."""
        return await self.engine.waiting(self.handler.expiration.catch_up())

    async def token_with(self, policy: str, **fields: Any) -> str:
        """A token that has one policy of this text."""
        name = f"p{abs(hash(policy))}"
        await self.ask("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        _, made = await self.ask("POST", "auth/token/create", {"policies": [name], **fields})
        return str(made["auth"]["client_token"])

    async def read(self, question: Callable[[View], Any]) -> Any:
        """What committed state answers."""

        async def ask() -> Any:
            return question(self.engine.view)

        return await self.engine.waiting(ask())

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.device.lines]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The store's own tests run on both databases."""
    if "store" in metafunc.fixturenames and metafunc.definition.path.parent == STORE_TESTS:
        on_postgres = pytest.param("postgres", marks=pytest.mark.component)
        metafunc.parametrize("store", ["sqlite", on_postgres], indirect=True)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables and no row: every step of the schema waits for the disk."""
    path = tmp_path_factory.mktemp("empty") / "db"
    asyncio.run(SqliteEngine(path, Barrier()).close())
    return path


@pytest.fixture
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path
) -> AsyncIterator[Store]:
    """The store over HTTP; on SQLite unless the test asks for PostgreSQL."""
    barrier = Barrier()
    engine: Engine
    if getattr(request, "param", "sqlite") == "sqlite":
        engine = SqliteEngine(shutil.copy(empty_database, tmp_path / "db"), barrier)
    else:
        engine = await PostgresEngine.open(
            request.getfixturevalue("postgres_url"), barrier, patience=PATIENCE
        )
    async with serving(engine, barrier, tmp_path / "key", SimulatedClock()) as running:
        yield running


@pytest.fixture
def serve_with(
    tmp_path: Path, empty_database: Path
) -> Callable[..., AbstractAsyncContextManager[Store]]:
    """A store on SQLite with backends of the test's own, by name."""

    def serve(
        **engines: Callable[[Context, Leases], Backend],
    ) -> AbstractAsyncContextManager[Store]:
        barrier = Barrier()
        engine = SqliteEngine(shutil.copy(empty_database, tmp_path / "db"), barrier)
        return serving(engine, barrier, tmp_path / "key", SimulatedClock(), **engines)

    return serve


@pytest.fixture
async def nodes(
    request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path
) -> AsyncIterator[list[Store]]:
    """Three nodes on one PostgreSQL, each with engine, barrier and caches of its own.

    They share a clock, or have one each that is wrong by the seconds of the parameter.
    """
    shared = SimulatedClock()
    errors: Sequence[float] | None = getattr(request, "param", None)
    clocks = [SimulatedClock(shared.now() + each) for each in errors] if errors else [shared] * 3
    async with AsyncExitStack() as stack:
        made: list[Store] = []
        for clock in clocks:
            barrier = Barrier()
            engine = await PostgresEngine.open(postgres_url, barrier, patience=PATIENCE)
            node = serving(engine, barrier, tmp_path / "key", clock)
            made.append(await stack.enter_async_context(node))
            made[-1].root = made[0].root
        yield made


@asynccontextmanager
async def serving(
    engine: Engine,
    barrier: Barrier,
    key: Path,
    clock: SimulatedClock,
    *,
    reviewer: Any = None,
    request_seconds: float = REQUEST_SECONDS,
    **engines: Callable[[Context, Leases], Backend],
) -> AsyncIterator[Store]:
    """A node on an engine: unsealed, listening, and ended with the engine at the end.

    `engines` are beside the built-in ones, or instead of those of the same name.
    """
    if not key.exists():
        create_key_file(key)
    setting = SealSetting(AutoSeal("static", KeyFileWrapper("static", key)))
    seal = ClusterSeal(engine, barrier, setting, clock)
    root = await open_cluster(engine, seal, barrier, clock)
    device, reviewer = MemoryDevice(), reviewer or FakeReviewer()
    issuers: list[Issuer] = []

    def issuer(context: Context, leases: Leases) -> Issuer:
        issuers.append(Issuer(context, leases))
        return issuers[-1]

    around = Surroundings(
        clock,
        AuditBroker([device]),
        reviewer,
        seal,
        engines={"issuer": issuer, **engines},
        request_seconds=request_seconds,
    )
    handler = assemble(engine, barrier, around)

    def with_certificate(request: Request, exchange: Exchange) -> None:
        request.client_certificate, request.client_chain = running.certificate, running.chain
        handler(request, exchange)

    async def may(request: Request) -> bool:
        async def ask() -> bool:
            return handler.admits(request)

        return await engine.waiting(ask())

    spool = CountedSpool(key.parent, may, most_bytes=8 * 1024 * 1024)
    limits = Limits(body_bytes=2 * 1024 * 1024)
    listener = Listener(with_certificate, limits, clock, spool=spool)
    _, port = await listener.start("127.0.0.1", 0)
    async with HttpClient() as http:
        text = root.reveal_text() if root else ""
        running = Store(
            port,
            text,
            clock,
            device,
            reviewer,
            engine,
            barrier,
            seal,
            http,
            handler,
            issuers,
            spool,
        )
        yield running
        for client in running.clients:
            client.adapter.close()
    await asyncio.wait_for(_drained(listener, clock), 60)
    await engine.close()


async def _drained(listener: Listener, clock: SimulatedClock) -> None:
    draining = asyncio.create_task(listener.drain(0.5))
    while not draining.done():
        await clock.advance(0.1)
    await draining
