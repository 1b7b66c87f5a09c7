"""`sys/storage/raft/snapshot`: the whole store as a file, under the name that clients ask for.

GET takes one (`verify=true` restores it into a scratch database first), in the archive that other
programs know, or with `plain=true` the file alone. POST restores either form,
`snapshot-force` one of another cluster, and `snapshot-drill`, Strongroom's own, only says what a
restore would find. API: https://developer.hashicorp.com/vault/api-docs/system/storage/raft.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from strongroom.model.errors import Invalid, Unavailable
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.snapshot_archive import pack, plain
from strongroom.store.engine.snapshot_file import PURPOSE, write_snapshot
from strongroom.store.parameters import fields
from strongroom.store.snapshots import Drill, Found, judge, rehearse, restore

PATH: Final = "storage/raft/snapshot"
# A larger one waits on disk for its reader, sealed as it is.
IN_MEMORY_BYTES: Final = 8 * 1024 * 1024


class SnapshotEndpoints:
    """The endpoints."""

    def __init__(
        self, context: Context, barrier: Barrier, version: str, folder: Path | None = None
    ) -> None:
        """`folder` is where large files wait, None for the system's own."""
        self._context = context
        self._barrier = barrier
        self._version = version
        self._folder = folder

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                PATH,
                {"read": self._take, "update": self._restore},
                takes=fields(flag="verify plain"),
            ),
            Endpoint(f"{PATH}-force", {"update": self._force}),
            Endpoint(f"{PATH}-drill", {"update": self._drill}),
        )

    async def _take(self, call: Call) -> Result:
        with self._on_disk():
            return Result(file=await self._taken(call), content_type="application/octet-stream")

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """Around what is kept for a while; raises Unavailable(`snapshot-space`)."""
        try:
            yield
        except OSError as error:
            folder = self._folder or tempfile.gettempdir()
            raise Unavailable(
                "snapshot-space",
                f"the snapshot cannot be kept on disk: {error.strerror}",
                hint=f"see {folder}: its file lies there, and a database to restore it into on"
                " trial; nothing was changed",
            ) from error

    async def _taken(self, call: Call) -> BinaryIO:
        context = self._context
        file = self._spool()
        try:
            async with aclosing(cast(Any, context.engine.pages())) as pages:
                key = self._barrier.mac(PURPOSE)
                await write_snapshot(file, pages, key, context.clock.now(), self._version)
            if call.flag("verify"):
                _whole(await rehearse(file, await judge(file, context.seal), self._folder))
            if not call.flag("plain"):
                file = await self._packed(file)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def _spool(self) -> BinaryIO:
        spool = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - sent or read later
            max_size=IN_MEMORY_BYTES, dir=str(self._folder) if self._folder else None
        )
        return cast(BinaryIO, spool)

    async def _packed(self, file: BinaryIO) -> BinaryIO:
        """The archive of a file, which is closed; the file itself is left open on an error."""
        archive = self._spool()
        try:
            await asyncio.to_thread(pack, file, archive)
        except BaseException:
            archive.close()
            raise
        file.close()
        return archive

    async def _brought(self, call: Call) -> BinaryIO:
        """The snapshot in a request, out of its archive where it lies in one."""
        file, found = call.file or BytesIO(call.body), self._spool()
        try:
            with self._on_disk():
                if await asyncio.to_thread(plain, file, found):
                    return found
        except BaseException:
            found.close()
            raise
        found.close()
        return file

    async def _restore(self, call: Call) -> None:
        await self._put_back(call, force=False)

    async def _force(self, call: Call) -> None:
        await self._put_back(call, force=True)

    async def _put_back(self, call: Call, *, force: bool) -> None:
        with await self._brought(call) as file:
            found = await judge(file, self._context.seal, force=force)
            now = self._context.clock.now()
            await restore(self._context.engine, self._context.seal, file, found, now)

    async def _drill(self, call: Call) -> Result:
        with await self._brought(call) as file:
            found = await judge(file, self._context.seal)
            with self._on_disk():
                return Result(_report(found, await rehearse(file, found, self._folder)))


def _whole(drill: Drill) -> None:
    if drill.damaged:
        raise Invalid(
            "rows-damaged",
            f"the database has rows that do not open: {'; '.join(drill.damaged)}",
            hint="a snapshot of it would have them too: overwrite or destroy what they hold, or"
            " restore the newest that was whole; without verify=true (-no-verify) it is saved so",
        )


def _report(found: Found, drill: Drill) -> dict[str, Any]:
    return {
        **found.summary.described(),
        "opened": drill.opened,
        "damaged": list(drill.damaged),
    }
