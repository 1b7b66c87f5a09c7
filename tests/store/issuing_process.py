"""A server with an engine whose credentials stand in the world outside: a file for each.

What the engine makes outlives the process that made it, as a database's user does, so that a test
can kill the server at any point and compare the world with the leases.
"""

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from strongroom.app.server import Worker, run, serve
from strongroom.app.store_config.settings import ServerSettings
from strongroom.model.clock import SystemClock
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import LeaseRow, MountRow
from strongroom.store.leasing import Leases, Terms
from strongroom.store.parameters import fields


class LateClock:
    """The machine's clock, by so many seconds ahead."""

    def __init__(self, ahead: float) -> None:
        self._clock = SystemClock()
        self._ahead = ahead

    def now(self) -> float:
        return self._clock.now() + self._ahead

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


class FileIssuer:
    """`creds/{role}` makes a file in `world` that names its lease and when it ends."""

    def __init__(self, world: Path, context: Context, leases: Leases) -> None:
        self._world = world
        self._context = context
        self._leases = leases

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (Endpoint("creds/{role}", {"read": self._issue}, takes=fields(seconds="ttl")),)

    def exists(self, call: Call) -> bool:
        return True

    async def _issue(self, call: Call) -> Result:
        name = call.request_id
        terms = Terms(ttl=call.seconds("ttl"), data={"name": name})
        lease = await self._leases.intend(call, self._context.bounds(call.mount), terms)
        # A backend takes its time, in which other requests are served.
        await asyncio.sleep(0.02 if call.args["role"] == "b" else 0.002)
        with (self._world / name).open("x") as out:
            json.dump({"lease": lease.id, "expires": lease.expires}, out)
        await asyncio.sleep(0.002)
        return self._leases.answer({"name": name}, await self._leases.confirm(lease))

    async def revoke_lease(self, mount: MountRow, lease: LeaseRow) -> None:
        await asyncio.sleep(0.002)
        (self._world / lease.data["name"]).unlink(missing_ok=True)

    async def renew_lease(self, mount: MountRow, lease: LeaseRow) -> None:
        path = self._world / lease.data["name"]
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"lease": lease.id, "expires": lease.expires}))
        new.replace(path)


def run_issuing(settings: ServerSettings, world: Path, ahead: float) -> None:
    """A worker that has the engine `issuer` beside the built-in ones."""
    engines = {"issuer": partial(FileIssuer, world)}
    run(serve(settings, Worker(engines=engines), LateClock(ahead)))
