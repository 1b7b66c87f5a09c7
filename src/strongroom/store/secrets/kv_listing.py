"""Names under a KV mount: one folder, a folder with what is known of each name, a whole tree.

Pages and trees go beyond Vault, in OpenBao's form: `after` and `limit`, `LIST detailed-metadata/`
and the verb SCAN. https://openbao.org/api-docs/secret/kv/kv-v2/
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import View
from strongroom.store.envelope import nothing_here
from strongroom.store.secrets.kv_versions import metadata_data

PAGE: Final = 500
MAX_SCANNED: Final = 10_000


def page_of(call: Call) -> tuple[str, int]:
    """The `after` and `limit` of a request; raises Invalid for a negative limit."""
    limit = call.integer("limit")
    if limit < 0:
        raise Invalid("bad-parameter", "limit must not be negative")
    return call.text("after"), limit


def tree(view: View, mount: str, folder: str, after: str = "") -> Iterator[str]:
    """Paths of secrets under a folder, a folder's own name first, from the one after `after`.

    Paths are relative to the folder. The order is the storage order of names, which is stable.
    """
    head, slash, rest = after.partition("/")
    start = head + slash
    if slash:
        for path in tree(view, mount, _joined(folder, head), rest):
            yield start + path
    while page := view.kv_list(mount, folder, after=start, limit=PAGE):
        for name in page:
            if name.endswith("/"):
                for path in tree(view, mount, _joined(folder, name)):
                    yield name + path
            else:
                yield name
        start = page[-1]


def _joined(folder: str, name: str) -> str:
    return f"{folder.strip('/')}/{name.strip('/')}".strip("/")


class Listing:
    """The three answers; KV v1 and v2 share them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def names(self, call: Call) -> Result:
        """LIST: names in a folder, a subfolder ends in a slash."""
        return Result({"keys": list(self._page(call))})

    def detailed(self, call: Call) -> Result:
        """LIST with the metadata of each secret of the page beside its name."""
        keys = list(self._page(call))
        info: dict[str, Any] = {}
        for key in keys:
            path = _joined(call.args["path"], key)
            row = None if key.endswith("/") else self._context.view.kv_metadata(_uuid(call), path)
            if row is not None:
                info[key] = metadata_data(row)
        return Result({"keys": keys, "key_info": info})

    def scan(self, call: Call) -> Result:
        """SCAN: every secret under a folder, at most MAX_SCANNED at once."""
        after, limit = page_of(call)
        limit = min(limit or MAX_SCANNED, MAX_SCANNED)
        paths = tree(self._context.view, _uuid(call), call.args["path"].strip("/"), after)
        keys = list(islice(paths, limit + 1))
        if not keys:
            raise nothing_here()
        more = (f"there are more; go on with after={keys[limit - 1]}",) if len(keys) > limit else ()
        return Result({"keys": keys[:limit]}, warnings=more)

    def _page(self, call: Call) -> Sequence[str]:
        after, limit = page_of(call)
        keys = self._context.view.kv_list(_uuid(call), call.args["path"], after=after, limit=limit)
        if not keys:
            raise nothing_here()
        return keys


def _uuid(call: Call) -> str:
    return call.mount.uuid
