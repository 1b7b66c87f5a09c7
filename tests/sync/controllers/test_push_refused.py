"""What a store refuses of a PushSecret holds up nothing else, and nothing is forgotten."""

from typing import Any

import pytest
from tests.sync.controllers.test_push import ROW, USER, held, push, ready, status

from strongroom.kube.resource import SECRETS
from strongroom.model.errors import Denied, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.crds import PUSH_SECRETS
from strongroom.sync.providers.contract import ClusterAway, Pushed, PushTarget, Traits
from strongroom.sync.providers.fake import FakeProvider

DENIED = Denied("store-denied", "permission denied")
OTHER = {"match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/other"}}}
AWAY = Unavailable("unreachable", "the connection broke")


class Choosy(FakeProvider):
    """Refuses what is told by its key, before it is done or, of `lost`, behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, Refusal] = {}
        self.lost: set[str] = set()
        self.undeletable: dict[str, Refusal] = {}
        self.tried: list[str] = []
        # Done between the read of the source and the write, or behind the write.
        self.before: Any = None
        self.behind: Any = None

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        self.tried.append(target.key)
        if self.before is not None:
            then, self.before = self.before, None
            await then()
        if target.key in self.refused:
            raise self.refused[target.key]
        pushed = await super().push(target, value)
        if self.behind is not None:
            then, self.behind = self.behind, None
            await then()
        if target.key in self.lost:
            raise AWAY
        return pushed

    async def delete(self, target: PushTarget) -> None:
        if target.key in self.undeletable:
            raise self.undeletable[target.key]
        await super().delete(target)


@pytest.fixture
async def bed(idle):
    idle.provider = Choosy()
    await idle.start()
    await idle.secret_of_somebody("source", password="p1", user="u1")
    await idle.clock.advance(0.1)
    return idle


async def edit(bed, **spec) -> None:
    await bed.api.merge_patch(PUSH_SECRETS, "ps", "n", {"spec": spec})


async def shown(bed) -> set[str]:
    return set((await status(bed)).get("syncedPushSecrets", {}).get("SecretStore/s", {}))


async def test_a_source_that_changes_between_read_and_push_is_pushed_again(bed) -> None:
    async def change() -> None:
        data = {"data": {"password": "cDI="}}
        await bed.api.merge_patch(SECRETS, "source", "n", data, manager="kubectl-edit")

    bed.provider.before = change
    await push(bed)
    await bed.clock.advance(1)
    assert held(bed, "out/db") == "p2"
    assert await ready(bed) == ("True", "Synced")
    # Both were written, one after the other.
    assert bed.provider.secrets["out/db"] == [b"p1", b"p2"]


async def test_a_push_that_was_refused_for_long_is_tried_again_within_its_interval(bed) -> None:
    bed.provider.refused = {"out/db": DENIED}
    await push(bed, refreshInterval="10s")
    for _ in range(600):
        await bed.clock.advance(1)
    assert await ready(bed) == ("False", "Errored")
    bed.provider.refused = {}
    for _ in range(11):
        await bed.clock.advance(1)
    assert held(bed, "out/db") == "p1"


async def test_a_row_that_is_refused_holds_up_no_other(bed) -> None:
    bed.provider.refused = {"out/db": DENIED}
    await push(bed, data=[ROW, USER])
    assert held(bed, "out/user") == "u1"
    assert (await ready(bed), await shown(bed)) == (("False", "Errored"), {"out/user"})
    bed.provider.refused = {}
    await bed.clock.advance(60)
    assert held(bed, "out/db") == "p1"
    assert (await ready(bed), await shown(bed)) == (("True", "Synced"), {"out/db", "out/user"})


async def test_a_store_that_is_away_is_asked_once_for_all_rows(bed) -> None:
    bed.provider.refused = dict.fromkeys(["out/db", "out/user"], AWAY)
    await push(bed, data=[ROW, USER])
    assert "out/user" not in bed.provider.tried


async def test_nothing_is_taken_back_before_all_is_in_its_new_place(bed) -> None:
    await push(bed, data=[ROW, USER], deletionPolicy="Delete")
    bed.provider.refused = {"out/other": DENIED}
    await edit(bed, data=[ROW, OTHER])
    await bed.clock.advance(5)
    assert held(bed, "out/user") == "u1"
    bed.provider.refused = {}
    await bed.clock.advance(60)
    assert (held(bed, "out/other"), await shown(bed)) == ("u1", {"out/db", "out/other"})
    assert "out/user" not in bed.provider.secrets


@pytest.mark.parametrize("ends", ["rows", "source", "object"])
async def test_one_that_cannot_be_taken_back_holds_up_no_other_and_is_tried_again(
    bed, ends: str
) -> None:
    await push(bed, data=[ROW, USER, OTHER], deletionPolicy="Delete")
    bed.provider.undeletable = {"out/db": DENIED}
    if ends == "rows":
        await edit(bed, data=[OTHER])
    elif ends == "source":
        await bed.api.delete(SECRETS, "source", "n")
    else:
        await bed.api.delete(PUSH_SECRETS, "ps", "n")
    await bed.clock.advance(5)
    left = {"out/db", "out/other"} if ends == "rows" else {"out/db"}
    assert set(bed.provider.secrets) - {"prod/db"} == left
    assert (await ready(bed), await shown(bed)) == (("False", "Errored"), left)
    bed.provider.undeletable = {}
    await bed.clock.advance(400)
    assert set(bed.provider.secrets) - {"prod/db"} == left - {"out/db"}


async def test_a_push_whose_answer_was_lost_is_taken_back_too(bed) -> None:
    bed.provider.lost = {"out/user"}
    await push(bed, data=[ROW, USER], deletionPolicy="Delete")
    await edit(bed, data=[ROW])
    await bed.clock.advance(60)
    assert "out/user" not in bed.provider.secrets
    assert (await ready(bed), await shown(bed)) == (("True", "Synced"), {"out/db"})


async def test_where_nothing_shows_whose_it_is_nothing_is_taken_back_on_suspicion(bed) -> None:
    bed.provider.traits = Traits("ReadWrite", marked=False)
    bed.provider.lost = {"out/user"}
    await push(bed, data=[ROW, USER], deletionPolicy="Delete")
    assert await shown(bed) == {"out/db"}
    await edit(bed, data=[ROW])
    await bed.clock.advance(60)
    assert held(bed, "out/user") == "u1"


async def test_a_row_that_goes_while_it_is_pushed_is_taken_back(bed) -> None:
    bed.provider.behind = lambda: edit(bed, data=[USER])
    await push(bed, data=[ROW], deletionPolicy="Delete", refreshInterval="0")
    await bed.clock.advance(5)
    assert "out/db" not in bed.provider.secrets
    assert await shown(bed) == {"out/user"}


@pytest.mark.parametrize(
    "said",
    [
        Denied("kube-forbidden", "cannot get secrets"),
        ClusterAway(Unavailable("unreachable", "no answer")),
    ],
)
async def test_what_a_server_that_starts_forbids_is_not_told(idle, unruly, said: Refusal) -> None:
    """Until it has read its roles it forbids everything; a while later that is no start."""
    await idle.secret_of_somebody("source", password="p1")
    await push(idle)
    before = await status(idle)
    unruly.only, unruly.failures = SECRETS, {"get": [said] * 1000}
    await idle.edit("source", password="p2")
    await idle.clock.advance(25)
    assert len(unruly.failures["get"]) < 996
    assert await status(idle) == before
    assert not [each for each in await idle.notes() if each.startswith("Errored")]
    if isinstance(said, Denied):
        await idle.clock.advance(100)
        assert await ready(idle) == ("False", "Errored")
    unruly.failures = {}
    await idle.clock.advance(300)
    assert held(idle, "out/db") == "p2"
    assert await ready(idle) == ("True", "Synced")
