"""What is measured of an operator, one step after the other, in one laboratory."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from operator_lab import CLOCK, PROPERTIES, Lab, changing, manifest, many, name, space

from strongroom.app.waiting import until
from strongroom.kube.resource import SECRETS
from strongroom.model.errors import Refusal
from strongroom.sync.crds import EXTERNAL_SECRETS

SAMPLES: Final = 60
# Between two samples, so that what one leaves behind is no part of the next.
PAUSE_SECONDS: Final = 0.15
STEADY_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 3.0
RESTARTS: Final = 3
LATE_SECONDS: Final = 5.0
# Intervals up to this are waited for, so that all is due at a restart.
SHORT_SECONDS: Final = 180.0
LIMIT_SECONDS: Final = 120.0
DOWN_SECONDS: Final = 40.0
# Objects that the bare loop writes.
BARE: Final = 2000


@dataclass
class Found:
    """The figures of one operator by title, and what plots are made of."""

    figures: dict[str, float] = field(default_factory=dict)
    # Title of a latency: its samples in seconds.
    samples: dict[str, list[float]] = field(default_factory=dict)
    # Seconds from the start, and how many Secrets were right then.
    progress: list[tuple[float, float]] = field(default_factory=list)
    # What it asked of the API server in the first sync, for each Secret.
    requests: dict[str, float] = field(default_factory=dict)

    def spread(self, title: str, values: list[float]) -> None:
        """Note samples, with their median and 95th percentile."""
        self.samples[title] = values
        self.figures |= spread(title, values)


def spread(title: str, values: list[float]) -> dict[str, float]:
    """Median and 95th percentile of seconds, in milliseconds."""
    ordered = sorted(values)
    return {
        f"{title} p50, ms": statistics.median(ordered) * 1000,
        f"{title} p95, ms": percentile(ordered, 95) * 1000,
    }


def percentile(ordered: list[float], percent: float) -> float:
    """Of ordered samples, the one that so many are below."""
    return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]


class Steps:
    """The steps; `run` gives those that were asked for, in an order that makes sense."""

    def __init__(self, lab: Lab, count: int, interval: tuple[str, float]) -> None:
        self.lab = lab
        self.count = count
        self.interval, self.interval_seconds = interval
        self.found = Found()
        self._next = count

    async def run(self, wanted: frozenset[str]) -> Found:
        """Measure."""
        for title, step in self.named().items():
            if title in wanted:
                before = dict(self.found.figures)
                await step()
                self._tell(title, before)
        self.lab.operator.sample()
        self.found.figures["peak memory, MiB"] = self.lab.operator.peak
        self.found.figures["API server memory, MiB"] = (await self.lab.api_server())[1]
        return self.found

    def _tell(self, title: str, before: dict[str, float]) -> None:
        """Print what a step has found, for the run may be cut off before the table."""
        fresh = {
            each: round(value, 2)
            for each, value in self.found.figures.items()
            if before.get(each) != value
        }
        print(json.dumps({"step": title, **fresh}), file=sys.stderr, flush=True)

    def named(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """All steps by name."""
        return {
            "bare": self.bare_loop,
            "first": self.first_sync,
            "steady": self.steady,
            "new": self.new_objects,
            "drift": self.drift,
            "change": self.change,
            "restart": self.restart,
            "restart-due": self.restart_due,
            "down": self.store_down,
        }

    async def _all_right(self, limit: float) -> bool:
        async def right() -> bool | None:
            return True if len(self.lab.mirror.right_at) >= self.count else None

        try:
            await until("all Secrets", right, CLOCK, seconds=limit)
        except Refusal:
            return False
        return True

    async def bare_loop(self) -> None:
        """The yardstick: one Secret and one status for each object, by nothing but a loop."""
        api, count = self.lab.api, min(BARE, self.count)
        status = {"status": {"binding": {"name": "bare"}}}

        async def write(number: int) -> None:
            metadata = {"name": f"bare-{number:05}", "namespace": space(number)}
            data = dict.fromkeys(PROPERTIES, "eA==")
            await api.create(SECRETS, {"metadata": metadata, "data": data})
            place = (name(number), space(number))
            await api.merge_patch(EXTERNAL_SECRETS, *place, status, "status")

        begin, (server, _) = time.monotonic(), await self.lab.api_server()
        await many(range(count), write)
        share = self.count / count
        self.found.figures |= {
            "bare loop of the two writes, s": (time.monotonic() - begin) * share,
            "bare loop: API server CPU per Secret, ms": (
                ((await self.lab.api_server())[0] - server) / count * 1000
            ),
        }

    async def first_sync(self) -> None:
        """All objects are there before the operator starts."""
        lab = self.lab
        before, asked = lab.requests.counts(), lab.asked()
        server, _ = await lab.api_server()
        begin = time.monotonic()
        lab.operator.start()
        whole = await self._all_right(max(LIMIT_SECONDS, self.count / 30))
        cpu = lab.operator.cpu
        after = lab.requests.counts()
        right = lab.mirror.right_at
        if not whole:
            print(f"{len(right)} of {self.count} right: {lab.operator.log.read_text()[-600:]}")
        done = max(1, len(right))
        self.found.progress = [
            (right[place] - begin, place + 1.0)
            for place in sorted({*range(0, len(right), max(1, len(right) // 100)), len(right) - 1})
            if right
        ]
        self.found.figures |= {
            "first sync, s": right[-1] - begin if right else LIMIT_SECONDS,
            "right, %": len(right) / self.count * 100,
            "API writes per Secret": (changing(after) - changing(before)) / done,
            "API requests per Secret": (after - before).total() / done,
            "provider requests per Secret": (lab.asked() - asked) / done,
            "operator CPU per Secret, ms": cpu / done * 1000,
            "API server CPU per Secret, ms": ((await lab.api_server())[0] - server) / done * 1000,
            "memory after first sync, MiB": lab.operator.peak,
        }
        bare = self.found.figures.get("bare loop of the two writes, s")
        if bare:
            self.found.figures["first sync, times the bare loop"] = (
                self.found.figures["first sync, s"] / bare
            )
        counted = (after - before).items()
        self.found.requests = {key: each / done for key, each in counted if each > done / 50}

    async def steady(self) -> None:
        """Nothing changes; objects that are due all the time are the work."""
        lab = self.lab
        await asyncio.sleep(SETTLE_SECONDS)
        before, asked, cpu = lab.requests.counts(), lab.asked(), lab.operator.cpu
        server, _ = await lab.api_server()
        await asyncio.sleep(STEADY_SECONDS)
        after = lab.requests.counts()
        found = {
            "API writes per s": changing(after) - changing(before),
            "API requests per s": (after - before).total(),
            "provider requests per s": lab.asked() - asked,
            "CPU, %": (lab.operator.cpu - cpu) * 100,
            "API server CPU, %": ((await lab.api_server())[0] - server) * 100,
        }
        for key, value in found.items():
            self.found.figures[f"steady {key}"] = value / STEADY_SECONDS

    async def _more(self, count: int) -> range:
        """Numbers of objects that are not there yet; their secrets are."""
        fresh = range(self._next, self._next + count)
        self._next += count
        await self.lab.fill(fresh)
        return fresh

    async def _appears(self, number: int) -> float:
        """Make an object; seconds until its Secret has the value."""
        await self.lab.api.create(EXTERNAL_SECRETS, manifest(number, "1h"))
        return await self._until(number, f"first-{number}", 0)

    async def _until(self, number: int, wanted: str, after: int) -> float:
        begin = time.monotonic()
        return await self.lab.mirror.shows(number, wanted, after, LIMIT_SECONDS) - begin

    async def new_objects(self) -> None:
        """One by one while the others are in place."""
        found = []
        for number in await self._more(SAMPLES):
            found.append(await self._appears(number))
            await asyncio.sleep(PAUSE_SECONDS)
        self.found.spread("new object", found)

    async def drift(self) -> None:
        """Somebody else overwrites a value."""
        self.found.spread("drift repaired", await self._drift())

    async def _drift(self) -> list[float]:
        found = []
        patch = {"data": {"password": "eA=="}}
        for number in range(SAMPLES):
            after = await self.lab.api.merge_patch(
                SECRETS, name(number), space(number), patch, manager="kubectl"
            )
            version = int(after["metadata"]["resourceVersion"])
            found.append(await self._until(number, f"first-{number}", version))
            await asyncio.sleep(PAUSE_SECONDS)
        return found

    async def change(self) -> None:
        """Secrets are written at the store, whatever the time of their refresh is."""
        waits = []
        async with self.lab.bed.store() as store:
            for number in range(SAMPLES, 2 * SAMPLES):
                data = dict.fromkeys(PROPERTIES, f"second-{number}")
                await store.kv2_write("secret", f"bench/{number:05}", data)
                waits.append(asyncio.create_task(self._until(number, f"second-{number}", 0)))
                await asyncio.sleep(PAUSE_SECONDS)
            self.found.spread("change at the provider", await asyncio.gather(*waits))

    async def restart(self) -> None:
        """A new object when the operator starts, with all the others in place and in order."""
        found, late = [], []
        for number in await self._more(RESTARTS):
            self.lab.operator.stop()
            found.append(await self._restarted(number))
            [second] = await self._more(1)
            late.append(await self._appears_later(second))
        self.found.figures["new object at a restart, none due, s"] = max(found)
        self.found.figures["new object 5 s after a restart, none due, s"] = max(late)

    async def restart_due(self) -> None:
        """The same when the time of all is over; only with short intervals."""
        if self.interval_seconds > SHORT_SECONDS:
            return
        [number] = await self._more(1)
        self.lab.operator.stop()
        await asyncio.sleep(self.interval_seconds + 1)
        before = self.lab.requests.counts()
        found = await self._restarted(number)
        self.found.figures["new object at a restart, all due, s"] = found
        [second] = await self._more(1)
        late = await self._appears_later(second)
        self.found.figures["new object 5 s after a restart, all due, s"] = late
        await asyncio.sleep(self.interval_seconds)
        written = changing(self.lab.requests.counts()) - changing(before)
        self.found.figures["API writes of a restart, all due"] = written

    async def _restarted(self, number: int) -> float:
        """Seconds from the start of the process to the Secret of an object that waits for it."""
        await self.lab.api.create(EXTERNAL_SECRETS, manifest(number, "1h"))
        begin = time.monotonic()
        self.lab.operator.start()
        shown = await self.lab.mirror.shows(number, f"first-{number}", 0, LIMIT_SECONDS)
        return shown - begin

    async def _appears_later(self, number: int) -> float:
        await asyncio.sleep(LATE_SECONDS)
        return await self._appears(number)

    async def store_down(self) -> None:
        """The store ends while objects come due; drift is repaired all the same or not."""
        lab = self.lab
        before, cpu = lab.requests.counts(), lab.operator.cpu
        begin = time.monotonic()
        lab.bed.processes.stop("store")
        await asyncio.sleep(DOWN_SECONDS)
        self.found.spread("drift repaired, store down", await self._drift())
        passed = time.monotonic() - begin
        writes = changing(lab.requests.counts()) - changing(before)
        self.found.figures |= {
            "store down: API writes per s": writes / passed,
            "store down: operator CPU, %": (lab.operator.cpu - cpu) / passed * 100,
            "store down: objects that say so": len(lab.mirror.stale),
        }
        await lab.bed.start_store()
        begin = time.monotonic()

        async def none_stale() -> bool | None:
            return None if lab.mirror.stale else True

        await until("fresh objects", none_stale, CLOCK, seconds=LIMIT_SECONDS)
        self.found.figures["store back: none is stale after, s"] = time.monotonic() - begin
