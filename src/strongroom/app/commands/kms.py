"""`strongroom kms`: the KMS v2 plugin, its keys, and what happens when they are lost."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strongroom.model.digits import port_number
from strongroom.model.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from strongroom.encrypt.kms.config import KmsConfig
    from strongroom.encrypt.kms.keeper import Keeper
    from strongroom.encrypt.kms.keys import Backends
    from strongroom.encrypt.kms.state import KmsState
    from strongroom.model.clock import Clock
    from strongroom.wire.keywrap.contract import Wrapper

FIRST_KEY_SECONDS: Final = 5.0
STATUSES: Final = """
exit status: 0 done, 1 a plugin that is not well (status) or a key that does not open (drill),
  2 refused
"""
_SERVE: Final = """  strongroom kms serve --socket /run/strongroom/kms.sock --key-file /etc/strongroom/kms.key \\
      --state /var/lib/strongroom/kms.json --create-key
  strongroom kms serve --config /etc/strongroom/kms.yaml
"""  # noqa: E501 - lines of a shell
_PROMOTE: Final = """  ssh node2 curl -s http://127.0.0.1:8085/keys > node2.json
  strongroom kms promote --config kms.yaml --peer node2.json
"""
_FILE: Final = """with kms.yaml:
  socket: /run/strongroom/kms.sock
  state: /var/lib/strongroom/kms.json
  cluster: prod-1
  listen: 127.0.0.1:8085            # /healthz /readyz /metrics /keys
  on_backend_loss: coast            # or stop
  max_offline_age: 72h
  offline_cache: /var/lib/strongroom/kms-offline.json
  offline_key_file: /etc/strongroom/offline.key
  threshold: 1                      # any backend opens a key; k: k of them together
  backends:
  - {name: hsm, type: pkcs11, library: /usr/lib/softhsm/libsofthsm2.so, token: t, key: k, pin_file: /etc/strongroom/pin}
  - {name: store, type: transit, address: https://vault.example:8200, key: k8s, token_file: /etc/strongroom/token}
  escrow:
  - {name: safe, public_key: /etc/strongroom/escrow.pem}
and in the EncryptionConfiguration of the API server:
  providers:
  - kms: {apiVersion: v2, name: strongroom, endpoint: unix:///run/strongroom/kms.sock}
  - identity: {}
"""  # noqa: E501 - lines of a file
EXAMPLE: Final = (
    "example:\n"
    + _SERVE
    + "  strongroom kms prepare --config kms.yaml        # a new key every node can decrypt with\n"
    + _PROMOTE
    + "  strongroom kms drill --config kms.yaml --escrow-key escrow.pem\n"
    + _FILE
    + STATUSES
)
# What the help of each verb shows.
OF_VERB: Final = {
    "serve": _SERVE + _FILE,
    "status": "  strongroom kms status --config kms.yaml\n",
    "prepare": "  strongroom kms prepare --config kms.yaml\n"
    "  # then kms.json to the other nodes, and systemctl reload strongroom-kms there\n",
    "promote": _PROMOTE + "  strongroom kms promote --config kms.yaml --alone\n",
    "retire": "  strongroom encrypt prove --etcd https://127.0.0.1:2379"
    " --covered-by encryption.yaml --kms-socket kms.sock --format json > proof.json\n"
    "  strongroom kms retire KEY_ID --config kms.yaml --proof proof.json  # an id of kms status\n",
    "rewrap": "  strongroom kms rewrap --config kms.yaml  # after a change of the backends\n",
    "drill": "  strongroom kms drill --config kms.yaml --escrow-key escrow.pem\n",
    "recover": "  strongroom kms recover --config kms.yaml --escrow-key escrow.pem"
    " --output kms.json\n",
}


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its verbs."""
    parser = _parser(commands, "kms", "run the KMS v2 plugin for kube-apiserver, and its keys")
    verbs = parser.add_subparsers(dest="kms_verb", metavar="VERB", required=True)
    serve = _parser(verbs, "serve", "run the plugin")
    serve.add_argument("--config", type=Path, metavar="F", help="the plugin's configuration file")
    alone = serve.add_argument_group("without a configuration file: one key file")
    alone.add_argument("--socket", type=Path, metavar="PATH", help="where the API server asks")
    alone.add_argument("--key-file", type=Path, metavar="F", help="wraps the keys")
    alone.add_argument("--state", type=Path, metavar="F", help="the wrapped keys")
    alone.add_argument(
        "--cluster", default="default", help='what the keys are bound to (default "default")'
    )
    alone.add_argument("--listen", default="", metavar="HOST:PORT", help="probes and metrics")
    alone.add_argument(
        "--create-key", action="store_true", help="make the key file when it is missing"
    )
    serve.set_defaults(run=run_serve)
    status = _parser(verbs, "status", "what the plugin answers, and the keys of the state file")
    status.add_argument(
        "--format", choices=("table", "json"), default="table", help="how the keys are shown"
    )
    prepare = _parser(verbs, "prepare", "make a key that every node can decrypt with (phase one)")
    promote = _parser(verbs, "promote", "encrypt with the prepared key (phase two)")
    promote.add_argument(
        "--peer", action="append", default=[], metavar="URL|FILE",
        help="another node's HTTP page, or a file with what its /keys answers",
    )  # fmt: skip
    promote.add_argument("--alone", action="store_true", help="there is no other node")
    retire = _add_retire(verbs)
    rewrap = _parser(verbs, "rewrap", "wrap every key anew by the configured backends")
    drill = _parser(verbs, "drill", "prove that escrow opens every key; changes nothing")
    recover = _parser(verbs, "recover", "a new state file from escrow, for the configured backends")
    recover.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="F",
        help="the new state file, which must not exist",
    )
    for verb in (drill, recover):
        verb.add_argument("--escrow-key", type=Path, required=True, metavar="F", help="private key")
    for verb, run in (
        (status, run_status), (prepare, run_prepare), (promote, run_promote),
        (retire, run_retire), (rewrap, run_rewrap), (drill, run_drill), (recover, run_recover),
    ):  # fmt: skip
        verb.add_argument(
            "--config",
            type=Path,
            required=True,
            metavar="F",
            help="the plugin's configuration file",
        )
        verb.set_defaults(run=run)


def _add_retire(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> argparse.ArgumentParser:
    retire = _parser(verbs, "retire", "forget an old key: what it sealed opens no more")
    retire.add_argument("key_id", help="as kms status lists it")
    shown = retire.add_mutually_exclusive_group()
    shown.add_argument(
        "--proof", type=Path, metavar="F",
        help="what encrypt prove --format json has written since the promotion",
    )  # fmt: skip
    shown.add_argument(
        "--unproved", action="store_true", help="whatever is under it, which opens no more then"
    )
    return retire


def _parser(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:  # noqa: ANN401
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        epilog=f"example:\n{OF_VERB[name]}{STATUSES}" if name in OF_VERB else EXAMPLE,
    )
    return made


def _config(args: argparse.Namespace) -> "KmsConfig":
    from strongroom.encrypt.kms.config import load_config, read_config

    if args.config:
        return load_config(args.config)
    if not (args.socket and args.key_file and args.state):
        raise Invalid("half-kms", "give --config, or --socket with --key-file and --state")
    backend = {"name": "key-file", "type": "key_file", "path": str(args.key_file)}
    return read_config(
        {
            "socket": str(args.socket),
            "state": str(args.state),
            "cluster": args.cluster,
            "listen": args.listen,
            "backends": [backend],
        }
    )


def _backends(config: "KmsConfig", clock: "Clock", escrow_key: Path | None = None) -> "Backends":
    from strongroom.encrypt.kms.keys import Backends
    from strongroom.wire.keywrap.kinds import build

    wrappers = tuple(build(each, clock) for each in config.backends)
    return Backends(wrappers, config.threshold, _escrows(config, escrow_key))


def _escrows(config: "KmsConfig", escrow_key: Path | None) -> "tuple[Wrapper, ...]":
    if not config.escrow:
        return ()
    from strongroom.encrypt.kms.escrow import EscrowWrapper

    return tuple(
        EscrowWrapper(each["name"], Path(each["public_key"]), escrow_key) for each in config.escrow
    )


def run_serve(args: argparse.Namespace) -> int:
    """Serve until told to stop; SIGHUP reads the state file and asks every backend again."""
    from strongroom.app.locked_memory import lock_memory
    from strongroom.crypto.keyfile import create_key_file

    config = _config(args)
    if args.create_key and args.config:
        raise Invalid(
            "two-keys", "--create-key makes the file of --key-file, and --config names its own",
            hint="strongroom encrypt init writes a configuration with its key file",
        )  # fmt: skip
    if args.create_key and not args.key_file.exists() and not args.state.exists():
        create_key_file(args.key_file)
    locked = lock_memory()
    if not locked:
        _say("memory is not locked: raise the limit (LimitMEMLOCK=infinity in the unit)")
    asyncio.run(_serve(config, memory_locked=locked))
    return 0


async def _serve(config: "KmsConfig", *, memory_locked: bool) -> None:
    from strongroom.encrypt.kms.keeper import Keeper
    from strongroom.encrypt.kms.metrics import KmsMetrics
    from strongroom.encrypt.kms.offline import OfflineCache
    from strongroom.encrypt.kms.plugin import Plugin, serve
    from strongroom.model.clock import SystemClock

    clock = SystemClock()
    backends = _backends(config, clock)
    cache = OfflineCache(*config.offline, config.place) if config.offline else None
    keeper = Keeper(config.state, backends, config.place, config.policy, clock, cache)
    plugin = Plugin(keeper, clock, KmsMetrics(memory_locked=memory_locked))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # The socket first: an API server that comes early hears "unavailable" and not silence.
    async with AsyncExitStack() as stack:
        stack.push_async_callback(backends.close)
        server = await serve(plugin, config.socket)
        stack.push_async_callback(server.stop)
        page = await _page(config, keeper, plugin, clock)
        if page is not None:
            stack.push_async_callback(page.drain)
        _say(f"KMS v2 on {config.socket}")
        again = asyncio.Event()
        work = loop.create_task(_work(config, backends, keeper, again))
        stack.callback(work.cancel)
        reloads: set[asyncio.Task[None]] = set()

        async def reload() -> None:
            await keeper.reload()
            again.set()

        def hung_up() -> None:
            reloads.add(task := loop.create_task(reload()))
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, hung_up)
        ended = loop.create_task(stop.wait())
        await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()  # It ends with an error alone.


async def _work(
    config: "KmsConfig", backends: "Backends", keeper: "Keeper", again: asyncio.Event
) -> None:
    await _first_key(config, backends, again)
    await keeper.run()


async def _page(config: "KmsConfig", keeper: "Keeper", plugin: Any, clock: "Clock") -> Any:  # noqa: ANN401
    if not config.listen:
        return None
    from strongroom.encrypt.kms.page import HealthPage
    from strongroom.wire.limits import Limits
    from strongroom.wire.listener import Listener

    host, _, port = config.listen.rpartition(":")
    number = port_number(port)
    if not host or number is None:
        raise Invalid("bad-address", f"not HOST:PORT: {config.listen}")
    listener = Listener(HealthPage(keeper, plugin.metrics), Limits(), clock)
    try:
        await listener.start(host.strip("[]"), number)
    except OSError as error:
        raise Unavailable(
            "no-listen", f"cannot listen on {config.listen}: {error.strerror}",
            hint="another address for the probes: --listen, or listen in the configuration",
        ) from None  # fmt: skip
    return listener


async def _first_key(config: "KmsConfig", backends: "Backends", again: asyncio.Event) -> None:
    """Make the first key of a new installation; tried again until enough backends wrap it.

    `again` tries at once.
    """
    from strongroom.encrypt.kms.high_water import mark_file
    from strongroom.encrypt.kms.keys import make
    from strongroom.encrypt.kms.state import first, save
    from strongroom.model.clock import SystemClock

    # A state file that is lost is no new installation: a new key would open nothing of the old.
    traces = [config.state, mark_file(config.state), *(config.offline or ())[:1]]
    if any(each.exists() for each in traces):
        return
    while True:
        try:
            entry, _ = await make(backends, config.place, SystemClock().now())
        except Unavailable as refusal:
            _say(str(refusal))
            await _at_most(again, FIRST_KEY_SECONDS)
            continue
        save(config.state, first(entry))
        _say(f"made the first key, {entry.id}")
        return


async def _at_most(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    event.clear()


def _say(line: str) -> None:
    print(f"strongroom: {line}", file=sys.stderr, flush=True)


def run_status(args: argparse.Namespace) -> int:
    """Print the plugin's answer and the keys."""
    from strongroom.encrypt.kms.plugin import ask_status
    from strongroom.encrypt.kms.state import load
    from strongroom.model.clock import rfc3339
    from strongroom.model.errors import Refusal

    config, state = _config(args), load(_config(args).state)
    try:
        answer = asyncio.run(ask_status(config.socket))
        said = {"healthz": answer.healthz, "key_id": answer.key_id}
    except Refusal as refusal:
        said = {"healthz": refusal.message, "key_id": ""}
    rows = [
        {
            "id": key.id,
            "use": "current" if key.id == state.current else
            "pending" if key.id == state.pending else "decrypts",
            "created": rfc3339(key.created),
            "threshold": key.threshold,
            "wrapped_by": ", ".join(wrap.by for wrap in key.wraps),
        }
        for key in state.keys
    ]  # fmt: skip
    # Another key of the file is one that was promoted a moment ago.
    well = said["key_id"] in {key.id for key in state.keys}
    if args.format == "json":
        print(json.dumps({"plugin": said, "epoch": state.epoch, "keys": rows}, indent=2))
        return 0 if well else 1
    print(f"plugin: {said['healthz']}, key id {said['key_id'] or 'none'}; epoch {state.epoch}")
    for row in rows:
        print(f"  {row['id']}  {row['use']:8}  {row['created']}  {row['wrapped_by']}")
    if said["key_id"] and not well:
        print("The state file lacks the key that the plugin encrypts with; its log says more.")
    return 0 if well else 1


def _newest(path: Path) -> "KmsState":
    """The state to make the next one from, or to drill; raises what `load` and `check_mark` raise.

    A plugin refuses a file older than its node has seen. After a few changes it would not, and
    would miss the keys of the files between; nor would a drill of it open those.
    """
    from strongroom.encrypt.kms.high_water import check_mark, read_mark
    from strongroom.encrypt.kms.state import load

    state = load(path)
    check_mark(read_mark(path), state, path)
    return state


def run_prepare(args: argparse.Namespace) -> int:
    """Phase one."""
    return asyncio.run(_prepare(_config(args)))


async def _prepare(config: "KmsConfig") -> int:
    from strongroom.encrypt.kms.keys import make
    from strongroom.encrypt.kms.state import prepared, save_over
    from strongroom.model.clock import SystemClock

    clock = SystemClock()
    backends = _backends(config, clock)
    try:
        state = _newest(config.state)
        entry, _ = await make(backends, config.place, clock.now())
        save_over(config.state, state, prepared(state, entry))
    finally:
        await backends.close()
    print(f"prepared {entry.id}")
    print(
        f"Copy {config.state} to every other control-plane node. Plugins read it within a minute,"
    )
    print("or at once on SIGHUP (systemctl reload strongroom-kms); then: strongroom kms promote")
    return 0


def run_promote(args: argparse.Namespace) -> int:
    """Phase two, when every node can decrypt with the prepared key."""
    return asyncio.run(_promote(_config(args), args))


async def _promote(config: "KmsConfig", args: argparse.Namespace) -> int:
    from strongroom.encrypt.kms.peers import check_own, check_peers
    from strongroom.encrypt.kms.state import promoted, save_over
    from strongroom.model.clock import SystemClock
    from strongroom.wire.client import HttpClient

    if not args.peer and not args.alone:
        raise Invalid(
            "no-peers",
            "every other control-plane node must be asked first",
            hint="on each: curl -s http://127.0.0.1:8085/keys > NODE.json, then --peer NODE.json"
            " for all of them; or --alone when there is no other",
        )
    state = _newest(config.state)
    after = promoted(state, SystemClock().now())
    async with HttpClient() as http:
        await check_peers(http, args.peer, after.current)
    await check_own(config.socket, after.current)
    save_over(config.state, state, after)
    print(f"promoted {after.current}; copy {config.state} to the other nodes")
    print(
        "Plugins read it within a minute, or at once on SIGHUP (systemctl reload), and API servers"
    )
    print("within another; then: strongroom encrypt migrate")
    return 0


def run_retire(args: argparse.Namespace) -> int:
    """Forget an old key."""
    from strongroom.encrypt.kms.high_water import mark_file
    from strongroom.encrypt.kms.state import retired, save_over
    from strongroom.model.errors import Conflict

    config = _config(args)
    state = _newest(config.state)
    after = retired(state, args.key_id)
    shown = _proved(args, state)
    used = asyncio.run(_key_here(config.socket))
    if used and all(each.id != used for each in after.keys):
        raise Conflict(
            "in-use",
            f"the plugin on {config.socket} still encrypts with the key {used}, and without"
            f" {args.key_id} the state file lacks that",
            hint="it reads a promotion within a minute, or on SIGHUP (systemctl reload);"
            " strongroom kms status tells whether another plugin is there",
        )
    save_over(config.state, state, after)
    print(f"retired {args.key_id}; copy {config.state} to the other nodes")
    if shown:
        print(f"Nothing is under it of: {', '.join(shown)}")
    print(
        "What it sealed opens no more. Should something need it: the state file of before, without"
    )
    print(f"{mark_file(config.state)}, and a restart of the plugin")
    return 0


def _proved(args: argparse.Namespace, state: "KmsState") -> tuple[str, ...]:
    """The resources that nothing is under the key of; () where that is not asked."""
    from strongroom.encrypt.kms.retirement import AGAIN, check_proof

    if args.unproved:
        return ()
    if not args.proof:
        raise Invalid(
            "no-proof",
            "nothing shows that no value is under the key: what is would open no more",
            hint=f"{AGAIN}, then --proof proof.json; or --unproved",
        )
    try:
        said = args.proof.read_bytes()
    except OSError as error:
        raise Invalid("no-file", f"cannot read {args.proof}: {error.strerror}") from None
    return check_proof(said, state, args.key_id)


async def _key_here(socket: Path) -> str:
    """The key that this node's plugin encrypts with, "" when there is none, or it has no key.

    Raises Unavailable(`plugin-silent`) for one that hangs: it may go on with the key that it has.
    """
    from strongroom.encrypt.kms.plugin import ask_status
    from strongroom.model.errors import Refusal
    from strongroom.wire.grpc_unix import SILENT

    try:
        return (await ask_status(socket)).key_id if socket.exists() else ""
    except Refusal as refusal:
        if refusal.code == SILENT:
            raise Unavailable(
                "plugin-silent",
                f"the plugin on {socket} does not answer, and may still encrypt with the key",
                hint="restart it, and migrate and prove what it wrote; then retire the key",
            ) from None
        return ""
    except OSError:
        return ""


def run_rewrap(args: argparse.Namespace) -> int:
    """Wrap every key anew."""
    return asyncio.run(_rewrap(_config(args)))


async def _rewrap(config: "KmsConfig") -> int:
    from strongroom.encrypt.kms.keys import open_key, wrapped_anew
    from strongroom.encrypt.kms.state import save_over, with_key
    from strongroom.model.clock import SystemClock

    backends = _backends(config, SystemClock())
    try:
        state = seen = _newest(config.state)
        for entry in seen.keys:
            opened = await open_key(entry, backends.wrappers, config.place)
            state = with_key(state, await wrapped_anew(entry, opened.key, backends, config.place))
        save_over(config.state, seen, state)
    finally:
        await backends.close()
    print(f"wrapped {_keys(len(state.keys))} anew; copy {config.state} to the other nodes")
    return 0


def run_drill(args: argparse.Namespace) -> int:
    """Prove escrow."""
    return asyncio.run(_drill(_config(args), args.escrow_key))


async def _drill(config: "KmsConfig", escrow_key: Path) -> int:
    from strongroom.encrypt.kms.keys import open_key
    from strongroom.model.clock import SystemClock
    from strongroom.model.errors import Refusal

    state = _newest(config.state)
    backends = _backends(config, SystemClock(), escrow_key)
    failed = 0
    try:
        for entry in state.keys:
            try:
                escrowed = (await open_key(entry, backends.escrows, config.place)).key
                live = (await open_key(entry, backends.wrappers, config.place)).key
                said = "ok" if escrowed == live else "DIFFERS"
            except Refusal as refusal:
                said = f"FAILED: {refusal.message}"
            failed += said != "ok"
            print(f"  {entry.id}  {said}")
    finally:
        await backends.close()
    print("DRILL PASSED" if not failed else f"DRILL FAILED for {failed} keys")
    return 1 if failed else 0


def run_recover(args: argparse.Namespace) -> int:
    """Rebuild the state."""
    return asyncio.run(_recover(_config(args), args))


async def _recover(config: "KmsConfig", args: argparse.Namespace) -> int:
    from strongroom.encrypt.kms.keys import open_key, wrapped_anew
    from strongroom.encrypt.kms.state import load, save, with_key
    from strongroom.model.clock import SystemClock
    from strongroom.model.errors import Conflict

    if args.output.exists():
        raise Conflict("output-exists", f"{args.output} is there already")
    backends = _backends(config, SystemClock(), args.escrow_key)
    try:
        state = load(config.state)
        for entry in state.keys:
            opened = await open_key(entry, backends.escrows, config.place)
            state = with_key(state, await wrapped_anew(entry, opened.key, backends, config.place))
        save(args.output, state)
    finally:
        await backends.close()
    print(f"recovered {_keys(len(state.keys))} into {args.output}")
    return 0


def _keys(number: int) -> str:
    return "1 key" if number == 1 else f"{number:,} keys"
