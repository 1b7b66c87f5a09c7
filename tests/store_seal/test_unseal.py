"""A cluster that is initialised, unsealed, sealed and followed, as Vault's clients see it."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from strongroom.crypto.aead import new_key
from strongroom.crypto.keyfile import WrappingKey
from strongroom.crypto.keyring import KeyRing
from strongroom.model.errors import Denied, Invalid, Unavailable
from strongroom.store.engine.contract import ClusterRow
from strongroom.store.seal.keeping import keep_backend
from strongroom.store.seal.root_key import (
    opened_ring,
    opens_root,
    recovery_fits,
    sealed_recovery,
    sealed_ring,
    sealed_root,
)
from strongroom.store.seal.stored import Split, StoredSeal, merged
from strongroom.wire.keywrap.fake import FakeWrapper


async def test_an_empty_server_says_so_in_vaults_codes(start) -> None:
    node = start()
    assert (await node.ask("GET", "sys/health"))[0] == 501
    assert (await node.ask("GET", "sys/health?uninitcode=299"))[0] == 299
    assert await node.ask("GET", "sys/init") == (200, {"initialized": False})
    assert "operator init" in (await node.ask("GET", "/readyz"))[1]["problems"]["seal"]
    status, body = await node.ask("GET", "sys/seal-status")
    assert status == 200
    assert {name: body[name] for name in ("initialized", "sealed", "t", "n", "progress")} == {
        "initialized": False, "sealed": True, "t": 0, "n": 0, "progress": 0,
    }  # fmt: skip
    assert await node.ask("GET", "secret/data/x", token="hvs.x") == (
        503,
        {"errors": ["Vault is sealed"]},
    )
    assert (await node.ask("PUT", "sys/unseal", {"key": "00" * 32}))[0] == 503


async def test_init_gives_shares_and_leaves_it_sealed(start) -> None:
    node = start()
    status, made = await node.ask("PUT", "sys/init", {"secret_shares": 5, "secret_threshold": 3})
    assert status == 200
    assert [base64.b64decode(each).hex() for each in made["keys_base64"]] == made["keys"]
    assert len(made["keys"]) == 5
    assert len(made["root_token"]) == 28
    status, health = await node.ask("GET", "sys/health")
    assert (status, health["initialized"], health["sealed"]) == (503, True, True)
    assert health["waiting_for"] == "3 of 5 unseal keys: strongroom operator unseal"
    with pytest.raises(Unavailable):
        node.barrier.mac(b"any")  # Nor has it a key in memory.
    assert (await node.ask("GET", "sys/health?sealedcode=204&standbyok=true"))[0] == 204
    again = await node.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    assert again == (400, {"errors": ["Vault is already initialized"]})


@pytest.mark.parametrize(
    ("backend", "given", "said"),
    [
        (None, {"recovery_shares": 3, "recovery_threshold": 2},
         "recovery_shares,recovery_threshold not applicable to seal type shamir"),
        (FakeWrapper("transit"), {"secret_shares": 3, "secret_threshold": 2},
         "secret_shares,secret_threshold not applicable to seal type transit"),
        (FakeWrapper("transit"), {"secret_shares": 3, "recovery_shares": 1},
         "secret_shares not applicable to seal type transit"),
    ],
)  # fmt: skip
async def test_shares_of_the_other_kind_of_seal_are_refused(start, backend, given, said) -> None:
    """Left out, they would make a cluster that never has recovery keys."""
    node = start(backend)
    shares = {"secret_shares": 3, "secret_threshold": 2} if backend is None else {}
    status, reply = await node.ask("PUT", "sys/init", {**shares, **given})
    assert status == 400
    assert f"parameters {said}" in reply["errors"][0]
    assert await node.ask("GET", "sys/init") == (200, {"initialized": False})


async def test_shares_are_counted_and_the_last_opens_in_the_same_reply(start) -> None:
    node = start()
    keys, root = await node.init(5, 3)
    first = await node.unseal(keys[:1])
    assert (first["sealed"], first["progress"], first["t"], first["n"]) == (True, 1, 3, 5)
    assert first["nonce"]
    said = "3 of 5 unseal keys: strongroom operator unseal (1 given so far)"
    assert first["waiting_for"] == said
    assert (await node.ask("GET", "sys/health"))[1]["waiting_for"] == said
    _, leader = await node.ask("GET", "sys/leader")
    assert (leader["is_self"], leader["active_time"]) == (False, "0001-01-01T00:00:00Z")
    assert (await node.unseal(keys[:1]))["progress"] == 1  # the same share again
    assert (await node.unseal([keys[1].upper()]))["progress"] == 2
    _, reset = await node.ask("PUT", "sys/unseal", {"reset": True})
    assert (reset["progress"], reset["nonce"]) == (0, "")
    last = await node.unseal([base64.b64encode(bytes.fromhex(each)).decode() for each in keys[2:]])
    assert last["sealed"] is False
    assert last["cluster_id"]
    status, health = await node.ask("GET", "sys/health")
    assert (status, health["standby"]) == (200, False)
    assert (await node.ask("GET", "auth/token/lookup-self", token=root))[0] == 200
    assert (await node.unseal(keys[:1]))["sealed"] is False  # already open


async def test_a_key_ring_under_shares_is_for_a_server_alone(start) -> None:
    """What restores a snapshot without one is told so, whatever stanza it names."""
    node = start()
    await node.init()
    cluster = node.engine.view.cluster()
    for other in (node, start(auto=FakeWrapper("transit"))):
        with pytest.raises(Invalid, match="sealed by Shamir shares"):
            await other.seal.ring_by_backend(cluster)


async def test_the_first_form_of_a_snapshot_is_opened_and_what_is_there_stays(start) -> None:
    backend, ring = FakeWrapper("static"), KeyRing.new(1.0)
    node = start(backend)
    await node.ask("PUT", "sys/init", {})
    before = node.engine.view.cluster()
    wrapped = await backend.wrap(ring.dumps(), b"strongroom key ring\x1fother")
    found = await node.seal.ring_by_backend(ClusterRow("other", "o", "static", wrapped))
    assert found.dumps() == ring.dumps()
    assert node.engine.view.cluster() == before


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "'key' must be specified"),
        ({"key": "not a key!"}, "valid hex or base64"),
        ({"key": "00ff"}, "shorter than minimum 16"),
        ({"key": "00" * 33, "migrate": True}, "'migrate' is not needed"),
    ],
)
async def test_a_bad_share_is_refused_and_counts_nothing(start, body, said: str) -> None:
    node = start()
    await node.init()
    status, reply = await node.ask("PUT", "sys/unseal", body)
    assert status == 400
    assert said in reply["errors"][0]
    assert (await node.ask("GET", "sys/seal-status"))[1]["progress"] == 0


async def test_a_key_of_another_length_is_refused_as_any_wrong_one(start) -> None:
    node = start()
    await node.init(1, 1)
    for length in (16, 40):
        status, reply = await node.ask("PUT", "sys/unseal", {"key": "00" * length})
        assert status == 400
        assert "the keys do not unseal" in reply["errors"][0]


def test_what_a_seal_keeps_opens_for_its_own_cluster_alone() -> None:
    root, key, ring = new_key(), new_key(), KeyRing.new(1.0)
    stored = StoredSeal(
        "shamir", sealed_root(root, key, "own"), sealed_ring(ring, root, "own"),
        check=sealed_recovery(key, root, "own"),
    )  # fmt: skip
    assert opened_ring(ClusterRow("own", "", "shamir", stored.dumps()), root).extends(ring)
    with pytest.raises(Denied):
        opened_ring(ClusterRow("other", "", "shamir", stored.dumps()), root)
    for cluster in ("own", "other"):
        assert opens_root(stored, key, cluster) == (cluster == "own")
        assert recovery_fits(stored, root, key, cluster) == (cluster == "own")


async def test_a_note_of_the_group_opens_no_cluster_that_was_sealed(start) -> None:
    node, other = start(), start()
    keys, _ = await node.init()
    await node.unseal(keys[:2])
    # As a node leaves it that writes its note while another seals.
    stored = await node.seal.change(lambda each: replace(each, sealed=True))
    assert stored.shared
    assert not await other.seal.unseal_by_itself()
    assert other.seal.sealed


async def test_shares_of_another_cluster_do_not_open_and_start_anew(start) -> None:
    node = start()
    keys, _ = await node.init()
    await node.unseal(keys[:1])
    wrong = bytes(31).hex() + "aa" + keys[1][-2:]
    status, reply = await node.ask("PUT", "sys/unseal", {"key": wrong})
    assert status == 400
    assert "invalid key" in reply["errors"][0]
    assert (await node.ask("GET", "sys/seal-status"))[1]["progress"] == 0
    assert (await node.unseal(keys[1:]))["sealed"] is False


async def test_one_share_is_the_key_itself(start) -> None:
    node = start()
    keys, _ = await node.init(1, 1)
    assert (await node.unseal(keys))["sealed"] is False


@pytest.mark.parametrize(("shares", "threshold"), [(0, 0), (2, 1), (2, 3), (256, 3)])
async def test_impossible_splits_make_no_cluster(start, shares: int, threshold: int) -> None:
    node = start()
    body = {"secret_shares": shares, "secret_threshold": threshold}
    assert (await node.ask("PUT", "sys/init", body))[0] == 400
    assert await node.ask("GET", "sys/init") == (200, {"initialized": False})


async def test_shares_given_to_two_workers_of_a_group_add_up_and_open_both(start) -> None:
    one, two = start(), start()
    keys, root = await one.init()
    await one.unseal(keys[:1])
    assert (await two.ask("GET", "sys/seal-status"))[1]["progress"] == 1
    assert (await two.unseal(keys[1:2]))["sealed"] is False
    await one.seal.follow()
    assert (await one.ask("GET", "auth/token/lookup-self", token=root))[0] == 200


async def test_a_node_that_joins_needs_nobody_with_the_join_key_and_people_without(
    start,
) -> None:
    one = start()
    keys, root = await one.init()
    await one.unseal(keys[:2])
    joined = start()
    await joined.seal.follow()
    assert (await joined.ask("GET", "auth/token/lookup-self", token=root))[0] == 200
    stranger = start(join=WrappingKey([new_key()]))
    await stranger.seal.follow()
    assert (await stranger.ask("GET", "sys/health"))[0] == 503
    status, ready = await stranger.ask("GET", "/readyz")
    assert (status, ready["ready"]) == (503, False)
    assert "2 of 3 unseal keys" in ready["problems"]["seal"]
    assert (await stranger.ask("GET", "/livez"))[0] == 200
    assert (await stranger.unseal(keys[:2]))["sealed"] is False
    assert (await stranger.ask("GET", "/readyz"))[0] == 200


async def test_seal_closes_the_whole_cluster_until_people_open_it(start) -> None:
    one, two = start(), start()
    keys, root = await one.init()
    await one.unseal(keys[:2])
    await two.seal.follow()
    # Another group waits for its second share.
    await start(join=WrappingKey([new_key()])).unseal(keys[:1])
    assert (await one.ask("PUT", "sys/seal"))[0] == 403
    assert one.seal.stored().shared
    assert one.seal.stored().gathered
    assert (await one.ask("PUT", "sys/seal", token=root))[0] == 204
    # The database keeps nothing that a group's key alone would open.
    assert (one.seal.stored().shared, one.seal.stored().gathered) == ({}, {})
    assert (await one.ask("GET", "secret/data/x", token=root))[0] == 503
    await two.seal.follow()
    assert (await two.ask("GET", "sys/health"))[0] == 503
    await two.seal.follow()
    assert two.seal.sealed
    with pytest.raises(Unavailable):
        two.barrier.mac(b"any")
    await two.unseal(keys[1:])
    await one.seal.follow()
    assert not one.seal.sealed


async def test_a_backend_opens_by_itself_and_new_nodes_too(start) -> None:
    backend = FakeWrapper("transit")
    one = start(backend)
    body = {"recovery_shares": 3, "recovery_threshold": 2}
    status, made = await one.ask("PUT", "sys/init", body)
    assert status == 200
    assert (made["keys"], len(made["recovery_keys"])) == ([], 3)
    status, body = await one.ask("GET", "sys/seal-status")
    assert (body["sealed"], body["type"], body["recovery_seal"], body["t"]) == (
        False, "transit", True, 2,
    )  # fmt: skip
    two = start(backend)
    await two.seal.follow()
    assert (await two.ask("GET", "auth/token/lookup-self", token=made["root_token"]))[0] == 200


async def test_a_node_that_is_opening_no_longer_waits_for_an_init(start) -> None:
    """Asked while another request has it ask its backend."""
    backend, said = Busy(), []
    one, two = start(backend), start(backend)
    await two.seal.follow()
    assert two.seal.waiting_for == "an init: strongroom operator init"
    await one.ask("PUT", "sys/init", {})

    async def asked() -> None:
        said.append((await two.ask("GET", "sys/seal-status"))[1])

    backend.meanwhile = asked
    await two.seal.follow()
    assert [(each["initialized"], each.get("waiting_for", "")) for each in said] == [(True, "")]
    assert not two.seal.sealed


async def test_a_backend_that_is_away_is_named_and_waited_for(start) -> None:
    backend = FakeWrapper("transit")
    await start(backend).ask("PUT", "sys/init", {})
    backend.broken = Unavailable("away", "the key server does not answer", hint="start it")
    late = start(backend)
    await late.seal.follow()
    _, ready = await late.ask("GET", "/readyz")
    assert "the transit seal: the key server does not answer; start it" in ready["problems"]["seal"]
    assert (await late.ask("GET", "sys/health"))[0] == 503
    backend.broken = None
    await late.clock.advance(1.1)  # one question a second, however many requests wait
    assert (await late.ask("GET", "sys/health"))[0] == 200


async def test_a_wrong_backend_key_does_not_open(start) -> None:
    backend = FakeWrapper("transit")
    await start(backend).ask("PUT", "sys/init", {})
    backend.remake()
    late = start(backend)
    await late.seal.follow()
    assert late.seal.sealed
    assert "does not open" in late.seal.waiting_for


async def test_the_root_key_is_wrapped_anew_when_the_backend_has_rotated(start) -> None:
    backend = FakeWrapper("transit")
    one = start(backend)
    await one.ask("PUT", "sys/init", {})
    before = one.seal.stored()
    backend.rotate()
    two = start(backend)
    await two.seal.follow()
    after = two.seal.stored()
    assert (before.identity, after.identity) == ("transit/1", "transit/2")
    assert not two.seal.sealed


async def test_a_sealed_cluster_with_a_backend_opens_with_recovery_keys(start) -> None:
    node = start(FakeWrapper("transit"))
    _, made = await node.ask("PUT", "sys/init", {"recovery_shares": 3, "recovery_threshold": 2})
    await node.ask("PUT", "sys/seal", token=made["root_token"])
    await node.seal.follow()
    assert node.seal.sealed
    assert (await node.unseal(made["recovery_keys"][1:]))["sealed"] is False


@pytest.mark.parametrize("migrate", [False, True])
async def test_a_wrong_recovery_key_opens_nothing_though_the_backend_would(start, migrate) -> None:
    """Of the root key that the backend gives, only the right recovery key makes use."""
    backend = FakeWrapper("transit")
    node = start(backend)
    body = {"recovery_shares": 1, "recovery_threshold": 1}
    _, made = await node.ask("PUT", "sys/init", body)
    if migrate:
        node = start(None, backend)
    else:
        await node.ask("PUT", "sys/seal", token=made["root_token"])
    give = {"key": new_key().hex(), **({"migrate": True} if migrate else {})}
    status, said = await node.ask("PUT", "sys/unseal", give)
    assert (status, "invalid key" in said["errors"][0]) == (400, True)
    status, said = await node.ask("GET", "sys/seal-status")
    assert (said["sealed"], said["progress"], node.seal.stored().type) == (True, 0, "transit")
    give["key"] = made["recovery_keys"][0]
    assert (await node.ask("PUT", "sys/unseal", give))[1]["sealed"] is False


async def test_ten_nodes_that_init_at_once_make_one_cluster(start) -> None:
    nodes = [start() for _ in range(10)]
    body = {"secret_shares": 1, "secret_threshold": 1}
    replies = await asyncio.gather(*(each.ask("PUT", "sys/init", body) for each in nodes))
    won = [reply for status, reply in replies if status == 200]
    assert len(won) == 1
    assert sorted(status for status, _ in replies) == [200] + [400] * 9
    assert (await nodes[3].unseal(won[0]["keys"]))["sealed"] is False


async def test_a_closed_cluster_says_what_opens_it(start) -> None:
    node = start()
    keys, root = await node.init()
    await node.unseal(keys[:2])
    await node.ask("PUT", "sys/seal", token=root)
    late = start()  # a restart: nobody told it why
    await late.seal.follow()
    for each in (node, late):
        _, health = await each.ask("GET", "sys/health")
        assert health["waiting_for"] == (
            "an unseal: the cluster was sealed by sys/seal; it takes "
            "2 of 3 unseal keys: strongroom operator unseal"
        )


async def test_a_start_with_a_backend_opens_what_was_closed(start) -> None:
    backend = FakeWrapper("transit")
    one = start(backend)
    _, made = await one.ask("PUT", "sys/init", {})
    await one.ask("PUT", "sys/seal", token=made["root_token"])
    _, health = await one.ask("GET", "sys/health")
    assert health["waiting_for"].endswith("sys/seal; it takes a restart of a node")
    late = start(backend)
    assert await late.seal.unseal_by_itself()
    await one.seal.follow()
    assert not one.seal.sealed


class Busy(FakeWrapper):
    """A backend that takes so long to say which key it has that something happens meanwhile."""

    def __init__(self) -> None:
        super().__init__("transit")
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def identity(self) -> str:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return await super().identity()


async def test_a_key_ring_that_is_rotated_while_a_node_opens_is_kept(start) -> None:
    """The node writes the root key wrapped anew, and must not write the ring as it had read it."""
    backend = Busy()
    one = start(backend)
    root = (await one.ask("PUT", "sys/init", {}))[1]["root_token"]
    mount = {"type": "kv", "options": {"version": "2"}}
    assert (await one.ask("POST", "sys/mounts/kv", mount, root))[0] == 204
    backend.rotate()

    async def rotated() -> None:
        assert (await one.ask("PUT", "sys/rotate", token=root))[0] == 204
        body = {"data": {"k": "under the new term"}}
        assert (await one.ask("POST", "kv/data/a", body, root))[0] == 200

    backend.meanwhile = rotated
    two = start(backend)
    await two.seal.follow()
    assert backend.meanwhile is None
    assert two.seal.stored().identity == "transit/2"
    for node in (one, two, start(backend)):
        await node.seal.follow()
        assert (await node.ask("GET", "sys/key-status", token=root))[1]["data"]["term"] == 2
        _, said = await node.ask("GET", "kv/data/a", token=root)
        assert said["data"]["data"] == {"k": "under the new term"}


async def test_two_nodes_that_open_a_ring_of_the_first_form_have_one_root_key(start) -> None:
    """The second would be left with a root key that opens nothing that is stored."""
    backend = Busy()
    first = start(backend)
    root = (await first.ask("PUT", "sys/init", {}))[1]["root_token"]
    cluster = first.seal.row()
    ring = first.seal.ring_of(cluster).dumps()
    place = b"strongroom key ring\x1f" + cluster.cluster_id.encode()
    wrapped = await backend.wrap(ring, place)
    await first.engine.transact(lambda each: each.replace_ring(wrapped))
    one, two = start(backend), start(backend)
    backend.meanwhile = two.seal.follow
    await one.seal.follow()
    assert backend.meanwhile is None
    assert one.seal.root_key == two.seal.root_key
    for node in (one, two, start(backend)):
        await node.seal.follow()
        assert (await node.ask("PUT", "sys/rotate", token=root))[0] == 204
    assert (await one.ask("GET", "sys/key-status", token=root))[1]["data"]["term"] == 4


def test_what_others_wrote_meanwhile_stands_beside_what_a_node_changes() -> None:
    before = StoredSeal("shamir", b"root", b"ring", Split(3, 2), shared={"a": b"1", "b": b"2"})
    better = replace(before, shared={"a": b"1", "b": b"2", "mine": b"3"})
    # New shares, a rotated ring, another group that joined, and one that was dropped.
    rekeyed = replace(before, root=b"new", split=Split(5, 3), check=b"c")
    now = replace(rekeyed, ring=b"next", shared={"b": b"2", "theirs": b"4"})
    assert merged(now, before, better) == replace(
        now, shared={"b": b"2", "theirs": b"4", "mine": b"3"}
    )
    # A root key that was wrapped anew here is written where nobody else has done so.
    wrapped = replace(before, type="transit", root=b"wrapped", identity="transit/1")
    rotated = replace(before, ring=b"next")
    assert merged(rotated, before, wrapped) == replace(wrapped, ring=b"next")
    assert merged(rekeyed, before, wrapped) == rekeyed
    closed = replace(before, sealed=True, shared={})
    assert merged(closed, before, better) == closed


async def test_a_cluster_that_is_sealed_while_a_node_opens_stays_sealed(start) -> None:
    backend = Busy()
    one = start(backend)
    root = (await one.ask("PUT", "sys/init", {}))[1]["root_token"]
    backend.rotate()

    async def sealed() -> None:
        assert (await one.ask("PUT", "sys/seal", token=root))[0] == 204

    backend.meanwhile = sealed
    two = start(backend)
    await two.seal.follow()
    assert backend.meanwhile is None
    for node in (one, two):
        assert node.seal.sealed
        _, health = await node.ask("GET", "sys/health")
        assert "sealed by sys/seal" in health["waiting_for"]


class Renewed(FakeWrapper):
    """A backend whose credential somebody must renew."""

    async def renew(self) -> float:
        self._called()
        return 60.0


async def test_a_backend_that_would_not_open_the_next_start_is_reported(start, caplog) -> None:
    backend = Renewed("transit")
    node = start(backend)
    await node.ask("PUT", "sys/init", {})
    keeping = asyncio.create_task(keep_backend(node.engine, node.seal, node.clock))
    await node.clock.advance(0)
    backend.broken = Denied("no-token", "the token has ended", hint="give a new one")
    await node.clock.advance(61)
    said = "the token has ended; give a new one"
    for path in ("sys/seal-status", "sys/health"):
        status, body = await node.ask("GET", path)
        assert (status, body["seal_backend_problem"]) == (200, said)
        _, asked = await node.ask("GET", "sys/seal-backend-status")
        assert (asked["healthy"], asked["backends"][0]["healthy"]) == (False, False)
    await node.clock.advance(30)
    assert sum(said in each.getMessage() for each in caplog.records) == 1
    backend.broken = None
    await node.clock.advance(11)
    assert "seal_backend_problem" not in (await node.ask("GET", "sys/health"))[1]
    _, asked = await node.ask("GET", "sys/seal-backend-status")
    assert (asked["healthy"], asked["fully_wrapped"]) == (True, True)
    keeping.cancel()
