"""Keys that are told once, where the database has not confirmed the write that made them."""

import asyncio

import orjson
import pytest
from tests.store_seal.conftest import opened, opened_with

from strongroom.model.errors import Unavailable
from strongroom.model.secret import Secret
from strongroom.store.assembly import initialise, upkeep
from strongroom.store.call import Call
from strongroom.store.seal.ceremony import Rekey
from strongroom.store.seal.cluster import ClusterSeal, NewCluster
from strongroom.store.seal.stored import Split
from strongroom.store.system import version_history
from strongroom.store.system.status import Init
from strongroom.store.upkeep import TASK
from strongroom.wire.keywrap.fake import FakeWrapper


class Unconfirmed:
    """An engine whose writes fail as `failures` say, before they are done or after."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.view = engine.view
        self.failures: list[tuple[str, bool]] = []

    async def transact(self, work):
        code, done = self.failures.pop(0) if self.failures else ("", True)
        if done:
            result = await self.engine.transact(work)
        elif code:

            def undone(transaction) -> None:
                work(transaction)
                raise Unavailable(code, "gone")

            await self.engine.transact(undone)
        if code:
            raise Unavailable(code, "gone")
        return result


async def ended(node, work) -> asyncio.Task:
    """Once it has, however: time passes where it waits for that."""
    task = asyncio.create_task(work)
    while not task.done():
        await node.clock.advance(1.0 if node.clock.sleepers else 0.0)
    return task


@pytest.mark.parametrize("code", ["storage-unconfirmed", "write-broken-off"])
@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("seal", [None, "transit"])
async def test_the_new_keys_are_told_where_the_database_did_not_confirm_them(
    start, done, seal, code
) -> None:
    """They hold, and nobody would have them: with the next restart all would be lost."""
    node = start(FakeWrapper(seal) if seal else None)
    kind = "recovery" if seal else "secret"
    body = {f"{kind}_shares": 3, f"{kind}_threshold": 2}
    _, made = await node.ask("PUT", "sys/init", body)
    keys = made["recovery_keys" if seal else "keys"]
    if not seal:
        await node.unseal(keys[:2])
    engine = Unconfirmed(node.engine)
    rekey = Rekey(engine, node.seal, "recovery" if seal else "unseal")
    await rekey.begin(1, 1, verify=False)
    nonce = rekey.status()["nonce"]
    await rekey.give(keys[0], nonce)
    engine.failures = [(code, done), ("storage-unavailable", False)]
    last = await ended(node, rekey.give(keys[1], nonce))
    if done:
        assert "warnings" not in last.result()
        keys = last.result()["keys"]
    else:
        # The old ones hold, and the last share may be given once more.
        with pytest.raises(Unavailable, match="gone"):
            await last
        assert (await rekey.give(keys[1], nonce))["complete"]
        return
    # Now they are the present ones.
    await rekey.begin(1, 1, verify=False)
    assert (await rekey.give(keys[0], rekey.status()["nonce"]))["complete"]


# More than is asked in the time that there is.
SILENCE = [("storage-unavailable", False)] * 30


@pytest.mark.parametrize("seconds", [15.0, 0.0])
async def test_new_keys_of_which_the_database_says_nothing_are_told_with_a_warning(
    start, seconds
) -> None:
    """A synchronous standby may be away for longer than whoever asked waits."""
    node, keys, _ = await opened(start)
    engine = Unconfirmed(node.engine)
    rekey = Rekey(engine, node.seal, "unseal", seconds)
    await rekey.begin(1, 1, verify=False)
    nonce = rekey.status()["nonce"]
    await rekey.give(keys[0], nonce)
    engine.failures = [("storage-unconfirmed", True), *SILENCE]
    begun = node.clock.monotonic()
    told = (await ended(node, rekey.give(keys[1], nonce))).result()
    assert node.clock.monotonic() - begun <= seconds + 1
    (warning,) = told["warnings"]
    assert "not confirmed that the new keys hold: keep the old ones as well" in warning
    engine.failures = []
    await rekey.begin(1, 1, verify=False)
    assert (await rekey.give(told["keys"][0], rekey.status()["nonce"]))["complete"]


@pytest.mark.parametrize("seal", [None, "transit"])
@pytest.mark.parametrize("silence", [[], SILENCE])
async def test_the_keys_of_a_cluster_that_was_not_confirmed_are_told(start, seal, silence) -> None:
    """Nobody would have them, and the database takes no other cluster."""
    wrapper = FakeWrapper(seal) if seal else None
    node, other = start(wrapper), start(wrapper)
    split = Split(2, 2)
    engine = Unconfirmed(node.engine)
    cluster = ClusterSeal(engine, node.barrier, node.seal.setting, node.clock)

    def init():
        splits = (None, split) if seal else (split, None)
        return ended(node, initialise(cluster, node.barrier, node.clock, splits))

    # Where the database says that it is not there, it is as if nobody had asked.
    engine.failures = [("storage-unconfirmed", False)]
    with pytest.raises(Unavailable, match="gone"):
        await (await init())
    assert node.seal.row() is None
    engine.failures = [("write-broken-off", True), ("storage-unavailable", False), *silence]
    made, root = (await init()).result()
    assert made.certain == (not silence)
    # Opened is what is known to be there.
    assert cluster.sealed == (not seal or bool(silence))
    if not seal:
        await other.unseal([each.hex() for each in made.shares])
    status, _ = await other.ask("GET", "auth/token/lookup-self", token=root.reveal_text())
    assert status == 200
    # The next finds that somebody was first, also where it hears nothing of its own.
    engine.failures = [("storage-unconfirmed", True)]
    if cluster.sealed:
        with pytest.raises(Unavailable, match="gone"):
            await (await init())
    assert await (await init()) is None


@pytest.mark.parametrize("first", [True, False])
async def test_nothing_is_written_under_keys_of_which_it_is_not_known_whether_they_hold(
    start, first
) -> None:
    """Nobody could read that, and the next init would find mounts that are not its own."""
    node, other = start(), start()
    engine = Unconfirmed(node.engine)
    cluster = ClusterSeal(engine, node.barrier, node.seal.setting, node.clock)
    engine.failures = [("storage-unconfirmed", False), ("storage-unavailable", False)]
    init = asyncio.create_task(initialise(cluster, node.barrier, node.clock))
    while not node.clock.sleepers:
        await asyncio.sleep(0)
    if first:
        await opened_with(other)
    chores = upkeep(node.engine, node.barrier, node.clock, cluster, version="1.2.3")
    with pytest.raises(Unavailable, match="sealed"):
        await node.engine.waiting(chores.turn())
    assert node.engine.view.leader(TASK) is None
    await node.clock.advance(1.0)
    with pytest.raises(Unavailable, match="gone"):
        await init
    if not first:
        await opened_with(other)
    noted = upkeep(other.engine, other.barrier, other.clock, other.seal, version="1.2.3")
    await other.engine.waiting(noted.turn())
    assert other.engine.view.document(version_history.MOUNT, version_history.KIND, "1.2.3")


async def test_the_reply_to_an_init_warns_of_a_cluster_that_may_not_be_there(start) -> None:
    node = start()

    async def made(unseal, recovery):
        return NewCluster([b"share"], [], certain=False), Secret("root")

    call = Call("update", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, None, "init")
    reply = await Init(node.seal, made).endpoints[0].handlers["update"](call)
    body = orjson.loads(reply.raw)
    assert body["root_token"] == "root"
    assert "initialize it again and forget these keys" in body["warnings"][0]


async def test_who_inits_second_does_not_close_what_the_first_has_opened(start) -> None:
    """Without keys it said that it was open, and served nothing until a restart."""
    node = start(FakeWrapper("transit"))
    init = [node.ask("PUT", "sys/init", {}) for _ in range(2)]
    (first, made), (second, said) = await asyncio.gather(*init)
    assert (first, second, said["errors"]) == (200, 400, ["Vault is already initialized"])
    assert not node.seal.sealed
    status, _ = await node.ask("GET", "auth/token/lookup-self", token=made["root_token"])
    assert status == 200
