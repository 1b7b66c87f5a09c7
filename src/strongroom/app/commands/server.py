"""`strongroom server`: the store, initialised at its first start and unsealed at every start."""

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from strongroom.app.dev.processes import die_with_parent
from strongroom.model.errors import Invalid
from strongroom.model.secret import Secret

WORKER: Final = "STRONGROOM_WORKER"  # set by the supervisor for each of its workers
EXAMPLE: Final = """example:
  strongroom server --data /var/lib/strongroom --seal-key-file /etc/strongroom/seal.key \\
      --listen 0.0.0.0:8200 --tls-cert server.pem --tls-key server.key
  strongroom server --data ./data --seal-key-file ./seal.key        # loopback, for a try
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "server",
        help="run the store (Vault's HTTP API)",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="database folder")
    parser.add_argument("--listen", default="127.0.0.1:8200", metavar="HOST:PORT")
    parser.add_argument(
        "--seal-key-file",
        type=Path,
        required=True,
        metavar="F",
        help="key that unseals; made at the first start when missing. Keep it off the data disk",
    )
    parser.add_argument(
        "--audit-file", type=Path, metavar="F", help="audit log (default: audit.log in --data)"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="F")
    parser.add_argument("--tls-key", type=Path, metavar="F")
    parser.add_argument(
        "--tls-self-signed",
        action="store_true",
        help="make a certificate under an authority of its own, DIR/ca.pem",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=min(os.cpu_count() or 1, 4),
        help="processes that share the port",
    )
    parser.add_argument(
        "--init-output",
        type=Path,
        metavar="F",
        help="where the first start writes the root token, mode 0600 (default: DIR/root-token)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare the database, then serve in this process or in workers."""
    from strongroom.app.main import program_version
    from strongroom.app.server import ServerOptions, check_exposure, prepare, self_signed, serve
    from strongroom.model.clock import SystemClock

    host, port = _address(args.listen)
    if bool(args.tls_cert) != bool(args.tls_key):
        raise Invalid("half-tls", "--tls-cert and --tls-key belong together")
    args.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    tls = (args.tls_cert, args.tls_key) if args.tls_cert else None
    if args.tls_self_signed and tls is None:
        tls = self_signed(args.data, host, SystemClock())
    worker = os.environ.get(WORKER)
    options = ServerOptions(
        data=args.data,
        host=host,
        port=port,
        seal_key_file=args.seal_key_file,
        audit_file=args.audit_file or args.data / "audit.log",
        tls=tls,
        program_version=program_version(),
        worker=int(worker or 0),
        workers=max(1, args.workers),
    )
    check_exposure(options)
    if worker is None:
        root = asyncio.run(prepare(options, SystemClock()))
        if root is not None:
            _keep_root_token(args.init_output or args.data / "root-token", root)
        scheme = "https" if tls else "http"
        print(f"strongroom: serving {scheme}://{host}:{port}", file=sys.stderr, flush=True)
        if options.workers > 1:
            return _supervise(options.workers)
    _run_loop(serve(options))
    return 0


def _run_loop(main: "asyncio.coroutines.Coroutine[None, None, None]") -> None:  # type: ignore[name-defined]
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise Invalid("bad-address", f"not HOST:PORT: {text}", hint="127.0.0.1:8200")
    return host.strip("[]"), int(port)


def _keep_root_token(path: Path, token: Secret) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(token.reveal() + b"\n")
    print(f"strongroom: initialised; the root token is in {path}", file=sys.stderr, flush=True)


def _supervise(count: int) -> int:
    """Run workers until told to stop; when one ends by itself, end all and say so."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "strongroom", *sys.argv[1:]],
            env={**os.environ, WORKER: str(number)},
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no locks
        )
        for number in range(count)
    ]
    stopping: list[int] = []

    def stop(number: int, _frame: object) -> None:
        stopping.append(number)
        for each in workers:
            each.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

    def reopen(number: int, _frame: object) -> None:
        for each in workers:
            each.send_signal(number)

    signal.signal(signal.SIGHUP, reopen)
    os.waitpid(-1, 0)
    for each in workers:
        with contextlib.suppress(ProcessLookupError):
            each.terminate()
    for each in workers:
        with contextlib.suppress(ChildProcessError):
            each.wait()
    return 0 if stopping else 1
