"""ClusterExternalSecret and ClusterPushSecret: a child in every namespace that is selected."""

from typing import Any

import pytest

from strongroom.kube.resource import NAMESPACES, SECRETS, Object, Resource
from strongroom.model.errors import Denied, NotFound, Refusal, Unavailable
from strongroom.sync.crds import (
    CLUSTER_EXTERNAL_SECRETS,
    CLUSTER_PUSH_SECRETS,
    CLUSTER_SECRET_STORES,
    EXTERNAL_SECRETS,
    PUSH_SECRETS,
    crds,
)

SPEC = {
    "secretStoreRef": {"name": "wide", "kind": "ClusterSecretStore"},
    "data": [{"secretKey": "p", "remoteRef": {"key": "prod/db", "property": "password"}}],
}
PROD = [{"matchLabels": {"env": "prod"}}]


@pytest.fixture
async def wide(bench):
    store = {"metadata": {"name": "wide"}, "spec": {"provider": {"fake": {}}}}
    await bench.api.create(CLUSTER_SECRET_STORES, store)
    for name, env in (("a", "prod"), ("b", "prod"), ("c", "test")):
        await bench.api.create(NAMESPACES, {"metadata": {"name": name, "labels": {"env": env}}})
    await bench.clock.advance(0.5)
    return bench


async def fan_out(bench, annotations: dict | None = None, **spec) -> None:
    made = {
        "metadata": {"name": "everywhere", "annotations": annotations or {}},
        "spec": {"externalSecretSpec": SPEC, "namespaceSelectors": PROD, **spec},
    }
    await bench.api.create(CLUSTER_EXTERNAL_SECRETS, made)
    await bench.clock.advance(1)


async def namespaces_with(bench, resource, name: str = "everywhere") -> list[str]:
    found = (await bench.api.list(resource)).items
    return [each["metadata"]["namespace"] for each in found if each["metadata"]["name"] == name]


async def status(bench) -> dict:
    return (await bench.api.get(CLUSTER_EXTERNAL_SECRETS, "everywhere"))["status"]


async def test_children_come_with_their_secrets(wide) -> None:
    metadata = {"labels": {"team": "x"}, "annotations": {"note": "y"}}
    await fan_out(wide, {"external-secrets.io/force-sync": "1"}, externalSecretMetadata=metadata)
    assert await namespaces_with(wide, EXTERNAL_SECRETS) == ["a", "b"]
    assert await namespaces_with(wide, SECRETS) == ["a", "b"]
    child = await wide.api.get(EXTERNAL_SECRETS, "everywhere", "a")
    assert child["metadata"]["labels"] == {"team": "x"}
    assert child["metadata"]["annotations"] == {"note": "y", "external-secrets.io/force-sync": "1"}
    said = await status(wide)
    assert said["provisionedNamespaces"] == ["a", "b"]
    assert (said["failedNamespaces"], said["externalSecretName"]) == ([], "everywhere")
    assert said["conditions"][0]["status"] == "True"


async def test_one_read_serves_all_children_of_one_moment(wide) -> None:
    reads = wide.provider.reads
    await fan_out(wide)
    assert wide.provider.reads == reads + 1


async def test_namespaces_come_and_go(wide) -> None:
    await fan_out(wide)
    env = {"metadata": {"labels": {"env": "prod"}}}
    await wide.api.merge_patch(NAMESPACES, "c", "", env)
    await wide.api.merge_patch(NAMESPACES, "a", "", {"metadata": {"labels": {"env": "test"}}})
    await wide.clock.advance(1)
    assert await namespaces_with(wide, EXTERNAL_SECRETS) == ["b", "c"]
    assert (await status(wide))["provisionedNamespaces"] == ["b", "c"]


async def test_what_was_made_anew_while_the_watch_had_lapsed_has_its_children(wide) -> None:
    await fan_out(wide, namespaceSelectors=[{"matchLabels": {"env": "none"}}])
    await wide.api.delete(CLUSTER_EXTERNAL_SECRETS, "everywhere")
    spec = {"externalSecretSpec": SPEC, "namespaceSelectors": PROD}
    made = {"metadata": {"name": "everywhere", "annotations": {}}, "spec": spec}
    await wide.api.create(CLUSTER_EXTERNAL_SECRETS, made)
    wide.api.forget_history()
    await wide.clock.advance(5)
    assert await namespaces_with(wide, EXTERNAL_SECRETS) == ["a", "b"]
    assert (await status(wide))["provisionedNamespaces"] == ["a", "b"]


async def test_a_child_is_put_right_and_an_edit_reaches_it(wide) -> None:
    await fan_out(wide)
    await wide.api.merge_patch(
        EXTERNAL_SECRETS, "everywhere", "a", {"spec": {"refreshInterval": "1s"}}
    )
    await wide.clock.advance(1)
    assert (await wide.api.get(EXTERNAL_SECRETS, "everywhere", "a"))["spec"] == SPEC
    await wide.api.delete(EXTERNAL_SECRETS, "everywhere", "b")
    edit = {"spec": {"externalSecretSpec": {"refreshInterval": "5m"}}}
    await wide.api.merge_patch(CLUSTER_EXTERNAL_SECRETS, "everywhere", "", edit)
    await wide.clock.advance(1)
    for namespace in ("a", "b"):
        child = await wide.api.get(EXTERNAL_SECRETS, "everywhere", namespace)
        assert child["spec"]["refreshInterval"] == "5m"


async def test_a_new_child_name_replaces_the_old(wide) -> None:
    await fan_out(wide)
    edit = {"spec": {"externalSecretName": "renamed"}}
    await wide.api.merge_patch(CLUSTER_EXTERNAL_SECRETS, "everywhere", "", edit)
    await wide.clock.advance(1)
    assert await namespaces_with(wide, EXTERNAL_SECRETS) == []
    assert await namespaces_with(wide, EXTERNAL_SECRETS, "renamed") == ["a", "b"]


async def test_what_is_somebody_elses_is_kept_and_told(wide) -> None:
    theirs = {"metadata": {"name": "everywhere", "namespace": "a"}, "spec": {"data": []}}
    await wide.api.create(EXTERNAL_SECRETS, theirs)
    await fan_out(wide)
    assert (await wide.api.get(EXTERNAL_SECRETS, "everywhere", "a"))["spec"] == {"data": []}
    said = await status(wide)
    assert [each["namespace"] for each in said["failedNamespaces"]] == ["a"]
    assert said["provisionedNamespaces"] == ["b"]
    assert said["conditions"][0]["status"] == "False"


async def test_a_child_of_one_of_the_same_name_before_it_is_taken_on(wide) -> None:
    """As after a restore, where the object has another uid."""
    reference = {
        "apiVersion": "external-secrets.io/v1beta1", "kind": "ClusterExternalSecret",
        "name": "everywhere", "uid": "of-before", "controller": True,
    }  # fmt: skip
    metadata = {"name": "everywhere", "namespace": "a", "ownerReferences": [reference]}
    await wide.api.create(EXTERNAL_SECRETS, {"metadata": metadata, "spec": SPEC})
    await fan_out(wide)
    (owner,) = (await wide.api.get(EXTERNAL_SECRETS, "everywhere", "a"))["metadata"][
        "ownerReferences"
    ]
    item = await wide.api.get(CLUSTER_EXTERNAL_SECRETS, "everywhere")
    assert owner["uid"] == item["metadata"]["uid"]
    assert (await status(wide))["failedNamespaces"] == []


async def test_in_order_costs_no_write(wide) -> None:
    await fan_out(wide, refreshTime="1m")
    await wide.clock.advance(1)
    writes = wide.api.writes
    await wide.clock.advance(600)
    assert wide.api.writes == writes


async def test_the_other_controllers_finalizers_are_let_go(wide) -> None:
    await fan_out(wide)
    own = "externalsecrets.external-secrets.io/clusterexternalsecret-cleanup"
    mark = "externalsecrets.external-secrets.io/ces-everywhere"
    await wide.api.merge_patch(NAMESPACES, "a", "", {"metadata": {"finalizers": [mark]}})
    await wide.api.merge_patch(
        CLUSTER_EXTERNAL_SECRETS, "everywhere", "", {"metadata": {"finalizers": [own]}}
    )
    await wide.clock.advance(0.5)
    await wide.api.delete(CLUSTER_EXTERNAL_SECRETS, "everywhere")
    await wide.clock.advance(1)
    with pytest.raises(NotFound):
        await wide.api.get(CLUSTER_EXTERNAL_SECRETS, "everywhere")
    assert not (await wide.api.get(NAMESPACES, "a"))["metadata"].get("finalizers")
    assert await namespaces_with(wide, EXTERNAL_SECRETS) == []


class Late:
    """An API to whose namespaces somebody adds a finalizer just before theirs are written."""

    def __init__(self, api: Any, mark: str) -> None:
        self._api = api
        self.finalizers: list[str] | None = [mark, "example.com/another"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def merge_patch(self, resource: Resource, name: str, *more: Any, **named: Any) -> Object:
        if resource == NAMESPACES and self.finalizers:
            held, self.finalizers = self.finalizers, None
            await self._api.merge_patch(resource, name, "", {"metadata": {"finalizers": held}})
        return await self._api.merge_patch(resource, name, *more, **named)


async def test_a_finalizer_that_somebody_adds_meanwhile_stays(wide) -> None:
    mark = "externalsecrets.external-secrets.io/ces-everywhere"
    await wide.start(Late(wide.api, mark))
    await fan_out(wide)
    await wide.api.merge_patch(NAMESPACES, "a", "", {"metadata": {"finalizers": [mark]}})
    own = "externalsecrets.external-secrets.io/clusterexternalsecret-cleanup"
    await wide.api.merge_patch(
        CLUSTER_EXTERNAL_SECRETS, "everywhere", "", {"metadata": {"finalizers": [own]}}
    )
    await wide.clock.advance(0.5)
    await wide.api.delete(CLUSTER_EXTERNAL_SECRETS, "everywhere")
    await wide.clock.advance(60)
    with pytest.raises(NotFound):
        await wide.api.get(CLUSTER_EXTERNAL_SECRETS, "everywhere")
    left = (await wide.api.get(NAMESPACES, "a"))["metadata"]["finalizers"]
    assert left == ["example.com/another"]


async def test_push_secrets_are_spread_as_well(wide) -> None:
    row = {"match": {"secretKey": "p", "remoteRef": {"remoteKey": "out/x"}}}
    push = {
        "secretStoreRefs": [{"name": "wide", "kind": "ClusterSecretStore"}],
        "selector": {"secret": {"name": "source"}},
        "data": [row],
    }
    source = {"metadata": {"name": "source", "namespace": "a"}, "stringData": {"p": "v"}}
    await wide.api.create(SECRETS, source)
    made = {
        "metadata": {"name": "spread"},
        "spec": {"pushSecretSpec": push, "namespaceSelectors": PROD},
    }
    await wide.api.create(CLUSTER_PUSH_SECRETS, made)
    await wide.clock.advance(1)
    assert await namespaces_with(wide, PUSH_SECRETS, "spread") == ["a", "b"]
    assert wide.provider.secrets["out/x"] == [b"v"]
    said = (await wide.api.get(CLUSTER_PUSH_SECRETS, "spread"))["status"]
    assert (said["pushSecretName"], said["provisionedNamespaces"]) == ("spread", ["a", "b"])


async def test_a_time_that_a_definition_prunes_is_not_written_again_and_again(wide) -> None:
    await fan_out(wide, refreshTime="1m")
    (ready,) = (await status(wide))["conditions"]
    kept = {"type": ready["type"], "status": ready["status"]}
    pruned = {"status": {"conditions": [kept]}}
    await wide.api.merge_patch(CLUSTER_EXTERNAL_SECRETS, "everywhere", "", pruned, "status")
    writes = wide.api.writes
    await wide.clock.advance(600)
    assert wide.api.writes == writes


async def test_an_interval_that_the_other_spells_otherwise_is_no_change(wide) -> None:
    spec = {**SPEC, "refreshInterval": "1h"}
    await fan_out(wide, externalSecretSpec=spec, refreshTime="1m")
    spelled = {"spec": {"refreshInterval": "1h0m0s"}}
    await wide.api.merge_patch(EXTERNAL_SECRETS, "everywhere", "a", spelled)
    await wide.clock.advance(120)
    child = await wide.api.get(EXTERNAL_SECRETS, "everywhere", "a")
    assert child["spec"]["refreshInterval"] == "1h0m0s"
    changed = {"spec": {"refreshInterval": "2h"}}
    await wide.api.merge_patch(EXTERNAL_SECRETS, "everywhere", "a", changed)
    await wide.clock.advance(120)
    child = await wide.api.get(EXTERNAL_SECRETS, "everywhere", "a")
    assert child["spec"]["refreshInterval"] == "1h"


@pytest.mark.parametrize(
    "failure",
    [Denied("kube-forbidden", "not yet ready"), Unavailable("unreachable", "no answer")],
    ids=["forbidden", "unreachable"],
)
async def test_a_child_that_cannot_be_written_at_first_is_written_soon(
    wide, unruly, failure: Refusal
) -> None:
    await fan_out(wide, namespaceSelectors=[{"matchLabels": {"env": "test"}}])
    unruly.failures = {"replace": [failure]}
    edit = {"spec": {"externalSecretSpec": {"refreshInterval": "5m"}}}
    await wide.api.merge_patch(CLUSTER_EXTERNAL_SECRETS, "everywhere", "", edit)
    await wide.clock.advance(2)
    assert unruly.failures == {"replace": []}
    child = await wide.api.get(EXTERNAL_SECRETS, "everywhere", "c")
    assert child["spec"]["refreshInterval"] == "5m"
    assert (await status(wide))["failedNamespaces"] == []


@pytest.mark.parametrize("part", ["labels", "annotations"])
async def test_a_childs_metadata_is_put_right(wide, part: str) -> None:
    await fan_out(wide, externalSecretMetadata={part: {"team": "x"}})
    taken = {"metadata": {part: {"team": None}}}
    await wide.api.merge_patch(EXTERNAL_SECRETS, "everywhere", "a", taken)
    await wide.clock.advance(1)
    child = await wide.api.get(EXTERNAL_SECRETS, "everywhere", "a")
    assert child["metadata"][part]["team"] == "x"


@pytest.mark.parametrize("part", ["labels", "annotations"])
async def test_what_a_child_is_no_longer_given_is_taken_off_and_nothing_else(
    wide, part: str
) -> None:
    given = {part: {"team": "x", "tier": "1"}}
    await fan_out(wide, externalSecretMetadata=given, refreshTime="1m")
    theirs = {"metadata": {part: {"theirs": "y"}}}
    await wide.api.merge_patch(EXTERNAL_SECRETS, "everywhere", "a", theirs, manager="kubectl")
    edit = {"spec": {"externalSecretMetadata": {part: {"team": None, "other": "z"}}}}
    await wide.api.merge_patch(CLUSTER_EXTERNAL_SECRETS, "everywhere", "", edit)
    await wide.clock.advance(1)
    children = [await wide.api.get(EXTERNAL_SECRETS, "everywhere", each) for each in ("a", "b")]
    left = [each["metadata"][part] for each in children]
    assert left == [{"tier": "1", "other": "z", "theirs": "y"}, {"tier": "1", "other": "z"}]
    # The key that came by a replacement of the child goes as well, and then nothing is written.
    edit = {"spec": {"externalSecretMetadata": {part: {"other": None}}}}
    await wide.api.merge_patch(CLUSTER_EXTERNAL_SECRETS, "everywhere", "", edit)
    await wide.clock.advance(1)
    child = await wide.api.get(EXTERNAL_SECRETS, "everywhere", "a")
    assert child["metadata"][part] == {"tier": "1", "theirs": "y"}
    writes = wide.api.writes
    await wide.clock.advance(300)
    assert wide.api.writes == writes


@pytest.mark.parametrize(
    ("chosen", "where"),
    [
        ({"namespaceSelector": PROD[0], "namespaceSelectors": None}, ["a", "b"]),
        ({"namespaces": ["c"], "namespaceSelectors": None}, ["c"]),
        ({"namespaces": ["c"]}, ["a", "b", "c"]),
        ({"namespaceSelectors": [*PROD, {"matchLabels": {"env": "test"}}]}, ["a", "b", "c"]),
    ],
)
async def test_each_way_to_choose_namespaces(wide, chosen: dict, where: list[str]) -> None:
    await fan_out(wide, **chosen)
    assert await namespaces_with(wide, EXTERNAL_SECRETS) == where


@pytest.mark.parametrize("field", ["namespaceSelector", "namespaces"])
async def test_a_field_that_the_api_warns_of_is_told_once(wide, field: str) -> None:
    await fan_out(wide, refreshTime="1m", **{field: PROD[0] if field[-1] == "r" else ["c"]})
    await wide.clock.advance(1200)
    told = [each for each in await wide.notes() if each.startswith("ParameterDeprecated")]
    assert told == [f"ParameterDeprecated: spec.{field} is deprecated: use spec.namespaceSelectors"]


async def test_a_push_secrets_name_and_metadata_are_its_childs(wide) -> None:
    push = {
        "secretStoreRefs": [{"name": "wide", "kind": "ClusterSecretStore"}],
        "selector": {"secret": {"name": "source"}},
        "data": [{"match": {"secretKey": "p", "remoteRef": {"remoteKey": "out/x"}}}],
    }
    spec = {
        "pushSecretSpec": push,
        "pushSecretName": "named",
        "pushSecretMetadata": {"labels": {"team": "x"}},
        "namespaceSelectors": PROD,
    }
    await wide.api.create(CLUSTER_PUSH_SECRETS, {"metadata": {"name": "spread"}, "spec": spec})
    await wide.clock.advance(1)
    child = await wide.api.get(PUSH_SECRETS, "named", "a")
    assert (child["spec"], child["metadata"]["labels"]) == (push, {"team": "x"})


async def test_a_selector_that_is_none_is_told_and_children_stay(wide) -> None:
    await fan_out(wide)
    before = await status(wide)
    # What the first part rules out is checked as well.
    bogus = [{"matchLabels": {"env": "x"}, "matchExpressions": [{"key": "a", "operator": "Is"}]}]
    edit = {"spec": {"namespaceSelectors": bogus}}
    await wide.api.merge_patch(CLUSTER_EXTERNAL_SECRETS, "everywhere", "", edit)
    await wide.clock.advance(1)
    said = await status(wide)
    assert said["conditions"][0]["status"] == "False"
    assert "'Is' is none of In, NotIn" in said["conditions"][0]["message"]
    assert said["provisionedNamespaces"] == before["provisionedNamespaces"]
    assert await namespaces_with(wide, EXTERNAL_SECRETS) == ["a", "b"]
    writes = wide.api.writes
    await wide.clock.advance(600)
    assert wide.api.writes == writes


@pytest.mark.parametrize("kind", ["ClusterExternalSecret", "ClusterPushSecret"])
def test_whether_it_is_ready_is_a_column(kind: str) -> None:
    """Their conditions have no reason, so a column of reasons alone would stay empty."""
    (definition,) = [each for each in crds() if each["spec"]["names"]["kind"] == kind]
    columns = definition["spec"]["versions"][0]["additionalPrinterColumns"]
    paths = [each["jsonPath"] for each in columns]
    assert '.status.conditions[?(@.type=="Ready")].status' in paths
