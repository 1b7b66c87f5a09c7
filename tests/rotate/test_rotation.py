"""Rotation: the next step is a function of what is seen, and a crash anywhere changes nothing."""

import json
from collections.abc import Awaitable, Callable

import pytest

from strongroom.kube.fake import FakeKubeApi
from strongroom.model.clock import SimulatedClock, parse_rfc3339, rfc3339
from strongroom.model.errors import Conflict, Invalid, NotFound, Refusal, Unavailable
from strongroom.model.reference import parse_secret_ref
from strongroom.model.secret import Secret
from strongroom.rotate.consumers import (
    Consumer,
    Ledger,
    from_acknowledgements,
    from_environment,
    from_external_secrets,
    from_secrets,
    made_of,
)
from strongroom.rotate.evidence import EXTERNAL_SECRETS, LiveEvidence
from strongroom.rotate.generators import PasswordGenerator
from strongroom.rotate.machine import MARK, Observed, Rotation, Step, next_step, observe
from strongroom.rotate.run import Blocked, Runner
from strongroom.wire.vault import VaultClient

REF = parse_secret_ref("prod/db", "secret")
PATH = "secret/data/prod/db"
GENERATOR = PasswordGenerator(("password",))
UNDER_WAY = Rotation(1, 2, ("password",), 5.0)


@pytest.mark.parametrize(
    ("current", "live", "rotation", "moved", "step"),
    [
        (1, (1,), None, False, Step.INTEND),
        (1, (1,), UNDER_WAY, True, Step.WRITE),
        (2, (1, 2), UNDER_WAY, False, Step.WAIT),
        (2, (1, 2), UNDER_WAY, True, Step.RETIRE),
        (2, (2,), UNDER_WAY, False, Step.FINISH),
    ],
)
def test_the_next_step(current, live, rotation, moved, step) -> None:
    assert next_step(Observed(current, live, rotation), all_moved=moved) is step


def test_a_write_by_somebody_else_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="version 3"):
        next_step(Observed(3, (1, 2, 3), UNDER_WAY), all_moved=True)


def test_the_mark_comes_back_and_a_foreign_one_is_refused() -> None:
    metadata = {"current_version": 1, "custom_metadata": {MARK: UNDER_WAY.dumps()}}
    assert observe(metadata, 9.0).rotation == UNDER_WAY
    assert len(UNDER_WAY.dumps()) < 512
    for text in ("{", "[]", '{"from": 1}', '{"from": "x", "to": 1, "fields": [], "started": 0}'):
        with pytest.raises(Invalid):
            observe({"current_version": 1, "custom_metadata": {MARK: text}}, 9.0)


@pytest.mark.parametrize(
    ("deletion", "updated", "now", "live"),
    [
        ("", 10, 20, (1,)),
        (15, 10, 20, ()),
        (15, 15, 20, ()),
        # A deletion that was done, by a store whose clock is ahead of ours.
        (30, 30, 20, ()),
        # One to come: the secret has a delete_version_after.
        (30, 10, 20, (1,)),
    ],
)
def test_a_version_lives_until_its_deletion(deletion, updated, now, live) -> None:
    entry = {"deletion_time": rfc3339(deletion) if deletion else "", "destroyed": False}
    metadata = {
        "current_version": 1,
        "updated_time": rfc3339(updated),
        "versions": {"1": entry, "2": {**entry, "destroyed": True}},
    }
    assert observe(metadata, now).live == live


@pytest.mark.parametrize(
    "make",
    [
        lambda: PasswordGenerator(()),
        lambda: PasswordGenerator(("p",), 4),
        lambda: PasswordGenerator(("p",), 5000),
        lambda: PasswordGenerator(("p",), 32, "ab"),
    ],
)
def test_a_weak_generator_is_refused(make) -> None:
    with pytest.raises(Invalid):
        make()


# who holds what


def secret(version: int, at: str = "2026-01-01T00:00:10Z") -> dict:
    annotations = {"strongroom.dev/source-versions": json.dumps({PATH: version})}
    return {
        "metadata": {
            "namespace": "n",
            "name": "db",
            "annotations": annotations,
            "managedFields": [{"time": at}],
        }
    }


def pod(started: str, **spec) -> dict:
    return {
        "metadata": {"namespace": "n", "name": "app", "uid": "u"},
        "spec": {"containers": [{"name": "c", **spec}]},
        "status": {"phase": "Running", "startTime": started},
    }


def row(**changes) -> dict:
    given = {
        "kind": "pod",
        "pod_uid": "u",
        "namespace": "n",
        "pod": "app",
        "actor": "u",
        "version": 1,
        "acknowledged": "2026-01-01T00:00:00Z",
        "lapsed": False,
    }
    return {**given, **changes}


def test_secrets_tell_their_version() -> None:
    found = from_secrets(PATH, [secret(3), {"metadata": {"namespace": "n", "name": "other"}}])
    assert [(each.name, each.version) for each in found] == [("n/db", 3)]
    broken = secret(3)
    broken["metadata"]["annotations"]["strongroom.dev/source-versions"] = "{"
    assert from_secrets(PATH, [broken]) == []


def external(name: str, said: str, target: dict) -> dict:
    return {
        "metadata": {"namespace": "n", "name": name},
        "spec": {"target": target},
        "status": {"sourceVersions": said},
    }


CONFIG_MAP = {"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}


@pytest.mark.parametrize(
    ("said", "target", "held"),
    [
        (f"{PATH}@3", {"name": "db", "creationPolicy": "Merge"}, ("Secret", "n/db", 3)),
        (f"{PATH}@3", CONFIG_MAP, ("ConfigMap", "n/es", 3)),
        (f"secret/data/a@9, {PATH}@3, 2 more", CONFIG_MAP, ("ConfigMap", "n/es", 3)),
        (f"{PATH}/more@3", CONFIG_MAP, None),
        ("", CONFIG_MAP, None),
        (f"{PATH}@", CONFIG_MAP, None),
        (f"{PATH}@3", CONFIG_MAP | {"creationPolicy": "None"}, None),
        (f"{PATH}@3", {"name": "db", "creationPolicy": "Owner"}, None),
    ],
)
def test_what_does_not_tell_its_version_is_known_by_its_external_secret(said, target, held) -> None:
    found = from_external_secrets(made_of(PATH, [external("es", said, target)]), [])
    assert [(each.kind, each.name, each.version) for each in found] == ([held] if held else [])


def test_one_secret_merged_from_several_is_held_at_the_oldest_of_its_versions() -> None:
    """It records the versions of who wrote it last, which here knows nothing of the path."""
    merged = secret(1)
    merged["metadata"]["annotations"]["strongroom.dev/source-versions"] = '{"secret/data/other": 1}'
    shared = {"name": "db", "creationPolicy": "Merge"}
    made = made_of(PATH, [external("a", f"{PATH}@1", shared), external("b", "other@1", shared)])
    assert from_secrets(PATH, [merged]) == []
    (found,) = from_external_secrets(made, [])
    assert found.behind(2)
    assert "externalsecret -n n a" in found.remedy
    # Who took it into its environment holds it as well.
    (pods,) = from_environment(PATH, [pod("2026-01-01T00:00:00Z", **ALL)], [merged], 5.0, made)
    assert (pods.kind, pods.version) == ("environment", 0)
    # What the Secret says itself is not said twice.
    said = from_secrets(PATH, [secret(1)])
    assert from_external_secrets(made, said) == []


async def test_a_ledger_has_what_external_secrets_tell(kv) -> None:
    api = FakeKubeApi(SimulatedClock())
    await api.create(EXTERNAL_SECRETS, external("es", f"{PATH}@1", CONFIG_MAP))
    vault = VaultClient(kv.address, Secret(kv.root), kv.http)
    ledger = await LiveEvidence(vault, api).ledger(REF, 0.0)
    assert [(each.kind, each.name) for each in ledger.consumers] == [("ConfigMap", "n/es")]


@pytest.mark.parametrize(
    ("changes", "alive", "held"),
    [
        ({}, {"u"}, 1),
        ({"lapsed": True}, {"u"}, 1),  # The pod is there and says nothing any more: it blocks.
        ({}, set(), 0),
        ({"lapsed": True}, None, 0),
        ({}, None, 1),
        ({"kind": "token", "lapsed": True}, {"u"}, 0),
        ({"kind": "token"}, set(), 1),
    ],
)
def test_acknowledgements_count_while_their_reader_lives(changes, alive, held) -> None:
    assert len(from_acknowledgements([row(**changes)], alive)) == held


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("pod", "the agent in n/app"), ("token", "strongroom token revoke -accessor u")],
)
def test_who_acknowledged_and_stays_behind_comes_with_a_remedy(kind: str, remedy: str) -> None:
    (found,) = from_acknowledgements([row(kind=kind)], {"u"})
    assert remedy in Blocked(REF, (found,)).hint


ENVIRONMENT = {"env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}]}
ALL = {"envFrom": [{"secretRef": {"name": "db"}}]}


@pytest.mark.parametrize(
    ("started", "written", "version"),
    [
        ("2026-01-01T00:00:00Z", 0.0, 2),
        ("2026-01-01T00:00:00Z", 1767225605.0, 1),
        ("2026-01-01T00:00:08Z", 1767225605.0, 1),  # After the write, before the Secret moved.
        # In the very second: times of a cluster say no more than that.
        ("2026-01-01T00:00:10Z", 1767225605.0, 1),
        ("2026-01-01T00:00:12Z", 1767225605.0, 2),
    ],
)
@pytest.mark.parametrize("spec", [ENVIRONMENT, ALL])
def test_an_environment_holds_what_it_started_with(started, written, version, spec) -> None:
    (found,) = from_environment(PATH, [pod(started, **spec)], [secret(2)], written)
    assert found.version == version
    assert "kubectl delete pod" in found.remedy


SECRET_VOLUME = {"name": "v", "secret": {"secretName": "db"}}
PROJECTED = {"name": "v", "projected": {"sources": [{"secret": {"name": "db"}}, {"configMap": {}}]}}


@pytest.mark.parametrize("volume", [SECRET_VOLUME, PROJECTED])
@pytest.mark.parametrize(
    ("mount", "holds"),
    [
        ({"name": "v", "mountPath": "/p", "subPath": "password"}, True),
        ({"name": "v", "mountPath": "/p", "subPathExpr": "$(NAME)"}, True),
        ({"name": "v", "mountPath": "/p"}, False),
        ({"name": "other", "mountPath": "/p", "subPath": "password"}, False),
    ],
)
def test_a_file_mounted_by_subpath_stays_what_it_was(volume, mount, holds) -> None:
    given = pod("2026-01-01T00:00:00Z", volumeMounts=[mount])
    given["spec"]["volumes"] = [volume]
    found = from_environment(PATH, [given], [secret(2)], 1767225605.0)
    assert [(each.kind, each.version) for each in found] == ([("subPath", 1)] if holds else [])


def test_pods_without_the_secret_or_at_their_end_hold_nothing() -> None:
    ended = pod("2026-01-01T00:00:00Z", **ENVIRONMENT)
    ended["status"]["phase"] = "Succeeded"
    assert from_environment(PATH, [ended, pod("2026-01-01T00:00:00Z")], [secret(2)], 0) == []


# a rotation of a secret in a real store


class Evidence:
    """A ledger the test writes."""

    def __init__(self, *consumers: Consumer) -> None:
        self.consumers = list(consumers)
        self.written: list[float] = []

    async def ledger(self, ref, written) -> Ledger:
        self.written.append(written)
        return Ledger(tuple(self.consumers))


class Died(Exception):
    """The process ended here."""


class Mortal(VaultClient):
    """Dies at its n-th call, before it or after the server has done it."""

    calls = 0
    last = 10**6
    after = False

    async def _send(self, *args, **named):
        self.calls += 1
        if self.calls == self.last and not self.after:
            raise Died
        reply = await super()._send(*args, **named)
        if self.calls == self.last:
            raise Died
        return reply


@pytest.fixture
async def kv(store):
    await store.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    await store.ask("POST", PATH, {"data": {"password": "old", "user": "u"}})
    return store


def runner(store, evidence, clock, client=VaultClient) -> Runner:
    made = iter(f"generated-{number}-{'x' * 20}" for number in range(9))
    vault = client(store.address, Secret(store.root), store.http)
    return Runner(vault, evidence, clock, lambda length, alphabet: next(made))


async def state(store) -> tuple:
    _, metadata = await store.ask("GET", "secret/metadata/prod/db")
    _, current = await store.ask("GET", PATH)
    data = metadata["data"]
    versions = {number: bool(each["deletion_time"]) for number, each in data["versions"].items()}
    custom = data["custom_metadata"]
    return (
        data["current_version"],
        versions,
        MARK in custom,
        custom["strongroom-rotated"][:6],
        current["data"]["data"]["user"],
        current["data"]["data"]["password"] != "old",
    )


FINISHED = (2, {"1": True, "2": False}, False, "1 to 2", "u", True)


async def test_it_ends_in_the_same_state_wherever_it_is_cut_off(store) -> None:
    await store.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    cuts = 0
    for after in (False, True):
        for last in range(1, 100):
            await store.ask("DELETE", "secret/metadata/prod/db")
            await store.ask("POST", PATH, {"data": {"password": "old", "user": "u"}})
            mortal = type("M", (Mortal,), {"last": last, "after": after})
            try:
                await runner(store, Evidence(), SimulatedClock(), mortal).run(
                    REF, GENERATOR, 5, str
                )
            except Died:
                cuts += 1
                # Cut off after the last step it is done; to run it again would be another one.
                _, seen = await store.ask("GET", "secret/metadata/prod/db")
                if "strongroom-rotated" in (seen["data"]["custom_metadata"] or {}):
                    assert await state(store) == FINISHED
                    continue
                await runner(store, Evidence(), SimulatedClock()).run(REF, GENERATOR, 5, str)
                assert await state(store) == FINISHED, (last, after)
            else:
                break
    assert cuts >= 20


async def test_who_stays_behind_blocks_and_is_named(kv) -> None:
    behind = Consumer("pod", "n/app", 1, "acknowledged", "see its log")
    evidence, clock = Evidence(behind, Consumer("Secret", "n/db", 2, "recorded")), SimulatedClock()
    with pytest.raises(Blocked) as caught:
        await runner(kv, evidence, clock).run(REF, GENERATOR, 0, str)
    assert "n/app" in caught.value.message
    assert "n/db" not in caught.value.message
    assert caught.value.hint == "see its log"
    _, old = await kv.ask("GET", f"{PATH}?version=1")
    assert old["data"]["data"]["password"] == "old"
    # It goes on from there once the pod has moved, by whoever runs it next.
    evidence.consumers.clear()
    told: list[str] = []
    await runner(kv, evidence, clock).run(REF, GENERATOR, 0, told.append)
    assert told[-1] == "done"
    assert await state(kv) == FINISHED


class Hurried(SimulatedClock):
    """Time passes as soon as somebody waits for it."""

    async def sleep(self, seconds: float) -> None:
        await self.advance(seconds)


class Moving(Evidence):
    """The consumer takes the new version up when it has been looked for so often."""

    async def ledger(self, ref, written) -> Ledger:
        found = await super().ledger(ref, written)
        if len(self.written) == 4:
            self.consumers = [Consumer("pod", "n/app", 2, "e")]
        return found


class Large(Evidence):
    """Of a cluster where a look takes four seconds."""

    def __init__(self, clock: SimulatedClock, *consumers: Consumer) -> None:
        super().__init__(*consumers)
        self._clock = clock

    async def ledger(self, ref, written) -> Ledger:
        await self._clock.advance(4.0)
        return await super().ledger(ref, written)


async def test_a_cluster_where_a_look_takes_long_is_left_alone_for_as_long(kv) -> None:
    clock = Hurried()
    evidence = Large(clock, Consumer("pod", "n/app", 1, "e"))
    with pytest.raises(Blocked):
        await runner(kv, evidence, clock).run(REF, GENERATOR, 60.0, str)
    assert len(evidence.written) <= 9


@pytest.mark.parametrize("seconds", [60.0, 0.5])
async def test_who_moves_in_time_is_waited_for_and_nothing_ends_before(kv, seconds) -> None:
    told: list[str] = []
    run = runner(kv, Moving(Consumer("pod", "n/app", 1, "e")), Hurried())
    if seconds < 1:
        with pytest.raises(Blocked):
            await run.run(REF, GENERATOR, seconds, told.append)
        assert (await kv.ask("GET", f"{PATH}?version=1"))[0] == 200
        return
    await run.run(REF, GENERATOR, seconds, told.append)
    assert [each for each in told if each.startswith("waiting")] == ["waiting for 1: pod n/app"]
    assert told[-2:] == ["every consumer moved; deleted version 1", "done"]
    assert await state(kv) == FINISHED


async def test_evidence_is_asked_for_with_the_time_at_which_the_new_version_was_written(kv) -> None:
    """Who took the Secret into its environment before that holds the old one."""
    evidence = Evidence()
    await kv.clock.advance(100)
    run = runner(kv, evidence, kv.clock)
    plan = await run.plan(REF, GENERATOR)
    await run.run(REF, GENERATOR, 0, str, plan)
    _, said = await kv.ask("GET", "secret/metadata/prod/db")
    made = parse_rfc3339(said["data"]["versions"]["2"]["created_time"])
    # Of the plan there is none; then before the old version ends, and before the end of all.
    assert evidence.written[0] == 0.0
    assert set(evidence.written[1:]) == {made}


async def test_the_plan_says_what_happens_and_changes_nothing(kv) -> None:
    before = (await kv.ask("GET", "secret/metadata/prod/db"))[1]["data"]
    plan = await runner(kv, Evidence(Consumer("pod", "n/app", 1, "e")), SimulatedClock()).plan(
        REF, GENERATOR
    )
    assert (await kv.ask("GET", "secret/metadata/prod/db"))[1]["data"] == before
    text = "\n".join(plan.lines())
    assert "version 1 to 2" in text
    assert "the one consumer shows version 2" in text
    assert plan.retired == (1,)
    assert "generated" not in text


async def test_bad_ground_is_refused_before_anything_happens(kv) -> None:
    run = runner(kv, Evidence(), SimulatedClock())
    with pytest.raises(NotFound):
        await run.plan(parse_secret_ref("prod/absent", "secret"), GENERATOR)
    with pytest.raises(Invalid, match="absent"):
        await run.plan(REF, PasswordGenerator(("absent",)))
    await kv.ask("DELETE", PATH)
    with pytest.raises(NotFound):
        await run.plan(REF, GENERATOR)


async def test_a_write_in_between_stops_it_and_abandon_forgets_it(kv) -> None:
    behind = Evidence(Consumer("pod", "n/app", 1, "e"))
    with pytest.raises(Unavailable):
        await runner(kv, behind, SimulatedClock()).run(REF, GENERATOR, 0, str)
    await kv.ask("POST", PATH, {"data": {"password": "by hand"}})
    run = runner(kv, Evidence(), SimulatedClock())
    with pytest.raises(Conflict):
        await run.run(REF, GENERATOR, 0, str)
    assert await run.abandon(REF)
    assert not await run.abandon(REF)
    _, current = await kv.ask("GET", PATH)
    assert current["data"]["data"]["password"] == "by hand"


class Raced(VaultClient):
    """Somebody writes between what is read here and what is written."""

    async def kv2_read(self, mount, path, version=0):
        found = await super().kv2_read(mount, path, version)
        await self.request("POST", f"{mount}/data/{path}", {"data": {"password": "theirs"}})
        return found


async def test_what_somebody_writes_at_that_moment_is_not_written_over(kv) -> None:
    with pytest.raises(Invalid, match="check-and-set"):
        await runner(kv, Evidence(), SimulatedClock(), Raced).run(REF, GENERATOR, 0.0, str)
    _, current = await kv.ask("GET", PATH)
    assert current["data"]["data"] == {"password": "theirs"}


async def test_where_no_consumer_is_known_nothing_else_is_said(kv) -> None:
    said: list[str] = []
    alone = runner(kv, Evidence(), SimulatedClock())
    assert "wait for nobody: no consumer is known" in (await alone.plan(REF, GENERATOR)).lines()
    await alone.run(REF, GENERATOR, 0.0, said.append)
    assert said[-2] == "no consumer is known; deleted version 1"


async def test_a_secret_whose_versions_end_by_themselves_is_rotated(kv) -> None:
    await kv.ask("POST", "secret/metadata/prod/db", {"delete_version_after": "24h"})
    await kv.ask("POST", PATH, {"data": {"password": "old", "user": "u"}})
    alone = runner(kv, Evidence(), kv.clock)
    assert (await alone.plan(REF, GENERATOR)).retired == (1, 2)
    told: list[str] = []
    await alone.run(REF, GENERATOR, 0.0, told.append)
    assert told[-2:] == ["no consumer is known; deleted versions 1, 2", "done"]


@pytest.mark.parametrize("where", ["secret/metadata/prod/db", "secret/config"])
async def test_a_write_that_would_end_what_is_in_use_is_refused_beforehand(kv, where) -> None:
    await kv.ask("POST", where, {"max_versions": 1})
    holder = Consumer("pod", "n/app", 1, "e")
    with pytest.raises(Invalid, match="destroy version 1 at once: pod n/app holds") as caught:
        await runner(kv, Evidence(holder), SimulatedClock()).plan(REF, GENERATOR)
    assert "-max-versions" in caught.value.hint
    # Nor what nobody is known to hold: it could not be brought back.
    with pytest.raises(Invalid, match="destroy version 1 at once"):
        await runner(kv, Evidence(), SimulatedClock()).plan(REF, GENERATOR)
    # With two, the version before stays, and one that nobody holds any more may go.
    await kv.ask("POST", where, {"max_versions": 2})
    await runner(kv, Evidence(holder), SimulatedClock()).plan(REF, GENERATOR)
    await kv.ask("POST", PATH, {"data": {"password": "newer"}})
    with pytest.raises(Invalid, match="holds version 1"):
        await runner(kv, Evidence(holder), SimulatedClock()).plan(REF, GENERATOR)
    run, told = runner(kv, Evidence(), SimulatedClock()), []
    plan = await run.plan(REF, GENERATOR)
    assert "which destroys version 1;" in plan.lines()[1]
    assert plan.lines()[3].startswith("delete version 2 ")
    await run.run(REF, GENERATOR, 0.0, told.append, plan)
    assert told[-2].endswith("deleted version 2")


async def test_more_fields_than_can_be_recorded_are_refused_in_the_plan(kv) -> None:
    fields = tuple(f"a-long-name-of-a-field-{number}" for number in range(30))
    await kv.ask("POST", PATH, {"data": dict.fromkeys(fields, "x")})
    with pytest.raises(Invalid, match="too-many-fields"):
        await runner(kv, Evidence(), SimulatedClock()).plan(REF, PasswordGenerator(fields))


async def test_what_another_rotation_did_meanwhile_is_not_done_once_more(kv) -> None:
    late = runner(kv, Evidence(), SimulatedClock())
    plan = await late.plan(REF, GENERATOR)
    await runner(kv, Evidence(), SimulatedClock()).run(REF, GENERATOR, 0.0, str)
    with pytest.raises(Conflict, match="has version 2 now"):
        await late.run(REF, GENERATOR, 0.0, str, plan)
    assert await state(kv) == FINISHED


async def test_of_what_secret_and_mount_keep_the_more_counts(kv) -> None:
    await kv.ask("POST", "secret/metadata/prod/db", {"max_versions": 1})
    await kv.ask("POST", "secret/config", {"max_versions": 5})
    run = runner(kv, Evidence(Consumer("pod", "n/app", 2, "e")), SimulatedClock())
    await run.run(REF, GENERATOR, 0.0, str, await run.plan(REF, GENERATOR))
    assert await state(kv) == FINISHED


class LikeVault(VaultClient):
    """There a deletion is no change of the secret's `updated_time`."""

    clock: SimulatedClock
    deletions = 0

    async def kv2_metadata(self, mount, path):
        metadata = await super().kv2_metadata(mount, path)
        newest = metadata["versions"][str(metadata["current_version"])]
        return {**metadata, "updated_time": newest["created_time"]}

    async def kv2_delete(self, mount, path, versions):
        self.clock.step_wall(1)
        await super().kv2_delete(mount, path, versions)
        self.deletions += 1
        assert self.deletions == 1


async def test_a_clock_behind_the_stores_deletes_once(kv) -> None:
    behind = SimulatedClock(kv.clock.now() - 60)
    client = type("C", (LikeVault,), {"clock": kv.clock})
    await runner(kv, Evidence(), behind, client).run(REF, GENERATOR, 0.0, str)
    assert await state(kv) == FINISHED


async def test_a_rotation_that_was_abandoned_meanwhile_is_not_begun_again(kv) -> None:
    """Who planned to go on with it did not plan to write a version of his own."""
    mark = {"custom_metadata": {MARK: UNDER_WAY.dumps()}}
    await kv.ask("POST", "secret/metadata/prod/db", mark)
    late = runner(kv, Evidence(), SimulatedClock())
    plan = await late.plan(REF, GENERATOR)
    assert plan.resumed
    assert await late.abandon(REF)
    with pytest.raises(Conflict, match="goes no further"):
        await late.run(REF, GENERATOR, 0.0, str, plan)
    _, said = await kv.ask("GET", "secret/metadata/prod/db")
    assert (said["data"]["current_version"], said["data"]["custom_metadata"]) == (1, None)


class Interrupted(VaultClient):
    """Somebody else acts just before its n-th call."""

    calls = 0
    at = 0
    other: Callable[[], Awaitable[None]]

    async def _send(self, *args, **named):
        self.calls += 1
        if self.calls == self.at:
            await type(self).other()
        return await super()._send(*args, **named)


async def rotated(run: Runner, field: str) -> bool:
    """Whether it says that it is done."""
    generator = PasswordGenerator((field,))
    try:
        await run.run(REF, generator, 0.0, str, await run.plan(REF, generator))
    except (Refusal, Died):
        return False
    return True


@pytest.mark.parametrize("killed_at", [5, 6, 7, 8, 9, 10**6])
async def test_who_says_done_has_rotated_what_was_asked_for(store, killed_at) -> None:
    """Two begin at once, one of them may die: no intent ends as another's."""
    await store.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    for at in range(1, 16):
        await store.ask("DELETE", "secret/metadata/prod/db")
        await store.ask("POST", PATH, {"data": {"password": "old", "user": "u"}})
        mortal = type("M", (Mortal,), {"last": killed_at})
        done: list[bool] = []

        async def other(mortal=mortal, done=done) -> None:
            done.append(await rotated(runner(store, Evidence(), SimulatedClock(5), mortal), "user"))

        client = type("I", (Interrupted,), {"at": at, "other": staticmethod(other)})
        first = await rotated(runner(store, Evidence(), SimulatedClock(), client), "password")
        _, seen = await store.ask("GET", PATH)
        data = seen["data"]["data"]
        assert not first or data["password"] != "old", at
        assert not (done and done[0]) or data["user"] != "u", at
        # Nor does whoever runs it next.
        for field, old in (("user", "u"), ("password", "old")):
            if await rotated(runner(store, Evidence(), SimulatedClock(9)), field):
                _, seen = await store.ask("GET", PATH)
                assert seen["data"]["data"][field] != old, at


async def test_what_is_under_way_for_other_fields_is_not_gone_on_with(kv) -> None:
    mark = {"custom_metadata": {MARK: UNDER_WAY.dumps()}}
    await kv.ask("POST", "secret/metadata/prod/db", mark)
    with pytest.raises(Conflict, match="password of secret/prod/db is under way") as caught:
        await runner(kv, Evidence(), SimulatedClock()).plan(REF, PasswordGenerator(("user",)))
    assert "--field password" in caught.value.hint


async def test_a_version_that_somebody_else_wrote_is_not_taken_for_the_rotations(kv) -> None:
    mark = {"custom_metadata": {MARK: UNDER_WAY.dumps()}}
    await kv.ask("POST", "secret/metadata/prod/db", mark)
    await kv.ask("POST", PATH, {"data": {"password": "old", "user": "by hand"}})
    run = runner(kv, Evidence(), SimulatedClock())
    with pytest.raises(Conflict, match="differ from 1 in password alone"):
        await run.plan(REF, GENERATOR)
    with pytest.raises(Conflict, match="differ from 1 in password alone"):
        await run.run(REF, GENERATOR, 0.0, str)
