"""A deadline that a process owed when it ended is derived again, where the Secret shows it."""

import copy

import pytest

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Unavailable
from strongroom.sync.crds import EXTERNAL_SECRETS, GENERATOR_STATES, GENERATORS
from strongroom.sync.generators.contract import Made
from strongroom.sync.generators.states import DEADLINE, ServedGenerators
from strongroom.sync.generators.superseded import superseded

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
