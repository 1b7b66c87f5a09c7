"""Requests and answers of many values: they are recorded whole, and nobody waits for that."""

import asyncio
import gc
import weakref

import orjson
import pytest

from strongroom.audit.devices import AuditBroker
from strongroom.audit.record import MAX_DEPTH, RecordForm, RecordWriter
from strongroom.crypto.mac import KeyedHmac
from strongroom.model.errors import Unavailable
from strongroom.store.call import Call, Result
from strongroom.store.engine.contract import MountRow
from strongroom.store.recording import Outcome, Recording
from strongroom.store.wide import MOST_BYTES, MOST_VALUES, WideRequests
from strongroom.wire.http import Request, Response

MANY = [f"value-{each}" for each in range(10_000)]
DEEP: list = ["bottom"]
for _ in range(MAX_DEPTH + 3):
    DEEP = [DEEP, "text"]


class Reply:
    """The reply side of a request that comes from no connection."""

    gone = False

    def __init__(self) -> None:
        self.headers: tuple[tuple[str, str], ...] = ()
        self.hidden: bytes | None = None
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def reply(self, response: Response) -> None:
        self.response.set_result(response)


async def in_a_row(store, *requests: Request) -> list[str]:
    """Requests that arrive in one turn; what was recorded of them, and in which order."""
    before, replies = len(store.records()), [Reply() for _ in requests]
    for request, reply in zip(requests, replies, strict=True):
        request.headers["x-vault-token"] = store.root
        store.handler(request, reply)
    for reply in replies:
        assert (await reply.response).status == 200
    return [f"{each['type']} {each['request']['path']}" for each in store.records()[before:]]


async def test_others_are_served_while_many_values_are_hidden(store) -> None:
    body = orjson.dumps({"data": {"v": MANY}})
    wide, small = "secret/data/a", "auth/token/lookup-self"
    write = Request("POST", f"/v1/{wide}", {}, body)
    order = await in_a_row(store, write, Request("GET", f"/v1/{small}", {}))
    assert order == [
        f"request {small}", f"response {small}", f"request {wide}", f"response {wide}",
    ]  # fmt: skip
    order = await in_a_row(
        store, Request("GET", f"/v1/{wide}", {}), Request("GET", f"/v1/{small}", {})
    )
    assert order[-1] == f"response {wide}"
    records = [each for each in store.records() if each["request"]["path"] == wide]
    asked = [each["request"]["data"]["data"]["v"] for each in records[:2]]
    told = records[-1]["response"]["data"]["data"]["v"]
    assert (asked[0], len(set(told))) == (told, len(MANY))
    assert asked[0] == asked[1]
    assert all(each.startswith("hmac-sha256:") for each in told)


async def test_a_token_that_ends_meanwhile_is_refused(store) -> None:
    _, made = await store.ask("POST", "auth/token/create", {"policies": ["root"]})
    token = made["auth"]["client_token"]
    pipeline = store.handler
    # Its turn to be hidden comes when the token has ended.
    async with pipeline._recording._by_parts:
        write = store.ask("POST", "secret/data/late", {"data": {"v": MANY}}, token=token)
        late = asyncio.create_task(write)
        while not pipeline._wide._bytes:
            await asyncio.sleep(0)
        assert (await store.ask("POST", "auth/token/revoke", {"token": token}))[0] == 204
    assert (await late)[0] == 403
    assert (await store.ask("GET", "secret/data/late"))[0] == 404


@pytest.mark.parametrize("clear", [[], ["v"]])
async def test_what_is_hidden_by_parts_is_what_is_hidden_at_once(clear: list) -> None:
    writer = RecordWriter(KeyedHmac(b"k" * 32))
    data = {
        "v": MANY[:2000], "t": "2026-01-01T00:00:00Z", "n": [1, None, True, 1.5], "deep": DEEP,
        "objects": {f"n{each}": {"v": MANY[:3], "t": ("x",)} for each in range(1000)}, "e": {},
    }  # fmt: skip
    assert await writer.data_fragment_by_parts(data, clear) == writer.data_fragment(data, clear)
    raw = writer.in_form(RecordForm(log_raw=True))
    assert await raw.data_fragment_by_parts(data, clear) == raw.data_fragment(data, clear)


@pytest.mark.parametrize("operation", ["read", "list", "update"])
@pytest.mark.parametrize(
    "form",
    [RecordForm(hmac_accessor=False), RecordForm(elide_lists=True), RecordForm(log_raw=True)],
)
async def test_devices_of_another_form_have_their_own(operation, form) -> None:
    """What was hidden once stands in the lines of all that hide it alike."""
    broker = AuditBroker([])
    recording = Recording(broker, RecordWriter(KeyedHmac(b"k" * 32)))
    mount = MountRow("secret", "secret/", "kv", "m", "kv_m")
    call = Call(operation, "secret/a", {"v": MANY[:900]}, mount, "")
    result = Result({"keys": MANY[:2000]})
    writer = recording.writer.in_form(form)
    whole = recording._line(writer, b"s", call, Outcome(result))
    call.hidden = await recording.hidden(call.data, ())
    recorded = await recording.response_by_parts(call, result)
    assert recording._line(writer, b"s", call, Outcome(result, recorded=recorded)) == whole


HALVES = [bytes(MOST_BYTES // 2 + 1), b"," * (MOST_VALUES // 4) + b"[{" * (MOST_VALUES // 8) + b"["]


@pytest.mark.parametrize("half", HALVES, ids=["bytes", "values"])
async def test_what_waits_is_bounded(half: bytes) -> None:
    recording = Recording(AuditBroker([]), RecordWriter(KeyedHmac(b"k" * 32)))
    kept: list = []
    wide = WideRequests(recording, lambda *_: None, lambda *_: None, kept.append)
    request, (first, second, third) = Request("POST", "/v1/a", {}, half), (Reply() for _ in "abc")
    wide.put_off(request, first, {}, ())
    with pytest.raises(Unavailable):
        wide.put_off(request, second, {}, ())
    await kept.pop()
    wide.put_off(request, third, {}, ())
    await kept.pop()
    assert [each.hidden for each in (first, second, third)] == [b"{}", None, b"{}"]


async def test_large_batches_of_few_values_wait_for_their_turn(store) -> None:
    """Programs that encrypt files send many of them at once."""
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    await store.ask("POST", "transit/keys/k")
    items = [{"plaintext": "A" * 1800} for _ in range(1000)]
    body = orjson.dumps({"batch_input": items})
    batches = [Request("POST", "/v1/transit/encrypt/k", {}, body) for _ in range(12)]
    assert len(await in_a_row(store, *batches)) == 2 * len(batches)


async def test_whoever_left_before_its_turn_is_not_served(store) -> None:
    """A server that ends would work for those that it has cut off; a client asks again anyway."""
    body = orjson.dumps({"data": {"v": MANY}})
    first, left, last = Reply(), Reply(), Reply()
    left.gone = True
    for name, reply in (("a", first), ("b", left), ("c", last)):
        headers = {"x-vault-token": store.root}
        store.handler(Request("POST", f"/v1/secret/data/{name}", headers, body), reply)
    assert [(await each.response).status for each in (first, last)] == [200, 200]
    assert not left.response.done()
    assert (await store.ask("GET", "secret/data/b"))[0] == 404


async def test_a_long_answer_waits_for_one_request_alone() -> None:
    recording = Recording(AuditBroker([]), RecordWriter(KeyedHmac(b"k" * 32)))
    done: list[str] = []
    wide = WideRequests(
        recording, lambda request, _: done.append(request.target), lambda *_: None,
        lambda work: asyncio.create_task(work),
    )  # fmt: skip
    for name in "abc":
        wide.put_off(Request("POST", name, {}), Reply(), {"v": MANY}, ())
    await asyncio.sleep(0)
    call = Call("read", "secret/a", {}, MountRow("secret", "secret/", "kv", "m", "kv_m"), "")
    await recording.response_by_parts(call, Result({"v": MANY}))
    assert done == ["a"]


async def test_a_short_answer_does_not_wait_for_others() -> None:
    recording = Recording(AuditBroker([]), RecordWriter(KeyedHmac(b"k" * 32)))
    other = asyncio.create_task(recording.hidden({"v": MANY}, ()))
    await asyncio.sleep(0)
    call = Call("list", "secret/", {}, MountRow("secret", "secret/", "kv", "m", "kv_m"), "")
    await recording.response_by_parts(call, Result({"keys": MANY[:10]}, long=True))
    assert not other.done()
    await other


async def test_nothing_is_kept_of_a_request_that_nobody_asks_for() -> None:
    """Where the database is away, one is refused before its data is looked for."""
    recording = Recording(AuditBroker([]), RecordWriter(KeyedHmac(b"k" * 32)))
    kept: list = []
    wide = WideRequests(recording, lambda *_: None, lambda *_: None, kept.append)
    exchange = Reply()
    wide.put_off(Request("POST", "/v1/a", {}), exchange, {}, ())
    await kept.pop()
    here = weakref.ref(exchange)
    del exchange
    gc.collect()
    assert here() is None
