"""One store process: engine, seal, audit file and listener put together, until it is told to stop.

`serve` is a worker; several of them share the port by SO_REUSEPORT and the database by its locks.
"""

import asyncio
import contextlib
import ipaddress
import os
import signal
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.app.token_reviewer import ClusterReviewer
from strongroom.audit.devices import AuditBroker, FileDevice
from strongroom.crypto.keyfile import create_key_file, load_key_file
from strongroom.crypto.x509_dev import issue
from strongroom.model.clock import Clock, SystemClock
from strongroom.model.errors import Invalid, Refusal
from strongroom.model.secret import Secret
from strongroom.store.assembly import Surroundings, assemble, open_cluster
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Engine
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.seal.key_file import KeyFileSeal
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Listener
from strongroom.wire.tls import server_context

DATABASE: Final = "strongroom.db"
SWEEP_SECONDS: Final = 60.0
SWEEP_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the command line says. `tls` is certificate and key, None for plain HTTP."""

    data: Path
    host: str
    port: int
    seal_key_file: Path
    audit_file: Path
    tls: tuple[Path, Path] | None
    program_version: str = ""
    worker: int = 0
    workers: int = 1


def check_exposure(options: ServerOptions) -> None:
    """Refuse to carry secrets in the clear beyond the machine; raises Invalid."""
    try:
        loopback = options.host == "localhost" or ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        loopback = False
    if options.tls is None and not loopback:
        raise Invalid(
            "plain-http",
            f"plain HTTP on {options.host} would carry secrets in the clear",
            hint="give --tls-cert and --tls-key, or --tls-self-signed",
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


async def prepare(options: ServerOptions, clock: Clock) -> Secret | None:
    """Make the database ready before any worker starts; the root token of a new cluster."""
    options.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (options.data / DATABASE).exists() and not options.seal_key_file.exists():
        create_key_file(options.seal_key_file)
    barrier = Barrier()
    engine = SqliteEngine(options.data / DATABASE, barrier)
    try:
        # An audit file that cannot be opened is a reason not to start, not to serve unrecorded.
        FileDevice(options.audit_file).close()
        return await open_cluster(engine, barrier, _seal(options), clock)
    finally:
        engine.close()


def _seal(options: ServerOptions) -> KeyFileSeal:
    return KeyFileSeal(load_key_file(options.seal_key_file))


async def serve(options: ServerOptions, clock: Clock | None = None) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reopens the audit file."""
    clock = clock or SystemClock()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    barrier = Barrier()
    engine = SqliteEngine(options.data / DATABASE, barrier)
    device = FileDevice(options.audit_file)
    loop.add_signal_handler(signal.SIGHUP, _reopen, device)
    await open_cluster(engine, barrier, _seal(options), clock)
    around = Surroundings(
        clock,
        AuditBroker([device]),
        ClusterReviewer(clock),
        options.program_version,
        options.worker,
    )
    listener = Listener(assemble(engine, barrier, around), Limits(), clock)
    tls: ssl.SSLContext | None = server_context(*options.tls) if options.tls else None
    await listener.start(options.host, options.port, tls=tls, reuse_port=options.workers > 1)
    sweeper = loop.create_task(_sweep(engine, clock)) if options.worker == 0 else None
    await stop.wait()
    if sweeper:
        sweeper.cancel()
    await listener.drain()
    engine.close()
    device.close()


def _reopen(device: FileDevice) -> None:
    # A path that cannot be opened keeps the old file; the next write says so if that fails too.
    with contextlib.suppress(Refusal):
        device.reopen()


async def _sweep(engine: Engine, clock: Clock) -> None:
    """Remove expired tokens a page at a time; they are refused before they are removed."""
    while True:
        with contextlib.suppress(Refusal):
            while (
                await engine.transact(
                    lambda each: each.delete_expired_tokens(clock.now(), SWEEP_ROWS)
                )
                >= SWEEP_ROWS
            ):
                await clock.sleep(0)
        await clock.sleep(SWEEP_SECONDS)
