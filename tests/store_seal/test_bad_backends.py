"""Seals whose backend hangs or answers what cannot be used: whoever asks the store is answered."""

import asyncio
from typing import Any

import pytest

from strongroom.crypto.aead import new_key
from strongroom.crypto.keyfile import WrappingKey
from strongroom.model.errors import Denied
from strongroom.store.seal.keeping import keep_backend
from strongroom.wire.keywrap.fake import FakeWrapper

# Well below the deadline of a backend, which is 10 s.
SOON = 5.0


class Odd(FakeWrapper):
    """A backend that waits for `going_on`, and then opens to `answer` when there is one."""

    def __init__(self) -> None:
        super().__init__("transit")
        self.going_on = asyncio.Event()
        self.going_on.set()
        self.asked = asyncio.Event()
        self.answer: Any = None

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        self.asked.set()
        await self.going_on.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or await super().unwrap(wrapped, aad)


async def test_nobody_waits_in_a_queue_for_a_backend_that_hangs(start) -> None:
    """Probes are answered at once, and a start does not wait before it listens."""
    backend = Odd()
    await start(backend).ask("PUT", "sys/init", {})
    backend.going_on.clear()
    late = start(backend)
    async with asyncio.timeout(SOON):
        await late.seal.try_to_open()
        assert late.seal.waiting_for == "the transit seal, which has not answered yet"
        for _ in range(3):
            await late.clock.advance(2)
            asked = (late.ask("GET", path) for path in ("sys/health", "sys/seal-status", "kv/a"))
            replies = await asyncio.gather(late.seal.follow(), *asked)
            assert [each[0] for each in replies[1:]] == [503, 200, 503]


async def test_a_request_that_comes_while_the_backend_is_asked_is_served(start) -> None:
    backend = Odd()
    _, made = await start(backend).ask("PUT", "sys/init", {})
    backend.going_on.clear()
    backend.asked.clear()
    late = start(backend)
    following = asyncio.create_task(late.seal.follow())
    await backend.asked.wait()
    asked = late.ask("GET", "auth/token/lookup-self", token=made["root_token"])
    waiting = asyncio.create_task(asked)
    # Sealed and without a pipeline the status is answered, behind the request before it.
    assert (await late.ask("GET", "sys/seal-status"))[1]["sealed"] is True
    backend.going_on.set()
    assert (await waiting)[0] == 200
    await following


async def test_a_cluster_that_is_sealed_while_a_backend_is_asked_stays_sealed(start) -> None:
    """Who closes it in an emergency must not be overruled by a node that was about to open."""
    backend = Odd()
    first = start(backend)
    _, made = await first.ask("PUT", "sys/init", {})
    backend.going_on.clear()
    backend.asked.clear()
    late = start(backend)
    opening = asyncio.create_task(late.seal.try_to_open(SOON))
    await backend.asked.wait()
    assert (await first.ask("PUT", "sys/seal", {}, token=made["root_token"]))[0] == 204
    backend.going_on.set()
    await opening
    assert (late.seal.sealed, first.seal.stored().sealed) == (True, True)
    assert "was sealed by sys/seal" in late.seal.waiting_for
    # A start after that opens it with the backend, as ever.
    await start(backend).seal.try_to_open(SOON)
    assert not first.seal.stored().sealed


async def test_a_request_is_answered_however_the_try_that_it_waits_for_ends(start) -> None:
    backend = Odd()
    await start(backend).ask("PUT", "sys/init", {})
    backend.going_on.clear()
    backend.asked.clear()
    late = start(backend)

    def fails() -> None:
        raise KeyError

    late.seal.changed = fails
    first = asyncio.create_task(late.ask("GET", "kv/a"))
    await backend.asked.wait()
    second = asyncio.create_task(late.ask("GET", "kv/a"))
    for _ in range(10):
        await asyncio.sleep(0)
    backend.going_on.set()
    async with asyncio.timeout(SOON):
        assert [each[0] for each in await asyncio.gather(first, second)] == [503, 503]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (KeyError("data"), "gave an answer that cannot be used (KeyError)"),
        (ValueError("s3cret"), "gave an answer that cannot be used (ValueError)"),
        (b"short", "what the transit seal opened is no root key"),
        (bytes(32), "the stored key ring is damaged or belongs to another cluster"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_named_and_asked_for_again(
    start, answer: Any, said: str
) -> None:
    backend = Odd()
    await start(backend).ask("PUT", "sys/init", {})
    backend.answer = answer
    late = start(backend)
    await late.seal.try_to_open()
    status, reply = await late.ask("GET", "sys/seal-status")
    assert (status, reply["sealed"]) == (200, True)
    assert said in reply["waiting_for"]
    assert (await late.ask("GET", "sys/seal-backend-status"))[1]["healthy"] is False
    assert "s3cret" not in reply["waiting_for"]
    backend.answer = None
    await late.clock.advance(1.1)
    assert (await late.ask("GET", "sys/seal-status"))[1]["sealed"] is False


async def test_an_init_with_a_backend_that_answers_nonsense_makes_nothing(start) -> None:
    class Nonsense(FakeWrapper):
        async def identity(self) -> str:
            raise TypeError

    node = start(Nonsense("transit"))
    status, reply = await node.ask("PUT", "sys/init", {})
    assert (status, "cannot be used" in reply["errors"][0]) == (503, True)
    assert (await node.ask("GET", "sys/init"))[1] == {"initialized": False}


async def test_a_join_key_opens_no_cluster_that_a_backend_seals_by_now(start) -> None:
    """It stood in for people; whoever takes the backend's key away wants it closed."""
    join, backend = WrappingKey([new_key()]), FakeWrapper("transit")
    first = start(join=join)
    keys, _ = await first.init()
    await first.unseal(keys[:2])
    moved = start(backend, join=join)
    assert (await moved.unseal(keys[:2], migrate=True))["sealed"] is False
    backend.remake()
    late = start(backend, join=join)
    await late.seal.follow()
    assert late.seal.sealed
    assert "does not open" in late.seal.waiting_for


async def test_a_key_that_is_taken_away_while_the_store_serves_is_reported(start, caplog) -> None:
    """Nothing of an open store fails by it; the next start would."""
    backend = FakeWrapper("awskms")
    node = start(backend)
    await node.ask("PUT", "sys/init", {})
    keeping = asyncio.create_task(keep_backend(node.engine, node.seal, node.clock))
    await node.clock.advance(0)
    assert "seal_backend_problem" not in (await node.ask("GET", "sys/health"))[1]
    backend.broken = Denied("aws-invalid", "Decrypt: DisabledException")

    async def told(said: str) -> None:
        while (await node.ask("GET", "sys/health"))[1].get("seal_backend_problem", "") != said:
            await node.clock.advance(11)

    async with asyncio.timeout(30):
        await told("Decrypt: DisabledException")
        backend.broken = None
        await told("")
        backend.remake()
        await told("the backend does not open this")
    assert sum("next start will not unseal" in each.getMessage() for each in caplog.records) == 2
    keeping.cancel()


class OneWay(FakeWrapper):
    """An identity that may encrypt and not decrypt."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.opening = False

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        if not self.opening:
            raise Denied("no-right", "not allowed to decrypt")
        return await super().unwrap(wrapped, aad)


async def test_what_a_backend_wraps_and_does_not_open_is_never_relied_on(start) -> None:
    """Neither by an init, nor by a migration, nor when the backend's key was rotated."""
    new = OneWay("awskms")
    node = start(new)
    status, said = await node.ask("PUT", "sys/init", {})
    assert (status, "not allowed to decrypt" in said["errors"][0]) == (403, True)
    assert (await node.ask("GET", "sys/init"))[1] == {"initialized": False}
    first = start()
    keys, _ = await first.init()
    moving = start(new)
    await moving.unseal(keys[:1], migrate=True)
    status, _ = await moving.ask("PUT", "sys/unseal", {"key": keys[1], "migrate": True})
    assert (status, moving.seal.sealed, moving.seal.stored().type) == (403, True, "shamir")
    new.opening = True
    assert (await moving.unseal(keys[:2], migrate=True))["sealed"] is False
