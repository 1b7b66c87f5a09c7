"""`strongroom operator snapshot save|restore|drill|inspect FILE`; `operator raft snapshot` too.

A file is written beside its name and takes it once it is whole, so a backup job that was cut off
leaves the one before.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from strongroom.app.client.flags import Call, verb
from strongroom.app.client.output import print_document, success
from strongroom.app.operator_verbs import operator_examples, print_fields
from strongroom.app.parser import flag, switch
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.app.client.session import Session
    from strongroom.store.engine.snapshot_file import Summary

PATH: Final = "sys/storage/raft/snapshot"
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
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    query = {} if args.no_verify else {"verify": "true"}
    try:
        with _opened(partial, "w+b") as file:
            await session.download(PATH, file, query)
            summary = _summary(file)
            os.fsync(file.fileno())
        partial.replace(args.file)
    finally:
        partial.unlink(missing_ok=True)
    return _print(args, _shown(summary))


async def _restore(session: "Session", args: argparse.Namespace) -> int:
    with _opened(args.file, "rb") as file:
        _summary(file)
        file.seek(0)
        if args.data or args.database:
            await _restore_directly(args, file)
        else:
            await session.upload(f"{PATH}-force" if args.force else PATH, file)
    if args.format == "table":
        success("The store is as it was when the snapshot was taken.")
    else:
        print_document({}, args.format)
    return 0


async def _restore_directly(args: argparse.Namespace, file: BinaryIO) -> None:
    from strongroom.app.server import open_storage
    from strongroom.app.store_config.settings import POSTGRESQL, SQLITE, StorageSetting
    from strongroom.store.engine.barrier import Barrier
    from strongroom.store.snapshots import restore_directly

    kind = POSTGRESQL if args.database else SQLITE
    engine = await open_storage(StorageSetting(kind, args.data, args.database), Barrier())
    try:
        await restore_directly(engine, file, force=args.force)
    finally:
        await engine.close()


async def _drill(session: "Session", args: argparse.Namespace) -> int:
    with _opened(args.file, "rb") as file:
        _summary(file)
        file.seek(0)
        found = (await session.upload(f"{PATH}-drill", file)).data
    _print(args, found)
    return 2 if found["damaged"] else 0


async def _inspect(session: "Session", args: argparse.Namespace) -> int:  # noqa: ARG001
    with _opened(args.file, "rb") as file:
        return _print(args, _shown(_summary(file)))


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


def _shown(summary: "Summary") -> dict[str, Any]:
    from strongroom.model.clock import rfc3339

    return {
        "created": rfc3339(summary.created),
        "version": summary.version,
        "schema_steps": summary.steps,
        "cluster_id": summary.cluster.cluster_id,
        "cluster_name": summary.cluster.cluster_name,
        "rows": summary.rows,
        "bytes": summary.size,
        "sha256": summary.sha256,
        "oldest_key_term": summary.oldest_term,
        "newest_key_term": summary.newest_term,
    }


def _print(args: argparse.Namespace, found: dict[str, Any]) -> int:
    rows = [(name, each) for name, each in found.items() if name not in ("rows", "damaged")]
    rows += [(f"rows of {table}", each) for table, each in sorted(found["rows"].items())]
    rows += [("damaged", each) for each in found.get("damaged", ())]
    return print_fields(args, found, rows)
