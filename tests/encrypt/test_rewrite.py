"""Rewrites on the fake API: what is stale is rewritten once, a cut-off pass goes on, a busy server is spared."""

import asyncio
import json
from collections import Counter

import pytest

from strongroom.app.encrypt.migrate import Teller
from strongroom.encrypt.check.api_metrics import KEY_USES, key_hash
from strongroom.encrypt.coverage import Expected
from strongroom.encrypt.keyspace import built_in
from strongroom.encrypt.rewrite import (
    FAILURES_LISTED,
    START_RATE,
    TRIES,
    Pace,
    Progress,
    Rewriter,
    load_progress,
)
from strongroom.encrypt.two_pass import TwoPass, two_pass
from strongroom.kube.api import Busy, Gone
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.refusals import NO_ROUTE
from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound, Unavailable


async def cluster(count: int, stale: int) -> tuple[FakeKubeApi, SimulatedClock]:
    clock = SimulatedClock()
    api = FakeKubeApi(clock)
    for number in range(count):
        await api.create(SECRETS, {"metadata": {"name": f"s{number:03}", "namespace": "n"}})
        if number < stale:
            api.stale.add((SECRETS, "n", f"s{number:03}"))
    return api, clock


async def finished(clock: SimulatedClock, work):
    task = asyncio.ensure_future(work)
    while not task.done():
        await clock.advance(1.0)
    return await task


async def test_a_pass_rewrites_what_is_stale_and_the_next_nothing() -> None:
    api, clock = await cluster(30, 12)
    rewriter = Rewriter(api, clock)
    first = await finished(clock, rewriter.run_pass([SECRETS], Progress()))
    second = await finished(clock, rewriter.run_pass([SECRETS], Progress(2)))
    assert (first.done, first.rewritten, second.done, second.rewritten) == (30, 12, 30, 0)
    assert first.unsettled == 0


async def test_a_pass_that_was_cut_off_goes_on_where_it_was(tmp_path) -> None:
    api, clock = await cluster(250, 250)
    keep = tmp_path / "progress"
    task = asyncio.ensure_future(Rewriter(api, clock, keep).run_pass([SECRETS], Progress()))
    while not keep.exists():
        await clock.advance(0.5)
    task.cancel()
    again = load_progress(keep)
    assert again.done >= 100
    done = await finished(clock, Rewriter(api, clock, keep).run_pass([SECRETS], again))
    assert done.done == 250
    assert not api.stale
    for text in ("{", "[]", '{"pass": "x"}'):
        keep.write_text(text)
        with pytest.raises(Invalid):
            load_progress(keep)
    keep.write_text(json.dumps({**Progress().as_data(), "resource": "other"}))
    with pytest.raises(Invalid):
        await Rewriter(api, clock, keep).run_pass([SECRETS], load_progress(keep))


def test_what_was_done_for_another_key_counts_for_nothing(tmp_path) -> None:
    keep = tmp_path / "progress"
    done = Progress(2, "secrets", "n/s100", done=100, aim="old secrets")
    keep.write_text(json.dumps(done.as_data()))
    assert load_progress(keep, "old secrets") == done
    assert load_progress(keep, "new secrets") == Progress(aim="new secrets")
    from_before = {name: each for name, each in done.as_data().items() if name != "aim"}
    for said in ({**from_before, "aim": None}, from_before):
        keep.write_text(json.dumps(said))
        assert load_progress(keep, "new secrets") == Progress(aim="new secrets")


async def test_what_was_done_of_a_resource_before_is_not_done_again() -> None:
    api, clock = await cluster(5, 0)
    for number in range(5):
        await api.create(CONFIG_MAPS, {"metadata": {"name": f"c{number}", "namespace": "n"}})
    rewriter, rates = Rewriter(api, clock), []
    rewriter.tell = lambda _progress, rate: rates.append(rate)
    progress = Progress(1, "secrets", "n/s002", done=10_000)
    done = await finished(clock, rewriter.run_pass([CONFIG_MAPS, SECRETS], progress))
    assert (done.done, done.touched) == (10_002, {"secrets": 2})
    assert max(rates[1:]) < 1000  # Which is of this run, as is the time that is left.


async def test_each_rewrite_is_looked_at_and_a_look_may_end_the_pass() -> None:
    api, clock = await cluster(30, 12)
    rewriter, looks = Rewriter(api, clock), []

    async def look(resource: str, changed: bool) -> None:
        looks.append((resource, changed))
        if len(looks) == 3:
            raise Denied("enough", "enough")

    rewriter.look = look
    with pytest.raises(Denied):
        await finished(clock, rewriter.run_pass([SECRETS], Progress()))
    assert (looks, len(api.stale)) == ([("secrets", True)] * 3, 9)


class Moody:
    """An API that refuses some touches."""

    def __init__(self, api: FakeKubeApi, refusals: list) -> None:
        self.api = api
        self.refusals = refusals

    def pages(self, *args):
        return self.api.pages(*args)

    async def touch(self, *args):
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal:
            raise refusal
        return await self.api.touch(*args)


async def test_a_busy_server_is_asked_more_slowly_and_nothing_is_lost() -> None:
    api, clock = await cluster(10, 10)
    pace = Pace(100.0)
    rewriter = Rewriter(Moody(api, [Unavailable("busy", "429")] * 3), clock, None, pace)
    done = await finished(clock, rewriter.run_pass([SECRETS], Progress()))
    assert (done.rewritten, done.failed) == (10, [])
    assert pace.rate < 20
    for _ in range(1000):
        pace.taken()
    assert pace.rate == 400.0
    slow = Pace(1.0, 10.0)
    for _ in range(1000):
        slow.taken()
    assert slow.rate == 10.0  # As a person asked for.
    for _ in range(50):
        pace.refused()
    assert pace.rate == 1.0


async def test_a_server_that_asks_for_patience_gets_it_for_as_long_as_it_asks() -> None:
    api, clock = await cluster(2, 2)
    rewriter = Rewriter(Moody(api, [Busy("429", 7.0)] * 30), clock, None, Pace(100.0))
    done = await finished(clock, rewriter.run_pass([SECRETS], Progress()))
    assert (done.rewritten, done.waited, done.failed) == (2, 30, [])
    assert clock.monotonic() >= 30 * 7
    # And in the end the object is named instead of being waited for for ever.
    api, clock = await cluster(1, 1)
    rewriter = Rewriter(Moody(api, [Busy("429", 30.0)] * 99), clock)
    done = await finished(clock, rewriter.run_pass([SECRETS], Progress()))
    assert done.failed == ["n/s000: the server stayed busy"]


@pytest.mark.parametrize(
    "refusal", [Conflict("kube-conflict", "written meanwhile"), Unavailable("away", "no answer")]
)
async def test_what_fails_again_and_again_is_left_after_some_tries(refusal) -> None:
    api, clock = await cluster(2, 2)
    rewriter = Rewriter(Moody(api, [refusal] * TRIES), clock)
    done = await finished(clock, rewriter.run_pass([SECRETS], Progress()))
    assert (done.failed, done.rewritten) == (["n/s000: the server stayed busy"], 1)


async def test_a_server_that_fails_gets_time_and_one_that_takes_it_more_to_do() -> None:
    api, clock = await cluster(1, 1)
    refusals = [Unavailable("away", "no answer")] * 5
    rewriter = Rewriter(Moody(api, refusals), clock, None, Pace(2.0))
    await finished(clock, rewriter.run_pass([SECRETS], Progress()))
    assert clock.monotonic() >= 5
    api, clock = await cluster(30, 0)
    rewriter = Rewriter(api, clock)
    await finished(clock, rewriter.run_pass([SECRETS], Progress()))
    assert rewriter.pace.rate > START_RATE * 1.2


class Forgetful(Moody):
    """A list that breaks off after its first page, once."""

    async def pages(self, *args):
        async for page in self.api.pages(*args):
            yield page
            if self.refusals:
                raise self.refusals.pop()


async def test_a_list_that_breaks_off_is_begun_again_and_nothing_is_done_twice() -> None:
    api, clock = await cluster(250, 250)
    rewriter = Rewriter(Forgetful(api, []), clock)
    rewriter._api.refusals = [Gone("kube-gone", "too old"), Busy("429", 5.0)]
    rewriter._api.touch = api.touch
    done = await finished(clock, rewriter.run_pass([SECRETS], Progress()))
    assert (done.done, done.rewritten, done.waited) == (250, 250, 1)
    assert not api.stale


class Halting(Moody):
    """A list that breaks off after so many pages, and asks for seven minutes; one such after another."""

    def __init__(self, api: FakeKubeApi, pages: list[int]) -> None:
        super().__init__(api, [])
        self.left = pages

    async def pages(self, *args):
        left = self.left.pop(0) if self.left else 99
        async for page in self.api.pages(*args):
            if not left:
                raise Busy("429", 420.0)
            left -= 1
            yield page


async def test_a_list_that_goes_on_is_waited_for_and_one_that_does_not_is_given_up() -> None:
    """Ten minutes without an object are too long, and ten minutes in all are not."""
    api, clock = await cluster(250, 0)
    halting = Halting(api, [1, 2, 2])
    done = await finished(clock, Rewriter(halting, clock).run_pass([SECRETS], Progress()))
    assert (done.done, done.waited) == (250, 3)
    halting.left = [1, *[1] * 9]
    with pytest.raises(Unavailable, match="does not list secrets"):
        await finished(clock, Rewriter(halting, clock).run_pass([SECRETS], Progress()))
    assert len(halting.left) > 5


class Contested(Moody):
    """Another writer changes what was listed at the first touches of it; servers with two keys
    change it at every one.
    """

    def __init__(self, api: FakeKubeApi, changes: int) -> None:
        super().__init__(api, [])
        self.changes = changes
        self.touched: Counter[str] = Counter()

    async def touch(self, resource, name, namespace):
        self.touched[name] += 1
        if self.touched[name] <= self.changes:
            data = {"data": {"n": f"{self.touched.total()}"}}
            await self.api.merge_patch(resource, name, namespace, data)
            self.api.stale.add((resource, namespace, name))
        return await self.api.touch(resource, name, namespace)


@pytest.mark.parametrize(("changes", "unsettled"), [(1, 0), (3, 0), (99, 3)])
async def test_another_writer_is_told_from_two_keys(changes: int, unsettled: int) -> None:
    api, clock = await cluster(3, 0)
    rewriter, looks = Rewriter(Contested(api, changes), clock), []

    async def look(resource: str, changed: bool) -> None:
        looks.append((resource, changed))

    rewriter.look = look
    done = await finished(clock, rewriter.run_pass([SECRETS], Progress(2)))
    assert (done.rewritten, done.unsettled, done.failed) == (3, unsettled, [])
    assert looks == [("secrets", True)] * 3


async def test_what_the_first_pass_rewrites_is_touched_once() -> None:
    """It has everything to rewrite, and a further touch of each would take as long again."""
    api, clock = await cluster(3, 3)
    counted = Contested(api, 0)
    await finished(clock, Rewriter(counted, clock).run_pass([SECRETS], Progress()))
    assert counted.touched.total() == 3


async def test_of_failures_no_more_are_kept_than_anybody_reads() -> None:
    api, clock = await cluster(150, 0)
    refusals = [Denied("no", "no")] * 150
    done = await finished(
        clock, Rewriter(Moody(api, refusals), clock).run_pass([SECRETS], Progress())
    )
    assert (done.done, len(done.failed), done.touched.total()) == (150, FAILURES_LISTED, 0)


def test_a_pass_says_how_far_it_is_and_how_long_it_will_take(capsys) -> None:
    tell = Teller()
    for done in range(1, 10_001):
        tell(Progress(1, done=done, total=20_000), 100.0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines] == [
        "pass 1: 5,000/20,000, 100/s, 150 s left",
        "pass 1: 10,000/20,000, 100/s, 100 s left",
    ]


async def test_what_cannot_be_touched_is_named() -> None:
    api, clock = await cluster(3, 3)
    rewriter = Rewriter(Moody(api, [Denied("no", "a webhook says no")]), clock)
    done = await finished(clock, rewriter.run_pass([SECRETS], Progress()))
    assert done.failed == ["n/s000: a webhook says no"]
    assert done.rewritten == 2


async def test_of_what_a_server_or_webhook_writes_nothing_is_repeated_but_its_name() -> None:
    api, clock = await cluster(3, 3)
    text = 'admission webhook "no.example.com" denied the request: hunter2 is weak'
    policy = (
        "is invalid: : ValidatingAdmissionPolicy 'frozen' with binding 'b' denied request: hunter2"
    )
    said = [Denied("kube-forbidden", text), Invalid("kube-invalid", 'value: "hunter2"')]
    said.append(Invalid("kube-invalid", policy))
    done = await finished(clock, Rewriter(Moody(api, said), clock).run_pass([SECRETS], Progress()))
    assert done.failed == [
        'n/s000: admission webhook "no.example.com" denied the request [kube-forbidden]',
        "n/s001: refused [kube-invalid]",
        "n/s002: ValidatingAdmissionPolicy 'frozen' [kube-invalid]",
    ]


PREFIX = 'apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="from_storage",transformer_prefix="%s"} %d'


@pytest.mark.parametrize(
    ("before", "after", "holds", "word"),
    [
        ((0, 0), (9, 0), True, ""),
        ((5, 2), (9, 2), True, ""),
        ((0, 0), (9, 3), False, "plain text"),
        ((0, 0), (9, 1), False, "1 reads in the second pass were of values in plain text"),
        ((0, 0), (0, 0), False, "nothing covers"),
        # A server that was started anew counts from nothing.
        ((9, 0), (4, 0), False, "not of one process"),
        ((9, 7), (9, 3), False, "not of one process"),
        ((5, 0, 100), (9, 0, 200), False, "not of one process"),
        ((5, 0, 100), (9, 0, 100), True, ""),
    ],
)
async def test_two_passes_prove_or_say_why_not(before, after, holds, word) -> None:
    api, clock = await cluster(5, 5)
    pages = [before, after]

    async def raw(path: str) -> bytes:
        sealed, plain, *start = pages.pop(0)
        lines = [PREFIX % ("k8s:enc:kms:v2:a:", sealed), PREFIX % ("identity", plain)]
        return "\n".join(
            [*lines, *(f"process_start_time_seconds {each}" for each in start)]
        ).encode()

    api.raw = raw
    shown = await finished(clock, two_pass(api, clock, [SECRETS], built_in))
    assert shown.holds is holds
    assert word in " ".join(shown.problems)
    assert shown.first.rewritten == 5
    assert shown.as_data()["cannot_see"]


class Counting(Moody):
    """Of each object it reads plain text once, and then what it has encrypted."""

    touches = 0

    async def touch(self, *args):
        self.touches += 1
        return await self.api.touch(*args)

    async def raw(self, _path: str) -> bytes:
        sealed = max(0, self.touches - 5)
        lines = [PREFIX % ("k8s:enc:kms:v2:a:", sealed)]
        return "\n".join([*lines, PREFIX % ("identity", self.touches - sealed)]).encode()


async def test_the_counters_are_looked_at_between_the_passes_and_after_them() -> None:
    """What the first pass reads may be plain text, and is encrypted by it."""
    api, clock = await cluster(5, 5)
    shown = await finished(clock, two_pass(Counting(api, []), clock, [SECRETS], built_in))
    assert (shown.holds, shown.problems) == (True, ())


class Restless(Moody):
    """An API where every touch writes, as between two servers that do not agree on the key."""

    async def touch(self, *args):
        await super().touch(*args)
        self.writes = getattr(self, "writes", 100) + 1
        return str(self.writes)


@pytest.mark.parametrize(
    ("kind", "refusals", "shown", "word"),
    [
        (Restless, [], True, "5 objects change at every touch"),
        (Moody, [Denied("kube-forbidden", "no")], True, "1 objects could not be touched"),
        (Moody, [None] * 5 + [Denied("kube-forbidden", "no")], True, "1 objects could not"),
        (Moody, [], False, "metrics cannot be read"),
        (Moody, [], None, "metrics cannot be read"),
        (Moody, [], True, ""),
    ],
)
async def test_what_could_not_be_done_or_seen_is_not_proved(kind, refusals, shown, word) -> None:
    api, clock = await cluster(5, 0)
    sealed = iter((0, 9))

    async def raw(path: str) -> bytes:
        count = next(sealed)
        if not shown and (shown is False or count):  # At all, or at the second look.
            raise Denied("kube-forbidden", "no")
        return (PREFIX % ("k8s:enc:kms:v2:a:", count)).encode()

    asked = kind(api, refusals)
    asked.raw = raw
    found = await finished(clock, two_pass(asked, clock, [SECRETS], built_in))
    assert found.holds is (not word)
    assert word in " ".join(found.problems)


@pytest.mark.parametrize(("reads", "holds"), [(6, True), (9, True), (5, False), (0, False)])
async def test_a_key_that_is_named_is_the_one_that_was_read(reads, holds) -> None:
    """A server that has not sealed under its new key yet leaves everything under the old one."""
    api, clock = await cluster(5, 0)
    await api.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "n"}})
    keys = dict.fromkeys(("configmaps", "secrets"), Expected("a", "new"))
    counts = [(0, 10), (9, 10 + reads)]

    async def raw(path: str) -> bytes:
        sealed, under = counts.pop(0)
        labels = f'key_id_hash="{key_hash("new")}",transformation_type="from_storage"'
        lines = (
            PREFIX % ("k8s:enc:kms:v2:a:", sealed),
            (PREFIX % ("k8s:enc:kms:v2:a:", sealed)).replace("secrets", "configmaps"),
            f'{KEY_USES}{{{labels},provider_name="a"}} {under}',
            f'{KEY_USES}{{{labels},provider_name="b"}} {9 * under}',
        )
        return "\n".join(lines).encode()

    api.raw = raw
    both = [SECRETS, CONFIG_MAPS]
    shown = await finished(clock, two_pass(api, clock, both, built_in, keys))
    assert shown.holds is holds
    assert list(shown.as_data()["expected"]) == ["configmaps", "secrets"]
    assert ("of 6 objects were not seen" in " ".join(shown.problems)) is not holds
    assert "which key is used" not in " ".join(shown.as_data()["cannot_see"])


@pytest.mark.parametrize(
    "other", [Expected("a", "new", "kms-v1"), Expected("k", "", "aescbc"), Expected("a")]
)
async def test_of_keys_that_no_server_tells_of_the_proof_is_blind_and_does_not_fail(other) -> None:
    api, clock = await cluster(5, 0)
    sealed = iter((0, 9))

    async def raw(path: str) -> bytes:
        return (PREFIX % ("k8s:enc:kms:v1:a:", next(sealed))).encode()

    api.raw = raw
    shown = await finished(clock, two_pass(api, clock, [SECRETS], built_in, {"secrets": other}))
    assert shown.holds
    assert "which key is used" in " ".join(shown.as_data()["cannot_see"])


async def test_a_key_that_is_told_of_one_resource_is_not_told_of_another() -> None:
    api, clock = await cluster(5, 0)
    await api.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "n"}})
    keys = {"secrets": Expected("a", "new"), "configmaps": Expected("k", "", "aescbc")}
    labels = f'key_id_hash="{key_hash("new")}",transformation_type="from_storage"'
    counts = iter((0, 9))

    async def raw(path: str) -> bytes:
        count = next(counts)
        secrets = PREFIX % ("k8s:enc:kms:v2:a:", count)
        uses = f'{KEY_USES}{{{labels},provider_name="a"}} {count}'
        return "\n".join([secrets, secrets.replace("secrets", "configmaps"), uses]).encode()

    api.raw = raw
    both = [SECRETS, CONFIG_MAPS]
    shown = await finished(clock, two_pass(api, clock, both, built_in, keys))
    assert shown.holds
    assert "which key is used" in " ".join(shown.as_data()["cannot_see"])


async def test_what_nothing_covers_is_not_proved_by_what_lies_beside_it() -> None:
    """Reads of what no entry covers are counted nowhere, so those of secrets must not count for it."""
    api, clock = await cluster(5, 5)
    sealed = iter((0, 9))

    async def raw(path: str) -> bytes:
        return (PREFIX % ("k8s:enc:kms:v2:a:", next(sealed))).encode()

    api.raw, counted = raw, built_in
    work = two_pass(api, clock, [SECRETS, CONFIG_MAPS], counted)
    assert (await finished(clock, work)).holds  # There is none.
    await api.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "n"}})
    sealed = iter((0, 9))
    shown = await finished(clock, two_pass(api, clock, [SECRETS, CONFIG_MAPS], counted))
    assert not shown.holds
    assert "no read of configmaps in the second pass" in " ".join(shown.problems)
    # What an aggregated server stores, and a wildcard led to, is none of this one's.
    sealed, counted = iter((0, 9)), "secrets".__eq__
    assert (await finished(clock, two_pass(api, clock, [SECRETS, CONFIG_MAPS], counted))).holds
    # But where no encrypted value was read at all nothing is proved of that either.
    sealed = iter((0, 0))
    shown = await finished(clock, two_pass(api, clock, [CONFIG_MAPS], counted))
    assert not shown.holds
    assert "nothing covers them" in " ".join(shown.problems)


async def test_an_api_that_is_not_served_has_not_deleted_everything() -> None:
    api, clock = await cluster(5, 5)
    said = [NotFound(NO_ROUTE, "page not found")] * 5
    done = await finished(clock, Rewriter(Moody(api, said), clock).run_pass([SECRETS], Progress()))
    assert (len(done.failed), done.touched.total()) == (5, 0)
    assert "does not serve" in done.failed[0]
    # What is really gone is none of ours any more.
    said = [NotFound("kube-not-found", "gone")] * 2
    done = await finished(clock, Rewriter(Moody(api, said), clock).run_pass([SECRETS], Progress()))
    assert (done.failed, done.done, done.touched) == ([], 5, {"secrets": 3})


def test_passes_over_nothing_prove_nothing() -> None:
    assert TwoPass(Progress(1, done=1), Progress(2, done=1), ()).holds
    assert not TwoPass(Progress(1), Progress(2), ()).holds
    assert not TwoPass(Progress(1, done=1), Progress(2), ()).holds  # Deleted in between.
    assert not TwoPass(Progress(1, done=1), Progress(2, done=1), ("a problem",)).holds
