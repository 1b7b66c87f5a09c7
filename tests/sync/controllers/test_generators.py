"""Generated values in Secrets, and the states that remember what has to be ended."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from strongroom.kube.resource import SECRETS, Object
from strongroom.model.errors import Unavailable
from strongroom.sync.crds import (
    CLUSTER_GENERATORS,
    EXTERNAL_SECRETS,
    GENERATOR_STATES,
    GENERATORS,
    PUSH_SECRETS,
    SECRET_STORES,
)
from strongroom.sync.generators.contract import Life, Made
from strongroom.sync.generators.states import OWNER_KEY, ServedGenerators, owner_key
from strongroom.sync.reader import slots_of
from strongroom.sync.spec import GeneratorRef, parse_spec

BY_KIND = {each.kind: each for each in GENERATORS}


@dataclass
class Leasing:
    """Everything it makes comes with a lease. Implements Workshop."""

    made: int = 0
    held: list[str] = field(default_factory=list)
    away: bool = False
    # How long what was made lives, by its lease; and when it was asked, by its age.
    lives: dict[str, Life] = field(default_factory=dict)
    ages: list[float] = field(default_factory=list)

    async def make(self, generator: Object, namespace: str) -> Made:
        if generator["kind"] != "VaultDynamicSecret":
            return Made({"password": b"p"})
        self.made += 1
        self.held.append(lease := f"{namespace}/{generator['metadata']['name']}/{self.made}")
        return Made({"password": b"marked-%d" % self.made}, {"leaseID": lease})

    async def release(self, generator: Object, namespace: str, state) -> None:
        if self.away:
            raise Unavailable("store-sealed", "Vault is sealed")
        self.held.remove(state["leaseID"])

    async def sustain(self, generator: Object, namespace: str, state, age: float) -> Life | None:
        if namespace == "hangs":
            await asyncio.Event().wait()
        self.ages.append(age)
        return self.lives.get(state["leaseID"])


@dataclass
class Bed:
    """An operator that makes and ends."""

    bench: object
    leasing: Leasing

    async def states(self) -> list[Object]:
        return (await self.bench.api.list(GENERATOR_STATES)).items


@pytest.fixture
async def bed(idle) -> AsyncIterator[Bed]:
    leasing = idle.workshop = Leasing()
    idle.generators = ServedGenerators(idle.api, leasing, idle.clock)
    spec = {"path": "database/creds/app"}
    await idle.api.create(
        BY_KIND["VaultDynamicSecret"],
        {"metadata": {"name": "db", "namespace": "n"}, "spec": spec},
    )
    await idle.start()
    yield Bed(idle, leasing)
    await idle.stop()


SOURCE = [{"sourceRef": {"generatorRef": {"kind": "VaultDynamicSecret", "name": "db"}}}]


async def external(bed: Bed, **spec) -> None:
    await bed.bench.external(**{"dataFrom": SOURCE, "secretStoreRef": None, **spec})


async def test_a_cluster_generator_serves_every_namespace(bed) -> None:
    spec = {"kind": "Password", "generator": {"passwordSpec": {}}}
    await bed.bench.api.create(CLUSTER_GENERATORS, {"metadata": {"name": "p"}, "spec": spec})
    source = {"generatorRef": {"kind": "ClusterGenerator", "name": "p"}}
    await bed.bench.external(dataFrom=[{"sourceRef": source}], secretStoreRef=None)
    assert await bed.bench.secret() == {"password": "p"}
    assert await bed.states() == []


async def test_a_generator_that_is_not_there_is_named(bed) -> None:
    source = {"generatorRef": {"kind": "UUID", "name": "u"}}
    await bed.bench.external(dataFrom=[{"sourceRef": source}], secretStoreRef=None)
    assert "UUID u does not exist" in (await bed.bench.condition())["message"]


async def test_a_kind_that_is_not_served_is_said_and_harms_nobody(bed) -> None:
    source = {"generatorRef": {"kind": "Grafana", "name": "g"}}
    await bed.bench.external("bad", dataFrom=[{"sourceRef": source}], secretStoreRef=None)
    await external(bed)
    assert "Grafana" in (await bed.bench.condition(name="bad"))["message"]
    assert await bed.bench.secret() == {"password": "marked-1"}


async def test_what_was_made_is_remembered_at_its_owner(bed) -> None:
    await external(bed)
    (state,) = await bed.states()
    assert state["metadata"]["labels"] == {OWNER_KEY: "externalsecret-db-0"}
    owner = state["metadata"]["ownerReferences"][0]
    item = await bed.bench.item()
    assert (owner["kind"], owner["uid"]) == ("ExternalSecret", item["metadata"]["uid"])
    assert state["spec"]["state"]["leaseID"] == bed.leasing.held[0]
    assert "marked" not in json.dumps(state)


async def test_what_was_replaced_is_ended_when_its_readers_had_time(bed) -> None:
    await external(bed, refreshInterval="10m")
    await bed.bench.clock.advance(601)
    assert await bed.bench.secret() == {"password": "marked-2"}
    assert len(bed.leasing.held) == 2
    await bed.bench.clock.advance(60)
    assert len(bed.leasing.held) == 2
    await bed.bench.clock.advance(61)
    assert bed.leasing.held == ["n/db/2"]
    assert len(await bed.states()) == 1


async def test_what_hangs_in_one_namespace_keeps_nothing_elsewhere_from_living_on(bed) -> None:
    resource = {"kind": "VaultDynamicSecret", "metadata": {"name": "g"}, "spec": {}}
    for number in range(20):
        made = {"metadata": {"name": f"s{number}", "namespace": "hangs"}}
        spec = {"resource": resource, "state": {"leaseID": "l"}}
        await bed.bench.api.create(GENERATOR_STATES, {**made, "spec": spec})
    await bed.bench.clock.advance(1)
    await external(bed)
    await bed.bench.clock.advance(1)
    assert bed.leasing.ages


BROKEN = {"template": {"data": {"x": "{{ .absent }}"}}}
MENDED = {"target": {"template": {"data": {"x": "{{ .password }}"}}}}


async def test_what_reached_no_secret_is_used_for_the_next_try(bed) -> None:
    await external(bed, refreshInterval="10m", target=BROKEN)
    await bed.bench.clock.advance(300)
    assert (await bed.bench.condition())["status"] == "False"
    assert bed.leasing.made == 1
    assert bed.leasing.held == ["n/db/1"]
    await bed.bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": MENDED})
    await bed.bench.clock.advance(1)
    assert await bed.bench.secret() == {"x": "marked-1"}
    # It is in use, so it has no end any more.
    await bed.bench.clock.advance(460)
    assert bed.leasing.held == ["n/db/1"]
    await bed.bench.clock.advance(250)
    assert bed.leasing.held == ["n/db/2"]


async def test_what_reached_no_secret_ends_although_nobody_comes_back_for_it(bed) -> None:
    await external(bed, refreshInterval="10m", target=BROKEN)
    await bed.bench.clock.advance(1)
    assert bed.leasing.held == ["n/db/1"]
    # As if it was never mended, and another's Secret stands in its place.
    await bed.bench.secret_of_somebody(password="theirs")
    await bed.bench.clock.advance(800)
    assert bed.leasing.held == []
    assert await bed.states() == []


async def test_a_generator_that_was_edited_makes_another_for_the_next_try(bed) -> None:
    await external(bed, refreshInterval="10m", target=BROKEN)
    edit = {"spec": {"path": "database/creds/other"}}
    await bed.bench.api.merge_patch(BY_KIND["VaultDynamicSecret"], "db", "n", edit)
    await bed.bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": MENDED})
    await bed.bench.clock.advance(5)
    assert await bed.bench.secret() == {"x": "marked-2"}
    assert bed.leasing.held == ["n/db/2"]


async def test_another_leader_does_not_use_what_the_one_before_kept(bed) -> None:
    await external(bed, refreshInterval="10m", target=BROKEN)
    await bed.bench.start()
    await bed.bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": MENDED})
    await bed.bench.clock.advance(5)
    assert await bed.bench.secret() == {"x": "marked-2"}


@pytest.mark.parametrize("name", ["list", "merge_patch"])
async def test_an_end_that_is_refused_once_is_given_at_the_next_try(bed, unruly, name) -> None:
    bed.bench.generators = ServedGenerators(unruly, bed.leasing, bed.bench.clock)
    await bed.bench.start()
    await external(bed, refreshInterval="0")
    unruly.only = GENERATOR_STATES
    unruly.failures = {name: [Unavailable("kube-unavailable", "etcd is away")]}
    edit = {"metadata": {"annotations": {"force-sync": "1"}}}
    await bed.bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", edit)
    await bed.bench.clock.advance(5)
    assert unruly.failures == {name: []}
    assert (await bed.bench.condition())["reason"] == "SecretSynced"
    assert await bed.bench.secret() == {"password": "marked-2"}
    await bed.bench.clock.advance(121)
    assert bed.leasing.held == ["n/db/2"]


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_generator_of_another_class_is_left_alone(bed, wrapped: bool) -> None:
    spec = {"path": "x", "controller": "theirs"}
    if wrapped:
        kind, resource = "ClusterGenerator", CLUSTER_GENERATORS
        inner = {"vaultDynamicSecretSpec": spec}
        spec = {"kind": "VaultDynamicSecret", "generator": inner}
    else:
        kind, resource = "VaultDynamicSecret", BY_KIND["VaultDynamicSecret"]
    metadata = {"name": "t"} | ({} if wrapped else {"namespace": "n"})
    await bed.bench.api.create(resource, {"metadata": metadata, "spec": spec})
    ref = {"generatorRef": {"kind": kind, "name": "t"}}
    await external(bed, dataFrom=[{"sourceRef": ref}])
    row = {"match": {"secretKey": "password", "remoteRef": {"remoteKey": "out/db"}}}
    pushed = {"secretStoreRefs": [{"name": "s"}], "selector": ref, "data": [row]}
    await bed.bench.api.create(
        PUSH_SECRETS, {"metadata": {"name": "ps", "namespace": "n"}, "spec": pushed}
    )
    await bed.bench.clock.advance(5)
    assert bed.leasing.made == 0
    assert (await bed.bench.item()).get("status") is None
    assert (await bed.bench.api.get(PUSH_SECRETS, "ps", "n")).get("status") is None
    bed.bench.generators = ServedGenerators(
        bed.bench.api, bed.leasing, bed.bench.clock, controller_class="theirs"
    )
    await bed.bench.start(controller_class="theirs")
    await bed.bench.clock.advance(5)
    assert await bed.bench.has_secret()
    assert "out/db" in bed.bench.provider.secrets


async def test_a_target_whose_generator_goes_to_another_class_is_not_repaired(bed) -> None:
    await external(bed)
    edit = {"spec": {"controller": "theirs"}}
    await bed.bench.api.merge_patch(BY_KIND["VaultDynamicSecret"], "db", "n", edit)
    await bed.bench.edit(password="theirs")
    await bed.bench.clock.advance(5)
    assert await bed.bench.secret() == {"password": "theirs"}


async def test_the_state_of_another_class_is_let_go_of_by_it_alone(bed) -> None:
    await external(bed)
    (state,) = await bed.states()
    name = state["metadata"]["name"]
    resource = {**state["spec"]["resource"], "spec": {"path": "x", "controller": "theirs"}}
    edit = {"spec": {"resource": resource, "garbageCollectionDeadline": "2020-01-01T00:00:00Z"}}
    await bed.bench.api.merge_patch(GENERATOR_STATES, name, "n", edit)
    await bed.bench.clock.advance(60)
    assert bed.leasing.held == ["n/db/1"]
    assert len(await bed.states()) == 1


async def test_a_field_that_the_api_warns_of_is_served_and_told(bed) -> None:
    row = {"secretKey": "a", "sourceRef": SOURCE[0]["sourceRef"], "remoteRef": {"key": "password"}}
    await external(bed, dataFrom=None, data=[row])
    assert await bed.bench.secret() == {"a": "marked-1"}
    (note,) = [each for each in await bed.bench.notes() if each.startswith("ParameterDeprecated")]
    assert "spec.data[0].sourceRef.generatorRef" in note


async def test_for_a_target_of_somebody_else_nothing_is_made(bed) -> None:
    await bed.bench.secret_of_somebody(password="theirs")
    await external(bed, refreshInterval="10m")
    for _ in range(10):
        await bed.bench.clock.advance(600)
    assert "not-ours" in (await bed.bench.condition())["message"]
    assert bed.leasing.made == 0
    await bed.bench.api.delete(SECRETS, "db", "n")
    await bed.bench.clock.advance(600)
    assert await bed.bench.secret() == {"password": "marked-1"}


async def test_for_a_target_that_cannot_be_changed_nothing_is_made(bed) -> None:
    await external(bed, refreshInterval="10m", target={"immutable": True})
    assert await bed.bench.secret() == {"password": "marked-1"}
    for _ in range(10):
        await bed.bench.clock.advance(600)
    assert "immutable" in (await bed.bench.condition())["message"]
    assert bed.leasing.made == 1
    assert bed.leasing.held == ["n/db/1"]


async def test_while_there_is_nothing_to_merge_into_nothing_is_made(bed) -> None:
    await external(bed, refreshInterval="1m", target={"creationPolicy": "Merge"})
    for _ in range(5):
        await bed.bench.clock.advance(60)
    assert (await bed.bench.condition())["reason"] == "SecretMissing"
    assert bed.leasing.made == 0
    await bed.bench.secret_of_somebody(user="theirs")
    await bed.bench.clock.advance(1)
    assert await bed.bench.secret() == {"user": "theirs", "password": "marked-1"}
    assert bed.leasing.made == 1


async def test_a_place_that_the_manifest_no_longer_has_is_ended_in_a_while(bed) -> None:
    await external(bed)
    await external(bed, name="kept")
    spec = {"dataFrom": [{"extract": {"key": "prod/db"}}], "secretStoreRef": {"name": "s"}}
    await bed.bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": spec})
    await bed.bench.clock.advance(60)
    assert await bed.bench.secret() == {"password": "one", "username": "app"}
    # Its readers have time to follow.
    assert bed.leasing.held == ["n/db/1", "n/db/2"]
    await bed.bench.clock.advance(61)
    assert bed.leasing.held == ["n/db/2"]
    assert [each["metadata"]["labels"][OWNER_KEY] for each in await bed.states()] == [
        "externalsecret-kept-0"
    ]


async def test_while_its_secret_cannot_be_right_nothing_is_ended(bed) -> None:
    await external(bed)
    bed.bench.provider.broken = Unavailable("store-away", "the store is away")
    spec = {"dataFrom": [{"extract": {"key": "prod/db"}}], "secretStoreRef": {"name": "s"}}
    await bed.bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": spec})
    await bed.bench.clock.advance(600)
    assert await bed.bench.secret() == {"password": "marked-1"}
    assert bed.leasing.held == ["n/db/1"]
    bed.bench.provider.broken = None
    await bed.bench.clock.advance(600)
    assert bed.leasing.held == []


async def test_of_two_places_the_one_that_is_left_keeps_what_it_has(bed) -> None:
    both = [*SOURCE, {**SOURCE[0], "rewrite": [{"regexp": {"source": "^", "target": "b-"}}]}]
    await bed.bench.external(dataFrom=both, secretStoreRef=None, refreshInterval="0")
    assert bed.leasing.made == 2
    await bed.bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": {"dataFrom": SOURCE}})
    await bed.bench.clock.advance(200)
    held = await in_use(bed)
    assert bed.leasing.held == [held]


async def test_what_was_made_is_kept_alive_at_its_time(bed) -> None:
    bed.leasing.lives["n/db/1"] = Life(400.0)
    await external(bed, refreshInterval="24h")
    await bed.bench.clock.advance(1000)
    assert [round(each) for each in bed.leasing.ages] == [0, 400, 800]
    assert bed.leasing.made == 1


async def test_what_cannot_be_kept_alive_is_replaced_at_a_store_too(bed) -> None:
    bed.leasing.lives["n/db/1"] = Life(300.0, 300.0)
    row = {"match": {"secretKey": "password", "remoteRef": {"remoteKey": "out/db"}}}
    spec = {"secretStoreRefs": [{"name": "s"}], "selector": SOURCE[0]["sourceRef"], "data": [row]}
    await bed.bench.api.create(
        PUSH_SECRETS, {"metadata": {"name": "ps", "namespace": "n"}, "spec": spec}
    )
    await bed.bench.clock.advance(5)
    assert bed.bench.provider.secrets["out/db"] == [b"marked-1", b"marked-2"]
    await bed.bench.clock.advance(130)
    assert bed.leasing.held == ["n/db/2"]


async def test_what_cannot_be_kept_alive_is_replaced_before_it_ends(bed) -> None:
    bed.leasing.lives["n/db/1"] = Life(300.0, 300.0)
    await external(bed, refreshInterval="24h")
    await bed.bench.clock.advance(5)
    assert await bed.bench.secret() == {"password": "marked-2"}
    assert any(each.startswith("CredentialEnds") for each in await bed.bench.notes())
    await bed.bench.clock.advance(130)
    assert bed.leasing.held == ["n/db/2"]
    await bed.bench.clock.advance(3600)
    assert bed.leasing.made == 2


async def test_what_is_made_once_is_not_replaced_but_its_end_is_told(bed) -> None:
    bed.leasing.lives["n/db/1"] = Life(300.0, 300.0)
    await external(bed, refreshPolicy="CreatedOnce")
    await bed.bench.clock.advance(3600)
    assert bed.leasing.made == 1
    assert any(each.startswith("CredentialEnds") for each in await bed.bench.notes())


async def test_what_nobody_replaces_is_kept_alive_to_its_end_and_told_once(bed) -> None:
    bed.leasing.lives["n/db/1"] = Life(100.0, 300.0)
    await external(bed, refreshPolicy="CreatedOnce")
    await bed.bench.clock.advance(250)
    assert [round(each) for each in bed.leasing.ages] == [0, 100, 200]
    bed.leasing.lives["n/db/1"] = Life(30.0, 0.0)
    await bed.bench.clock.advance(3600)
    assert len(bed.leasing.ages) == 4
    notes = [each for each in await bed.bench.notes() if each.startswith("CredentialEnds")]
    assert len(notes) == 1


async def test_a_push_that_takes_a_secret_instead_ends_what_was_made(bed) -> None:
    row = {"match": {"secretKey": "password", "remoteRef": {"remoteKey": "out/db"}}}
    spec = {"secretStoreRefs": [{"name": "s"}], "selector": SOURCE[0]["sourceRef"], "data": [row]}
    await bed.bench.api.create(
        PUSH_SECRETS, {"metadata": {"name": "ps", "namespace": "n"}, "spec": spec}
    )
    await bed.bench.clock.advance(1)
    assert bed.leasing.held == ["n/db/1"]
    await bed.bench.secret_of_somebody(password="theirs")
    selector = {"selector": {"generatorRef": None, "secret": {"name": "db"}}}
    await bed.bench.api.merge_patch(PUSH_SECRETS, "ps", "n", {"spec": selector})
    await bed.bench.clock.advance(130)
    assert bed.bench.provider.secrets["out/db"][-1] == b"theirs"
    assert bed.leasing.held == []


@pytest.mark.parametrize(
    "spec",
    [
        {"dataFrom": [{"extract": {"key": "prod/db"}}, *SOURCE]},
        {"dataFrom": SOURCE, "data": [{"secretKey": "a", "sourceRef": SOURCE[0]["sourceRef"],
                                       "remoteRef": {"key": "password"}}]},
    ],
)  # fmt: skip
async def test_places_are_named_as_states_name_them(bed, spec: dict) -> None:
    await bed.bench.external(**spec)
    item = await bed.bench.item()
    found = {each["metadata"]["labels"][OWNER_KEY] for each in await bed.states()}
    assert found == {owner_key(item, each) for each in slots_of(parse_spec(item))}


async def test_an_owner_that_goes_takes_its_leases_with_it(bed) -> None:
    await external(bed)
    (state,) = await bed.states()
    await bed.bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    # What the garbage collector of a cluster does.
    await bed.bench.api.delete(GENERATOR_STATES, state["metadata"]["name"], "n")
    await bed.bench.clock.advance(2)
    assert bed.leasing.held == []
    assert await bed.states() == []


async def test_an_end_that_cannot_be_reached_is_told_tried_and_given_up_after_an_hour(bed) -> None:
    await external(bed, refreshInterval="0")
    (state,) = await bed.states()
    bed.leasing.away = True
    await bed.bench.api.delete(GENERATOR_STATES, state["metadata"]["name"], "n")
    await bed.bench.clock.advance(60)
    assert len(await bed.states()) == 1
    assert any(each.startswith("ReleaseFailed") for each in await bed.bench.notes())
    await bed.bench.clock.advance(3900)
    assert await bed.states() == []


async def test_what_cannot_be_remembered_is_ended_and_not_used(bed) -> None:
    create = bed.bench.api.create

    class Full:
        def __getattr__(self, name):
            return getattr(bed.bench.api, name)

        async def create(self, resource, item, *args, **more):
            if resource.kind == "GeneratorState":
                raise Unavailable("kube-unavailable", "etcd is full")
            return await create(resource, item, *args, **more)

    bed.bench.generators = ServedGenerators(Full(), bed.leasing, bed.bench.clock)
    await bed.bench.start()
    await external(bed)
    assert not await bed.bench.has_secret()
    assert bed.leasing.made >= 1
    assert bed.leasing.held == []


class Failing:
    """The fake API, on which a call that `fails` picks ends badly, before or after it is done."""

    def __init__(self, api, fails, *, done: bool) -> None:
        self.api = api
        self.fails = fails
        self.done = done

    def __getattr__(self, name):
        whole = getattr(self.api, name)
        if name not in ("create", "merge_patch"):
            return whole

        async def call(resource, *args, **more):
            if not self.fails(resource, args):
                return await whole(resource, *args, **more)
            if self.done:
                await whole(resource, *args, **more)
            raise Unavailable("kube-unavailable", "the API server is away")

        return call


def status_of_external_secrets(resource, args) -> bool:
    return resource == EXTERNAL_SECRETS and "status" in args


def any_secret(resource, _args) -> bool:
    return resource == SECRETS


async def in_use(bed: Bed) -> str:
    """The lease of what the Secret holds."""
    return "n/db/" + (await bed.bench.secret())["password"].removeprefix("marked-")


@pytest.mark.parametrize("fails", [status_of_external_secrets, any_secret])
async def test_what_a_secret_holds_lives_on_though_its_status_or_reply_was_lost(bed, fails) -> None:
    await external(bed, refreshInterval="10m")
    await bed.bench.start(Failing(bed.bench.api, fails, done=fails is any_secret))
    for seconds in (601, 1, 30):
        await bed.bench.clock.advance(seconds)
        assert await in_use(bed) in bed.leasing.held
    # Asked once for the interval, not again for each try to say or to write it.
    assert bed.leasing.made == 2
    await bed.bench.start()
    await bed.bench.clock.advance(601 + 121)
    assert bed.leasing.held == [await in_use(bed)]


async def test_nothing_is_made_while_a_store_of_the_same_object_is_away(bed) -> None:
    bed.bench.provider.broken = Unavailable("store-away", "the store is away")
    both = [*SOURCE, {"extract": {"key": "prod/db"}}]
    await bed.bench.external(dataFrom=both)
    await bed.bench.clock.advance(30)
    assert bed.leasing.made == 0
    bed.bench.provider.broken = None
    await bed.bench.clock.advance(400)
    assert bed.leasing.made == 1
    # The later entry wins, whichever was asked first.
    assert await bed.bench.secret() == {"password": "one", "username": "app"}
    both.reverse()
    await bed.bench.external("other", dataFrom=both)
    assert await bed.bench.secret("other") == {"password": "marked-2", "username": "app"}


async def test_what_one_store_of_two_took_lives_on(bed) -> None:
    away = {"metadata": {"name": "z", "namespace": "n"}, "spec": {"provider": {"other": {}}}}
    await bed.bench.api.create(SECRET_STORES, away)
    row = {"match": {"secretKey": "password", "remoteRef": {"remoteKey": "out/db"}}}
    spec = {
        "secretStoreRefs": [{"name": "s"}, {"name": "z"}],
        "selector": SOURCE[0]["sourceRef"],
        "data": [row],
    }
    await bed.bench.api.create(
        PUSH_SECRETS, {"metadata": {"name": "ps", "namespace": "n"}, "spec": spec}
    )
    for _ in range(3):
        await bed.bench.clock.advance(3)
        assert bed.bench.provider.secrets["out/db"] == [b"marked-1"]
        assert bed.leasing.held == ["n/db/1"]


async def test_of_two_makings_for_one_place_the_later_is_kept(idle) -> None:
    leasing = Leasing()
    generators = ServedGenerators(idle.api, leasing, idle.clock)
    await idle.api.create(
        BY_KIND["VaultDynamicSecret"], {"metadata": {"name": "db", "namespace": "n"}, "spec": {}}
    )
    owner = {
        "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret",
        "metadata": {"name": "db", "namespace": "n", "uid": "u"},
    }  # fmt: skip
    for path in ("one", "two"):
        edit = {"spec": {"path": path}}
        await idle.api.merge_patch(BY_KIND["VaultDynamicSecret"], "db", "n", edit)
        await generators.generate(GeneratorRef("VaultDynamicSecret", "db"), owner, "0")
    await generators.settle(owner)
    states = (await idle.api.list(GENERATOR_STATES)).items
    ending = {
        each["spec"]["state"]["leaseID"]
        for each in states
        if each["spec"].get("garbageCollectionDeadline")
    }
    assert ending == {"n/db/1"}


def test_owner_keys_fit_into_labels() -> None:
    short = {"kind": "ExternalSecret", "metadata": {"name": "db"}}
    long = {"kind": "ExternalSecret", "metadata": {"name": "a" * 200}}
    assert owner_key(short, "0") == "externalsecret-db-0"
    assert len(owner_key(long, "0")) <= 63
    assert owner_key(long, "0") != owner_key(long, "1")


async def test_a_generated_value_is_in_no_event_and_no_status(bed) -> None:
    await external(bed, refreshInterval="10m")
    await bed.bench.edit(password="changed")
    await bed.bench.clock.advance(601)
    said = json.dumps([await bed.bench.item(), await bed.bench.notes(), await bed.states()])
    assert "marked-" not in said
    assert (await bed.bench.api.get(SECRETS, "db", "n"))["data"]


async def test_an_end_that_is_refused_at_first_is_set_though_nobody_settles_again(
    bed, unruly
) -> None:
    """`unruly` starts a second operator on the same bench; the first is stopped."""
    await external(bed)
    spec = {
        "dataFrom": [{"extract": {"key": "prod/db"}}],
        "secretStoreRef": {"name": "s"},
        "refreshInterval": "0",
    }
    unruly.only = GENERATOR_STATES
    unruly.failures = {"merge_patch": [Unavailable("unreachable", "no answer")]}
    await bed.bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": spec})
    await bed.bench.clock.advance(200)
    assert unruly.failures == {"merge_patch": []}
    assert bed.leasing.held == []
