"""Lists in pages, OpenBao's way: at most `limit` names, from the one after `after`.

Of every LIST but KV's, which reads its own from the database. The name `after` need not be there.
https://openbao.org/docs/rfcs/paginated-lists
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Sequence
from itertools import chain
from typing import Final

from strongroom.model.errors import Invalid, NotFound
from strongroom.store.call import Call, Handler, Result

# Names that are sorted while others wait.
RUN: Final = 5_000
# A path of KV's has no more. One with thousands of folders would be gone down into one by one.
MOST_CHARACTERS: Final = 1_024


def page_of(call: Call) -> tuple[str, int]:
    """The `after` and `limit` of a request; raises Invalid for what they cannot be."""
    limit, after = call.integer("limit"), call.text("after")
    if limit < 0:
        raise Invalid("bad-parameter", "limit must not be negative")
    if len(after) > MOST_CHARACTERS:
        raise Invalid("bad-parameter", f"after has at most {MOST_CHARACTERS:,} characters")
    return after, limit


async def in_pages(handler: Handler, call: Call, after: str, limit: int) -> Result | None:
    """What a handler lists, in the alphabet's order and cut; raises NotFound beyond the end.

    What it says of rows that do not open is said with each page, also of an empty one.
    """
    found = handler(call)
    result = await found if isinstance(found, Awaitable) else found
    if not isinstance(result, Result) or result.data is None:
        return None
    keys = await _cut(result.data["keys"], after, limit)
    if not keys and not result.warnings:
        raise NotFound("nothing-here", "nothing there")
    data = {**result.data, "keys": keys}
    if "policies" in data:
        data["policies"] = keys
    if "key_info" in data:
        data["key_info"] = {key: data["key_info"][key] for key in keys if key in data["key_info"]}
    return dataclasses.replace(result, data=data)


async def _cut(names: Sequence[str], after: str, limit: int) -> list[str]:
    runs: list[list[str]] = []
    for start in range(0, len(names), RUN):
        runs.append(sorted(each for each in names[start : start + RUN] if each > after))
        if limit:
            del runs[-1][limit:]
        await asyncio.sleep(0)
    return (await merged(runs))[: limit or None] if runs else []


async def merged(runs: Sequence[list[str]]) -> list[str]:
    """One sorted list of several, in steps that take a few milliseconds each."""
    left = list(runs)
    while len(left) > 1:
        pairs = []
        for number in range(0, len(left), 2):
            # Two sorted runs are merged, not sorted.
            pairs.append(sorted(chain.from_iterable(left[number : number + 2])))
            await asyncio.sleep(0)
        left = pairs
    return left[0]
