"""Where values come from: rows, extract, find, generators, other stores, templates and their inputs."""

import base64

from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.sync.crds import CLUSTER_SECRET_STORES, EXTERNAL_SECRETS, SECRET_STORES


async def cluster_store(bench, name: str = "wide", **spec) -> None:
    spec = {"provider": {"fake": {}}, **spec}
    await bench.api.create(CLUSTER_SECRET_STORES, {"metadata": {"name": name}, "spec": spec})
    await bench.clock.advance(0.2)


async def test_find_by_name_path_and_tags_with_rewrite_and_decoding(bench) -> None:
    bench.provider.put_data("app/one", base64.b64encode(b"\xff\0"), {"env": "prod"})
    bench.provider.put_data("app/two", b"dHdv", {"env": "prod"})
    bench.provider.put_data("app/test", b"dGVzdA==", {"env": "test"})
    find = {
        "path": "app/",
        "name": {"regexp": "o"},
        "tags": {"env": "prod"},
        "decodingStrategy": "Base64",
    }
    rewrite = [{"regexp": {"source": "^app/(.*)$", "target": "$1"}}]
    await bench.external(dataFrom=[{"find": find, "rewrite": rewrite}])
    data = (await bench.api.get(SECRETS, "db", "n"))["data"]
    assert data == {"one": base64.b64encode(b"\xff\0").decode(), "two": "dHdv"}
    await bench.external("plain", dataFrom=[{"find": {"path": "app/t"}}])
    assert set(await bench.secret("plain")) == {"app_two", "app_test"}


async def test_later_sources_win_over_earlier_and_rows_over_all(bench) -> None:
    bench.provider.put("second", password="second", extra="x")
    row = {"secretKey": "extra", "remoteRef": {"key": "prod/db", "property": "username"}}
    sources = [{"extract": {"key": "prod/db"}}, {"extract": {"key": "second"}}]
    await bench.external(data=[row], dataFrom=sources)
    assert await bench.secret() == {"password": "second", "username": "app", "extra": "app"}


async def test_metadata_is_fetched_in_place_of_the_value(bench) -> None:
    bench.provider.put_data("tagged", b"value", {"owner": "ann"})
    row = {
        "secretKey": "who",
        "remoteRef": {"key": "tagged", "metadataPolicy": "Fetch", "property": "owner"},
    }
    await bench.external(data=[row])
    assert await bench.secret() == {"who": "ann"}


async def test_an_older_version_is_read(bench) -> None:
    bench.provider.put("prod/db", password="two")
    row = {
        "secretKey": "p",
        "remoteRef": {"key": "prod/db", "version": "1", "property": "password"},
    }
    await bench.external(data=[row])
    assert await bench.secret() == {"p": "one"}


async def test_a_row_may_name_its_own_store(bench) -> None:
    await cluster_store(bench)
    source = {"storeRef": {"name": "wide", "kind": "ClusterSecretStore"}}
    row = {
        "secretKey": "p",
        "remoteRef": {"key": "prod/db", "property": "password"},
        "sourceRef": source,
    }
    await bench.external(data=[row], secretStoreRef=None)
    assert await bench.secret() == {"p": "one"}


async def test_cluster_stores_say_which_namespaces_may_use_them(bench) -> None:
    await cluster_store(
        bench, "theirs", conditions=[{"namespaceSelector": {"matchLabels": {"team": "y"}}}]
    )
    await cluster_store(
        bench, "ours", conditions=[{"namespaceRegexes": ["^n$"]}, {"namespaces": ["m"]}]
    )
    for name in ("theirs", "ours"):
        await bench.external(name, secretStoreRef={"name": name, "kind": "ClusterSecretStore"})
    assert "does not allow the namespace n" in (await bench.condition(name="theirs"))["message"]
    assert await bench.secret("ours") == {"password": "one"}


async def test_generators_make_values_once_and_not_for_a_repair(bench) -> None:
    source = {"generatorRef": {"kind": "Password", "name": "p"}}
    await bench.external(dataFrom=[{"sourceRef": source}], secretStoreRef=None, refreshInterval="0")
    assert await bench.secret() == {"password": "generated-1"}
    await bench.edit(password="changed")
    assert await bench.secret() == {"password": "generated-1"}
    assert bench.generators.made == 1


async def test_rows_of_one_generator_are_of_one_making(bench) -> None:
    source = {"generatorRef": {"kind": "Password", "name": "pair"}}
    rows = [
        {"secretKey": key, "remoteRef": {"key": key}, "sourceRef": source}
        for key in ("user", "password")
    ]
    await bench.external(data=rows, secretStoreRef=None)
    assert await bench.secret() == {"user": "u1", "password": "generated-1"}


async def test_a_template_shapes_the_secret(bench) -> None:
    template = {
        "type": "example.com/db",
        "data": {"url": "db://{{ .username }}:{{ .password }}@host"},
        "metadata": {"labels": {"user": "{{ .username }}"}, "annotations": {"a": "b"}},
    }
    await bench.external(dataFrom=[{"extract": {"key": "prod/db"}}], target={"template": template})
    item = await bench.api.get(SECRETS, "db", "n")
    assert await bench.secret() == {"url": "db://app:one@host"}
    assert item["type"] == "example.com/db"
    assert item["metadata"]["labels"]["user"] == "app"
    assert item["metadata"]["annotations"]["a"] == "b"


async def test_a_template_that_fails_leaves_the_last_good_secret(bench) -> None:
    template = {"data": {"url": "{{ .username }}"}}
    source = [{"extract": {"key": "prod/db"}}]
    await bench.external(dataFrom=source, target={"template": template}, refreshInterval="1m")
    bench.provider.put("prod/db", password="marked-value")
    await bench.clock.advance(70)
    assert await bench.secret() == {"url": "app"}
    said = (await bench.condition())["message"]
    assert "template.data[url]" in said
    assert "username" in said
    assert "marked-value" not in said


async def test_templates_kept_elsewhere_are_watched(bench) -> None:
    await bench.api.create(
        CONFIG_MAPS,
        {"metadata": {"name": "t", "namespace": "n"}, "data": {"conf": "p={{ .password }}"}},
    )
    kept = {"configMap": {"name": "t", "items": [{"key": "conf"}]}}
    await bench.external(target={"template": {"templateFrom": [kept]}})
    assert await bench.secret() == {"conf": "p=one"}
    await bench.api.merge_patch(CONFIG_MAPS, "t", "n", {"data": {"conf": "pw={{ .password }}"}})
    await bench.clock.advance(0.5)
    assert await bench.secret() == {"conf": "pw=one"}
    await bench.api.delete(CONFIG_MAPS, "t", "n")
    await bench.clock.advance(0.5)
    assert await bench.secret() == {"conf": "pw=one"}
    assert "is not there" in (await bench.condition())["message"]


async def test_a_target_may_be_a_config_map(bench) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap"}
    await bench.external(target={"manifest": manifest}, refreshInterval="1m")
    made = await bench.api.get(CONFIG_MAPS, "db", "n")
    assert made["data"] == {"password": "one"}
    assert made["metadata"]["ownerReferences"][0]["name"] == "db"
    said = await bench.condition()
    assert (said["reason"], said["message"]) == ("ResourceSynced", "resource synced")
    writes = bench.api.writes
    await bench.clock.advance(200)
    assert bench.api.writes == writes
    await bench.external("other", target={"manifest": {"apiVersion": "x/v1", "kind": "Thing"}})
    assert "unsafe-allow-generic-targets" in (await bench.condition(name="other"))["message"]


async def test_a_store_that_appears_or_changes_wakes_its_readers(bench) -> None:
    await bench.external(secretStoreRef={"name": "late"})
    assert "does not exist" in (await bench.condition())["message"]
    store = {"metadata": {"name": "late", "namespace": "n"}, "spec": {"provider": {"fake": {}}}}
    await bench.api.create(SECRET_STORES, store)
    await bench.clock.advance(0.5)
    assert await bench.secret() == {"password": "one"}
    made = bench.providers_made
    await bench.api.merge_patch(SECRET_STORES, "late", "n", {"spec": {"controller": ""}})
    await bench.clock.advance(0.5)
    assert bench.providers_made == made + 1
    await bench.api.delete(SECRET_STORES, "late", "n")
    await bench.clock.advance(0.5)
    assert await bench.secret() == {"password": "one"}
    assert "does not exist" in (await bench.condition())["message"]


async def test_stores_of_another_class_are_the_other_controllers(idle) -> None:
    await idle.start(controller_class="strongroom")
    for name, spec in (("a", {"controller": "other"}), ("b", {"controller": "strongroom"})):
        await idle.api.create(
            SECRET_STORES,
            {
                "metadata": {"name": name, "namespace": "n"},
                "spec": {"provider": {"fake": {}}, **spec},
            },
        )
        await idle.external(name, secretStoreRef={"name": name})
    assert not await idle.has_secret("a")
    assert "status" not in await idle.item("a")
    assert "status" not in await idle.api.get(SECRET_STORES, "a", "n")
    assert await idle.secret("b") == {"password": "one"}


async def test_stores_say_whether_they_can_be_used(bench) -> None:
    bad = {"metadata": {"name": "bad", "namespace": "n"}, "spec": {"provider": {"nosuch": {}}}}
    await bench.api.create(SECRET_STORES, bad)
    await cluster_store(bench, "odd", conditions=[{"namespaceRegexes": ["("]}])
    selector = {"matchExpressions": [{"key": "a", "operator": "Is"}]}
    await cluster_store(bench, "queer", conditions=[{"namespaceSelector": selector}])
    await bench.clock.advance(1)

    async def said(resource, name: str, namespace: str = "") -> tuple:
        status = (await bench.api.get(resource, name, namespace))["status"]
        return status["conditions"][0]["status"], status["conditions"][0]["reason"]

    assert await said(SECRET_STORES, "s", "n") == ("True", "Valid")
    assert (await bench.api.get(SECRET_STORES, "s", "n"))["status"]["capabilities"] == "ReadWrite"
    assert await said(SECRET_STORES, "bad", "n") == ("False", "InvalidProviderConfig")
    for name in ("odd", "queer"):
        assert await said(CLUSTER_SECRET_STORES, name) == ("False", "InvalidStoreConfiguration")
    from strongroom.model.errors import Unavailable

    bench.provider.broken = Unavailable("unreachable", "no answer")
    await bench.clock.advance(310)
    assert await said(SECRET_STORES, "s", "n") == ("False", "ValidationFailed")
    bench.provider.broken = None
    await bench.clock.advance(40)
    assert await said(SECRET_STORES, "s", "n") == ("True", "Valid")
    writes = bench.api.writes
    await bench.clock.advance(2000)
    assert bench.api.writes == writes


async def test_every_row_names_what_is_wrong_without_a_value(bench) -> None:
    row = {"secretKey": "a", "remoteRef": {"key": "prod/db", "property": "a.#(b"}}
    await bench.external(data=[row])
    assert "bad-property" in (await bench.condition())["message"]
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": {"data": []}})
    await bench.clock.advance(0.5)
    assert "no-data" in (await bench.condition())["message"]
