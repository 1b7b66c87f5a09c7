"""Folders of very many secrets: nothing is left out, and others are served while one is listed."""

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from strongroom.audit.devices import AuditBroker
from strongroom.audit.record import RecordWriter
from strongroom.crypto.mac import KeyedHmac
from strongroom.model.errors import NotFound
from strongroom.store.call import Call, Result
from strongroom.store.engine.contract import KvMetadata, KvVersionInfo, MountRow
from strongroom.store.paging import merged
from strongroom.store.recording import Recording
from strongroom.store.secrets.kv_listing import PAGE, Listing

MANY = 2 * PAGE + 203
MOUNT = MountRow("secret", "secret/", "kv", "m", "kv_m")


def names_of(number: int) -> list[str]:
    return sorted([*(f"entry-{each}" for each in range(number)), "entry-1/", "folder/"])


async def fill(store, number: int) -> None:
    mounts = await store.read(lambda view: view.mounts())
    (mount,) = (each.uuid for each in mounts if each.path == "secret/")
    paths = [*(f"entry-{each}" for each in range(number)), "entry-1/below", "folder/below"]

    def write(transaction) -> None:
        for path in paths:
            entry = (KvVersionInfo(1, 1.0),)
            transaction.put_kv_metadata(
                KvMetadata(mount, f"wide/{path}", 1.0, 1.0, 1, versions=entry)
            )

    await store.engine.transact(write)


async def test_a_wide_folder_is_listed_whole_and_sorted_and_by_any_limit(store) -> None:
    await fill(store, MANY)
    _, said = await store.ask("LIST", "secret/metadata/wide")
    assert said["data"]["keys"] == names_of(MANY)
    record = orjson.loads(store.device.lines[-1])
    hidden = record["response"]["data"]["keys"]
    assert len(set(hidden)) == MANY + 2
    assert all(each.startswith("hmac-sha256:") for each in hidden)
    seen: list[str] = []
    while len(seen) < MANY + 2:
        query = f"limit={PAGE + 200}&after={seen[-1] if seen else ''}"
        _, said = await store.ask("LIST", f"secret/metadata/wide?{query}")
        assert 0 < len(said["data"]["keys"]) <= PAGE + 200
        seen += said["data"]["keys"]
    assert sorted(seen) == names_of(MANY)
    _, said = await store.ask("LIST", "secret/detailed-metadata/wide")
    assert said["data"]["keys"] == names_of(MANY)
    assert len(said["data"]["key_info"]) == MANY
    _, said = await store.ask("SCAN", "secret/metadata/wide")
    assert len(said["data"]["keys"]) == MANY + 2


class Turns:
    """A view of a folder that notes in which turn of the event loop it was asked."""

    def __init__(self, end: str = "") -> None:
        self.now, self.end = 0, end
        self.asked: list[tuple[int, int]] = []

    def kv_list(self, mount: str, folder: str, *, after: str = "", limit: int = 0) -> list[str]:
        self.asked.append((self.now, limit))
        first = int(after.rstrip("/") or -1) + 1
        return [f"{each:05}{self.end}" for each in range(first, min(MANY, first + limit))]

    def kv_metadata(self, mount: str, path: str) -> None:
        self.asked.append((self.now, 1))

    async def count(self) -> None:
        while True:
            self.now += 1
            await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["names", "detailed", "scan", "scan_detailed"])
async def test_others_have_their_turn_between_the_pages_of_a_listing(kind: str) -> None:
    view = Turns()
    counting = asyncio.create_task(view.count())
    caller: Any = SimpleNamespace(denies=lambda *_, **__: False)
    call = Call("list", "secret/metadata/wide", {}, MOUNT, "", session=caller)
    call.args = {"path": "wide"}
    answer = getattr(Listing(SimpleNamespace(view=view)), kind)(call)
    result = await answer
    counting.cancel()
    assert len(result.data["keys"]) == MANY
    assert result.long
    of_turn: dict[int, int] = {}
    for turn, names in view.asked:
        of_turn[turn] = of_turn.get(turn, 0) + names
    # A page that ends is followed by the next one in the same turn at most.
    assert max(of_turn.values()) <= 2 * PAGE


async def test_others_have_their_turn_while_folders_are_left_out() -> None:
    """A tree of folders that a rule denies gives no name to make a pause at."""
    view = Turns(end="/")
    counting = asyncio.create_task(view.count())
    caller: Any = SimpleNamespace(denies=lambda path, **_: path != "secret/metadata/wide/")
    call = Call("scan", "secret/metadata/wide", {}, MOUNT, "", session=caller)
    call.args = {"path": "wide"}
    with pytest.raises(NotFound):
        await Listing(SimpleNamespace(view=view)).scan(call)
    counting.cancel()
    turns = [turn for turn, _ in view.asked]
    assert len(turns) == MANY // PAGE + 2
    assert max(turns.count(each) for each in turns) <= 2


class Deep(Turns):
    """A folder in a folder in a folder, and at the end a secret."""

    def kv_list(self, mount: str, folder: str, *, after: str = "", limit: int = 0) -> list[str]:
        self.asked.append((self.now, 1))
        return [] if after else ["x"] if folder.count("/") >= 400 else ["a/"]


async def test_others_have_their_turn_on_the_way_down_a_tree() -> None:
    """A dozen secrets that lay 500 folders deep kept everybody waiting for more than a minute."""
    view = Deep()
    counting = asyncio.create_task(view.count())
    caller: Any = SimpleNamespace(denies=lambda *_, **__: False)
    call = Call("scan", "secret/metadata/a", {}, MOUNT, "", session=caller)
    call.args = {"path": "a"}
    result = await Listing(SimpleNamespace(view=view)).scan(call)
    counting.cancel()
    assert result.data["keys"] == ["a/" * 400 + "x"]
    turns = [turn for turn, _ in view.asked]
    assert max(turns.count(each) for each in turns) <= 2


async def test_a_page_begins_behind_what_can_be_a_path(store) -> None:
    """Going down to where it would begin came to no end that anybody was told of."""
    for verb, after, refused in (
        ("SCAN", "a/" * 512, False),
        ("SCAN", "a/" * 513, True),
        ("LIST", "a/" * 9000, True),
    ):
        status, _ = await store.ask(verb, f"secret/metadata/?after={after}")
        assert status == (400 if refused else 404)


async def test_runs_are_merged_in_order() -> None:
    runs = [[f"{each:04}" for each in range(start, 1000, 7)] for start in range(7)]
    assert await merged(runs) == [f"{each:04}" for each in range(1000)]
    assert await merged([["a"]]) == ["a"]


@pytest.mark.parametrize(
    "data",
    [
        {"keys": [f"name-{each}" for each in range(MANY)]},
        {"keys": ["a"] * 501, "key_info": {f"n{each}": {"v": 1, "t": "x"} for each in range(MANY)}},
        {"keys": ["one"], "more": "text", "number": 7, "nothing": None, "empty": []},
        {},
    ],
)
@pytest.mark.parametrize("clear", [[], ["keys"]])
async def test_data_recorded_by_parts_is_the_record_of_the_whole(data: dict, clear: list) -> None:
    config = {"audit_non_hmac_response_keys": clear}
    mount = MountRow("secret", "secret/", "kv", "m", "kv_m", config=config)
    recording = Recording(AuditBroker([]), RecordWriter(KeyedHmac(b"k" * 32)))
    call = Call("list", "secret/metadata/wide", {}, mount, "")
    result = Result(data, long=True)
    assert await recording.response_by_parts(call, result) == recording.response(call, result)
