"""What a change elsewhere leaves as it was made, and what deleting a Secret asks for."""

from typing import Any

import pytest

from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.sync.crds import EXTERNAL_SECRETS, SECRET_STORES

GROUP = "generators.external-secrets.io/v1alpha1"
REF = {"apiVersion": GROUP, "kind": "Password", "name": "g"}
MADE = [{"sourceRef": {"generatorRef": REF}}]
BESIDE = [*MADE, {"extract": {"key": "prod/db"}, "rewrite": [{"regexp": {"source": "^", "target": "s-"}}]}]  # fmt: skip
TEXTS = {"template": {"templateFrom": [{"configMap": {"name": "t", "items": [{"key": "k"}]}}]}}
FROZEN: list[dict[str, Any]] = [{"refreshPolicy": "CreatedOnce"}, {"refreshPolicy": "OnChange"}]
FOLLOWING: list[dict[str, Any]] = [{"refreshInterval": "0"}, {"refreshInterval": "1h"}]


async def texts(bench, text: str) -> None:
    held = {"metadata": {"name": "t", "namespace": "n"}, "data": {"k": text}}
    await bench.api.create(CONFIG_MAPS, held)


async def edit_texts(bench, text: str) -> None:
    await bench.api.merge_patch(CONFIG_MAPS, "t", "n", {"data": {"k": text}})
    await bench.clock.advance(1)


async def edit_store(bench) -> None:
    await bench.api.merge_patch(SECRET_STORES, "s", "n", {"spec": {"refreshInterval": 77}})
    await bench.clock.advance(1)


async def restart(bench) -> None:
    await bench.stop()
    await bench.start()
    await bench.clock.advance(2)


@pytest.mark.parametrize("policy", [*FROZEN, *FOLLOWING])
async def test_a_start_asks_no_generator_for_a_template_that_is_kept_elsewhere(
    bench, policy: dict[str, Any]
) -> None:
    await texts(bench, "a {{ .password }}")
    await bench.external(dataFrom=MADE, target=TEXTS, **policy)
    for _ in range(2):
        assert await bench.secret() == {"k": "a generated-1"}
        await restart(bench)
    assert bench.generators.made == 1


@pytest.mark.parametrize("policy", FOLLOWING)
async def test_an_edit_of_a_template_takes_what_was_generated_before(bench, policy) -> None:
    await texts(bench, "a {{ .password }}")
    await bench.external(dataFrom=MADE, target=TEXTS, **policy)
    await edit_texts(bench, "b {{ .password }}")
    assert await bench.secret() == {"k": "b generated-1"}


@pytest.mark.parametrize("resource", [CONFIG_MAPS, SECRETS])
async def test_a_template_that_was_changed_while_no_operator_ran_is_read_at_the_start(
    idle, resource
) -> None:
    """It waited for the refresh interval."""
    bench = idle
    bench.provider.has_feed = False
    await bench.start()
    kind, field = ("configMap", "data") if resource is CONFIG_MAPS else ("secret", "stringData")
    held = {"metadata": {"name": "t", "namespace": "n"}, field: {"k": "a {{ .password }}"}}
    await bench.api.create(resource, held)
    kept = {kind: {"name": "t", "items": [{"key": "k"}]}}
    await bench.external(target={"template": {"templateFrom": [kept]}})
    await bench.clock.advance(60)
    reads = bench.provider.reads
    await restart(bench)
    assert (bench.provider.reads, await bench.secret()) == (reads, {"k": "a one"})
    await bench.stop()
    await bench.clock.advance(60)
    edit = {field: {"k": "b {{ .password }}"}}
    await bench.api.merge_patch(resource, "t", "n", edit, manager="kubectl-edit")
    await restart(bench)
    assert await bench.secret() == {"k": "b one"}
    reads = bench.provider.reads
    await restart(bench)
    assert bench.provider.reads == reads


async def test_what_changes_beside_a_generator_asks_it_for_nothing(bench) -> None:
    await bench.external(dataFrom=BESIDE, refreshInterval="10m")
    await edit_store(bench)
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "generated-1", "s-password": "two"}
    await bench.clock.advance(600)
    assert await bench.secret() == {"password": "generated-2", "s-password": "two"}


async def test_what_changes_beside_a_generator_waits_for_its_turn_after_a_start(bench) -> None:
    await bench.external(dataFrom=BESIDE, refreshInterval="10m")
    await restart(bench)
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(1)
    assert await bench.secret() == {
        "password": "generated-1", "s-password": "one", "s-username": "app",
    }  # fmt: skip
    await bench.clock.advance(600)
    assert await bench.secret() == {"password": "generated-2", "s-password": "two"}


@pytest.mark.parametrize("policy", FROZEN)
@pytest.mark.parametrize("started_anew", [False, True])
async def test_what_is_made_once_follows_neither_store_nor_template(
    bench, policy, *, started_anew: bool
) -> None:
    await texts(bench, "a {{ .password }}")
    await bench.external(target=TEXTS, **policy)
    if started_anew:
        await restart(bench)
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(1)
    await edit_store(bench)
    await edit_texts(bench, "b {{ .password }}")
    assert await bench.secret() == {"k": "a one"}


async def test_a_secret_that_somebody_deletes_has_what_the_store_has_now(idle) -> None:
    idle.provider.has_feed = False
    await idle.start()
    await idle.external()
    await idle.clock.advance(60)
    idle.provider.put("prod/db", password="two")
    await idle.api.delete(SECRETS, "db", "n")
    await idle.clock.advance(0.2)
    assert await idle.secret() == {"password": "two"}
    assert not any(each.startswith("DriftRepaired") for each in await idle.notes())


async def test_a_secret_that_is_deleted_after_its_source_does_not_come_back(idle) -> None:
    idle.provider.has_feed = False
    await idle.start()
    await idle.external()
    await idle.clock.advance(60)
    del idle.provider.secrets["prod/db"]
    await idle.api.delete(SECRETS, "db", "n")
    await idle.clock.advance(0.2)
    assert not await idle.has_secret()
    assert (await idle.condition())["reason"] == "SecretSyncedError"


async def test_what_was_generated_comes_back_to_a_secret_that_is_deleted(bench) -> None:
    await bench.external(dataFrom=MADE)
    await bench.api.delete(SECRETS, "db", "n")
    await bench.clock.advance(0.2)
    assert await bench.secret() == {"password": "generated-1"}


async def test_what_is_made_once_is_made_as_its_manifest_says_when_it_is_deleted(bench) -> None:
    await bench.external(refreshPolicy="CreatedOnce")
    row = {"secretKey": "user", "remoteRef": {"key": "prod/db", "property": "username"}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": {"data": [row]}})
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "one"}
    await bench.api.delete(SECRETS, "db", "n")
    await bench.clock.advance(0.2)
    assert await bench.secret() == {"user": "app"}


@pytest.mark.parametrize(
    "target", [{"name": "other"}, {"creationPolicy": "Orphan"}, {"creationPolicy": "Owner"}]
)
async def test_what_an_edit_asks_for_is_nobodys_drift(bench, target: dict[str, str]) -> None:
    before = {"creationPolicy": "Orphan" if target.get("creationPolicy") == "Owner" else "Owner"}
    await bench.external(target=before)
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": {"target": target}})
    await bench.clock.advance(1)
    assert await bench.secret(target.get("name", "db")) == {"password": "one"}
    assert not any(each.startswith("DriftRepaired") for each in await bench.notes())
