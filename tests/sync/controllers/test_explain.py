"""`explain` names the first thing that is wrong, `plan` says what would happen; neither writes."""

from dataclasses import replace

import pytest

from strongroom.kube.resource import CONFIG_MAPS, LEASES, Resource
from strongroom.model.clock import rfc3339
from strongroom.model.errors import Denied, Unavailable
from strongroom.sync.crds import EXTERNAL_SECRETS, GENERATORS, SECRET_STORES
from strongroom.sync.explain import ACTIONS, STEPS, Chain, explain, plan
from strongroom.sync.providers.contract import Traits
from strongroom.sync.reader import NoGenerators, Reader
from strongroom.sync.spec import Manifest
from strongroom.sync.stores import ApiLookup, Stores
from strongroom.sync.target import Targets
from strongroom.sync.templates import GoTemplates

THINGS = Resource("example.com", "v1", "things", "Thing")
ROW = {"secretKey": "password", "remoteRef": {"key": "prod/db", "property": "password"}}


@pytest.fixture
def chain(idle) -> Chain:
    async def make(store, namespace):
        return idle.provider

    lookup, render = ApiLookup(idle.api), GoTemplates(idle.clock)
    stores = Stores(lookup, make, idle.clock)
    reader = Reader(stores, NoGenerators(), render)
    return Chain(idle.api, lookup, stores, reader, Targets(idle.api, any_thing), render)


async def any_thing(kind: Manifest) -> Resource:
    return CONFIG_MAPS if kind.kind == "ConfigMap" else THINGS


async def walked(idle, chain: Chain, name: str = "db"):
    writes = idle.api.writes
    found = await explain(chain, await idle.item(name))
    assert idle.api.writes == writes
    assert {each.name for each in found.steps} <= set(STEPS)
    return found


async def test_a_good_chain_is_walked_to_its_end(idle, chain) -> None:
    await idle.start()
    await idle.external(target={"template": {"data": {"p": "{{ .password }}"}}})
    found = await walked(idle, chain)
    assert found.broken is None
    assert [each.name for each in found.steps] == [
        each for each in STEPS if each not in ("permission", "generator")
    ]
    assert "one" not in str(found)


@pytest.mark.parametrize(
    ("spec", "step", "code"),
    [
        ({"data": []}, "manifest", "no-data"),
        ({"secretStoreRef": {"name": "gone"}}, "store", "no-store"),
        ({"data": [{"secretKey": "a", "remoteRef": {"key": "gone"}}]}, "path", "fake-not-found"),
        ({"data": [{"secretKey": "a", "remoteRef": {"key": "prod/db", "property": "x"}}]}, "property", "no-property"),
        ({"target": {"template": {"data": {"a": "{{ .gone }}"}}}}, "template", "bad-template"),
        ({"target": {"creationPolicy": "Merge"}}, "target", "secret-missing"),
    ],
)  # fmt: skip
async def test_the_first_broken_link_is_named_with_a_remedy(
    idle, chain, spec: dict, step: str, code: str
) -> None:
    await idle.external(**spec)
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.code) == (step, code)
    assert broken.remedy


async def test_what_a_login_passes_over_is_said_with_it(idle, chain) -> None:
    idle.provider.traits = Traits("ReadWrite", notes=("auth has b besides a",))
    await idle.external()
    said = {each.name: each.said for each in (await walked(idle, chain)).steps}
    assert said["identity"].endswith("lets us in; auth has b besides a")


async def test_identity_and_permission_are_told_apart(idle, chain) -> None:
    await idle.external()
    idle.provider.broken = Unavailable("unreachable", "no answer")
    assert (await walked(idle, chain)).broken.name == "identity"
    idle.provider.broken = None

    async def denied(ref):
        raise Denied("store-denied", "permission denied")

    idle.provider.fetch = denied
    broken = (await walked(idle, chain)).broken
    assert broken.name == "permission"
    assert broken.remedy == "let the store's identity read prod/db, or correct remoteRef.key"


async def test_a_find_that_may_not_list_lacks_a_permission(idle, chain) -> None:
    async def denied(ref):
        raise Denied("store-denied", "permission denied")

    idle.provider.find = denied
    await idle.external(dataFrom=[{"find": {"name": {"regexp": "db"}}}])
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.code) == ("permission", "store-denied")


async def test_a_find_that_is_not_answered_is_no_matter_of_a_property(idle, chain) -> None:
    async def silent(ref):
        raise Unavailable("unreachable", "no answer")

    idle.provider.find = silent
    await idle.external(dataFrom=[{"find": {"name": {"regexp": "db"}}}])
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.code, broken.remedy) == ("path", "unreachable", "look at the store")


async def test_what_was_never_there_was_not_deleted(idle, chain) -> None:
    await idle.external()
    broken = (await walked(idle, chain)).broken
    assert broken.said == "Secret db is not there"


async def test_the_stores_that_there_are_are_named(idle, chain) -> None:
    await idle.external(secretStoreRef={"name": "s", "kind": "ClusterSecretStore"})
    assert "there is a SecretStore of this name" in (await walked(idle, chain)).broken.remedy
    await idle.external("near", secretStoreRef={"name": "ss"})
    assert "did you mean s?" in (await walked(idle, chain, "near")).broken.remedy


async def test_who_leads_is_said_of_an_object_that_nobody_has_brought_in_order(idle, chain) -> None:
    await idle.external()
    knowing = replace(chain, clock=idle.clock)
    assert "no operator has led" in (await walked(idle, knowing)).broken.remedy
    place = {"metadata": {"name": "strongroom-operator", "namespace": "n"}}
    await idle.api.create(LEASES, {**place, "spec": {"holderIdentity": "pod-1",
        "leaseDurationSeconds": 15, "renewTime": rfc3339(idle.clock.now())}})  # fmt: skip
    assert (await walked(idle, knowing)).broken.remedy.startswith("pod-1 leads")
    await idle.clock.advance(60)
    assert (
        "pod-1 held the Lease n/strongroom-operator last"
        in (await walked(idle, knowing)).broken.remedy
    )


async def test_a_store_of_another_class_is_named(idle, chain) -> None:
    await idle.api.merge_patch(SECRET_STORES, "s", "n", {"spec": {"controller": "other"}})
    await idle.external()
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.code) == ("store", "other-class")


async def test_an_operator_that_does_not_run_is_suspected(idle, chain) -> None:
    await idle.external()
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.code) == ("target", "differs")
    await idle.start()
    await idle.stop()
    await idle.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"metadata": {"labels": {"a": "b"}}})
    broken = (await walked(idle, chain)).broken
    assert broken is not None


async def test_a_plan_leaves_what_is_of_another_class_alone(idle, chain) -> None:
    await idle.api.merge_patch(SECRET_STORES, "s", "n", {"spec": {"controller": "other"}})
    found = await plan(chain, manifest(data=[ROW]))
    assert (found.action, found.code) == ("nothing", "other-class")


async def test_somebody_elses_secret_is_named(idle, chain) -> None:
    await idle.secret_of_somebody(mine="x")
    await idle.external()
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.code) == ("target", "not-ours")
    assert "strongroom.dev/adopt" in broken.remedy


def manifest(**spec) -> dict:
    spec = {"secretStoreRef": {"name": "s"}, "data": [ROW], **spec}
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": "db", "namespace": "n", "uid": ""},
        "spec": spec,
    }


async def planned(idle, chain, item: dict) -> tuple[str, str]:
    writes = idle.api.writes
    found = await plan(chain, item)
    assert idle.api.writes == writes
    assert found.action in ACTIONS
    return found.action, found.said


async def test_what_is_new_would_be_created(idle, chain) -> None:
    assert await planned(idle, chain, manifest()) == ("create", "keys password")


async def test_what_is_there_would_be_refused_or_taken_over(idle, chain) -> None:
    await idle.secret_of_somebody(mine="x")
    assert (await planned(idle, chain, manifest()))[0] == "refuse"
    adopting = manifest()
    adopting["metadata"]["annotations"] = {"strongroom.dev/adopt": "true"}
    action, said = await planned(idle, chain, adopting)
    assert action == "take over"
    assert "removes mine" in said
    merging = manifest(target={"creationPolicy": "Merge"})
    assert (await planned(idle, chain, merging))[0] == "change"


async def test_what_is_in_order_would_be_left(idle, chain) -> None:
    await idle.start()
    await idle.external()
    assert (await planned(idle, chain, await idle.item()))[0] == "nothing"
    idle.provider.put("prod/db", password="two")
    await idle.stop()
    await idle.clock.advance(2)
    action, said = await planned(idle, chain, await idle.item())
    assert (action, said.partition(";")[0]) == ("change", "changes password")


async def test_what_cannot_be_is_refused_and_what_is_not_known_is_said(idle, chain) -> None:
    assert (await planned(idle, chain, manifest(data=[])))[0] == "refuse"
    assert (await planned(idle, chain, manifest(target={"creationPolicy": "None"})))[0] == "nothing"
    idle.provider.broken = Unavailable("unreachable", "no answer")
    await idle.clock.advance(2)
    assert (await planned(idle, chain, manifest()))[0] == "unknown"


FIND = [{"find": {"name": {"regexp": "^prod/db$"}}}]


@pytest.mark.parametrize("target", [{}, {"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}])
@pytest.mark.parametrize("policy", ["Retain", "Delete", "Merge"])
async def test_what_the_store_has_none_of_is_kept_or_deleted_by_the_policy(
    idle, chain, target: dict, policy: str
) -> None:
    # A template of its own is not rendered over nothing.
    target = {**target, "deletionPolicy": policy, "template": {"data": {"own": "text"}}}
    idle.resolve = any_thing
    await idle.start()
    await idle.external(data=[], dataFrom=FIND, target=target)
    await idle.stop()
    del idle.provider.secrets["prod/db"]
    await idle.clock.advance(2)
    broken = (await walked(idle, chain)).broken
    action, said = await planned(idle, chain, await idle.item())
    if policy == "Retain":
        assert broken is None
        assert (action, said) == ("nothing", "the store has none of it")
    elif policy == "Delete":
        kind = "ConfigMap" if "manifest" in target else "Secret"
        assert broken.said.endswith(f"deletionPolicy is Delete, but {kind} db is there")
        assert (action, said) == ("delete", "the store has none of it")
    else:
        assert said != "the store has none of it"


async def test_what_is_not_owned_would_not_be_deleted(idle, chain) -> None:
    await idle.start()
    target = {"creationPolicy": "Orphan", "deletionPolicy": "Delete"}
    await idle.external(data=[], dataFrom=FIND, target=target)
    await idle.stop()
    del idle.provider.secrets["prod/db"]
    await idle.clock.advance(2)
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.code) == ("target", "bad-policy")
    assert "creationPolicy=Owner" in broken.remedy
    action, said = await planned(idle, chain, await idle.item())
    assert action == "refuse"
    assert "deletes no Secret" in said


CONFIG_MAP = {"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}
THING = {
    "manifest": {"apiVersion": "example.com/v1", "kind": "Thing"},
    "template": {"templateFrom": [{"target": "spec.db", "literal": "url: u-{{ .password }}"}]},
}


@pytest.mark.parametrize(
    ("target", "place"), [(CONFIG_MAP, "data.password"), (THING, "spec.db.url")], ids=["map", "own"]
)
async def test_a_target_that_is_no_secret_is_compared(
    idle, chain, target: dict, place: str
) -> None:
    kind, resource = (
        target["manifest"]["kind"],
        await any_thing(Manifest("", target["manifest"]["kind"])),
    )
    item = manifest(target=target)
    assert await planned(idle, chain, item) == ("create", f"{kind} with {place}")
    idle.resolve = any_thing
    await idle.start()
    await idle.external(target=target)
    assert (await walked(idle, chain)).broken is None
    assert (await planned(idle, chain, await idle.item()))[0] == "nothing"
    await idle.stop()
    edited = (
        {"data": {"password": "theirs"}} if kind == "ConfigMap" else {"spec": {"db": {"url": "x"}}}
    )
    await idle.api.merge_patch(resource, "db", "n", edited, manager="kubectl-edit")
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.said) == ("target", f"{kind} db differs at {place}")
    action, said = await planned(idle, chain, await idle.item())
    assert (action, said) == ("change", f"{kind} differs at {place}")
    await idle.api.delete(resource, "db", "n")
    assert (await walked(idle, chain)).broken.said == f"{kind} db is not there"


async def test_what_the_operator_said_of_a_target_is_the_remedy(idle, chain, unruly) -> None:
    unruly.only = CONFIG_MAPS
    forbidden = Denied("kube-forbidden", "/api/v1/namespaces/n/configmaps/db: may not patch")
    unruly.failures = {"apply": [forbidden] * 9}
    await idle.external(target=CONFIG_MAP)
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.said) == ("target", "ConfigMap db is not there")
    assert broken.remedy.startswith("the operator was refused: may not patch [kube-forbidden]")
    assert "strongroom install rbac" in broken.remedy
    assert "UpdateFailed: may not patch [kube-forbidden]" in await idle.notes()
    assert (await idle.condition())["message"] == "may not patch [kube-forbidden]"


async def test_a_target_that_is_no_secret_and_somebody_elses_is_named(idle, chain) -> None:
    theirs = {"metadata": {"name": "db", "namespace": "n"}, "data": {"theirs": "x"}}
    await idle.api.create(CONFIG_MAPS, theirs)
    await idle.external(target=CONFIG_MAP)
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.code) == ("target", "not-ours")
    assert (await planned(idle, chain, manifest(target=CONFIG_MAP)))[0] == "refuse"
    adopting = manifest(target=CONFIG_MAP)
    adopting["metadata"]["annotations"] = {"strongroom.dev/adopt": "true"}
    action, said = await planned(idle, chain, adopting)
    assert (action, "data.password" in said) == ("take over", True)
    merging = manifest(target={**CONFIG_MAP, "name": "gone", "creationPolicy": "Merge"})
    assert (await planned(idle, chain, merging))[0] == "nothing"
    await idle.external("merging", target=merging["spec"]["target"])
    broken = (await walked(idle, chain, "merging")).broken
    assert (broken.code, broken.said) == (
        "target-missing",
        "ConfigMap gone to merge into is not there",
    )


async def test_a_generator_that_is_gone_or_of_another_class_is_named(idle, chain) -> None:
    source = [{"sourceRef": {"generatorRef": {"kind": "Fake", "name": "f"}}}]
    await idle.external(dataFrom=source)
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.code) == ("generator", "no-generator")
    assert (await planned(idle, chain, await idle.item()))[0] == "refuse"
    (fake,) = [each for each in GENERATORS if each.kind == "Fake"]
    spec = {"controller": "theirs", "data": {"a": "b"}}
    await idle.api.create(fake, {"metadata": {"name": "f", "namespace": "n"}, "spec": spec})
    broken = (await walked(idle, chain)).broken
    assert (broken.name, broken.code) == ("generator", "other-class")
    assert (await planned(idle, chain, await idle.item()))[0] == "nothing"
    theirs = replace(chain, controller_class="theirs")
    assert (await planned(idle, theirs, await idle.item()))[0] == "unknown"
