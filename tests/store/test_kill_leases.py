"""A server killed again and again while it hands out, renews and revokes what has an end."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from issuing_process import run_issuing
from server_process import CLOCK, Server

from strongroom.app.waiting import until
from strongroom.model.errors import Unavailable
from strongroom.store.leases import CLAIM_SECONDS, PENDING_SECONDS

pytestmark = [pytest.mark.component, pytest.mark.timeout(900)]

ROUNDS = {"sqlite": 20, "postgres": 15}
TTL = 7200
POLICY = 'path "iss/*" { capabilities = ["read"] }'


@dataclass
class Granted:
    """A lease that a caller was told of; `until` is the least end it was promised."""

    name: str
    token: str
    until: float
    ending: bool = False  # Its end was asked for, or its token's.
    ended: bool = False  # And was acknowledged.


@dataclass
class Ledger:
    """What the server has said it did."""

    leases: dict[str, Granted] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    token: str = ""
    renewals: int = 0
    tokens_revoked: int = 0
    prefixes_revoked: int = 0
    # How often the end of everything in role b was asked for, and whether that is being done.
    sweeps: int = 0
    sweeping: bool = False

    def grant(self, lease_id: str, row: Granted) -> None:
        assert lease_id not in self.leases
        assert row.name not in self.names
        self.leases[lease_id] = row
        self.names.add(row.name)

    @property
    def counts(self) -> tuple[int, ...]:
        """How much of each kind was done."""
        ended = sum(row.ended for row in self.leases.values())
        revoked = (self.tokens_revoked, self.prefixes_revoked)
        return (len(self.leases), ended, self.renewals, *revoked)

    def alive(self) -> list[str]:
        return [each for each, row in self.leases.items() if not row.ending]


async def asked(
    server: Server, method: str, path: str, body: object = None, token: str = ""
) -> tuple[int, dict]:
    """As `Server.ask`, with another token; (0, {}) when the server died meanwhile."""
    content = None if body is None else json.dumps(body).encode()
    headers = {"X-Vault-Token": token or server.root}
    try:
        reply = await server.http.request(method, server.url(path), headers=headers, body=content)
        return reply.status, json.loads(reply.body) if reply.body else {}
    except (Unavailable, OSError, ValueError):
        return 0, {}


async def issue(server: Server, ledger: Ledger, role: str) -> None:
    while server.process is not None:
        token, before = ledger.token, CLOCK.now()
        swept, sweeps = ledger.sweeping, ledger.sweeps
        status, said = await asked(server, "GET", f"iss/creds/{role}?ttl={TTL}", token=token)
        if status == 200:
            end = before + said["lease_duration"] - 1
            swept = role == "b" and (swept or sweeps != ledger.sweeps)
            ending = swept or token != ledger.token
            row = Granted(said["data"]["name"], token, end, ending=ending)
            ledger.grant(said["lease_id"], row)
        # Refused when its token was revoked meanwhile, or what it was to get.
        elif status not in (0, 403):
            raise AssertionError((status, said))


async def renew(server: Server, ledger: Ledger) -> None:
    while server.process is not None:
        # Now one that others leave alone, now one that is revoked at the same time.
        for lease_id in (*ledger.alive()[-2:], *ledger.alive()[:1]):
            before = CLOCK.now()
            status, said = await asked(server, "POST", "sys/leases/renew", {"lease_id": lease_id})
            if status == 200:
                row = ledger.leases[lease_id]
                row.until = max(row.until, before + said["lease_duration"] - 1)
                ledger.renewals += 1
        await asyncio.sleep(0.001)


async def revoke(server: Server, ledger: Ledger) -> None:
    while server.process is not None:
        for lease_id in ledger.alive()[:2]:
            row = ledger.leases[lease_id]
            row.ending = True
            status, _ = await asked(server, "POST", "sys/leases/revoke", {"lease_id": lease_id})
            row.ended = status == 204
        await asyncio.sleep(0.001)


async def revoke_tokens(server: Server, ledger: Ledger) -> None:
    """The token in use goes, with what it was given and what it is being given."""
    while server.process is not None:
        token, made = ledger.token, await new_token(server)
        if not made:
            return
        ledger.token = made
        for row in ledger.leases.values():
            row.ending = row.ending or row.token == token
        status, _ = await asked(server, "POST", "auth/token/revoke", {"token": token})
        ledger.tokens_revoked += status == 204
        await asyncio.sleep(0.01)


async def revoke_prefix(server: Server, ledger: Ledger) -> None:
    while server.process is not None:
        below = [row for each, row in ledger.leases.items() if each.startswith("iss/creds/b/")]
        for row in below:
            row.ending = True
        ledger.sweeping, ledger.sweeps = True, ledger.sweeps + 1
        status, _ = await asked(server, "POST", "sys/leases/revoke-prefix/iss/creds/b", {})
        ledger.sweeping = False
        if status == 204:
            ledger.prefixes_revoked += 1
            for row in below:
                row.ended = True
        await asyncio.sleep(0.01)


async def new_token(server: Server) -> str:
    status, said = await asked(server, "POST", "auth/token/create", {"policies": ["issuing"]})
    return said["auth"]["client_token"] if status == 200 else ""


async def listed(server: Server) -> set[str]:
    found = set()
    for role in ("a", "b"):
        status, said = await server.ask("LIST", f"sys/leases/lookup/iss/creds/{role}")
        if status == 200:
            found |= {f"iss/creds/{role}/{each}" for each in said["data"]["keys"]}
    return found


def world_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What stands outside, by its lease."""
    found: dict[str, dict[str, Any]] = {}
    for path in folder.iterdir():
        try:
            made = {"name": path.name, **json.loads(path.read_text())}
        except (FileNotFoundError, ValueError):
            continue  # Undone just now, or its maker was killed before it was whole.
        if path.suffix != ".new":
            assert made["lease"] not in found, "granted twice"
            found[made["lease"]] = made
    return found


async def nothing_is_lost(server: Server, ledger: Ledger, folder: Path, ahead: float = 0.0) -> None:
    """`ahead` is how many seconds the server's clock is."""
    # In this order: what is undone meanwhile leaves the world before its row goes.
    rows = await listed(server)
    world = world_of(folder)
    assert set(world) <= rows, "a credential outlives its lease"
    for lease_id, row in ledger.leases.items():
        if row.ended:
            assert lease_id not in world
            assert lease_id not in rows
        if not row.ending:
            assert world[lease_id]["name"] == row.name
            assert world[lease_id]["expires"] >= row.until
    for lease_id in ledger.alive()[-10:]:
        status, said = await server.ask("POST", "sys/leases/lookup", {"lease_id": lease_id})
        assert status == 200
        assert said["data"]["ttl"] >= ledger.leases[lease_id].until - (CLOCK.now() + ahead) - 1


def settled(server: Server, folder: Path) -> Callable[[], Any]:
    async def done() -> bool | None:
        return True if await listed(server) == set(world_of(folder)) else None

    return done


async def test_no_lease_is_lost_or_granted_twice_and_no_credential_outlives_its_lease(
    server: Server, tmp_path: Path
) -> None:
    chance, ledger = random.Random(20261127), Ledger()
    world = tmp_path / "world"
    world.mkdir()

    async def start(ahead: float = 0.0) -> None:
        await server.start(run_issuing, world, ahead)

    await start()
    await server.ask("PUT", "sys/policies/acl/issuing", {"policy": POLICY})
    assert (await server.ask("POST", "sys/mounts/iss", {"type": "issuer"}))[0] == 204
    ledger.token = await new_token(server)
    for number in range(ROUNDS["postgres" if server.options.database else "sqlite"]):
        work = [issue(server, ledger, role) for role in "aaaabb"]
        work += [each(server, ledger) for each in (renew, revoke, revoke_tokens, revoke_prefix)]
        tasks = [asyncio.create_task(each) for each in work]
        # On a slow machine too there is one of each for every round before.
        while min(ledger.counts) < number and not all(each.done() for each in tasks):
            await CLOCK.sleep(0.01)
        await CLOCK.sleep(chance.uniform(0.05, 0.5))
        server.kill()
        await asyncio.gather(*tasks)
        await start()
        await nothing_is_lost(server, ledger, world)
    # What was being made or undone when the process died is undone in its time, and nothing else.
    server.kill()
    await start(PENDING_SECONDS + CLAIM_SECONDS)
    # One that was made, and its caller never told, stays until its end.
    await until("no lease without a credential to be left", settled(server, world), CLOCK)
    await nothing_is_lost(server, ledger, world, PENDING_SECONDS + CLAIM_SECONDS)
    server.kill()
    await start(2 * TTL)

    async def all_gone() -> bool | None:
        return None if await listed(server) else True

    await until("everything to come to its end", all_gone, CLOCK)
    assert not world_of(world)
    # Enough of each to lose.
    assert min(ledger.counts) > 5, ledger.counts
