"""Cache, queue, controller and Events on simulated time."""

import asyncio
from pathlib import Path

import pytest

from strongroom.kube.api import Busy, Gone, Listing, Scope, WatchEvent
from strongroom.kube.client import KubeClient
from strongroom.kube.config import KubeConfig, in_cluster, load_kubeconfig
from strongroom.kube.controller import Controller, Pause
from strongroom.kube.events import EventRecorder
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.informer import Informer
from strongroom.kube.queue import Lane, WorkQueue
from strongroom.kube.resource import CONFIG_MAPS, EVENTS
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Denied, Invalid, NotFound, Unavailable


def item(name: str, **data: str) -> dict:
    return {"metadata": {"name": name, "namespace": "n"}, "data": data}


async def test_the_cache_follows_and_lists_again_after_410() -> None:
    clock = SimulatedClock()
    api = FakeKubeApi(clock)
    await api.create(CONFIG_MAPS, item("old"))
    informer = Informer(api, CONFIG_MAPS, clock)
    seen: list[tuple[str | None, str | None]] = []
    informer.on_change(
        lambda old, new: seen.append(
            (old and old["metadata"]["name"], new and new["metadata"]["name"])
        )
    )
    running = asyncio.create_task(informer.run())
    await asyncio.wait_for(informer.synced.wait(), 60)
    await api.create(CONFIG_MAPS, item("new"))
    await clock.advance(0)
    assert {each["metadata"]["name"] for each in informer} == {"old", "new"}
    running.cancel()
    await api.delete(CONFIG_MAPS, "old", "n")
    api.forget_history()
    again = asyncio.create_task(informer.run())
    await clock.advance(0)
    assert informer.get("n", "old") is None
    assert seen == [(None, "old"), (None, "new"), ("old", None)]
    again.cancel()


@pytest.mark.parametrize(("ends", "breaks"), [(300, False), (60, False), (60, True)])
async def test_a_server_that_was_put_back_is_listed_again_when_its_watch_tells_nothing(
    ends: int, breaks: bool
) -> None:
    """It takes a position that it has yet to reach, and tells nothing, as etcd's restore leaves it.

    Also behind a proxy that ends what is idle. One that says each minute where it is, and has nothing else to say, is not listed again.
    """
    clock = SimulatedClock()
    api = FakeKubeApi(clock)
    await api.create(CONFIG_MAPS, item("old"))

    class PutBack:
        lists = 0
        bookmarks, every = True, 30

        def pages(self, *args):
            self.lists += 1
            return api.pages(*args)

        async def watch(self, _resource, position, *_args):
            for _ in range(ends // self.every):
                await clock.sleep(self.every)
                if self.bookmarks:
                    yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": position}})
            if breaks:
                raise Unavailable("unreachable", "the reply ended early")

    server = PutBack()
    informer = Informer(server, CONFIG_MAPS, clock)  # type: ignore[arg-type]
    running = asyncio.create_task(informer.run())
    await clock.advance(3600)
    assert server.lists == 1
    server.bookmarks = False
    await api.create(CONFIG_MAPS, item("new"))
    await clock.advance(600)
    assert informer.get("n", "new") is not None
    running.cancel()


@pytest.mark.parametrize("ends", ["forgotten", "closed"])
async def test_a_watch_that_ends_at_once_each_time_is_not_begun_without_a_pause(ends: str) -> None:
    clock = SimulatedClock()
    api = FakeKubeApi(clock)
    await api.create(CONFIG_MAPS, item("a"))

    class Useless:
        asked = 0
        useless = True

        def pages(self, *args):
            return api.pages(*args)

        async def watch(self, *args):
            self.asked += 1
            if not self.useless:
                async for event in api.watch(*args):
                    yield event
            elif ends == "forgotten":
                raise Gone("kube-gone", "too old")

    server = Useless()
    informer = Informer(server, CONFIG_MAPS, clock)  # type: ignore[arg-type]
    running = asyncio.create_task(informer.run())
    await clock.advance(60)
    assert informer.synced.is_set()
    assert 4 <= server.asked <= 15
    # Once it is of use again, what comes is seen.
    server.useless = False
    await clock.advance(11)
    await api.create(CONFIG_MAPS, item("b"))
    await clock.advance(0)
    assert informer.get("n", "b") is not None
    running.cancel()


async def test_a_list_that_ends_in_the_middle_takes_nothing_for_gone() -> None:
    clock = SimulatedClock()
    api = FakeKubeApi(clock)
    for name in ("a", "b", "c"):
        await api.create(CONFIG_MAPS, item(name))

    class Forgetting:
        """A server that forgets a list between its pages, as when etcd is compacted."""

        forgets = False

        async def pages(self, *args):
            async for page in api.pages(*args):
                yield Listing(page.items[:1], page.resource_version)
                if self.forgets:
                    self.forgets = False
                    raise Gone("kube-gone", "the continue token has expired")
                yield Listing(page.items[1:], page.resource_version)

        def watch(self, *args):
            return api.watch(*args)

    server, gone = Forgetting(), []
    informer = Informer(server, CONFIG_MAPS, clock)  # type: ignore[arg-type]
    informer.on_change(lambda old, new: gone.append(old) if new is None else None)
    running = asyncio.create_task(informer.run())
    await clock.advance(1)
    assert len(informer) == 3
    running.cancel()
    await api.delete(CONFIG_MAPS, "c", "n")
    server.forgets = True
    running = asyncio.create_task(informer.run())
    await clock.advance(1)
    assert not server.forgets
    assert sorted(each["metadata"]["name"] for each in informer) == ["a", "b"]
    assert [each["metadata"]["name"] for each in gone] == ["c"]
    running.cancel()


async def test_a_broken_watch_is_told_in_the_servers_words_and_tried_again(caplog) -> None:
    clock = SimulatedClock()
    api = FakeKubeApi(clock)
    await api.create(CONFIG_MAPS, item("a"))

    class Flaky:
        failures = 2

        async def pages(self, *args):
            if self.failures:
                self.failures -= 1
                raise Denied("kube-denied", "configmaps is forbidden: cannot list")
            async for page in api.pages(*args):
                yield page

        def watch(self, *args):
            return api.watch(*args)

    informer = Informer(Flaky(), CONFIG_MAPS, clock)  # type: ignore[arg-type]
    running = asyncio.create_task(informer.run())
    await clock.advance(0)
    assert not informer.synced.is_set()
    assert "configmaps is forbidden: cannot list [kube-denied]" in caplog.text
    await clock.advance(3)
    assert informer.synced.is_set()
    running.cancel()


async def test_a_server_that_asks_for_patience_with_a_watch_has_it() -> None:
    clock = SimulatedClock()
    api = FakeKubeApi(clock)

    class Overloaded:
        asked = 0

        def pages(self, *args):
            return api.pages(*args)

        async def watch(self, *args):
            self.asked += 1
            raise Busy("too many requests", 7.0)
            yield

    server = Overloaded()
    running = asyncio.create_task(Informer(server, CONFIG_MAPS, clock).run())  # type: ignore[arg-type]
    await clock.advance(6.9)
    assert server.asked == 1
    await clock.advance(0.2)
    assert server.asked == 2
    running.cancel()


async def test_a_refused_watch_says_for_how_long_the_server_wants_to_be_left_alone() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = KubeConfig(server=f"http://127.0.0.1:{port}")
        async with KubeClient(config, SimulatedClock()) as api:
            with pytest.raises(Busy) as caught:
                await anext(api.watch(CONFIG_MAPS, "1"))
    assert caught.value.retry_after == 7.0


async def test_what_is_first_is_seen_before_the_rest_is_listed() -> None:
    clock = SimulatedClock()
    api = FakeKubeApi(clock)
    for name in ("a", "z"):
        await api.create(CONFIG_MAPS, item(name))
    first = Scope(field_selector="metadata.name=z")
    seen: list[str] = []
    informer = Informer(api, CONFIG_MAPS, clock, first=first)
    informer.on_change(lambda _old, new: seen.append(new["metadata"]["name"] if new else ""))
    running = asyncio.create_task(informer.run())
    await clock.advance(0)
    assert seen == ["z"]
    assert not informer.under_way.is_set()
    await clock.advance(1)
    assert informer.synced.is_set()
    assert informer.under_way.is_set()
    assert seen == ["z", "a"]
    running.cancel()


async def test_a_server_that_cannot_select_what_is_first_is_asked_for_all() -> None:
    clock = SimulatedClock()
    api = FakeKubeApi(clock)
    await api.create(CONFIG_MAPS, item("a"))

    class Older:
        async def pages(self, resource, scope):
            if scope.field_selector:
                raise Invalid("kube-invalid", "field label not supported")
            async for page in api.pages(resource, scope):
                yield page

        def watch(self, *args):
            return api.watch(*args)

    first = Scope(field_selector="status.x=")
    informer = Informer(Older(), CONFIG_MAPS, clock, first=first)  # type: ignore[arg-type]
    running = asyncio.create_task(informer.run())
    await asyncio.wait_for(informer.synced.wait(), 60)
    assert informer.get("n", "a") is not None
    running.cancel()


async def test_a_cache_gives_what_it_saw_last() -> None:
    clock = SimulatedClock()
    api = FakeKubeApi(clock)
    await api.create(CONFIG_MAPS, item("a", k="1"))
    informer = Informer(api, CONFIG_MAPS, clock)
    running = asyncio.create_task(informer.run())
    await asyncio.wait_for(informer.synced.wait(), 60)
    assert [informer.get("n", "a")["data"]["k"] for _ in range(2)] == ["1", "1"]  # type: ignore[index]
    await api.merge_patch(CONFIG_MAPS, "a", "n", {"data": {"k": "2"}})
    await clock.advance(0)
    assert informer.get("n", "a")["data"]["k"] == "2"  # type: ignore[index]
    await api.delete(CONFIG_MAPS, "a", "n")
    await clock.advance(0)
    assert informer.get("n", "a") is None
    running.cancel()


async def test_work_that_needs_nothing_lets_others_in() -> None:
    queue: WorkQueue[tuple[str, str]] = WorkQueue(SimulatedClock())
    done: list[str] = []

    async def reconcile(key: tuple[str, str]) -> None:
        done.append(key[1])

    for number in range(100):
        queue.add(("n", str(number)), Lane.PERIODIC)
    working = asyncio.create_task(Controller("x", queue, reconcile).run(2))
    while not done:
        await asyncio.sleep(0)
    queue.add(("n", "new"), Lane.CHANGED)
    while "new" not in done:
        await asyncio.sleep(0)
    assert len(done) < 10
    working.cancel()


async def test_lanes_go_in_order_and_a_key_waits_once() -> None:
    queue: WorkQueue[str] = WorkQueue(SimulatedClock())
    queue.add("slow", Lane.PERIODIC)
    queue.add("event", Lane.EVENT)
    queue.add("changed")
    queue.add("slow", Lane.PERIODIC)
    assert len(queue) == 3
    queue.add("slow", Lane.CHANGED)
    assert [await queue.take() for _ in range(3)] == ["changed", "slow", "event"]


async def test_a_key_at_work_comes_again_afterwards() -> None:
    queue: WorkQueue[str] = WorkQueue(SimulatedClock())
    queue.add("a")
    assert await queue.take() == "a"
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.take() == "a"


async def test_delays_and_backoff_follow_the_clock() -> None:
    clock = SimulatedClock()
    queue: WorkQueue[str] = WorkQueue(clock)
    pauses = [queue.failed("a") for _ in range(3)]
    assert pauses == [0.25, 0.5, 1.0]
    taking = asyncio.create_task(queue.take())
    await clock.advance(0.2)
    assert not taking.done()
    await clock.advance(0.1)
    assert await taking == "a"
    queue.done("a")
    queue.succeeded("a")
    assert queue.failed("a") == 0.25


async def test_one_refused_object_does_not_hold_up_the_others() -> None:
    clock = SimulatedClock()
    queue: WorkQueue[tuple[str, str]] = WorkQueue(clock)
    worked: list[str] = []

    async def reconcile(key: tuple[str, str]) -> float | None:
        worked.append(key[1])
        if key[1] == "bad":
            raise Unavailable("no", "no")
        if key[1] == "bug":
            raise ValueError
        return 60.0

    controller = Controller("test", queue, reconcile)
    running = asyncio.create_task(controller.run(2))
    for name in ("bad", "bug", "good"):
        queue.add(("n", name))
    await clock.advance(0)
    assert sorted(worked) == ["bad", "bug", "good"]
    await clock.advance(0.3)
    assert worked.count("bad") == 2
    await clock.advance(60)
    assert worked.count("good") == 2
    running.cancel()


async def test_the_same_event_is_counted_and_a_failing_one_does_no_harm() -> None:
    clock = SimulatedClock()
    api = FakeKubeApi(clock)
    about = await api.create(CONFIG_MAPS, item("a"))
    events = EventRecorder(api, "strongroom.dev/test", "one", clock)
    for _ in range(3):
        await events.emit(about, "Warning", "Drift", "changed by somebody")
    await events.emit(about, "Normal", "Synced", "synced")
    found = (await api.list(EVENTS)).items
    assert sorted((each["reason"], each.get("series", {}).get("count")) for each in found) == [
        ("Drift", 3),
        ("Synced", None),
    ]
    await events.emit(
        {"apiVersion": "v1", "kind": "X", "metadata": {"name": "", "namespace": ""}},
        "Normal",
        "R",
        "n",
    )


def test_kubeconfigs_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "config"
    with pytest.raises(NotFound):
        load_kubeconfig(path)
    path.write_text("{}")
    with pytest.raises(Invalid):
        load_kubeconfig(path)
    path.write_text(
        "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
        "clusters: [{name: k, cluster: {server: 'https://x/'}}]\nusers: [{name: u, user: {token: t}}]\n"
    )
    config = load_kubeconfig(path)
    assert config.server == "https://x"
    assert config.bearer() is not None
    with pytest.raises(NotFound):
        in_cluster("", "")


async def test_work_that_is_cut_off_is_taken_up_by_the_next_workers() -> None:
    clock = SimulatedClock()
    queue: WorkQueue[tuple[str, str]] = WorkQueue(clock)
    begun: list[tuple[str, str]] = []

    async def work(key: tuple[str, str]) -> None:
        begun.append(key)
        if len(begun) == 1:
            await asyncio.Event().wait()

    controller = Controller("test", queue, work)
    for _ in range(2):
        if not begun:
            queue.add(("n", "a"))
        running = asyncio.create_task(controller.run(1))
        await clock.advance(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert begun == [("n", "a")] * 2
    assert len(queue) == 0


async def test_while_the_server_is_away_the_log_says_so_once_and_then_how_often(caplog) -> None:
    clock = SimulatedClock()
    queue: WorkQueue[tuple[str, str]] = WorkQueue(clock)
    away = True

    async def work(key: tuple[str, str]) -> None:
        if key[1] == "broken":
            raise Invalid("kube-invalid", "no such field")
        if away:
            raise Unavailable("unreachable", "no answer")

    for name in ("broken", *(f"a{number}" for number in range(100))):
        queue.add(("n", name))
    running = asyncio.create_task(
        Controller("c", queue, work, lambda _key, _refusal: Pause(0.0, 30.0)).run()
    )
    await clock.advance(600)
    said = [each for each in caplog.messages if "kube-invalid" not in each]
    assert len(said) <= 21
    assert "c n/a0: unreachable; again in 0.2 s" in said
    # What is wrong with an object is said of each.
    assert len(caplog.messages) - len(said) > 20
    away = False
    await clock.advance(60)
    told = sum(int(each.split()[1]) for each in caplog.messages if "more tries: unreach" in each)
    alone = sum("unreachable; again" in each for each in caplog.messages)
    assert told + alone > 100 * 600 / 30
    running.cancel()


async def test_a_watch_that_stays_broken_is_told_of_ever_less_often(caplog) -> None:
    clock = SimulatedClock()

    class Away:
        code = "unreachable"

        async def pages(self, *args):
            raise Unavailable(self.code, "no answer")
            yield

    server = Away()
    running = asyncio.create_task(Informer(server, CONFIG_MAPS, clock).run())  # type: ignore[arg-type]
    await clock.advance(600)
    assert 5 <= len(caplog.messages) <= 8
    server.code = "kube-unavailable"
    await clock.advance(10)
    assert "kube-unavailable" in caplog.messages[-1]
    running.cancel()
