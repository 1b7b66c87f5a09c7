"""Names under a KV mount: one folder, a folder with what is known of each name, a whole tree.

Pages and trees go beyond Vault, in OpenBao's form: `after` and `limit`, `LIST detailed-metadata/`
and the verb SCAN. https://openbao.org/api-docs/secret/kv/kv-v2/
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from strongroom.model.errors import Denied
from strongroom.store.call import Call, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import View
from strongroom.store.envelope import nothing_here
from strongroom.store.paging import merged, page_of
from strongroom.store.secrets.kv_versions import metadata_data

# Names, and secrets with what is known of them, that are read while others wait: milliseconds.
PAGE: Final = 500
ROWS: Final = 100
MAX_SCANNED: Final = 10_000


def tree(
    view: View,
    mount: str,
    folder: str,
    after: str = "",
    closed: Callable[[str], bool] = lambda _: False,
) -> Iterator[str]:
    """Paths of secrets under a folder, a folder's own name first, from the one after `after`.

    Paths are relative to the folder. The order is the storage order of names, which is stable.
    Before each look into a folder comes "", so that who reads can make a pause; of a `closed` one
    nothing more.
    """
    yield ""
    if closed(folder):
        return
    head, slash, rest = after.partition("/")
    start = head + slash
    if slash:
        for path in tree(view, mount, _joined(folder, head), rest, closed):
            yield path and start + path
    while page := view.kv_list(mount, folder, after=start, limit=PAGE):
        for name in page:
            if name.endswith("/"):
                for path in tree(view, mount, _joined(folder, name), closed=closed):
                    yield path and name + path
            else:
                yield name
        start = page[-1]
        yield ""


def _joined(folder: str, name: str) -> str:
    return f"{folder.strip('/')}/{name.strip('/')}".strip("/")


class Listing:
    """The three answers; KV v1 and v2 share them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def names(self, call: Call) -> Result | Awaitable[Result]:
        """LIST: names in a folder, a subfolder ends in a slash."""
        page, limit, is_all = self._first(call)
        if is_all:
            return Result({"keys": page})
        return self._all_names(call, page, limit)

    async def _all_names(self, call: Call, page: list[str], limit: int) -> Result:
        return Result({"keys": await self._after(call, page, limit)}, long=True)

    def _first(self, call: Call) -> tuple[list[str], int, bool]:
        """The first names, how many are wanted (0: all, sorted), and whether there are no more."""
        after, limit = page_of(call)
        asked = min(limit or PAGE, PAGE)
        page = list(self._page(call, after, asked))
        if not page:
            raise nothing_here()
        is_all = len(page) < asked or asked == limit
        return page if limit or not is_all else sorted(page), limit, is_all

    async def _after(self, call: Call, page: list[str], limit: int) -> list[str]:
        """The names of a page and after it, while others are served between the pages."""
        last: Sequence[str] = page
        found, runs = len(page), [page if limit else sorted(page)]
        while len(last) == PAGE and found != limit:
            await asyncio.sleep(0)
            asked = min(limit - found, PAGE) if limit else PAGE
            last = self._page(call, last[-1], asked)
            found += len(last)
            runs.append(list(last) if limit else sorted(last))
        return list(chain.from_iterable(runs)) if limit else await merged(runs)

    async def detailed(self, call: Call) -> Result:
        """LIST with the metadata of each secret of the page beside its name.

        Policies that were written for Vault deny `metadata/` alone: what they deny of the folder
        or of a secret is not told here either.
        """
        above = f"{call.mount.path}metadata/"
        folder = call.args["path"].strip("/")
        refuse_denied(call, f"{above}{folder}/" if folder else above, listing=True)
        keys, limit, is_all = self._first(call)
        if not is_all:
            keys = await self._after(call, keys, limit)
        return await self._with_metadata(call, above, keys)

    async def _with_metadata(
        self, call: Call, above: str, keys: list[str], *warnings: str
    ) -> Result:
        info: dict[str, Any] = {}
        for number, key in enumerate(keys):
            path = _joined(call.args["path"], key)
            if not key.endswith("/") and not call.caller.denies(above + path):
                row = self._context.view.kv_metadata(_uuid(call), path)
                if row is not None:
                    info[key] = metadata_data(row)
            if number % ROWS == ROWS - 1:
                await asyncio.sleep(0)
        return Result({"keys": keys, "key_info": info}, warnings=warnings, long=len(keys) > ROWS)

    async def scan(self, call: Call) -> Result:
        """SCAN: every secret under a folder, at most MAX_SCANNED at once.

        What lies in a folder whose listing is denied is not told.
        """
        keys, more = await self._tree(call)
        return Result({"keys": keys}, warnings=more, long=len(keys) > PAGE)

    async def scan_detailed(self, call: Call) -> Result:
        """SCAN with the metadata of each secret beside its name; see `detailed` for denials."""
        above = f"{call.mount.path}metadata/"
        keys, more = await self._tree(call, above)
        return await self._with_metadata(call, above, keys, *more)

    async def _tree(self, call: Call, *others: str) -> tuple[list[str], tuple[str, ...]]:
        """The paths under a folder, and a warning where there are more of them.

        A policy speaks of the folders where they are asked for, and above them in `others` too.
        """
        after, limit = page_of(call)
        limit = min(limit or MAX_SCANNED, MAX_SCANNED)
        folder = call.args["path"].strip("/")

        asked = call.path.rstrip("/").removesuffix(folder).rstrip("/") + "/"

        def closed(each: str) -> bool:
            names = (f"{above}{each}/" if each else above for above in (asked, *others))
            return any(call.caller.denies(name, listing=True) for name in names)

        paths = tree(self._context.view, _uuid(call), folder, after, closed)
        keys: list[str] = []
        for path in paths:
            if path:
                keys.append(path)
            else:
                # At each folder: one that lies deep takes milliseconds to be found.
                await asyncio.sleep(0)
            if len(keys) > limit:
                break
        if not keys:
            raise nothing_here()
        more = (f"there are more; go on with after={keys[limit - 1]}",) if len(keys) > limit else ()
        return keys[:limit], more

    def _page(self, call: Call, after: str, limit: int) -> Sequence[str]:
        return self._context.view.kv_list(_uuid(call), call.args["path"], after=after, limit=limit)


def refuse_denied(call: Call, path: str, *, listing: bool = False) -> None:
    """Raise Denied where a rule denies a path that says the same as the one that was asked."""
    if call.caller.denies(path, listing=listing):
        raise Denied("not-allowed", "permission denied", hint=f"{path} is denied")


def _uuid(call: Call) -> str:
    return call.mount.uuid
