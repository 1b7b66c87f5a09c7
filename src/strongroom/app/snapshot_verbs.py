"""`strongroom operator snapshot save|restore|drill|inspect FILE`; `operator raft snapshot` too.

A file is written beside its name and takes it once it is whole, so a backup job that was cut off
leaves the one before.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from strongroom.app.client.flags import Call, verb
from strongroom.app.client.output import success
from strongroom.app.operator_verbs import operator_examples, print_fields
from strongroom.app.parser import flag, switch
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.app.client.session import Session
    from strongroom.store.engine.contract import Engine
    from strongroom.store.engine.snapshot_file import Summary
    from strongroom.store.seal.cluster import ClusterSeal

PATH: Final = "sys/storage/raft/snapshot"
# An archive that is larger is unpacked on disk.
IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_UNCHECKED: Final = (
    "Not checked: whether the file was changed by somebody without the keys. Its checksum fits, and"
    " each row opens in its own place alone; -config or -seal-key-file checks the keyed hash too."
)
EXAMPLE: Final = """example:
  strongroom operator snapshot save store.snap
  strongroom operator snapshot inspect store.snap     # no server is asked
  strongroom operator snapshot drill store.snap       # restores it into a scratch database
  strongroom operator snapshot restore store.snap
"""


def register_snapshots(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `snapshot`, and `raft snapshot` as Vault spells it."""
    snapshot = _group(verbs, "snapshot", "save, restore and rehearse the whole store")
    below = snapshot.add_subparsers(metavar="VERB", required=True)
    _arguments(below, "snapshot")
    raft = _group(verbs, "raft", "snapshots as Vault spells them")
    inner = raft.add_subparsers(metavar="VERB", required=True)
    again = _group(inner, "snapshot", "save and restore the whole store")
    _arguments(again.add_subparsers(metavar="VERB", required=True), "raft snapshot")


def _group(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=text,
        description=text,
        epilog=EXAMPLE,
        allow_abbrev=False,
    )
    parser.like_vault = True  # type: ignore[attr-defined] # they are all of app.parser
    return parser


def _arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", words: str) -> None:
    save = _verb(verbs, "save", "take a snapshot that was restored on trial", _save,
                 f"{words} save store.snap")  # fmt: skip
    switch(save, "no-verify", "do not restore it on trial before it is handed out")
    restore = _verb(verbs, "restore", "replace everything by a snapshot", _restore,
                    f"{words} restore store.snap",
                    f"{words} restore -data ./new store.snap     # no server runs")  # fmt: skip
    flag(restore, "data", type=Path, metavar="DIR", help="into this folder, without a server")
    flag(restore, "database", default="", metavar="URL",
         help="into this PostgreSQL, without a server")  # fmt: skip
    flag(restore, "config", type=Path, action="append", metavar="PATH",
         help="without a server: check the file by the seal of this configuration")  # fmt: skip
    flag(restore, "seal-key-file", type=Path, metavar="FILE",
         help="without a server: check the file by this key of a static seal")  # fmt: skip
    switch(restore, "force", "even one of another cluster")
    _verb(verbs, "drill", "say what a restore would find, and change nothing", _drill,
          f"{words} drill store.snap")  # fmt: skip
    _verb(verbs, "inspect", "say what the file holds, without a server", _inspect,
          f"{words} inspect store.snap")  # fmt: skip


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    call: Call,
    *examples: str,
) -> argparse.ArgumentParser:
    parser = verb(verbs, name, text, call, operator_examples(*examples))
    parser.add_argument("file", type=Path, metavar="FILE", help="the snapshot")
    return parser


async def _save(session: "Session", args: argparse.Namespace) -> int:
    partial = args.file.with_name(f"{args.file.name}.partial")
    query = {"plain": "true"} | ({} if args.no_verify else {"verify": "true"})
    try:
        with _opened(partial, "w+b") as file:
            await session.download(PATH, file, query)
            summary = _summary(file)
            os.fsync(file.fileno())
        partial.replace(args.file)
    finally:
        partial.unlink(missing_ok=True)
    return _print(args, summary.described())


async def _restore(session: "Session", args: argparse.Namespace) -> int:
    with _to_read(args.file) as file:
        _summary(file)
        file.seek(0)
        if args.data or args.database:
            await _restore_directly(args, file)
        else:
            await session.upload(f"{PATH}-force" if args.force else PATH, file)
        if (args.data or args.database) and not _has_seal(args):
            print(_UNCHECKED, file=sys.stderr)
    success("The store is as it was when the snapshot was taken.", args.format)
    return 0


async def _restore_directly(args: argparse.Namespace, file: BinaryIO) -> None:
    from strongroom.app.server import open_engine
    from strongroom.app.store_config.settings import POSTGRESQL, SQLITE, StorageSetting
    from strongroom.model.clock import SystemClock
    from strongroom.store.engine.barrier import Barrier
    from strongroom.store.snapshots import restore_directly

    kind = POSTGRESQL if args.database else SQLITE
    engine = await open_engine(StorageSetting(kind, args.data, args.database), Barrier())
    try:
        ring_of = _seal(args, engine).ring_by_backend if _has_seal(args) else None
        await restore_directly(engine, file, SystemClock().now(), ring_of, force=args.force)
    finally:
        await engine.close()


def _has_seal(args: argparse.Namespace) -> bool:
    return bool(args.config or args.seal_key_file)


def _seal(args: argparse.Namespace, engine: "Engine") -> "ClusterSeal":
    """The seal that the arguments name, to open the snapshot's key ring with."""
    from strongroom.app.server import Worker, seal_setting
    from strongroom.app.store_config.seal_fields import with_environment
    from strongroom.app.store_config.settings import settings_of
    from strongroom.app.store_config.sources import read_files
    from strongroom.model.clock import SystemClock
    from strongroom.store.engine.barrier import Barrier
    from strongroom.store.seal.backends import AutoSeal
    from strongroom.store.seal.cluster import ClusterSeal, SealSetting
    from strongroom.wire.keywrap.key_file import KeyFileWrapper

    clock = SystemClock()
    if args.config:
        worker = Worker(environment=dict(os.environ))
        settings = with_environment(settings_of(read_files(args.config)), os.environ)
        setting = seal_setting(settings, worker, clock)
    else:
        setting = SealSetting(AutoSeal("static", KeyFileWrapper("static", args.seal_key_file)))
    return ClusterSeal(engine, Barrier(), setting, clock)


async def _drill(session: "Session", args: argparse.Namespace) -> int:
    with _to_read(args.file) as file:
        _summary(file)
        file.seek(0)
        found = (await session.upload(f"{PATH}-drill", file)).data
    _print(args, found)
    return 2 if found["damaged"] else 0


async def _inspect(session: "Session", args: argparse.Namespace) -> int:  # noqa: ARG001
    with _to_read(args.file) as file:
        return _print(args, _summary(file).described())


def _to_read(path: Path) -> BinaryIO:
    """The snapshot, out of its archive where another program has saved one."""
    from strongroom.store.engine.snapshot_archive import plain

    file = _opened(path, "rb")
    spool = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - read later
    found = cast(BinaryIO, spool)
    try:
        shown, spent = (found, file) if plain(file, found) else (file, found)
    except BaseException as error:
        file.close()
        found.close()
        if isinstance(error, OSError):
            said = f"cannot unpack {path}: {error.strerror}"
            raise Invalid("snapshot-file", said, hint="TMPDIR is where it goes") from error
        raise
    spent.close()
    shown.seek(0)
    return shown


def _opened(path: Path, mode: str) -> BinaryIO:
    try:
        if mode == "rb":
            return path.open("rb")
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b")
    except OSError as error:
        raise Invalid("snapshot-file", f"cannot open {path}: {error.strerror}") from error


def _summary(file: BinaryIO) -> "Summary":
    from strongroom.store.engine.snapshot_file import inspect

    file.flush()
    return inspect(file)


def _print(args: argparse.Namespace, found: dict[str, Any]) -> int:
    rows = [(name, each) for name, each in found.items() if name not in ("rows", "damaged")]
    rows += [(f"rows of {table}", each) for table, each in sorted(found["rows"].items())]
    rows += [("damaged", each) for each in found.get("damaged", ())]
    return print_fields(args, found, rows)
