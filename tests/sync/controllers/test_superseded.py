"""A deadline that a process owed when it ended is derived again, where the Secret shows it."""

import copy

import pytest

from strongroom.kube.resource import CONFIG_MAPS, Resource
from strongroom.model.clock import rfc3339
from strongroom.model.errors import Unavailable
from strongroom.sync.crds import EXTERNAL_SECRETS, GENERATOR_STATES, GENERATORS, PUSH_SECRETS
from strongroom.sync.desired import synced_version
from strongroom.sync.generators.contract import Made
from strongroom.sync.generators.states import DEADLINE, ServedGenerators
from strongroom.sync.generators.superseded import superseded
from strongroom.sync.last_written import pushed_at

SOURCE = [{"sourceRef": {"generatorRef": {"kind": "VaultDynamicSecret", "name": "db"}}}]
(KIND,) = [each for each in GENERATORS if each.kind == "VaultDynamicSecret"]


class Leasing:
    """Everything it makes comes with a lease. Implements Workshop."""

    def __init__(self) -> None:
        self.made = 0
        self.ended: list[int] = []

    async def make(self, generator, namespace) -> Made:
        self.made += 1
        return Made({"password": b"marked-%d" % self.made}, {"leaseID": self.made})

    async def release(self, generator, namespace, state) -> None:
        self.ended.append(state["leaseID"])

    async def sustain(self, generator, namespace, state, age) -> None:
        return None


@pytest.fixture
async def leasing(idle) -> Leasing:
    made = idle.workshop = Leasing()
    idle.generators = ServedGenerators(idle.api, made, idle.clock)
    generator = {"metadata": {"name": "db", "namespace": "n"}, "spec": {"path": "creds/app"}}
    await idle.api.create(KIND, generator)
    return made


async def states(idle) -> list[dict]:
    return (await idle.api.list(GENERATOR_STATES)).items


async def restarted(idle, leasing: Leasing) -> None:
    """As a new process, which remembers nothing."""
    await idle.stop()
    idle.generators = ServedGenerators(idle.api, leasing, idle.clock)
    await idle.start()
    await idle.clock.advance(200)


async def test_what_a_secret_no_longer_holds_ends_after_a_restart(idle, leasing, unruly) -> None:
    idle.generators = ServedGenerators(unruly, leasing, idle.clock)
    await idle.stop()
    await idle.start()
    await idle.external(dataFrom=SOURCE, secretStoreRef=None, refreshInterval="0")
    await idle.clock.advance(60)
    unruly.only = GENERATOR_STATES
    unruly.failures = {"merge_patch": [Unavailable("unreachable", "no answer")] * 9}
    synced_again = {"metadata": {"annotations": {"force-sync": "1"}}}
    await idle.api.merge_patch(EXTERNAL_SECRETS, "db", "n", synced_again)
    await idle.clock.advance(0.2)
    assert await idle.secret() == {"password": "marked-2"}
    assert [each["spec"].get(DEADLINE) for each in (await states(idle))] == [None, None]
    await restarted(idle, leasing)
    assert (leasing.made, leasing.ended) == (2, [1])
    assert await idle.secret() == {"password": "marked-2"}


async def test_what_was_made_and_not_written_ends_nothing(idle, leasing) -> None:
    await idle.start()
    await idle.external(dataFrom=SOURCE, secretStoreRef=None, refreshInterval="0")
    await idle.stop()
    await idle.clock.advance(60)
    (state,) = await states(idle)
    newer = copy.deepcopy(state)
    newer["metadata"] = {
        each: state["metadata"][each] for each in ("namespace", "labels", "ownerReferences")
    } | {"name": "newer"}
    await idle.api.create(GENERATOR_STATES, newer)
    await restarted(idle, leasing)
    assert leasing.ended == []
    assert await idle.secret() == {"password": "marked-1"}


def state(made: float, **spec: str) -> dict:
    return {"metadata": {"creationTimestamp": rfc3339(made)}, "spec": spec}


@pytest.mark.parametrize(
    ("states", "written", "ended"),
    [
        ([state(10)], 99, []),
        ([state(20), state(10), state(5)], 20, [5, 10]),
        ([state(10), state(20)], 19, []),
        ([state(10), state(20)], 0, []),
        ([state(10.2), state(11.9)], 99, []),
        ([state(10), state(20, **{DEADLINE: "soon"})], 99, []),
        ([state(10, **{DEADLINE: "soon"}), state(20)], 99, []),
    ],
)
def test_only_what_the_newest_has_replaced_for_certain(states, written, ended) -> None:
    found = superseded(states, written)
    assert [each["metadata"]["creationTimestamp"] for each in found] == list(map(rfc3339, ended))


CONFIG_MAP = {"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}
FORCED = {"metadata": {"annotations": {"force-sync": "1"}}}


async def two_made(idle, leasing: Leasing, unruly, kind: Resource, item: dict) -> None:
    """An owner that had a second one made, and could not give the first its end."""
    idle.generators = ServedGenerators(unruly, leasing, idle.clock)
    await idle.stop()
    await idle.start()
    await idle.api.create(kind, {"metadata": {"name": "db", "namespace": "n"}, "spec": item})
    await idle.clock.advance(60)
    unruly.only = GENERATOR_STATES
    unruly.failures = {"merge_patch": [Unavailable("unreachable", "no answer")] * 9}
    await idle.api.merge_patch(kind, "db", "n", FORCED)
    await idle.clock.advance(0.2)
    assert leasing.made == 2
    assert [each["spec"].get(DEADLINE) for each in (await states(idle))] == [None, None]


@pytest.mark.parametrize(
    "target", [CONFIG_MAP, {"creationPolicy": "Merge"}, {"creationPolicy": "None"}]
)
async def test_what_any_target_no_longer_holds_ends_after_a_restart(
    idle, leasing, unruly, target
) -> None:
    if target.get("creationPolicy") == "Merge":
        await idle.secret_of_somebody(theirs="kept")
        await idle.clock.advance(5)
    item = {"dataFrom": SOURCE, "refreshInterval": "0", "target": target}
    await two_made(idle, leasing, unruly, EXTERNAL_SECRETS, item)
    await restarted(idle, leasing)
    assert (leasing.made, leasing.ended) == (2, [1])


async def test_what_somebody_else_wrote_into_a_target_since_ends_nothing(
    idle, leasing, unruly
) -> None:
    item = {"dataFrom": SOURCE, "refreshInterval": "0", "target": CONFIG_MAP}
    await two_made(idle, leasing, unruly, EXTERNAL_SECRETS, item)
    await idle.stop()
    await idle.clock.advance(60)
    old = {"data": {"password": "marked-1"}}
    await idle.api.merge_patch(CONFIG_MAPS, "db", "n", old, manager="kubectl-edit")
    await restarted(idle, leasing)
    assert leasing.ended == []


PUSH = {
    "secretStoreRefs": [{"name": "s"}], "refreshInterval": "0",
    "selector": {"generatorRef": SOURCE[0]["sourceRef"]["generatorRef"]},
    "data": [{"match": {"remoteRef": {"remoteKey": "made"}}}],
}  # fmt: skip


async def test_what_no_store_holds_any_more_ends_after_a_restart(idle, leasing, unruly) -> None:
    await two_made(idle, leasing, unruly, PUSH_SECRETS, PUSH)
    await restarted(idle, leasing)
    assert (leasing.made, leasing.ended) == (2, [1])


async def test_what_another_controllers_generator_made_is_left_to_that_one(
    idle, leasing, unruly
) -> None:
    await two_made(idle, leasing, unruly, PUSH_SECRETS, PUSH)
    await idle.stop()
    foreign = {"spec": {"resource": {"spec": {"controller": "another"}}}}
    for each in await states(idle):
        await idle.api.merge_patch(GENERATOR_STATES, each["metadata"]["name"], "n", foreign)
    await restarted(idle, leasing)
    assert [each["spec"].get(DEADLINE) for each in (await states(idle))] == [None, None]
    assert leasing.ended == []


@pytest.mark.parametrize(
    "change",
    [
        {"conditions": [{"type": "Ready", "status": "False", "reason": "Errored"}]},
        {"refreshTime": "1970-01-01T00:00:01Z"},
        {"syncedResourceVersion": "another"},
    ],
)
def test_a_push_is_done_when_its_status_says_so_of_what_is_asked_for(change) -> None:
    item = {"metadata": {"name": "db", "namespace": "n", "generation": 1}}
    ready = [{"type": "Ready", "status": "True", "reason": "Synced"}]
    item["status"] = {
        "conditions": ready, "refreshTime": rfc3339(90),
        "syncedResourceVersion": synced_version(item),
    }  # fmt: skip
    assert pushed_at(item) == 0
    entry = {"subresource": "status", "time": rfc3339(80), "fieldsV1": {"f:status": {}}}
    item["metadata"]["managedFields"] = [entry]
    assert pushed_at(item) == 80
    item["status"] |= change
    assert pushed_at(item) <= 1
