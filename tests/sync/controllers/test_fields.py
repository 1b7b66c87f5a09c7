"""Every field of a spec that decides what is read and how it is named, and every one of a status.

Each value stands where another value, or none, would give another Secret.
"""

import base64

import pytest

from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.desired import synced_version

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap"}
URL_SAFE = base64.urlsafe_b64encode(b"~~~???").decode()
PROD, TEST = {"env": "prod"}, {"env": "test"}


@pytest.fixture
async def full(bench):
    """A store with something for every field."""
    put = bench.provider.put_data
    put("first", {"v": "1"}, {"owner": "ann"})
    put("first", {"v": "2"}, {"owner": "ann"})
    put("nested", {"in": {"k": "v"}, "out": "x"})
    put("odd", {"a b": "1"})
    put("coded", {"std": "aGk=", "url": URL_SAFE, "lines": "a\r\nGk=\n"})
    put("nul", {"k": "a\0b"})
    put("sub/one", b"aGk=", PROD)
    put("sub/two", b"dHdv", TEST)
    put("away/one", b"b25l", PROD)
    put("maps", {"a": '{"x": 1, "y": "a"}', "b": '{"x": 2}'})
    return bench


def row(key: str, name: str = "", **more: str) -> dict:
    ref = {"key": key, **({"property": name} if name else {}), **more}
    return {"data": [{"secretKey": "k", "remoteRef": ref}]}


def extract(key: str, *rewrite: dict, **more: str) -> dict:
    return {"dataFrom": [{"extract": {"key": key, **more}, "rewrite": list(rewrite)}]}


def find(*rewrite: dict, **more) -> dict:
    return {"dataFrom": [{"find": more, "rewrite": list(rewrite)}]}


def regexp(source: str, target: str) -> dict:
    return {"regexp": {"source": source, "target": target}}


def merge(**more) -> dict:
    return {"merge": {"conflictPolicy": "Ignore", **more}}


MAPS = {"a": '{"x": 1, "y": "a"}', "b": '{"x": 2}'}


@pytest.mark.parametrize(
    ("spec", "made"),
    [
        (row("first"), {"k": '{"v":"2"}'}),
        (row("first", "v"), {"k": "2"}),
        (row("first", "v", version="1"), {"k": "1"}),
        (row("first", metadataPolicy="Fetch"), {"k": '{"owner":"ann"}'}),
        (row("first", metadataPolicy="None"), {"k": '{"v":"2"}'}),
        (row("coded", "std"), {"k": "aGk="}),
        (row("coded", "std", decodingStrategy="None"), {"k": "aGk="}),
        (row("coded", "std", decodingStrategy="Base64"), {"k": "hi"}),
        (row("coded", "lines", decodingStrategy="Base64"), {"k": "hi"}),
        (row("coded", "url", decodingStrategy="Base64URL"), {"k": "~~~???"}),
        (row("coded", "url", decodingStrategy="Auto"), {"k": "~~~???"}),
        (row("coded", "std", decodingStrategy="Auto"), {"k": "hi"}),
        (row("nul", "k", nullBytePolicy="Ignore"), {"k": "a\0b"}),
        (extract("first", version="1"), {"v": "1"}),
        (extract("first", metadataPolicy="Fetch"), {"owner": "ann"}),
        (extract("nested", property="in"), {"k": "v"}),
        (extract("nested"), {"in": '{"k":"v"}', "out": "x"}),
        (extract("odd", conversionStrategy="Default"), {"a_b": "1"}),
        (extract("odd", conversionStrategy="Unicode"), {"a_U0020_b": "1"}),
        (
            extract("coded", decodingStrategy="Auto"),
            {"std": "hi", "url": "~~~???", "lines": "hi"},
        ),
        (extract("nul", nullBytePolicy="Ignore"), {"k": "a\0b"}),
        (find(path="sub/"), {"sub_one": "aGk=", "sub_two": "dHdv"}),
        (find(name={"regexp": "^.*/one$"}), {"sub_one": "aGk=", "away_one": "b25l"}),
        (find(tags=PROD), {"sub_one": "aGk=", "away_one": "b25l"}),
        (find(path="sub/", tags=PROD), {"sub_one": "aGk="}),
        (find(path="sub/", name={"regexp": "two"}), {"sub_two": "dHdv"}),
        (find(path="sub/", tags=PROD, conversionStrategy="Unicode"), {"sub_U002f_one": "aGk="}),
        (find(path="sub/", decodingStrategy="Base64"), {"sub_one": "hi", "sub_two": "two"}),
        (find(regexp("/", "-"), path="sub/", tags=PROD), {"sub-one": "aGk="}),
        (
            find({"transform": {"template": '{{ .value | replace "/" "." | upper }}'}}, tags=TEST),
            {"SUB.TWO": "dHdv"},
        ),
        (extract("odd", regexp("a b", "ab"), regexp("ab", "c")), {"c": "1"}),
        (extract("maps", merge()), {"x": "2", "y": "a"}),
        (extract("maps", merge(strategy="Extract", priority=["a"])), {"x": "1", "y": "a"}),
        (extract("maps", merge(strategy="JSON", into="all")), {**MAPS, "all": '{"x":2,"y":"a"}'}),
        (
            extract("maps", merge(priority=["c", "a"], priorityPolicy="IgnoreNotFound")),
            {"x": "1", "y": "a"},
        ),
    ],
)
async def test_a_field_decides_what_is_read_and_how_it_is_named(full, spec, made) -> None:
    await full.external(**spec)
    assert (await full.condition())["reason"] == "SecretSynced", await full.condition()
    assert await full.secret() == made


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (row("nul", "k", nullBytePolicy="Fail"), "null-byte"),
        (extract("nul", nullBytePolicy="Fail"), "null-byte"),
        (find(name={"regexp": "^nul$"}, nullBytePolicy="Fail", decodingStrategy="None"), None),
        (row("first", "v", version="7"), "fake-not-found"),
        (row("coded", "url", decodingStrategy="Base64"), "bad-encoding"),
        (find(path="odd", decodingStrategy="Base64"), "bad-encoding"),
        (extract("odd", regexp("a", "a")), "bad-key"),
        (extract("maps", {"merge": {"conflictPolicy": "Error"}}), "merge-conflict"),
        (extract("maps", {"merge": {}}), "merge-conflict"),
        (extract("maps", merge(priority=["c"], priorityPolicy="Strict")), "bad-rewrite"),
        (extract("maps", merge(strategy="JSON")), "bad-rewrite"),
    ],
)
async def test_a_field_decides_what_is_refused(full, spec, code) -> None:
    if code is None:
        # A secret that is no object, so that its null byte is not escaped in JSON.
        full.provider.put_data("nul", b"a\0b")
    await full.external(**spec)
    assert (await full.condition())["reason"] == "SecretSyncedError"
    assert f"[{code or 'null-byte'}]" in (await full.condition())["message"]
    assert not await full.has_secret()


@pytest.mark.parametrize("entry", [{"extract": {"key": "first"}}, {"find": {"path": "first"}}])
async def test_an_entry_of_data_from_may_name_its_own_store(full, entry) -> None:
    entry = {**entry, "sourceRef": {"storeRef": {"name": "s", "kind": "SecretStore"}}}
    await full.external(dataFrom=[entry], secretStoreRef={"name": "nowhere"})
    assert await full.secret() in ({"v": "2"}, {"first": '{"v":"2"}'})


FROM_SECRET = {"secret": {"name": "t", "items": [{"key": "a"}]}}
FROM_MAP = {"configMap": {"name": "t", "items": [{"key": "m", "templateAs": "KeysAndValues"}]}}


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ({"templateFrom": [FROM_SECRET]}, {"a": "secret one"}),
        ({"templateFrom": [FROM_MAP]}, {"b": "map one", "c": "aGk="}),
        (
            {"templateFrom": [{**FROM_MAP, "valuesDecodingStrategy": "Auto"}]},
            {"b": "map one", "c": "hi"},
        ),
        ({"templateFrom": [{"literal": "l: {{ .password }}"}]}, {"l": "one"}),
        ({"templateFrom": [{"literal": "l: x", "target": "Labels"}]}, {}),
        (
            # All that one entry names counts, and of one key the last of it.
            {"templateFrom": [{**FROM_MAP, **FROM_SECRET, "literal": "l: x\na: last"}]},
            {"a": "last", "b": "map one", "c": "aGk=", "l": "x"},
        ),
        ({"mergePolicy": "Merge", "data": {"k": "v"}}, {"password": "one", "k": "v"}),
        ({"mergePolicy": "Replace", "data": {"k": "v"}}, {"k": "v"}),
        ({"engineVersion": "v2", "data": {"k": "v"}}, {"k": "v"}),
        ({"metadata": {"labels": {"a": "b"}}}, {"password": "one"}),
    ],
)
async def test_where_templates_are_kept_and_what_stays_beside_them(bench, template, made) -> None:
    await bench.secret_of_somebody("t", a="secret {{ .password }}")
    text = {"m": "b: map {{ .password }}\nc: aGk="}
    await bench.api.create(CONFIG_MAPS, {"metadata": {"name": "t", "namespace": "n"}, "data": text})
    await bench.external(target={"template": template})
    assert await bench.secret() == made


async def test_a_template_gives_its_secret_metadata_and_a_type(bench) -> None:
    template = {
        "type": "example.com/db",
        "metadata": {
            "labels": {"l": "{{ .password }}"},
            "annotations": {"a": "{{ .password }}"},
            "finalizers": ["example.com/hold"],
        },
        "templateFrom": [
            {"literal": "m: {{ .password }}", "target": "labels"},
            {"literal": "b: {{ .password }}", "target": "Annotations"},
            {"literal": "k: v", "target": "Data"},
            {**FROM_MAP, "target": "Annotations"},
        ],
    }
    text = {"m": "c: map {{ .password }}"}
    await bench.api.create(CONFIG_MAPS, {"metadata": {"name": "t", "namespace": "n"}, "data": text})
    await bench.external(target={"name": "other", "template": template})
    item = await bench.api.get(SECRETS, "other", "n")
    labels, annotations = item["metadata"]["labels"], item["metadata"]["annotations"]
    assert (labels["l"], labels["m"]) == ("one", "one")
    assert (annotations["a"], annotations["b"], annotations["c"]) == ("one", "one", "map one")
    assert await bench.secret("other") == {"k": "v"}
    assert item["metadata"]["finalizers"] == ["example.com/hold"]
    assert item["type"] == "example.com/db"
    # A finalizer that is asked for later is added at a Secret that is there.
    template["metadata"]["finalizers"].append("example.com/more")
    patch = {"spec": {"target": {"template": template}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", patch)
    await bench.clock.advance(0.5)
    finalizers = (await bench.metadata("other"))["finalizers"]
    assert finalizers == ["example.com/hold", "example.com/more"]


@pytest.mark.parametrize("left", [[], ["example.com/b"]])
async def test_a_finalizer_that_a_template_no_longer_has_goes_and_anothers_stays(
    bench, left: list[str]
) -> None:
    template = {"metadata": {"finalizers": ["example.com/a", "example.com/b"]}}
    await bench.external(target={"template": template})
    given = (await bench.metadata())["finalizers"]
    assert given == ["example.com/a", "example.com/b"]
    theirs = {"metadata": {"finalizers": [*given, "example.com/theirs"]}}
    await bench.api.merge_patch(SECRETS, "db", "n", theirs, manager="theirs")
    await bench.clock.advance(0.5)
    patch = {"spec": {"target": {"template": {"metadata": {"finalizers": left}}}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", patch)
    await bench.clock.advance(0.5)
    assert (await bench.metadata())["finalizers"] == sorted([*left, "example.com/theirs"])
    writes = bench.api.writes
    await bench.clock.advance(4000)
    assert bench.api.writes == writes


@pytest.mark.parametrize("policy", ["CreatedOnce", "OnChange"])
async def test_a_policy_without_an_interval_waits_for_its_first_success(idle, policy: str) -> None:
    idle.provider.has_feed = False
    before = idle.provider.secrets.pop("prod/db")
    await idle.start()
    await idle.external(refreshPolicy=policy)
    assert (await idle.condition())["reason"] == "SecretSyncedError"
    idle.provider.secrets["prod/db"] = before
    await idle.clock.advance(4000)
    assert await idle.secret() == {"password": "one"}


async def test_one_key_is_read_as_often_as_its_rows_ask_for_other_things(full) -> None:
    asked = ({}, {"version": "1"}, {"metadataPolicy": "Fetch"})
    rows = [
        {"secretKey": f"k{number}", "remoteRef": {"key": "first", **more}}
        for number, more in enumerate(asked)
    ]
    await full.external(data=rows)
    assert await full.secret() == {"k0": '{"v":"2"}', "k1": '{"v":"1"}', "k2": '{"owner":"ann"}'}


SHUT = {"kind": "deny", "windows": [{"schedule": "* * * * *", "duration": "1h"}]}


@pytest.mark.parametrize(
    ("spec", "follows"),
    [
        ({}, True),
        ({"refreshPolicy": "Periodic"}, True),
        ({"refreshPolicy": "OnChange"}, False),
        ({"refreshPolicy": "CreatedOnce"}, False),
        ({"syncWindows": SHUT}, False),
    ],
)
async def test_what_the_store_tells_is_followed_as_the_policy_says(bench, spec, follows) -> None:
    await bench.external(**spec)
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "two" if follows else "one"}


@pytest.mark.parametrize(
    ("policy", "seen"), [("Periodic", True), ("OnChange", True), ("CreatedOnce", False)]
)
async def test_an_edit_made_while_no_operator_ran_is_seen_as_the_policy_says(
    bench, policy: str, seen: bool
) -> None:
    await bench.external(refreshPolicy=policy)
    await bench.stop()
    row_of_user = {"secretKey": "user", "remoteRef": {"key": "prod/db", "property": "username"}}
    item = {"spec": {"data": [row_of_user]}, "metadata": {"annotations": {"force-sync": "1"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", item)
    await bench.start()
    await bench.clock.advance(2)
    assert await bench.secret() == ({"user": "app"} if seen else {"password": "one"})


async def test_periodic_refreshes_come_by_the_interval_and_inside_the_windows(idle) -> None:
    idle.provider.has_feed = False
    await idle.start()
    always = {"kind": "allow", "windows": [{"schedule": "* * * * *", "duration": "1h"}]}
    never = {"kind": "allow", "windows": [{"schedule": "0 0 30 2 *", "duration": "1h"}]}
    for name, more in (
        ("minute", {"refreshPolicy": "Periodic", "refreshInterval": "1m"}),
        ("hour", {"refreshInterval": "1h"}),
        ("open", {"refreshInterval": "1m", "syncWindows": always}),
        ("shut", {"refreshInterval": "1m", "syncWindows": never}),
    ):
        await idle.external(name, **more)
    idle.provider.put("prod/db", password="two")
    await idle.clock.advance(130)
    names = ("minute", "hour", "open", "shut")
    held = [(await idle.secret(name))["password"] for name in names]
    assert held == ["two", "one", "two", "one"]


async def test_a_status_says_which_object_was_synced_and_when(bench) -> None:
    await bench.external(metadata={"labels": {"team": "x"}})
    first = (await bench.item())["status"]
    assert first["syncedResourceVersion"] == synced_version(await bench.item())
    assert first["binding"] == {"name": "db"}
    await bench.clock.advance(60)
    force = {"metadata": {"annotations": {"force-sync": "1"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", force)
    await bench.clock.advance(0.5)
    second = (await bench.item())["status"]
    assert second["syncedResourceVersion"] == synced_version(await bench.item())
    assert second["syncedResourceVersion"] != first["syncedResourceVersion"]
    assert second["refreshTime"] > first["refreshTime"]
    (old,), (new,) = first["conditions"], second["conditions"]
    assert new["lastTransitionTime"] == old["lastTransitionTime"]
    # What fails keeps the time of the last success.
    bad = {"spec": {"refreshInterval": "soon"}}
    await bench.clock.advance(60)
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", bad)
    await bench.clock.advance(0.5)
    third = (await bench.item())["status"]
    assert third["refreshTime"] == second["refreshTime"]
    assert third["syncedResourceVersion"] == second["syncedResourceVersion"]
    assert third["conditions"][0]["lastTransitionTime"] > new["lastTransitionTime"]


async def test_a_binding_names_a_secret_only_while_there_is_one(bench) -> None:
    async def binding(name: str = "db") -> dict | None:
        return (await bench.item(name))["status"].get("binding")

    await bench.external(refreshInterval="1m", target={"deletionPolicy": "Delete"})
    await bench.external("kept", refreshInterval="1m", dataFrom=[{"find": {"path": "prod/"}}])
    await bench.external("empty", dataFrom=[{"find": {"path": "nothing/"}}])
    assert (await binding(), await binding("kept")) == ({"name": "db"}, {"name": "kept"})
    assert await binding("empty") is None
    before = bench.provider.secrets.pop("prod/db")
    await bench.clock.advance(70)
    assert (await bench.condition())["reason"] == "SecretDeleted"
    assert (await binding(), await binding("kept")) == (None, {"name": "kept"})
    bench.provider.secrets["prod/db"] = before
    await bench.clock.advance(70)
    assert await binding() == {"name": "db"}
    none = {"spec": {"target": {"creationPolicy": "None", "deletionPolicy": "Retain"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", none)
    await bench.clock.advance(0.5)
    assert await binding() is None


async def test_conditions_of_other_targets_have_their_own_reasons(bench) -> None:
    target = {"manifest": CONFIG_MAP, "deletionPolicy": "Delete"}
    await bench.external(refreshInterval="1m", target=target)
    await bench.external("late", target={"manifest": CONFIG_MAP, "creationPolicy": "Merge"})
    await bench.external("bad", target={"manifest": CONFIG_MAP}, refreshInterval="soon")

    async def reason(name: str = "db") -> str:
        return (await bench.condition(name=name))["reason"]

    assert await reason() == "ResourceSynced"
    assert await reason("late") == "ResourceMissing"
    assert await reason("bad") == "ResourceSyncedError"
    del bench.provider.secrets["prod/db"]
    await bench.clock.advance(70)
    assert await reason() == "ResourceDeleted"


async def test_what_a_generator_makes_is_rewritten(bench) -> None:
    source = {"sourceRef": {"generatorRef": {"kind": "Password", "name": "p"}}}
    await bench.external(dataFrom=[{**source, "rewrite": [regexp("^pass", "p-")]}])
    assert await bench.secret() == {"p-word": "generated-1"}


async def test_a_secret_becomes_immutable_when_that_is_asked_for_later(bench) -> None:
    await bench.external()
    assert not (await bench.api.get(SECRETS, "db", "n")).get("immutable")
    patch = {"spec": {"target": {"immutable": True}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", patch)
    await bench.clock.advance(0.5)
    assert (await bench.api.get(SECRETS, "db", "n"))["immutable"] is True
