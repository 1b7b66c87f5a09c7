"""One store process: engine, seal, audit devices and listeners put together, until told to stop.

`serve` is a worker; several of them share the port by SO_REUSEPORT and the database by its locks.
"""

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from strongroom.app.background import Background
from strongroom.app.open_files import allow_open_files, connections_for
from strongroom.app.store_config.sanitized import sanitized
from strongroom.app.store_config.seals import Means, auto_seal
from strongroom.app.store_config.settings import (
    DATABASE,
    INMEM,
    POSTGRESQL,
    AuditSetting,
    ListenerSetting,
    ServerSettings,
    StorageSetting,
)
from strongroom.app.store_config.storage_place import check_url, made_folder
from strongroom.app.token_reviewer import ClusterReviewer
from strongroom.audit.devices import AuditBroker, Enabled
from strongroom.audit.kinds import Asked, enable
from strongroom.crypto.aead import new_key
from strongroom.crypto.keyfile import WrappingKey, load_key_file
from strongroom.crypto.x509_dev import issue
from strongroom.model.clock import Clock, SystemClock
from strongroom.model.errors import Conflict, Invalid, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.store.assembly import Surroundings, front, initialise, upkeep
from strongroom.store.call import Backend
from strongroom.store.clock_watch import ClockWatch
from strongroom.store.context import Context
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Engine
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.envelope import encode_refusal
from strongroom.store.front import Front, is_probe
from strongroom.store.leasing import Leases
from strongroom.store.notices import Notices
from strongroom.store.presence import Presence
from strongroom.store.seal.cluster import ClusterSeal, SealSetting
from strongroom.store.seal.keeping import keep_backend
from strongroom.store.seal.stored import Split
from strongroom.store.spool import SnapshotSpool
from strongroom.store.system.status import API_VERSION, About
from strongroom.store.tokens import Bounds
from strongroom.wire.forwarded import HEADER, ForwardedFor, client_of
from strongroom.wire.http import Request
from strongroom.wire.keywrap.refused_pin import RefusedPin
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Exchange, Handler, Listener
from strongroom.wire.tls import (
    OPENSSL,
    accept_any_client_certificate,
    require_clients,
    server_context,
)

TEND_SECONDS: Final = 1.0
FOLLOW_SECONDS: Final = 1.0
# How long a start waits for the seal's backend before it listens, sealed.
START_SECONDS: Final = 3.0
# Between two looks for cycles among young objects: requests make thousands, and few cycles.
YOUNG_OBJECTS: Final = 20_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Worker:
    """Which of how many processes this is. `group` is the key they share what was unsealed by.

    `pins` remembers for all of them which PIN a token refused.
    """

    number: int = 0
    count: int = 1
    program_version: str = ""
    group: bytes = field(default_factory=new_key, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    pins: RefusedPin = field(default_factory=RefusedPin)
    # Called when it listens.
    ready: Callable[[], None] = lambda: None
    # Secrets engines beside the built-in ones, by the type they are mounted as.
    engines: Mapping[str, Callable[[Context, Leases], Backend]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opened:
    """What stands behind the listeners."""

    barrier: Barrier
    engine: Engine
    seal: ClusterSeal


async def open_engine(storage: StorageSetting, barrier: Barrier) -> Engine:
    """The engine of a database, its schema up to date; raises Unavailable."""
    if storage.engine == POSTGRESQL:
        from strongroom.store.engine.postgres import PostgresEngine

        check_url(storage.url)
        return await PostgresEngine.open(storage.url, barrier)
    if storage.engine == INMEM:
        from strongroom.store.engine.memory import MemoryEngine

        return MemoryEngine()
    if storage.path is None:
        raise Invalid("no-path", "the database has no folder")
    made_folder(storage.path)
    return SqliteEngine(storage.path / DATABASE, barrier)


async def open_parts(settings: ServerSettings, worker: Worker, clock: Clock) -> Opened:
    """Engine, barrier and seal, not yet unsealed."""
    barrier = Barrier()
    engine = await open_engine(settings.storage, barrier)
    try:
        seal = ClusterSeal(engine, barrier, seal_setting(settings, worker, clock), clock)
    except BaseException:
        await engine.close()
        raise
    return Opened(barrier, engine, seal)


def seal_setting(settings: ServerSettings, worker: Worker, clock: Clock) -> SealSetting:
    """The seals of the configuration, and the key of this group of processes."""
    join = WrappingKey([worker.group])
    if settings.join_key_file:
        join = load_key_file(settings.join_key_file)
    means = Means(clock, worker.environment, worker.pins)
    return SealSetting(
        auto_seal(settings.seal, means) if settings.seal else None,
        auto_seal(settings.old_seal, means)
        if settings.old_seal and settings.old_seal.labels[:1] != ("shamir",)
        else None,
        join,
    )


def self_signed(data: Path, host: str, clock: Clock) -> tuple[Path, Path]:
    """A certificate of an authority kept in the data folder (`ca.pem`), made when missing."""
    certificate, key = data / "server.pem", data / "server.key"
    if not certificate.exists():
        made = issue((host, "localhost", "127.0.0.1"), clock.now())
        for path, content in ((data / "ca.pem", made.authority), (certificate, made.certificate)):
            path.write_bytes(content)
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(made.key)
    return certificate, key


@dataclass(frozen=True, slots=True)
class DevCluster:
    """The keys of a development server."""

    unseal_key: str
    root_token: Secret


async def dev_cluster(parts: Opened, clock: Clock, root_token: str = "") -> DevCluster:
    """Initialise with one share and unseal with it."""
    made = await initialise(
        parts.seal, parts.barrier, clock, (Split(), None), with_kv=True, root_token=root_token
    )
    if made is None:
        raise Conflict("initialised", "the development server has a cluster already")
    keys, root = made
    share = keys.shares[0].hex()
    await parts.seal.give_share(share)
    return DevCluster(share, root)


def device(setting: AuditSetting) -> Enabled:
    """The device of a setting; raises Unavailable or Invalid."""
    asked = Asked(setting.path, setting.type, setting.options, setting.description)
    return enable(asked, fixed=True)


def tls_context(listener: ListenerSetting, openssl: str | None = OPENSSL) -> ssl.SSLContext | None:
    """The TLS side of a listener; raises Invalid. `openssl` is the library behind `ssl`."""
    tls = listener.tls
    if tls is None:
        return None
    context = server_context(tls.certificate, tls.key)
    if tls.minimum == "tls13":
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if tls.client_required:
        require_clients(context, tls.client_ca)
    elif tls.ask_client and not accept_any_client_certificate(context, openssl):
        _log.warning(
            "%s asks for no client certificates, because this Python gives no access to OpenSSL: "
            "the cert auth method works only with tls_require_and_verify_client_cert",
            listener.url,
        )
    return context


class Certificates:
    """Reloads a listener's certificate when the files change or SIGHUP says so.

    `take` hears the new context. It is one of its own, because OpenSSL keeps a certificate for each
    type of key, and authorities that were trusted before.
    """

    def __init__(self, listener: ListenerSetting, take: Callable[[ssl.SSLContext], None]) -> None:
        self._listener = listener
        self._take = take
        self._seen = self._stamps()

    def _stamps(self) -> tuple[tuple[int, ...], ...]:
        tls = self._listener.tls
        paths = [tls.certificate, tls.key] if tls else []
        if tls and tls.client_required and tls.client_ca:
            paths.append(tls.client_ca)
        with contextlib.suppress(OSError):
            found = [path.stat() for path in paths]
            # Whoever unpacks or copies files may give all of them the same time of change.
            return tuple((each.st_mtime_ns, each.st_ctime_ns, each.st_ino) for each in found)
        return ()

    def reload(self, *, changed_only: bool = False) -> None:
        """Take the files into use; files that do not fit leave the old certificate, and say so."""
        stamps = self._stamps()
        if changed_only and stamps == self._seen:
            return
        self._seen = stamps
        try:
            context = tls_context(self._listener)
        except Refusal as error:
            _log.error("the certificate was not reloaded: %s", error)
            return
        if context is not None and self._listener.tls is not None:
            self._take(context)
            _log.info("certificate %s reloaded", self._listener.tls.certificate)


async def serve(
    settings: ServerSettings,
    worker: Worker,
    clock: Clock | None = None,
    begin: Callable[[Opened], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reopens audit files and reloads certificates.

    `begin` is called with what was opened before anybody is answered.
    """
    clock = clock or SystemClock()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parts = await open_parts(settings, worker, clock)
    certificates: list[Certificates] = []
    pins = worker.pins if worker.number == 0 else None
    broker = AuditBroker((), required=bool(settings.audit))
    # Before the files are opened: a rotation that happens now is not missed.
    loop.add_signal_handler(signal.SIGHUP, _reload, broker, certificates, pins)
    broker.replace([device(each) for each in settings.audit])
    problems: dict[str, str] = {}
    around = surroundings(settings, worker, parts.seal, broker, clock)
    background = Background(clock, around.notices)
    about = dataclasses.replace(
        around.about, background=lambda: background.failing | no_writes(parts.engine)
    )
    around = dataclasses.replace(around, about=about, problems=lambda: problems)
    handler = front(parts.engine, parts.barrier, around)
    if begin is not None:
        await begin(parts)
    # A start opens with the backend what `sys/seal` had closed as well.
    await parts.engine.waiting(parts.seal.try_to_open(START_SECONDS))
    listeners = await _listen(settings, worker, handler, clock, certificates)
    for listener in settings.listeners:
        _log.info("listening on %s", listener.url)
    worker.ready()
    version = about.program_version
    leading = upkeep(parts.engine, parts.barrier, clock, parts.seal, around.notices, version)
    background.start("cluster watch", lambda: _follow(parts, around, broker, problems))
    background.start("certificate watch", lambda: _watch(certificates, clock))
    background.start("seal backend", lambda: keep_backend(parts.engine, parts.seal, clock))
    background.start("upkeep", leading.run)
    if opens_by_itself(settings, worker):
        background.start("writes watch", lambda: _watch_writes(parts.engine, clock, stop))
    if worker.number == 0:
        _start_once(settings, parts, handler, around, background)
    _freeze_garbage()
    await stop.wait()
    ended = no_writes(parts.engine)
    background.stop()
    await _close(parts.engine, handler, listeners, broker)
    if ended:
        raise Unavailable("writing-ended", "the server ended, since it wrote nothing any more")


def _start_once(
    settings: ServerSettings,
    parts: Opened,
    handler: Front,
    around: Surroundings,
    background: Background,
) -> None:
    """What one worker of a server does for all of them."""
    clock = around.clock
    background.start("expiration", lambda: _tend(handler, clock, around.notices))
    if settings.storage.engine == POSTGRESQL:  # Others have no nodes beside this one.
        here = Presence(parts.engine, parts.seal, clock, around.about, socket.gethostname())
        background.start("presence", here.run)


def _freeze_garbage() -> None:
    """What is there now stays: it is not looked through again and again for what is garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


async def _close(
    engine: Engine, handler: Front, listeners: Sequence[Listener], broker: AuditBroker
) -> None:
    await asyncio.gather(*(each.drain() for each in listeners))
    await handler.finish()
    await engine.close()
    for each in broker.enabled:
        each.device.close()


def opens_by_itself(settings: ServerSettings, worker: Worker) -> bool:
    """Whether a start anew needs nobody with keys."""
    return bool(settings.seal or settings.join_key_file or worker.count > 1)


async def _watch_writes(engine: Engine, clock: Clock, stop: asyncio.Event) -> None:
    """End this process when it writes nothing any more: whoever supervises it starts it whole.

    What ended the writer was foreseen by nobody, so nothing else of the process is trusted either.
    """
    while not no_writes(engine):
        await clock.sleep(FOLLOW_SECONDS)
    _log.critical("the server ends, to be started again: it writes nothing any more")
    stop.set()


def no_writes(engine: Engine) -> dict[str, str]:
    """Why nothing is written any more, by what has ended; {} while writes are done."""
    try:
        engine.check_writes()
    except Refusal as refusal:
        return {"database writer": refusal.message}
    return {}


def surroundings(
    settings: ServerSettings, worker: Worker, seal: ClusterSeal, broker: AuditBroker, clock: Clock
) -> Surroundings:
    """What the store is told of its process."""
    about = About(
        worker.program_version,
        settings.api_version or API_VERSION,
        storage_type=settings.storage.named,
        address=settings.api_addr or settings.listeners[0].url,
        cluster_address=settings.cluster_addr,
        started=clock.now(),
        audit=lambda: broker.failing,
    )
    return Surroundings(
        clock,
        broker,
        ClusterReviewer(clock),
        seal,
        about,
        worker.number,
        Bounds(settings.default_ttl, settings.max_ttl),
        engines=worker.engines,
        api_audit=settings.api_audit,
        folder=settings.storage.path,
        configuration=lambda: sanitized(settings),
        lockout=settings.user_lockout,
        request_seconds=settings.request_seconds,
    )


async def _listen(
    settings: ServerSettings,
    worker: Worker,
    handler: Front,
    clock: Clock,
    certificates: list[Certificates],
) -> list[Listener]:
    """Start the listeners; adds to `certificates` what may be reloaded."""
    listeners = []
    files = allow_open_files()
    connections = connections_for(files, len(settings.listeners))
    if connections < Limits().connections:
        _log.warning("%d open files are allowed: %d connections a listener", files, connections)
    for each in settings.listeners:
        limits = Limits(
            connections=connections,
            body_bytes=each.body_bytes,
            header_seconds=each.header_seconds,
            body_seconds=each.body_seconds,
            idle_seconds=each.idle_seconds,
        )
        served = behind_proxy(handler, each.forwarded) if each.forwarded else handler
        listener = Listener(
            served,
            limits,
            clock,
            each.opens,
            SnapshotSpool(
                settings.storage.path,
                admits_behind_proxy(handler.admits, each.forwarded),
                each.snapshot_bytes,
            ),
        )
        if each.socket:
            if worker.number == 0:
                each.socket.unlink(missing_ok=True)
                await listener.start_unix(str(each.socket))
                each.rights.give(each.socket)
        else:
            tls = tls_context(each)
            if tls is not None:
                certificates.append(Certificates(each, listener.renew_tls))
            await listener.start(each.host, each.port, tls=tls, reuse_port=worker.count > 1)
        listeners.append(listener)
    return listeners


def behind_proxy(handler: Handler, rules: ForwardedFor) -> Handler:
    """The handler for requests that a proxy passes on: their peer is the proxy's client.

    Probes come from the kubelet, or from the proxy on its own account, and count for nobody.
    """

    def handle(request: Request, exchange: Exchange) -> None:
        if is_probe(request):
            handler(request, exchange)
            return
        try:
            request.peer = client_of(request.peer, request.headers.get(HEADER), rules)
        except Refusal as refusal:
            exchange.reply(encode_refusal(refusal))
            return
        handler(request, exchange)

    return handle


def admits_behind_proxy(
    admits: Callable[[Request], Awaitable[bool]], rules: ForwardedFor | None
) -> Callable[[Request], Awaitable[bool]]:
    """The same question about the proxy's client; the request itself stays as it came."""
    if rules is None:
        return admits

    async def ask(request: Request) -> bool:
        try:
            client = client_of(request.peer, request.headers.get(HEADER), rules)
        except Refusal:
            return False
        return await admits(dataclasses.replace(request, peer=client))

    return ask


def run_worker(settings: ServerSettings, worker: Worker | None = None) -> None:
    """`serve` on an event loop of its own, in this process."""
    run(serve(settings, worker or Worker()))


def run(work: "Awaitable[None]") -> None:
    """Run on the fast event loop."""
    import uvloop

    async def main() -> None:
        await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _reload(
    broker: AuditBroker, certificates: Sequence[Certificates], pins: RefusedPin | None
) -> None:
    if pins is not None:
        pins.forget_soon()  # Once for all workers; the next look at the seal offers it again.
    for each in broker.enabled:
        # A path that cannot be opened keeps the old file; the next write says so if it fails too.
        with contextlib.suppress(Refusal):
            each.device.reopen()
    for certificate in certificates:
        certificate.reload()


async def _watch(certificates: Sequence[Certificates], clock: Clock) -> None:
    while True:
        await clock.sleep(FOLLOW_SECONDS)
        for each in certificates:
            each.reload(changed_only=True)


async def _follow(
    parts: Opened, around: Surroundings, broker: AuditBroker, problems: dict[str, str]
) -> None:
    """Do as the cluster did: seal when another process was told to, unseal when it can.

    Also notes in `problems` whether the database answers, and tries devices that do not record.
    """
    said, clock = "", around.clock
    watch = ClockWatch(clock, around.notices)
    while True:
        try:
            await parts.engine.waiting(_followed(parts, watch))
        except Refusal as refusal:
            problems["storage"] = refusal.message
        else:
            problems.pop("storage", None)
        broker.probe()
        waiting_for = parts.seal.waiting_for if parts.seal.sealed else ""
        if waiting_for and waiting_for != said:
            level = logging.WARNING if parts.seal.refused else logging.INFO
            _log.log(level, "sealed; waits for %s", waiting_for)
        said = waiting_for
        await clock.sleep(FOLLOW_SECONDS)


async def _followed(parts: Opened, watch: ClockWatch) -> None:
    watch.look(parts.engine.view)
    parts.engine.view.check_schema()
    await parts.seal.follow()
    parts.engine.check_writes()


async def _tend(handler: Front, clock: Clock, notices: Notices) -> None:
    """Revoke what has expired. A database that is away is waited for."""
    while True:
        await notices.attempt("expiration", handler.tend)
        await clock.sleep(TEND_SECONDS)
