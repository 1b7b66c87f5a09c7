"""Leases that a generator asked for outlive the first life of the token that asked: our own store."""

import base64
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import SECRETS
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Invalid
from strongroom.sync.generators.contract import Life, Made, Sources
from strongroom.sync.generators.kinds import ServedKinds
from strongroom.sync.providers.references import Surroundings

POLICY = 'path "iss/creds/*" { capabilities = ["read"] }'
SELF = """path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
"""
BY_ACCESSOR = 'path "auth/token/renew-accessor" { capabilities = ["update"] }'
REVOKES = """path "sys/leases/revoke" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }"""
TOKEN_SECONDS = 600


@dataclass
class Bed:
    """A store whose engine hands out names under leases, and a generator with a login there."""

    store: Any
    around: Surroundings
    spec: dict[str, Any]
    sources: Sources = field(init=False)
    made: Made | None = None
    at: float = 0.0

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Another process, which has no token of the one before."""
        self.sources = Sources(self.around, random.Random(1))

    @property
    def item(self) -> dict[str, Any]:
        metadata = {"name": "g", "namespace": "n"}
        return {"kind": "VaultDynamicSecret", "metadata": metadata, "spec": self.spec}

    @property
    def names(self) -> set[str]:
        """What the leases have made in the world."""
        return set(self.store.issuers[0].names)

    @property
    def state(self) -> Mapping[str, Any]:
        assert self.made is not None
        assert self.made.state is not None
        return self.made.state

    async def make(self, *, renewable: bool = True) -> Mapping[str, Any]:
        self.made = await ServedKinds(self.sources).make(self.item, "n")
        if not renewable:
            state = {**(self.made.state or {}), "leaseRenewable": False}
            self.made = Made(self.made.values, state)
        self.at = self.store.clock.now()
        return self.made.state or {}

    async def sustain(self) -> Life | None:
        age = self.store.clock.now() - self.at
        return await ServedKinds(self.sources).sustain(self.item, "n", self.state, age)

    async def pass_by(self, seconds: float) -> None:
        """Time goes on, and what is over ends."""
        self.store.clock.step_wall(seconds)
        await self.store.expire()

    async def live(self, seconds: float) -> Life | None:
        """Time goes on, and a collector does what it is told; what it was told last."""
        over = self.store.clock.now() + seconds
        while True:
            life = await self.sustain()
            left = over - self.store.clock.now()
            if life is None or life.ends is not None or life.again >= left:
                await self.pass_by(left)
                return life
            await self.pass_by(life.again)

    async def tokens(self) -> int:
        _, said = await self.store.ask("LIST", "auth/token/accessors")
        return len(said["data"]["keys"])


@pytest.fixture
async def bed(store: Any, api: FakeKubeApi, clock: SimulatedClock) -> Bed:
    await store.ask("POST", "sys/mounts/iss", {"type": "issuer"})
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await allow(store, POLICY)
    password = base64.b64encode(b"pw").decode()
    root = base64.b64encode(store.root.encode()).decode()
    data = {"password": password, "root": root}
    await api.create(SECRETS, {"metadata": {"name": "auth", "namespace": "n"}, "data": data})
    login = {"username": "app", "secretRef": {"name": "auth", "key": "password"}}
    spec = {
        "path": "iss/creds/app", "getParameters": {"ttl": ["1h"]},
        "provider": {"server": store.address, "auth": {"userPass": login}},
    }  # fmt: skip
    return Bed(store, Surroundings(api, clock), spec)


async def tune(bed: Bed, most: str) -> None:
    """No lease of the engine lives longer than that."""
    status, said = await bed.store.ask("POST", "sys/mounts/iss/tune", {"max_lease_ttl": most})
    assert status == 204, said


async def allow(store: Any, policy: str, **user: Any) -> None:
    await store.ask("PUT", "sys/policies/acl/app", {"policy": policy})
    body = {"password": "pw", "token_policies": "app", "token_ttl": f"{TOKEN_SECONDS}s", **user}
    status, said = await store.ask("POST", "auth/userpass/users/app", body)
    assert status == 204, said


async def test_a_lease_that_nobody_sustains_ends_with_its_token(bed: Bed) -> None:
    state = await bed.make()
    assert state["leaseDuration"] == 3600
    await bed.pass_by(TOKEN_SECONDS - 1)
    assert len(bed.names) == 1
    await bed.pass_by(2)
    assert bed.names == set()


async def test_a_lease_lives_for_as_long_as_it_is_sustained(bed: Bed) -> None:
    await bed.make()
    for _ in range(20):
        life = await bed.live(TOKEN_SECONDS)
        assert life is not None
        assert life.ends is None
        assert len(bed.names) == 1
    await bed.pass_by(3601)
    assert bed.names == set()


async def test_a_lease_that_cannot_be_renewed_lives_as_long_as_it_was_given_for(bed: Bed) -> None:
    await bed.make(renewable=False)
    for _ in range(5):
        await bed.live(TOKEN_SECONDS)
        assert len(bed.names) == 1
    life = await bed.live(590)
    # A tenth of it is left for another to be made and taken up.
    assert life is not None
    assert life.ends is not None
    assert 300 <= life.ends <= 360
    assert len(bed.names) == 1
    await bed.pass_by(20)
    assert bed.names == set()


async def test_a_lease_at_its_end_keeps_its_token_for_as_long_as_it_lives(bed: Bed) -> None:
    bed.spec["getParameters"] = {"ttl": ["4h"]}
    await bed.make(renewable=False)
    told = 0.0
    while (life := await bed.sustain()) is not None and life.ends != 0:
        told = told or (life.ends or 0.0)
        over = bed.store.clock.now() + life.again
        while (left := over - bed.store.clock.now()) > 0:
            await bed.pass_by(min(left, TOKEN_SECONDS / 2))
            assert bool(bed.names) == (bed.store.clock.now() - bed.at < 4 * 3600)
    # Told when a tenth of it was left: longer than its token lives by itself.
    assert told > TOKEN_SECONDS
    assert bed.names == set()


async def test_a_lease_is_replaced_before_its_last_end(bed: Bed) -> None:
    await tune(bed, "90m")
    await bed.make()
    life = await bed.live(2 * 3600)
    assert life is not None
    assert life.ends is not None
    assert 30 <= life.ends <= 360
    assert bed.store.clock.now() - bed.at >= 5400 - 360


async def test_a_lease_that_may_not_be_renewed_is_replaced_before_it_ends(bed: Bed) -> None:
    # Without the policy `default`, which has the right to renew one's leases.
    allowed = POLICY + SELF
    await allow(bed.store, allowed, token_no_default_policy=True)
    await bed.make()
    life = await bed.live(3600)
    assert life is not None
    assert life.ends is not None
    assert 300 <= life.ends <= 360


async def test_after_a_restart_a_lease_is_renewed_by_another_login(bed: Bed) -> None:
    bed.spec["getParameters"] = {"ttl": ["5m"]}
    await bed.make()
    bed.restart()
    life = await bed.live(350)
    assert life is not None
    assert life.ends is None
    assert len(bed.names) == 1


async def test_nothing_is_asked_before_the_token_needs_it(bed: Bed) -> None:
    await bed.make()
    before = len(bed.store.records())
    assert await bed.sustain() == Life(TOKEN_SECONDS - TOKEN_SECONDS / 3)
    assert len(bed.store.records()) == before


@pytest.mark.parametrize("lease", ["5m", "10m"])
async def test_a_token_that_outlives_its_lease_is_left_alone(bed: Bed, lease: str) -> None:
    bed.spec["getParameters"] = {"ttl": [lease]}
    await bed.make(renewable=False)
    before = len(bed.store.records())
    life = await bed.live(240)
    assert life is not None
    assert life.ends is None
    assert len(bed.store.records()) == before


async def test_after_a_restart_the_accessor_renews_it_where_that_is_allowed(bed: Bed) -> None:
    await allow(bed.store, POLICY + BY_ACCESSOR)
    await bed.make()
    bed.restart()
    life = await bed.live(2 * TOKEN_SECONDS)
    assert life is not None
    assert life.ends is None
    assert len(bed.names) == 1


async def test_after_a_restart_without_that_right_its_end_is_told(bed: Bed) -> None:
    await bed.make()
    bed.restart()
    await bed.pass_by(TOKEN_SECONDS * 2 / 3)
    life = await bed.sustain()
    assert life == Life(TOKEN_SECONDS / 3, TOKEN_SECONDS / 3)


@pytest.mark.parametrize(
    "user", [{"token_max_ttl": "15m"}, {"token_explicit_max_ttl": "15m"}], ids=str
)
async def test_a_token_that_has_its_maximum_tells_its_end(bed: Bed, user: dict) -> None:
    await allow(bed.store, POLICY, **user)
    await bed.make()
    life = await bed.live(TOKEN_SECONDS)
    assert life is not None
    assert life.ends is not None
    assert 0 < life.ends <= 500
    assert len(bed.names) == 1


async def test_a_batch_token_has_nothing_to_renew(bed: Bed) -> None:
    await allow(bed.store, POLICY, token_type="batch")
    assert "tokenAccessor" not in await bed.make()
    life = await bed.live(TOKEN_SECONDS)
    # Its lease ends with it, so another is made before that.
    assert life is not None
    assert life.ends is not None
    assert 0 < life.ends <= 60


async def test_a_token_of_the_users_own_is_left_alone(bed: Bed) -> None:
    bed.spec["provider"]["auth"] = {"tokenSecretRef": {"name": "auth", "key": "root"}}
    before = await bed.tokens()
    assert "tokenAccessor" not in await bed.make()
    await bed.live(3 * 3600)
    assert len(bed.names) == 1
    await ServedKinds(bed.sources).release(bed.item, "n", bed.state)
    assert bed.names == set()
    assert await bed.tokens() == before


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_is_let_go_of_ends_with_its_login(bed: Bed, restarted: bool) -> None:
    before = await bed.tokens()
    await allow(bed.store, POLICY + (REVOKES if restarted else ""))
    await bed.make()
    assert await bed.tokens() == before + 1
    if restarted:
        bed.restart()
    await ServedKinds(bed.sources).release(bed.item, "n", bed.state)
    await bed.store.expire()
    assert bed.names == set()
    assert await bed.tokens() == before
    assert bed.sources.tokens == {}


async def test_a_login_that_has_ended_is_let_go_of_by_another(bed: Bed) -> None:
    await allow(bed.store, POLICY + REVOKES)
    await bed.make()
    await bed.pass_by(TOKEN_SECONDS + 1)
    await ServedKinds(bed.sources).release(bed.item, "n", bed.state)
    assert bed.sources.tokens == {}


async def test_what_cannot_be_used_ends_at_once(bed: Bed) -> None:
    before = await bed.tokens()
    bed.spec["resultType"] = "Auth"
    with pytest.raises(Invalid, match="answers without auth"):
        await bed.make()
    await bed.store.expire()
    assert bed.names == set()
    assert await bed.tokens() == before


async def test_a_token_that_was_asked_for_lives_on_as_a_lease_does(bed: Bed) -> None:
    creates = 'path "auth/token/create" { capabilities = ["update"] }'
    await allow(bed.store, POLICY + creates)
    bed.spec |= {
        "path": "auth/token/create", "method": "POST", "resultType": "Auth",
        "parameters": {"ttl": "2h", "policies": ["default"]}, "getParameters": None,
    }  # fmt: skip
    await bed.make()
    assert bed.made is not None
    token = bed.made.values["client_token"].decode()
    await bed.live(3 * TOKEN_SECONDS)
    assert (await bed.store.ask("GET", "auth/token/lookup-self", token=token))[0] == 200
    await bed.pass_by(TOKEN_SECONDS + 1)
    assert (await bed.store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403
