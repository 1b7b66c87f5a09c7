"""Large stores: a folder of 100,000, a million leases at a start, a mass of ends, many policies."""

import asyncio
import hashlib
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request

from store_lab import (
    Store,
    ask,
    in_pages,
    resident,
    spent,
    spread,
    timed,
)
from store_mixed import encoded, loaded, prepare_mixed, requests_of

PAGE = 100
MINUTE = 60
# What accessors of tokens of ours begin with.
BENCH = "bench"


def listing(store: Store, entries: int) -> dict:
    """LIST of a wide folder: the first page, a page far in, and all at once beside readers."""
    from strongroom.store.engine.contract import KvMetadata, KvVersionInfo

    with store.served():
        store.prepare()
        mounts = ask(store.address, store.root, "GET", "sys/mounts")["data"]
        mount = mounts["secret/"]["uuid"]
    now = time.time()
    rows = [
        KvMetadata(mount, f"wide/entry-{number:06}", now, now, 1, versions=(KvVersionInfo(1, now),))
        for number in range(entries)
    ]
    store.fill(lambda engine: in_pages(engine, rows, lambda each, row: each.put_kv_metadata(row)))
    with store.served():
        store.wait_for_workers()

        def page(query: str) -> list:
            path = f"secret/metadata/wide?list=true{query}"
            return ask(store.address, store.token, "GET", path)["data"]["keys"]

        first = page(f"&limit={PAGE}")
        asked = {"first": f"&limit={PAGE}", "next": f"&limit={PAGE}&after={first[-1]}"}
        path = "secret/metadata/wide?list=true"
        pages = {
            name: loaded(store, {name: [encoded(store, "GET", path + query)]}, {name: 1}, 3, 1)
            for name, query in asked.items()
        }
        whole = [timed(lambda: page("")) for _ in range(5)]
        requests = requests_of(store, {})
        quiet = loaded(store, requests, {"read": 1}, 3)
        with threaded(lambda: page("")):
            beside = loaded(store, requests, {"read": 1}, 3)
    return {
        "entries": entries,
        "page_of": PAGE,
        "first_page": pages["first"]["kinds"]["first"],
        "next_page": pages["next"]["kinds"]["next"],
        "whole": spread(whole),
        "reads_alone": {**quiet["kinds"]["read"], "rate": quiet["rate"]},
        "reads_beside_whole": {
            **beside["kinds"]["read"],
            "rate": beside["rate"],
            "longest_gap_ms": beside["longest_gap_ms"],
        },
    }


class threaded:  # noqa: N801 - used like a function
    """Calls again and again in a thread, a second between two, while the block runs."""

    def __init__(self, work: object) -> None:
        self._work = work
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.5):
            self._work()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def restart(store: Store, leases: int) -> dict:
    """From the start of the process to its first answer to a read, with so many leases."""
    with store.served():
        store.prepare()
    without = [_first_answer(store) for _ in range(3)]
    store.fill(lambda engine: _put_leases(engine, leases))
    with_leases = [_first_answer(store) for _ in range(3)]
    return {
        "leases": leases,
        "database_mb": round((store.folder / "data/strongroom.db").stat().st_size / 1e6, 1),
        "without": spread(without),
        "with": spread(with_leases),
    }


def _first_answer(store: Store) -> float:
    """Milliseconds until a read is answered with 200."""
    begun = time.perf_counter()
    with store.served():
        path = f"{store.address}/v1/secret/data/bench/1"
        request = urllib.request.Request(path, headers={"X-Vault-Token": store.token})
        urllib.request.urlopen(request, timeout=30).close()
        return (time.perf_counter() - begun) * 1000


async def _put_leases(engine: object, leases: int) -> None:
    from strongroom.store.engine.contract import LeaseRow

    now = time.time()
    for start in range(0, leases, 100_000):
        rows = [
            LeaseRow(
                f"database/creds/app/{number:09}", "no-mount", None, now, now + 86400, 86400,
                now + 86400 + number / 1000, data={"username": f"v-app-{number:09}"},
            )
            for number in range(start, min(leases, start + 100_000))
        ]  # fmt: skip
        await in_pages(engine, rows, lambda each, row: each.put_lease(row))


def ends(store: Store, tokens: int, seconds: float) -> dict:
    """So many tokens that end within a minute: how reads fare, and when all are revoked."""
    from strongroom.store.engine.contract import TokenRow

    with store.served():
        store.prepare()
    # Filling takes a while.
    first = time.time() + tokens / (1_200 if store.database else 3_500) + 9 + seconds

    def row(number: int) -> TokenRow:
        return TokenRow(
            # Ids are keyed hashes: they lie anywhere in the table and its indexes.
            id=hashlib.sha256(number.to_bytes(8, "big")).digest(),
            accessor=f"{BENCH}{number:08}", parent=None, policies=("default",),
            display_name="bench", path="auth/token/create", created=first - 3600, ttl=3600,
            expires=first + MINUTE * number / tokens,
        )  # fmt: skip

    rows = [row(number) for number in range(1, tokens + 1)]
    store.fill(lambda engine: in_pages(engine, rows, lambda each, row: each.put_token(row)))
    with store.served() as process:
        store.wait_for_workers()
        store.reads(1)  # The first of each secret takes longer.
        before = store.reads(seconds)
        late = time.time() - first
        if late > 0:
            raise SystemExit(f"filling took {late:.0f} s longer than {tokens} tokens should take")
        time.sleep(-late)
        used = spent(process)
        during = store.reads(MINUTE)
        used = spent(process) - used
        left_after_minute = left = _left(store)
        while left and time.time() < first + 4 * MINUTE:
            time.sleep(0.2)
            left = _left(store)
        over = time.time() - first
        after = store.reads(seconds)
    return {
        "tokens": tokens,
        "left_after_the_minute": left_after_minute,
        "left": left,
        "last_revoked_s": round(over, 1),
        "cpu_s": round(used, 1),
        "reads_before": before,
        "reads_during": during,
        "reads_after": after,
        "p99_factor": round(during["p99_ms"] / min(before["p99_ms"], after["p99_ms"]), 2),
    }


def _left(store: Store) -> int:
    question = f"SELECT COUNT(*) FROM token WHERE accessor LIKE '{BENCH}%'"
    if store.database:
        return asyncio.run(_count(store.database, question))
    with sqlite3.connect(f"file:{store.folder}/data/strongroom.db?mode=ro", uri=True) as file:
        (number,) = file.execute(question).fetchone()
    return number


async def _count(url: str, question: str) -> int:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


def policies(store: Store, number: int, seconds: float) -> dict:
    """Reads, logins and one policy's write with a few policies and with very many."""
    with store.served() as process:
        store.prepare()
        login = prepare_mixed(store)
        few = _policy_figures(store, process, login, seconds)
    text = 'path "secret/data/team%d/*" { capabilities = ["read"] }'
    rows = [(f"team-{each}", text % each) for each in range(number)]
    store.fill(lambda engine: in_pages(engine, rows, lambda each, row: each.put_policy(*row)))
    with store.served() as process:
        store.wait_for_workers()
        many = _policy_figures(store, process, login, seconds)
    return {"policies": number, "few": few, "many": many}


def _policy_figures(store: Store, process: subprocess.Popen, login: dict, seconds: float) -> dict:
    store.wait_for_workers()
    idle = resident(process)
    reads = store.reads(seconds)
    logins = loaded(store, requests_of(store, login), {"login": 1}, seconds)

    def write() -> None:
        body = {"policy": 'path "secret/data/changed/*" { capabilities = ["read"] }'}
        ask(store.address, store.root, "PUT", "sys/policies/acl/changed", body)

    def next_read() -> None:
        ask(store.address, store.token, "GET", "secret/data/bench/1")

    writes = [(timed(write), timed(next_read)) for _ in range(30)]
    return {
        "reads": reads,
        "logins": {"rate": logins["rate"], **logins["kinds"]["login"]},
        "policy_write": spread([each for each, _ in writes]),
        "read_after_it": spread([each for _, each in writes]),
        "idle_mb": idle,
        "busy_mb": resident(process),
    }


if __name__ == "__main__":
    sys.exit("run store_http.py")
