"""`strongroom server`: the store, from flags, from a Vault configuration, or for development."""

import argparse
import asyncio
import base64
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.app.parser import switch, switch_without_effect
from strongroom.app.processors import usable
from strongroom.app.store_address import refused_flag
from strongroom.model.errors import Conflict, Invalid, Refusal, Unavailable
from strongroom.model.secret import Secret

if TYPE_CHECKING:
    from strongroom.app.server import Opened, Worker
    from strongroom.app.store_config.settings import ServerSettings

# Each has connections to the database of its own.
MOST_WORKERS: Final = 4
EXAMPLE: Final = """example:
  strongroom server --data /var/lib/strongroom --seal-key-file /etc/strongroom/seal.key \\
      --listen 0.0.0.0:8200 --tls-cert server.pem --tls-key server.key
  strongroom server --data ./data --seal-key-file ./seal.key        # loopback, for a try
  strongroom server -config=/etc/vault.d                            # Vault's files, HCL or JSON
  strongroom server -dev -dev-root-token-id=root                    # in memory, unsealed

exit status: 0 told to end, 1 its workers crash again and again, 2 refused to start
"""


_ALONE: Final = "-dev is one node in memory; nodes of a cluster share a PostgreSQL, by -config"
_NOT_IN_DEV: Final = {
    "dev-plugin-dir": "there are no plugins",
    "dev-plugin-init": "there are no plugins",
    "dev-tls-cert-dir": "-dev-tls says where its authority is",
    "dev-tls-san": "the certificate is for the host of -dev-listen-address",
    "dev-no-kv": "secret/ is always there; disable it by the API",
    "dev-kv-v1": "secret/ has versions; strongroom secrets disable secret, then secrets enable"
    " -path=secret -version=1 kv",
    "dev-leased-kv": "secrets of KV have no leases",
    "dev-skip-init": '-dev is initialised and unsealed; storage "inmem" in a -config is not',
    "dev-auto-seal": "-dev is unsealed; a seal stanza in a -config opens by itself",
    "dev-latency": "nothing is delayed on purpose",
    "dev-latency-jitter": "nothing is delayed on purpose",
    **dict.fromkeys(("dev-ha", "dev-transactional", "dev-three-node", "dev-four-cluster"), _ALONE),
    **dict.fromkeys(("dev-consul", "dev-cluster-json"), _ALONE),
}


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "server",
        help="run the store (Vault's HTTP API)",
        epilog=EXAMPLE,
        allow_abbrev=False,
    )
    _flags(parser.add_argument_group("without a file: initialised and unsealed by itself"))
    files = parser.add_argument_group("from Vault's configuration files")
    files.add_argument(
        "-config", "--config", type=Path, action="append", metavar="PATH",
        help="a file, or a folder of .hcl and .json files; may be given several times",
    )  # fmt: skip
    files.add_argument(
        "-log-level", "--log-level", metavar="LEVEL", default=os.environ.get("VAULT_LOG_LEVEL"),
        help="trace, debug, info, warn or error (VAULT_LOG_LEVEL)",
    )  # fmt: skip
    files.add_argument(
        "-log-format", "--log-format", choices=("standard", "json"),
        default=os.environ.get("VAULT_LOG_FORMAT"),
        help="standard or json (VAULT_LOG_FORMAT)",
    )  # fmt: skip
    switch(files, "test-config", "read and check, then end")
    _refused_flags(parser)
    _dev_flags(parser.add_argument_group("for development"))
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that share the port (default: processors it may use, at most 4)",
    )
    parser.set_defaults(run=run)


def _flags(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--data", type=Path, metavar="DIR", help="database folder")
    group.add_argument(
        "--database",
        default="",
        metavar="URL",
        help="PostgreSQL that the nodes of a cluster share, postgresql://user@host/name; its"
        " password is better kept in PGPASSWORD or ~/.pgpass (default: a file in --data)",
    )
    group.add_argument(
        "--listen", default="127.0.0.1:8200", metavar="HOST:PORT", help="default: 127.0.0.1:8200"
    )
    group.add_argument(
        "--seal-key-file",
        type=Path,
        metavar="F",
        help="key that unseals; made at the first start when missing. Keep it off the data disk",
    )
    group.add_argument(
        "--audit-file", type=Path, metavar="F", help="audit log (default: audit.log in --data)"
    )
    group.add_argument("--tls-cert", type=Path, metavar="F", help="certificate to listen with")
    group.add_argument("--tls-key", type=Path, metavar="F", help="its private key")
    group.add_argument(
        "--tls-self-signed",
        action="store_true",
        help="make a certificate under an authority of its own, DIR/ca.pem",
    )
    group.add_argument(
        "--plain-http", action="store_true", help="allow plain HTTP beyond this machine"
    )
    group.add_argument(
        "--init-output",
        type=Path,
        metavar="F",
        help="where the first start writes the root token, mode 0600 (default: DIR/root-token)",
    )


def _refused_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of Vault's server that mean nothing here, and those that ask for what is so anyway."""
    for name in ("exit-on-core-shutdown", "combine-logs", "disable-gated-logs"):
        switch_without_effect(parser, name)
    where = "the log goes to standard error; let the service manager keep it"
    for name in ("log-file", "log-rotate-bytes", "log-rotate-duration", "log-rotate-max-files"):
        refused_flag(parser, name, where)
    refused_flag(parser, "recovery", "there is no recovery mode; operator snapshot restore -data"
                 " works without a server", nargs="?")  # fmt: skip
    refused_flag(parser, "experiment", "there are no experiments")
    for name, why in _NOT_IN_DEV.items():
        refused_flag(parser, name, why, nargs="?")


def _dev_flags(group: "argparse._ArgumentGroup") -> None:
    env = os.environ.get
    switch(group, "dev", "in memory, unsealed, one root")
    switch(group, "dev-tls", "with a certificate")
    group.add_argument(
        "-dev-root-token-id",
        "--dev-root-token-id",
        default=env("VAULT_DEV_ROOT_TOKEN_ID", ""),
        metavar="TEXT",
        help="the root token (VAULT_DEV_ROOT_TOKEN_ID)",
    )
    group.add_argument(
        "-dev-listen-address", "--dev-listen-address",
        default=env("VAULT_DEV_LISTEN_ADDRESS", "127.0.0.1:8200"), metavar="HOST:PORT",
        help="default: 127.0.0.1:8200 (VAULT_DEV_LISTEN_ADDRESS)",
    )  # fmt: skip
    switch(group, "dev-no-store-token", "do not write ~/.vault-token")


def run(args: argparse.Namespace) -> int:
    """Decide what is meant and serve in this process or in workers."""
    from strongroom.app.logs import start_log

    if args.dev or args.dev_tls:
        return _run_dev(args)
    settings = _from_environment(_from_files(args) if args.config else _from_flags(args))
    _read_log_flags(args)
    if args.test_config:
        _check_dry(args, settings)
        print("Success! The configuration is valid.")
        return 0
    log = partial(
        start_log,
        args.log_level or settings.log_level,
        args.log_format or settings.log_format,
    )
    from strongroom.app.main import program_version
    from strongroom.app.server import Worker

    worker = Worker(count=settings.workers, program_version=program_version())
    first = os.getpid()
    prepare = partial(_prepare, args, settings, log, first)
    try:
        if settings.workers > 1:
            return _run_workers(args, settings, worker, (prepare, log))
        prepare()
        return _serve(settings, worker)
    finally:
        # Workers come by here as well, and one that did not start found another's.
        if settings.pid_file and os.getpid() == first:
            _remove_pid(settings.pid_file, first)


def _check_dry(args: argparse.Namespace, settings: "ServerSettings") -> None:
    """What a start would refuse; the key file of the flags is made by one."""
    from strongroom.app.before_start import check
    from strongroom.model.clock import SystemClock

    if args.config:
        check(settings, os.environ, SystemClock(), dry=True)


def _from_environment(settings: "ServerSettings") -> "ServerSettings":
    """What goes before the file: the addresses that others are told, as a pod's own is known to
    its environment alone, the database, whose password a file should not have, and whether users
    are locked.
    """
    import dataclasses

    from strongroom.app.store_config.settings import POSTGRESQL
    from strongroom.app.store_config.user_lockout import DISABLES, forced, is_off

    env = os.environ.get
    lockout = forced(settings.user_lockout, os.environ)
    if is_off(lockout):
        print(f"strongroom: {DISABLES} is set: passwords may be tried without end", file=sys.stderr)
    storage = settings.storage
    if storage.engine == POSTGRESQL and (url := env("VAULT_PG_CONNECTION_URL")):
        storage = dataclasses.replace(storage, url=url)
    return dataclasses.replace(
        settings,
        api_addr=env("VAULT_API_ADDR") or env("VAULT_REDIRECT_ADDR") or settings.api_addr,
        cluster_addr=env("VAULT_CLUSTER_ADDR") or settings.cluster_addr,
        storage=storage,
        user_lockout=lockout,
    )


def _read_log_flags(args: argparse.Namespace) -> None:
    """Level and form in lower case; raises Invalid for what is none, in the environment too."""
    from strongroom.app.logs import format_named, level_named

    args.log_level = level_named(args.log_level) if args.log_level else ""
    args.log_format = format_named(args.log_format) if args.log_format else ""


def _prepare(
    args: argparse.Namespace, settings: "ServerSettings", log: Callable[[], None], first: int
) -> None:
    """All that is done once, before anybody serves; raises Refusal for what would not work.

    `first` is the process that takes signals.
    """
    from strongroom.app.before_start import check, clear, make_schema, prepare
    from strongroom.model.clock import SystemClock

    log()
    # First: who cannot listen leaves no cluster behind, and lifts no schema of one that runs.
    for listener in settings.listeners:
        if not listener.socket:
            _check_free(listener.host, listener.port)
    if not args.config:
        root = asyncio.run(prepare(settings, SystemClock()))
        if root is not None:
            _keep_root_token(args.init_output or args.data / "root-token", root)
    check(settings, os.environ, SystemClock())
    clear(settings)
    if settings.workers > 1:
        asyncio.run(make_schema(settings))
    if settings.pid_file:
        _write_pid(settings.pid_file, first)


def _write_pid(path: Path, process: int) -> None:
    try:
        path.write_text(str(process))
    except OSError as error:
        raise Unavailable(
            "pid-file", f"cannot write {path}: {error.strerror}", hint="pid_file names it"
        ) from error


def _remove_pid(path: Path, process: int) -> None:
    with contextlib.suppress(OSError):
        if path.read_text() == str(process):
            path.unlink()


def _run_workers(
    args: argparse.Namespace,
    settings: "ServerSettings",
    worker: "Worker",
    begin: tuple[Callable[[], None], Callable[[str], None]],
) -> int:
    """`begin` prepares, and starts the log of a worker."""
    import dataclasses

    from strongroom.app.logs import line_writer
    from strongroom.app.worker_processes import run_workers
    from strongroom.wire.keywrap.refused_pin import RefusedPin

    prepare, log = begin
    pins = RefusedPin(os.memfd_create("refused-pin"), worker.group)

    def serve(number: int) -> int:
        log(str(number))
        return _serve(settings, dataclasses.replace(worker, number=number, pins=pins))

    level = args.log_level or settings.log_level
    say = line_writer(level, args.log_format or settings.log_format)
    return run_workers(worker.count, prepare, serve, say)


def _serve(settings: "ServerSettings", worker: "Worker") -> int:
    import dataclasses

    from strongroom.app.server import run_worker

    say = partial(_say_started, settings, worker.program_version)
    ready = say if worker.number == 0 else _say_nothing
    run_worker(settings, dataclasses.replace(worker, environment=dict(os.environ), ready=ready))
    return 0


def _say_started(settings: "ServerSettings", version: str) -> None:
    """What Vault says when it serves: programs that start one wait for these words.

    Not where audit records go to the same place.
    """
    from strongroom.store.system.status import API_VERSION

    for device in settings.audit:
        path = device.options.get("file_path") or device.options.get("path")
        if device.type == "stdout" or path in ("stdout", "/dev/stdout"):
            return
    lines = ["==> Vault server configuration:", ""]
    for number, each in enumerate(settings.listeners, 1):
        kind, where = ("unix", each.socket) if each.socket else ("tcp", f"{each.host}:{each.port}")
        tls = "enabled" if each.tls else "disabled"
        lines.append(f'              Listener {number}: {kind} (addr: "{where}", tls: "{tls}")')
    told = settings.api_version or API_VERSION
    lines += [
        f"                 Storage: {settings.storage.named}",
        f"                 Version: Vault v{told} (strongroom {version})",
        "",
        "==> Vault server started! Log data will stream in below:",
        "",
    ]
    print("\n".join(lines), flush=True)


def _say_nothing() -> None:
    """One of several workers speaks."""


def default_workers() -> int:
    """One for each processor that can be kept busy, up to a number."""
    return min(usable(), MOST_WORKERS)


def _from_files(args: argparse.Namespace) -> "ServerSettings":
    import dataclasses

    from strongroom.app.store_config.seal_fields import with_environment
    from strongroom.app.store_config.settings import INMEM, settings_of
    from strongroom.app.store_config.sources import read_files

    settings = with_environment(settings_of(read_files(args.config)), os.environ)
    _say_notes(settings, "tls_disable")
    count = args.workers or settings.workers or default_workers()
    if settings.storage.engine == INMEM:
        count = 1  # memory is not shared
    return dataclasses.replace(settings, workers=count)


def _say_notes(settings: "ServerSettings", plain: str) -> None:
    """What means nothing, and `plain` where secrets leave this machine in the clear."""
    for note in settings.notes:
        print(f"strongroom: {note}", file=sys.stderr)
    for listener in settings.listeners:
        if listener.is_plain_abroad:
            print(
                f"strongroom: {listener.url} carries secrets in the clear ({plain})",
                file=sys.stderr,
            )


def _incomplete(args: argparse.Namespace) -> Invalid:
    if args.data is None and args.seal_key_file is None and not args.database:
        return Invalid(
            "no-configuration",
            "the server needs --data and --seal-key-file, -config, or -dev",
            hint="strongroom server --help",
        )
    if args.data is None:
        why = "for its audit log, and for the database where there is no --database"
        return Invalid("no-configuration", "--data is missing", hint=f"a folder, {why}")
    why = "a file for the key that unseals the store; made at the first start"
    return Invalid("no-configuration", "--seal-key-file is missing", hint=why)


def _from_flags(args: argparse.Namespace) -> "ServerSettings":
    from strongroom.app.server import self_signed
    from strongroom.app.store_config.flags import ServerOptions
    from strongroom.app.store_config.settings import parse_address
    from strongroom.app.store_config.storage_place import made_folder
    from strongroom.model.clock import SystemClock

    if args.data is None or args.seal_key_file is None:
        raise _incomplete(args)
    host, port = parse_address(args.listen)
    if bool(args.tls_cert) != bool(args.tls_key):
        raise Invalid("half-tls", "--tls-cert and --tls-key belong together")
    made_folder(args.data)
    tls = (args.tls_cert, args.tls_key) if args.tls_cert else None
    if args.tls_self_signed and tls is None:
        tls = self_signed(args.data, host, SystemClock())
    settings = ServerOptions(
        data=args.data,
        host=host,
        port=port,
        seal_key_file=args.seal_key_file,
        audit_file=args.audit_file or args.data / "audit.log",
        tls=tls,
        workers=max(1, args.workers or default_workers()),
        database=args.database,
    ).settings
    if settings.listeners[0].is_plain_abroad and not args.plain_http:
        raise Invalid(
            "plain-http",
            f"plain HTTP on {host} would carry secrets in the clear",
            hint="give --tls-cert and --tls-key, or --tls-self-signed, or accept it: --plain-http",
        )
    return settings


def _keep_root_token(path: Path, token: Secret) -> None:
    _write_secret(path, token)
    print(f"strongroom: initialised; the root token is in {path}", file=sys.stderr, flush=True)


def _write_secret(path: Path, token: Secret) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(token.reveal() + b"\n")


# development


def _run_dev(args: argparse.Namespace) -> int:
    import tempfile

    from strongroom.app.server import self_signed
    from strongroom.app.store_config.settings import parse_address
    from strongroom.model.clock import SystemClock

    host, port = parse_address(args.dev_listen_address)
    if not args.dev_tls:
        return _serve_dev(args, host, port, None)
    # Its key is of no use to anybody once the server has ended.
    with tempfile.TemporaryDirectory(prefix="strongroom-tls-", ignore_cleanup_errors=True) as name:
        return _serve_dev(args, host, port, self_signed(Path(name), host, SystemClock()))


def _serve_dev(
    args: argparse.Namespace, host: str, port: int, tls: tuple[Path, Path] | None
) -> int:
    from strongroom.app.before_start import check
    from strongroom.app.logs import start_log
    from strongroom.app.main import program_version
    from strongroom.app.server import Worker, run, serve
    from strongroom.app.store_config.flags import dev_settings
    from strongroom.app.store_config.sources import read_files
    from strongroom.model.clock import SystemClock

    found = read_files(args.config) if args.config else None
    settings = _from_environment(dev_settings(host, port, tls, found))
    _say_notes(settings, "-dev-tls")
    _read_log_flags(args)
    check(settings, os.environ, SystemClock(), dry=args.test_config)
    if args.test_config:
        print("Success! The configuration is valid.")
        return 0
    for listener in settings.listeners:
        if not listener.socket:
            _check_free(listener.host, listener.port)
    start_log(args.log_level or settings.log_level, args.log_format or settings.log_format)
    worker = Worker(
        program_version=program_version(),
        environment=dict(os.environ),
        ready=partial(_say_started, settings, program_version()),
    )
    begin = partial(_begin_dev, args, settings, tls)
    with _pid_written(settings.pid_file):
        run(serve(settings, worker, begin=begin))
    return 0


@contextlib.contextmanager
def _pid_written(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    _write_pid(path, os.getpid())
    try:
        yield
    finally:
        _remove_pid(path, os.getpid())


async def _begin_dev(
    args: argparse.Namespace,
    settings: "ServerSettings",
    tls: tuple[Path, Path] | None,
    parts: "Opened",
) -> None:
    from strongroom.app.server import dev_cluster
    from strongroom.model.clock import SystemClock

    made = await dev_cluster(parts, SystemClock(), args.dev_root_token_id)
    if not args.dev_no_store_token:
        _keep_for_commands(made.root_token)
    lines = [
        "WARNING! dev mode is enabled! In this mode the server runs entirely in memory",
        "and starts unsealed with a single unseal key."
        + ("" if settings.audit else " Nothing is recorded in an audit log."),
        "",
        "You may need to set the following environment variables:",
        "",
        f"    $ export VAULT_ADDR='{settings.listeners[0].url}'",
        *([f"    $ export VAULT_CACERT='{tls[0].parent / 'ca.pem'}'"] if tls else []),
        "",
        f"Unseal Key: {base64.b64encode(bytes.fromhex(made.unseal_key)).decode()}",
        f"Root Token: {made.root_token.reveal_text()}",
        "",
        "Development mode should NOT be used in production installations!",
    ]
    print("\n".join(lines), flush=True)


def _keep_for_commands(token: Secret) -> None:
    from strongroom.app.client.token_file import store_token

    try:
        store_token(token)
    except Refusal as refusal:
        print(f"strongroom: {refusal.message}", file=sys.stderr)


def _check_free(host: str, port: int) -> None:
    """A port that somebody else serves is refused; SO_REUSEPORT alone would share it silently."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(
                "address-in-use", f"cannot listen on {host}:{port}: {error.strerror}",
                hint="another server has it, or the address is not this machine's",
            ) from None  # fmt: skip
