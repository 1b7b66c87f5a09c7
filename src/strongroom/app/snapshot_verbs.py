"""`strongroom operator snapshot save|restore|drill|inspect FILE`; `operator raft snapshot` too.

A file is written beside its name and takes it once it is whole, so a backup job that was cut off
leaves the one before.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from strongroom.app.store_address import add_store_arguments, open_store
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.store.engine.snapshot_file import Summary

PATH: Final = "sys/storage/raft/snapshot"
EXAMPLE: Final = """example:
  strongroom operator snapshot save store.snap
  strongroom operator snapshot inspect store.snap     # no server is asked
  strongroom operator snapshot drill store.snap       # restores it into a scratch database
  strongroom operator snapshot restore store.snap
  strongroom operator snapshot restore store.snap -data ./new   # no server runs
"""


def register_snapshots(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `snapshot`, and `raft snapshot` as Vault spells it."""
    snapshot = _group(verbs, "snapshot", "save, restore and rehearse the whole store")
    below = snapshot.add_subparsers(metavar="VERB", required=True)
    _save_and_restore(below)
    _verb(below, "drill", "say what a restore would find, and change nothing", _drill)
    _verb(below, "inspect", "say what the file holds, without a server", _inspect, store=False)
    raft = _group(verbs, "raft", "snapshots as Vault spells them")
    inner = raft.add_subparsers(metavar="VERB", required=True)
    again = _group(inner, "snapshot", "save and restore the whole store")
    _save_and_restore(again.add_subparsers(metavar="VERB", required=True))


def _group(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=text,
        description=text,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _save_and_restore(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    save = _verb(verbs, "save", "take a snapshot that was restored on trial", _save)
    save.add_argument("-no-verify", "--no-verify", action="store_true", help="do not try it before")
    restore = _verb(verbs, "restore", "replace everything by a snapshot", _restore)
    restore.add_argument(
        "-data", "--data", type=Path, metavar="DIR", help="into this folder, without a server"
    )
    restore.add_argument(
        "-database", "--database", default="", metavar="URL",
        help="into this PostgreSQL, without a server",
    )  # fmt: skip
    restore.add_argument(
        "-force", "--force", action="store_true", help="even one of another cluster"
    )


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    run: Any,  # noqa: ANN401 - one of the verbs below
    *,
    store: bool = True,
) -> argparse.ArgumentParser:
    parser = _group(verbs, name, text)
    parser.add_argument("file", type=Path, metavar="FILE")
    if store:
        add_store_arguments(parser)
    parser.add_argument("-format", "--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=lambda args: asyncio.run(run(args)))
    return parser


async def _save(args: argparse.Namespace) -> int:
    partial = args.file.with_name(f"{args.file.name}.partial")
    query = {} if args.no_verify else {"verify": "true"}
    try:
        with _opened(partial, "w+b") as file:
            async with open_store(args) as client:
                await client.download(PATH, file, query)
            summary = _summary(file)
            os.fsync(file.fileno())
        partial.replace(args.file)
    finally:
        partial.unlink(missing_ok=True)
    _print(args, _shown(summary))
    return 0


async def _restore(args: argparse.Namespace) -> int:
    with _opened(args.file, "rb") as file:
        _summary(file)
        file.seek(0)
        if args.data or args.database:
            await _restore_directly(args, file)
        else:
            async with open_store(args) as client:
                await client.upload(f"{PATH}-force" if args.force else PATH, file)
    if args.format == "json":
        print("{}")
    else:
        print("Success! The store is as it was when the snapshot was taken.")
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


async def _drill(args: argparse.Namespace) -> int:
    with _opened(args.file, "rb") as file:
        _summary(file)
        file.seek(0)
        async with open_store(args) as client:
            found = (await client.upload(f"{PATH}-drill", file))["data"]
    _print(args, found)
    return 2 if found["damaged"] else 0


async def _inspect(args: argparse.Namespace) -> int:
    with _opened(args.file, "rb") as file:
        _print(args, _shown(_summary(file)))
    return 0


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


def _print(args: argparse.Namespace, found: dict[str, Any]) -> None:
    if args.format == "json":
        print(json.dumps(found, indent=2))
        return
    rows = [(name, each) for name, each in found.items() if name not in ("rows", "damaged")]
    rows += [(f"rows of {table}", each) for table, each in sorted(found["rows"].items())]
    rows += [("damaged", each) for each in found.get("damaged", ())]
    width = max(len(name) for name, _ in rows) + 4
    print(f"{'Key':{width}}Value")
    print(f"{'---':{width}}-----")
    for name, value in rows:
        print(f"{name:{width}}{value}")
