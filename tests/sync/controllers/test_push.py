"""PushSecrets: from a Secret to a store, and back out of it only when the policy says so."""

import asyncio
import base64
import json

import pytest

from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.model.errors import Conflict, Denied, NotFound, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.crds import PUSH_SECRETS, SECRET_STORES
from strongroom.sync.providers.contract import Pushed, PushTarget
from strongroom.sync.providers.fake import FakeProvider
from strongroom.sync.providers.kubernetes import KubernetesProvider, KubernetesSettings
from strongroom.sync.providers.session import Session
from strongroom.sync.push_source import Source
from strongroom.sync.push_spec import parse_push, pushes_for
from strongroom.sync.spec import StoreRef

ROW = {"match": {"secretKey": "password", "remoteRef": {"remoteKey": "out/db"}}}
USER = {"match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/user"}}}
NAMED = {"secret": {"name": "source"}}


async def push(bench, name: str = "ps", **spec) -> None:
    spec = {
        "secretStoreRefs": [{"name": "s", "kind": "SecretStore"}],
        "selector": NAMED,
        "refreshInterval": "10m",
        **spec,
    }
    if not {"data", "dataTo"} & set(spec):
        spec["data"] = [ROW]
    await bench.api.create(
        PUSH_SECRETS, {"metadata": {"name": name, "namespace": "n"}, "spec": spec}
    )
    await bench.clock.advance(0.5)


async def status(bench, name: str = "ps") -> dict:
    return (await bench.api.get(PUSH_SECRETS, name, "n")).get("status") or {}


async def ready(bench, name: str = "ps") -> tuple[str, str]:
    (condition,) = (await status(bench, name))["conditions"]
    return condition["status"], condition["reason"]


def held(bench, key: str) -> object:
    value = bench.provider.secrets[key][-1]
    return value.decode() if isinstance(value, bytes) else value


@pytest.fixture
async def source(bench):
    await bench.secret_of_somebody("source", password="p1", user="u1")
    await bench.clock.advance(0.1)
    return bench


async def test_a_key_is_pushed_and_the_status_says_where(source) -> None:
    await push(source)
    assert held(source, "out/db") == "p1"
    assert await ready(source) == ("True", "Synced")
    assert (await status(source))["syncedPushSecrets"] == {"SecretStore/s": {"out/db": ROW}}
    assert any(note.startswith("Pushed: wrote out/db") for note in await source.notes())


async def test_a_change_of_the_source_is_pushed_at_once_and_no_change_never(source) -> None:
    await push(source)
    await source.edit("source", password="p2")
    assert held(source, "out/db") == "p2"
    versions, writes = len(source.provider.secrets["out/db"]), source.api.writes
    await source.clock.advance(3600)
    assert len(source.provider.secrets["out/db"]) == versions
    assert source.api.writes == writes


async def test_defaults_that_a_definition_fills_in_are_no_change(source) -> None:
    await push(source)
    row = {"conversionStrategy": "None"}
    filled = {"status": {"syncedPushSecrets": {"SecretStore/s": {"out/db": row}}}}
    await source.api.merge_patch(PUSH_SECRETS, "ps", "n", filled, "status")
    writes = source.api.writes
    await source.clock.advance(3600)
    assert source.api.writes == writes


async def test_of_several_sources_the_first_counts_as_it_does_for_the_other(source) -> None:
    generator = {"kind": "Password", "name": "p"}
    selector = {"matchLabels": {"not": "there"}}
    await push(
        source,
        selector={"secret": {"name": "source", "selector": selector}, "generatorRef": generator},
    )
    assert held(source, "out/db") == "p1"


async def test_labels_count_before_a_name_of_a_store(source) -> None:
    refs = [{"name": "s", "labelSelector": {"matchLabels": {"not": "there"}}}]
    await push(source, secretStoreRefs=refs)
    assert "out/db" not in source.provider.secrets


async def test_properties_and_whole_secrets(source) -> None:
    rows = [
        {"match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/a", "property": "name"}}},
        {"match": {"remoteRef": {"remoteKey": "out/whole"}}},
    ]
    await push(source, data=rows)
    assert json.loads(held(source, "out/a")) == {"name": "u1"}
    assert json.loads(held(source, "out/whole")) == {"password": "p1", "user": "u1"}
    assert set((await status(source))["syncedPushSecrets"]["SecretStore/s"]) == {
        "out/a/name",
        "out/whole",
    }


async def test_data_to_pushes_all_that_match_and_have_no_row_of_their_own(source) -> None:
    to = {
        "storeRef": {"name": "s"},
        "match": {"regexp": "^(user|password)$"},
        "rewrite": [{"regexp": {"source": "^", "target": "out/"}}],
    }
    row = {"match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/name"}}}
    await push(source, dataTo=[to], data=[row])
    assert (held(source, "out/name"), held(source, "out/password")) == ("u1", "p1")
    assert "out/user" not in source.provider.secrets
    bundle = {"storeRef": {"name": "s"}, "remoteKey": "out/all"}
    row = {"match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/again"}}}
    await push(source, "bundle", dataTo=[bundle], data=[row])
    assert json.loads(held(source, "out/all")) == {"password": "p1", "user": "u1"}


SAME = {"regexp": {"source": ".*", "target": "out/x"}}


@pytest.mark.parametrize(
    "spec",
    [
        {"data": [ROW, {"match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/db"}}}]},
        {"dataTo": [{"storeRef": {"name": "s"}, "rewrite": [SAME]}]},
        {"dataTo": [{"storeRef": {"name": "s"}}, {"storeRef": {"name": "s"}, "remoteKey": "user"}]},
        {"dataTo": [{"storeRef": {"name": "s"}}, {"storeRef": {"name": "s"}}]},
        {"dataTo": [{"storeRef": {"name": "s"}}],
         "data": [{"match": {"secretKey": "password", "remoteRef": {"remoteKey": "user"}}}]},
        {"data": [{"match": {"remoteRef": {"remoteKey": "out/db", "property": "p"}}},
                  {"match": {"remoteRef": {"remoteKey": "out/db/p"}}}]},
    ],
)  # fmt: skip
async def test_two_keys_are_not_pushed_over_each_other(source, spec: dict) -> None:
    await push(source, **spec)
    (condition,) = (await status(source))["conditions"]
    assert "[same-place]" in condition["message"]
    assert not [key for key in source.provider.secrets if key.startswith(("out/", "user"))]


async def test_who_names_another_store_keeps_the_one_that_was_pushed_to(source) -> None:
    """Without it nobody could take back what is there."""
    to = {"storeRef": {"name": "t"}}
    await push(source, deletionPolicy="Delete", data=[ROW], dataTo=[to])
    assert "[bad-store]" in (await status(source))["conditions"][0]["message"]
    store = await source.api.get(SECRET_STORES, "s", "n")
    assert store["metadata"]["finalizers"] == ["secretstore.externalsecrets.io/finalizer"]


async def test_what_matches_nothing_is_not_written_over_what_was_pushed(source) -> None:
    """An object of no keys would be in the place of all that applications read there."""
    to = {"storeRef": {"name": "s"}, "remoteKey": "out/all", "match": {"regexp": "^user$"}}
    await push(source, dataTo=[to])
    other = {**to, "remoteKey": "out/b"}
    await push(source, "taken-back", deletionPolicy="Delete", dataTo=[other])
    await source.api.merge_patch(SECRETS, "source", "n", {"data": {"user": None}})
    await source.clock.advance(0.2)
    assert json.loads(held(source, "out/all")) == {"user": "u1"}
    assert "out/b" not in source.provider.secrets


async def test_many_rows_of_many_keys_are_gone_through_once() -> None:
    row = {"conversionStrategy": "ReverseUnicode"}
    spec = parse_push({
        "spec": {
            "secretStoreRefs": [{"name": "s"}],
            "selector": NAMED,
            "data": [
                {**row, "match": {"secretKey": f"k/{at}", "remoteRef": {"remoteKey": f"r{at}"}}}
                for at in range(3000)
            ],
        }
    })  # fmt: skip
    source = Source({f"k_U002f_{at}": b"v" for at in range(30_000)})
    found = pushes_for(spec, StoreRef("s", "SecretStore"), [], source, lambda *_: b"")
    assert len(found) == 3000


async def test_encoded_keys_are_turned_back(bench) -> None:
    await bench.secret_of_somebody("source", a_U002f_b="x")
    to = {"storeRef": {"name": "s"}, "conversionStrategy": "ReverseUnicode"}
    await push(bench, dataTo=[to])
    assert held(bench, "a/b") == "x"


@pytest.mark.parametrize(
    ("keys", "entry", "code"),
    [
        (("a", "b"), {"rewrite": [{"regexp": {"source": ".*", "target": "one"}}]}, "same-place"),
        (("a",), {"rewrite": [{"regexp": {"source": ".*", "target": ""}}]}, "bad-rewrite"),
        (("a", "a_U0020_", "a_U00020_"), {"conversionStrategy": "ReverseUnicode"}, "key-collision"),
    ],
)  # fmt: skip
async def test_data_to_never_pushes_one_key_in_place_of_another(
    bench, keys: tuple[str, ...], entry: dict, code: str
) -> None:
    await bench.secret_of_somebody("source", **dict.fromkeys(keys, "x"))
    before = set(bench.provider.secrets)
    await push(bench, dataTo=[{"storeRef": {"name": "s"}, **entry}])
    conditions = (await status(bench))["conditions"]
    assert f"[{code}]" in conditions[0]["message"]
    assert set(bench.provider.secrets) == before


async def test_an_object_that_is_nested_too_deep_stops_nobody_else(source) -> None:
    """The field is free in form, and a cache that cannot keep one object would end the operator."""
    deep: object = "x"
    for _ in range(400):
        deep = {"a": deep}
    row = {"match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/deep"}}}
    await push(source, "deep", data=[{**row, "metadata": deep}])
    row = {"match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/user"}}}
    await push(source, "other", data=[row])
    assert held(source, "out/user") == "u1"
    await source.external("after")
    await source.clock.advance(5)
    assert await source.has_secret("after")


async def test_keys_are_matched_by_what_they_are_turned_back_into(bench) -> None:
    await bench.secret_of_somebody("source", a_U002f_b="x", half_Ud800_="y")
    to = {"storeRef": {"name": "s"}, "conversionStrategy": "ReverseUnicode"}
    await push(bench, dataTo=[{**to, "match": {"regexp": "^a/b$"}}])
    assert held(bench, "a/b") == "x"
    await push(bench, "half", dataTo=[{**to, "match": {"regexp": "half"}}])
    assert held(bench, "half\ufffd") == "y"


async def test_a_template_shapes_what_is_pushed(source) -> None:
    template = {"data": {"url": "db://{{ .user }}"}}
    row = {"match": {"secretKey": "url", "remoteRef": {"remoteKey": "out/url"}}}
    await push(source, template=template, data=[row])
    assert held(source, "out/url") == "db://u1"


async def test_keys_that_a_template_does_not_name_are_pushed_as_they_are(source) -> None:
    """The other controller lays a PushSecret's template over its source, whatever mergePolicy."""
    template = {"mergePolicy": "Replace", "data": {"url": "db://{{ .user }}", "user": "{{ 1 }}"}}
    await push(source, template=template, dataTo=[{"storeRef": {"name": "s"}, "remoteKey": "all"}])
    assert json.loads(held(source, "all")) == {"password": "p1", "url": "db://u1", "user": "1"}


async def test_what_is_there_is_kept_if_not_exists(source) -> None:
    source.provider.put_data("out/db", b"theirs", {"managed-by": "external-secrets"})
    await push(source, updatePolicy="IfNotExists")
    assert held(source, "out/db") == "theirs"
    assert await ready(source) == ("True", "Synced")


async def test_what_nobody_pushed_is_not_overwritten(source) -> None:
    source.provider.put_data("out/db", b"theirs")
    await push(source)
    assert held(source, "out/db") == "theirs"
    assert await ready(source) == ("False", "Errored")


async def test_generated_values_are_pushed(bench) -> None:
    generator = {"generatorRef": {"kind": "Password", "name": "p"}}
    await push(bench, selector=generator)
    assert held(bench, "out/db") == "generated-1"
    # Looked at again, and not asked again before it is due.
    bench.operator.push.queue.add(("n", "ps"))
    await bench.clock.advance(1)
    assert bench.generators.made == 1


async def test_stores_and_sources_are_chosen_by_label(source) -> None:
    labelled = {"name": "t", "namespace": "n", "labels": {"push": "yes"}}
    await source.api.create(
        SECRET_STORES, {"metadata": labelled, "spec": {"provider": {"fake": {}}}}
    )
    metadata = {"name": "chosen", "namespace": "n", "labels": {"push": "yes"}}
    await source.api.create(SECRETS, {"metadata": metadata, "stringData": {"password": "p9"}})
    await source.clock.advance(0.2)
    selector = {"matchLabels": {"push": "yes"}}
    refs = [{"labelSelector": selector, "kind": "SecretStore"}]
    await push(source, secretStoreRefs=refs, selector={"secret": {"selector": selector}})
    assert held(source, "out/db") == "p9"
    assert set((await status(source))["syncedPushSecrets"]) == {"SecretStore/t"}


@pytest.mark.parametrize(("policy", "there"), [("Replace", b"two"), ("IfNotExists", b"one")])
async def test_sources_for_one_place_are_not_written_over_each_other(
    bench, policy: str, there: bytes
) -> None:
    for name in ("one", "two"):
        metadata = {"name": name, "namespace": "n", "labels": {"push": "yes"}}
        await bench.api.create(SECRETS, {"metadata": metadata, "stringData": {"password": name}})
    selector = {"secret": {"selector": {"matchLabels": {"push": "yes"}}}}
    await push(bench, selector=selector, updatePolicy=policy)
    await bench.clock.advance(3600)
    assert bench.provider.secrets["out/db"] == [there]


async def test_a_whole_source_and_a_property_of_one_key_are_both_there_if_not_exists(
    source,
) -> None:
    """In the order of the manifest: of a key that a property has made the rest would be missing."""
    whole = {"match": {"remoteRef": {"remoteKey": "out/db"}}}
    remote = {"remoteKey": "out/db", "property": "login"}
    one = {"match": {"secretKey": "user", "remoteRef": remote}}
    await push(source, data=[whole, one], updatePolicy="IfNotExists")
    assert json.loads(held(source, "out/db")) == {"password": "p1", "user": "u1", "login": "u1"}


async def test_nothing_is_taken_back_unless_the_policy_says_so(source) -> None:
    await push(source)
    await source.api.delete(PUSH_SECRETS, "ps", "n")
    await source.api.delete(SECRETS, "source", "n")
    await source.clock.advance(0.5)
    assert held(source, "out/db") == "p1"


@pytest.mark.parametrize("watched", [True, False])
async def test_what_another_of_its_name_left_is_not_taken_back(source, watched: bool) -> None:
    """Also when nobody saw the one go: the watch had lapsed."""
    await push(source)
    await source.api.delete(PUSH_SECRETS, "ps", "n")
    if watched:
        await source.clock.advance(0.5)
    spec = {
        "secretStoreRefs": [{"name": "s", "kind": "SecretStore"}],
        "selector": NAMED, "data": [USER], "deletionPolicy": "Delete", "refreshInterval": "0",
    }  # fmt: skip
    await source.api.create(
        PUSH_SECRETS, {"metadata": {"name": "ps", "namespace": "n"}, "spec": spec}
    )
    if not watched:
        source.api.forget_history()
    await source.clock.advance(5)
    assert (held(source, "out/user"), held(source, "out/db")) == ("u1", "p1")
    assert set((await status(source))["syncedPushSecrets"]["SecretStore/s"]) == {"out/user"}


class Waiting(FakeProvider):
    """What is pushed to `out/db` waits until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        if target.key == "out/db":
            await self.may.wait()
        return await super().push(target, value)


@pytest.mark.parametrize("first", ["ended", "anew"])
async def test_what_is_made_anew_while_its_forerunner_is_pushed_is_pushed(idle, first: str) -> None:
    provider = idle.provider = Waiting()
    await idle.secret_of_somebody("source", password="p1", user="u1")
    await idle.start()
    await push(idle, refreshInterval="0")
    await idle.api.delete(PUSH_SECRETS, "ps", "n")
    await idle.clock.advance(0.5)
    if first == "ended":
        provider.may.set()
        await idle.clock.advance(0.5)
    await push(idle, refreshInterval="0", data=[USER], deletionPolicy="Delete")
    provider.may.set()
    await idle.clock.advance(5)
    assert (held(idle, "out/user"), held(idle, "out/db")) == ("u1", "p1")
    assert set((await status(idle))["syncedPushSecrets"]["SecretStore/s"]) == {"out/user"}


async def test_delete_takes_back_rows_that_go_and_all_at_the_end(source) -> None:
    other = {"match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/user"}}}
    await push(source, data=[ROW, other], deletionPolicy="Delete")
    store = await source.api.get(SECRET_STORES, "s", "n")
    assert store["metadata"]["finalizers"] == ["secretstore.externalsecrets.io/finalizer"]
    await source.api.merge_patch(PUSH_SECRETS, "ps", "n", {"spec": {"data": [ROW]}})
    await source.clock.advance(0.5)
    assert "out/user" not in source.provider.secrets
    assert set((await status(source))["syncedPushSecrets"]["SecretStore/s"]) == {"out/db"}
    await source.api.delete(SECRET_STORES, "s", "n")
    await source.api.delete(PUSH_SECRETS, "ps", "n")
    await source.clock.advance(0.5)
    assert "out/db" not in source.provider.secrets
    for resource, name in ((PUSH_SECRETS, "ps"), (SECRET_STORES, "s")):
        with pytest.raises(NotFound):
            await source.api.get(resource, name, "n")


async def test_a_source_that_goes_is_taken_back_under_delete_alone(source) -> None:
    await push(source, deletionPolicy="Delete")
    await push(
        source,
        "kept",
        data=[{"match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/kept"}}}],
    )
    await source.api.delete(SECRETS, "source", "n")
    await source.clock.advance(0.5)
    assert "out/db" not in source.provider.secrets
    assert await ready(source) == ("True", "SourceDeleted")
    assert held(source, "out/kept") == "u1"
    assert await ready(source, "kept") == ("False", "Errored")


async def test_a_store_that_is_away_is_told_and_tried_again(source) -> None:
    async def away(target, value):
        raise Unavailable("unreachable", "no answer")

    works, source.provider.push = source.provider.push, away
    await push(source)
    # What may be gone in a moment is tried again before anybody is told.
    assert "conditions" not in await status(source)
    await source.clock.advance(5)
    assert await ready(source) == ("False", "Errored")
    source.provider.push = works
    await source.clock.advance(60)
    assert held(source, "out/db") == "p1"
    assert await ready(source) == ("True", "Synced")


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"selector": {}}, "bad-source"),
        ({"secretStoreRefs": []}, "no-store"),
        ({"secretStoreRefs": [{}]}, "bad-store"),
        ({"data": []}, "no-data"),
        ({"data": [{"match": {"secretKey": "nosuch", "remoteRef": {"remoteKey": "x"}}}]}, "no-secret-key"),
        ({"dataTo": [{"storeRef": {"name": "s"}, "remoteKey": "x", "rewrite": [{"transform": {"template": ""}}]}]}, "bad-data-to"),
        ({"dataTo": [{"storeRef": {"name": "s"}, "rewrite": [{"regexp": {"source": ".*", "target": ""}}]}]}, "bad-rewrite"),
        ({"dataTo": [{"storeRef": {"name": "t"}}]}, "bad-store"),
        ({"dataTo": [{"storeRef": {"name": "s", "kind": "ClusterSecretStore"}}]}, "bad-store"),
        ({"deletionPolicy": "Retain"}, "bad-value"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_told(source, spec: dict, code: str) -> None:
    await push(source, **spec)
    (condition,) = (await status(source))["conditions"]
    assert f"[{code}]" in condition["message"]


class Recording(FakeProvider):
    """Keeps the targets it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[PushTarget] = []

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        self.targets.append(target)
        return await super().push(target, value)


async def test_a_rows_metadata_is_the_targets(idle) -> None:
    idle.provider = Recording()
    await idle.start()
    await idle.secret_of_somebody("source", password="p1")
    metadata = {"kind": "PushSecretMetadata", "spec": {"labels": {"team": "blue"}}}
    rows = [{**ROW, "metadata": metadata}, {"match": {"remoteRef": {"remoteKey": "out/whole"}}}]
    to = {"storeRef": {"name": "s"}, "remoteKey": "out/all", "metadata": {"labels": {"a": "b"}}}
    await push(idle, data=rows, dataTo=[to])
    assert {each.key: each.metadata for each in idle.provider.targets} == {
        "out/db": {"labels": {"team": "blue"}}, "out/whole": {}, "out/all": {"labels": {"a": "b"}},
    }  # fmt: skip
    assert {each.key: each.secret_key for each in idle.provider.targets} == {
        "out/db": "password", "out/whole": "", "out/all": "",
    }  # fmt: skip


async def of_bytes(bench) -> None:
    data = {"bin": base64.b64encode(b"\x00\xff").decode(), "text": "dA=="}
    await bench.api.create(
        SECRETS, {"metadata": {"name": "source", "namespace": "n"}, "data": data}
    )


WHOLE = [{"match": {"remoteRef": {"remoteKey": "copy"}}}]
ALL = [{"storeRef": {"name": "s"}, "remoteKey": "copy", "match": {"regexp": "."}}]


async def to_a_cluster(idle) -> None:
    async def login() -> tuple[None, float]:
        return None, 0

    far = KubernetesSettings("far")
    idle.provider = KubernetesProvider(far, idle.api, Session(login, idle.clock))
    await idle.start()


TRACKED = {
    "kubectl.kubernetes.io/last-applied-configuration": "{}",
    "reconcile.external-secrets.io/data-hash": "h",
}
SHAPED = {
    "type": "kubernetes.io/basic-auth",
    "metadata": {"labels": {"of": "{{ .a }}"}, "annotations": {"note": "{{ .a }}"}},
}


@pytest.mark.parametrize(
    ("template", "kind", "labels", "notes"),
    [
        (None, "kubernetes.io/tls", {"team": "blue", "of": "source"}, {"why": "made"}),
        ({}, "Opaque", {"team": "blue", "of": "source"}, {"why": "made"}),
        (
            SHAPED,
            "kubernetes.io/basic-auth",
            {"team": "blue", "of": "1"},
            {"why": "made", "note": "1"},
        ),
    ],
    ids=["none", "empty", "full"],
)
async def test_a_pushed_secret_is_as_its_source_is(
    idle, template: dict | None, kind: str, labels: dict, notes: dict
) -> None:
    await to_a_cluster(idle)
    await idle.secret_of_somebody("source", a="1", **{"tls.crt": "c", "tls.key": "k"})
    held = await idle.api.get(SECRETS, "source", "n")
    owned = {"reconcile.external-secrets.io/managed": "true"}
    held["metadata"]["labels"] = {"team": "blue", "of": "source", **owned}
    held["metadata"]["annotations"] = {"why": "made", **TRACKED}
    await idle.api.replace(SECRETS, held | {"type": "kubernetes.io/tls"})
    await push(idle, data=WHOLE, template=template)
    copy = await idle.api.get(SECRETS, "copy", "far")
    assert copy["type"] == kind
    # Marks of whoever tracks the source stay with it.
    assert copy["metadata"]["labels"] == labels
    assert copy["metadata"]["annotations"] == notes


@pytest.mark.parametrize("rows", [{"data": WHOLE}, {"dataTo": ALL}])
async def test_keys_of_bytes_survive_a_whole_push_to_a_cluster(idle, rows) -> None:
    await to_a_cluster(idle)
    await of_bytes(idle)
    await push(idle, **rows)
    copy = await idle.api.get(SECRETS, "copy", "far")
    assert copy["data"] == {"bin": "AP8=", "text": "dA=="}


async def test_a_whole_push_of_bytes_is_refused_where_values_are_text(bench) -> None:
    await of_bytes(bench)
    await push(bench, data=WHOLE)
    assert "copy" not in bench.provider.secrets
    (condition,) = (await status(bench))["conditions"]
    assert "[binary-value]" in condition["message"]


@pytest.mark.parametrize("call", ["get", "merge_patch"])
@pytest.mark.parametrize(
    "failure",
    [Denied("kube-forbidden", "not yet ready"), Unavailable("unreachable", "no answer")],
    ids=["forbidden", "unreachable"],
)
async def test_a_change_that_the_cluster_refuses_at_first_is_pushed(
    source, unruly, call: str, failure: Refusal
) -> None:
    await push(source)
    unruly.failures = {call: [failure]}
    edit = {"spec": {"data": [ROW, USER]}}
    await source.api.merge_patch(PUSH_SECRETS, "ps", "n", edit)
    await source.clock.advance(5)
    assert unruly.failures == {call: []}
    assert held(source, "out/user") == "u1"
    assert set((await status(source))["syncedPushSecrets"]["SecretStore/s"]) == {
        "out/db", "out/user",
    }  # fmt: skip
    assert await ready(source) == ("True", "Synced")


class Slow(FakeProvider):
    """Keeps a push waiting when it is told to."""

    waits = False

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        if self.waits:
            await asyncio.Event().wait()
        return await super().push(target, value)


async def test_a_push_that_is_cut_off_is_done_when_the_lead_is_taken_again(idle) -> None:
    slow = idle.provider = Slow()
    operator = await idle.start()
    await idle.secret_of_somebody("source", password="p1")
    await push(idle)
    slow.waits = True
    await idle.edit("source", password="p2")
    idle.running.cancel()
    await asyncio.gather(idle.running, return_exceptions=True)
    slow.waits = False
    idle.running = asyncio.create_task(operator.run())
    await idle.clock.advance(5)
    assert held(idle, "out/db") == "p2"


async def test_what_was_written_before_a_refusal_is_taken_back_too(source) -> None:
    missing = {"match": {"secretKey": "nosuch", "remoteRef": {"remoteKey": "theirs"}}}
    source.provider.put_data("theirs", b"theirs")
    refused = {"match": {"secretKey": "user", "remoteRef": {"remoteKey": "theirs"}}}
    await push(source, data=[ROW, refused], deletionPolicy="Delete")
    assert await ready(source) == ("False", "Errored")
    assert set((await status(source))["syncedPushSecrets"]["SecretStore/s"]) == {"out/db"}
    await source.api.merge_patch(PUSH_SECRETS, "ps", "n", {"spec": {"data": [missing]}})
    await source.api.delete(PUSH_SECRETS, "ps", "n")
    await source.clock.advance(5)
    assert "out/db" not in source.provider.secrets
    assert held(source, "theirs") == "theirs"


async def test_a_store_whose_release_is_refused_at_first_is_released(source, unruly) -> None:
    await push(source, deletionPolicy="Delete")
    unruly.only = SECRET_STORES
    unruly.failures = {"merge_patch": [Unavailable("unreachable", "no answer")]}
    await source.api.delete(PUSH_SECRETS, "ps", "n")
    await source.clock.advance(10)
    with pytest.raises(NotFound):
        await source.api.get(PUSH_SECRETS, "ps", "n")
    assert not (await source.api.get(SECRET_STORES, "s", "n"))["metadata"].get("finalizers")


async def test_a_store_that_is_no_longer_pushed_to_is_let_go(source) -> None:
    other = {"metadata": {"name": "t", "namespace": "n"}, "spec": {"provider": {"fake": {}}}}
    await source.api.create(SECRET_STORES, other)
    await push(source, deletionPolicy="Delete")
    refs = {"secretStoreRefs": [{"name": "t", "kind": "SecretStore"}]}
    await source.api.merge_patch(PUSH_SECRETS, "ps", "n", {"spec": refs})
    await source.clock.advance(2)
    held_back = {
        name: (await source.api.get(SECRET_STORES, name, "n"))["metadata"].get("finalizers")
        for name in ("s", "t")
    }
    assert held_back == {"s": None, "t": ["secretstore.externalsecrets.io/finalizer"]}


async def test_a_store_that_gets_the_label_is_pushed_to(source) -> None:
    refs = [{"labelSelector": {"matchLabels": {"push": "yes"}}, "kind": "SecretStore"}]
    await push(source, secretStoreRefs=refs)
    assert "out/db" not in source.provider.secrets
    labels = {"metadata": {"labels": {"push": "yes"}}}
    await source.api.merge_patch(SECRET_STORES, "s", "n", labels)
    await source.clock.advance(1)
    assert held(source, "out/db") == "p1"


async def test_a_rows_keys_are_turned_back_too_and_only_when_asked(bench) -> None:
    await bench.secret_of_somebody("source", a_U002f_b="x")
    kept = {"match": {"secretKey": "a_U002f_b", "remoteRef": {"remoteKey": "kept"}}}
    turned = {
        "match": {"secretKey": "a/b", "remoteRef": {"remoteKey": "turned"}},
        "conversionStrategy": "ReverseUnicode",
    }
    await push(bench, data=[kept, turned])
    assert (held(bench, "kept"), held(bench, "turned")) == ("x", "x")
    await push(bench, "all", dataTo=[{"storeRef": {"name": "s"}}])
    assert held(bench, "a_U002f_b") == "x"
    places = (await status(bench))["syncedPushSecrets"]["SecretStore/s"]
    assert places["turned"]["conversionStrategy"] == "ReverseUnicode"


async def test_all_is_rewritten_by_a_template(source) -> None:
    rewrite = [{"transform": {"template": "out/{{ .value | upper }}"}}]
    await push(source, dataTo=[{"storeRef": {"name": "s"}, "rewrite": rewrite}])
    assert (held(source, "out/USER"), held(source, "out/PASSWORD")) == ("u1", "p1")


async def test_a_store_of_another_kind_or_label_is_not_given_everything(source) -> None:
    labels = {"matchLabels": {"push": "yes"}}
    to = {"storeRef": {"labelSelector": labels, "kind": "SecretStore"}}
    await push(source, data=[ROW], dataTo=[to])
    assert set(source.provider.secrets) & {"user", "password"} == set()


@pytest.mark.parametrize(("interval", "pushes"), [("10m", 2), ("0", 1)])
async def test_what_somebody_changes_at_the_store_is_put_right_by_the_interval(
    source, interval: str, pushes: int
) -> None:
    await push(source, refreshInterval=interval)
    source.provider.secrets["out/db"].append(b"other")
    await source.clock.advance(300)
    assert held(source, "out/db") == "other"
    await source.clock.advance(400)
    assert held(source, "out/db") == ("p1" if pushes == 2 else "other")


class Passing(FakeProvider):
    """Refuses as told, one for each push; after what it had been given before."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[Refusal] = []

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        if target.key == "out/user" and self.refusals:
            raise self.refusals.pop(0)
        return await super().push(target, value)


@pytest.mark.parametrize(
    "refusal",
    [Conflict("store-conflict", "written meanwhile"), Unavailable("unreachable", "no answer")],
    ids=str,
)
async def test_what_passes_in_a_moment_is_told_to_nobody(idle, refusal: Refusal) -> None:
    passing = idle.provider = Passing()
    await idle.secret_of_somebody("source", password="p1", user="u1")
    await idle.start()
    passing.refusals = [refusal, refusal]
    await push(idle, data=[ROW, USER])
    # What was written, or may have been, is known at once: somebody may have to take it back.
    known = {"out/db"} | ({"out/user"} if isinstance(refusal, Unavailable) else set())
    assert set((await status(idle))["syncedPushSecrets"]["SecretStore/s"]) == known
    await idle.clock.advance(5)
    assert passing.refusals == []
    assert await ready(idle) == ("True", "Synced")
    assert not [each for each in await idle.notes() if each.startswith("Errored")]


async def test_a_template_in_a_config_map_is_followed(source) -> None:
    texts = {"metadata": {"name": "t", "namespace": "n"}, "data": {"out": "a-{{ .password }}"}}
    await source.api.create(CONFIG_MAPS, texts)
    kept = {"templateFrom": [{"configMap": {"name": "t", "items": [{"key": "out"}]}}]}
    row = {"match": {"secretKey": "out", "remoteRef": {"remoteKey": "out/db"}}}
    await push(source, template=kept, data=[row], refreshInterval="24h")
    assert held(source, "out/db") == "a-p1"
    edit = {"data": {"out": "b-{{ .password }}"}}
    await source.api.merge_patch(CONFIG_MAPS, "t", "n", edit)
    await source.clock.advance(1)
    assert held(source, "out/db") == "b-p1"


async def test_a_policy_that_is_no_longer_delete_lets_object_and_store_go(source) -> None:
    await push(source, deletionPolicy="Delete")
    await push(source, "other", deletionPolicy="Delete", data=[USER])
    for name in ("ps", "other"):
        await source.api.merge_patch(PUSH_SECRETS, name, "n", {"spec": {"deletionPolicy": "None"}})
        await source.clock.advance(1)
        item = await source.api.get(PUSH_SECRETS, name, "n")
        assert not item["metadata"].get("finalizers")
        store = await source.api.get(SECRET_STORES, "s", "n")
        # The other still needs it.
        assert bool(store["metadata"].get("finalizers")) == (name == "ps")
    await source.api.delete(PUSH_SECRETS, "ps", "n")
    await source.clock.advance(1)
    assert held(source, "out/db") == "p1"


GENERATED = {"generatorRef": {"kind": "Password", "name": "p"}}


@pytest.mark.parametrize("interval", ["10m", "0"])
async def test_after_a_restart_a_generator_is_asked_when_that_is_due(idle, interval: str) -> None:
    await idle.start()
    await push(idle, selector=GENERATED, refreshInterval=interval)
    await idle.clock.advance(120)
    await idle.start()
    await idle.clock.advance(60)
    assert idle.generators.made == 1
    await idle.clock.advance(600 - 180)
    assert idle.generators.made == (2 if interval == "10m" else 1)
    # What is made anew is told with its time, by which the next start knows.
    await idle.start()
    await idle.clock.advance(60)
    assert idle.generators.made == (2 if interval == "10m" else 1)


async def test_after_a_restart_what_was_not_pushed_is_asked_for(idle) -> None:
    await idle.start()
    await push(idle, selector=GENERATED)
    await idle.stop()
    edit = {
        "spec": {"data": [{"match": {"secretKey": "password", "remoteRef": {"remoteKey": "b"}}}]}
    }
    await idle.api.merge_patch(PUSH_SECRETS, "ps", "n", edit)
    await idle.start()
    await idle.clock.advance(5)
    assert held(idle, "b") == "generated-2"


@pytest.mark.parametrize("edited", [True, False])
async def test_after_a_restart_a_store_that_was_edited_is_given_something_new(
    idle, edited: bool
) -> None:
    await idle.start()
    await push(idle, selector=GENERATED)
    await idle.stop()
    await idle.clock.advance(60)
    edit = {"spec": {"retrySettings": {"maxRetries": 1}}}
    if not edited:
        # A finalizer or an annotation makes no other store of it.
        edit = {"metadata": {"annotations": {"a": "b"}}}
    await idle.api.merge_patch(SECRET_STORES, "s", "n", edit, manager="kubectl-edit")
    await idle.start()
    await idle.clock.advance(5)
    assert held(idle, "out/db") == ("generated-2" if edited else "generated-1")
    # It is told with its time, so it is done once.
    await idle.start()
    await idle.clock.advance(5)
    assert idle.generators.made == (2 if edited else 1)


async def test_after_a_restart_a_time_to_come_is_not_believed(idle) -> None:
    """By a clock that was set back it would be years until something new is made."""
    await idle.start()
    await push(idle, selector=GENERATED)
    await idle.stop()
    idle.clock.step_wall(-3600)
    await idle.start()
    await idle.clock.advance(5)
    assert held(idle, "out/db") == "generated-2"


async def test_a_store_that_is_edited_is_given_something_new(bench) -> None:
    await push(bench, selector=GENERATED)
    edit = {"spec": {"retrySettings": {"maxRetries": 1}}}
    await bench.api.merge_patch(SECRET_STORES, "s", "n", edit)
    await bench.clock.advance(5)
    assert held(bench, "out/db") == "generated-2"
