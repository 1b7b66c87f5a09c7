"""Targets that are no Secrets are watched and repaired as Secrets are."""

import pytest

from strongroom.kube.resource import CONFIG_MAPS, Resource
from strongroom.model.errors import Invalid, NotFound
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.desired import DATA_HASH, field_manager

CONFIG_MAP = {"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}
THINGS = Resource("example.com", "v1", "things", "Thing")


async def data(bench) -> dict[str, str]:
    return (await bench.api.get(CONFIG_MAPS, "db", "n"))["data"]


async def edit(bench, resource: Resource, patch: dict, who: str = "kubectl-edit") -> None:
    await bench.api.merge_patch(resource, "db", "n", patch, manager=who)
    await bench.clock.advance(0.5)


async def repairs(bench) -> list[str]:
    return [each for each in await bench.notes() if each.startswith("DriftRepaired")]


async def test_a_config_map_that_somebody_edits_gets_its_values_back(bench) -> None:
    await bench.external(target=CONFIG_MAP)
    reads = bench.provider.reads
    await edit(bench, CONFIG_MAPS, {"data": {"password": "theirs"}})
    assert await data(bench) == {"password": "one"}
    assert bench.provider.reads == reads
    (said,) = await repairs(bench)
    assert "ConfigMap db" in said
    assert "kubectl-edit" in said


async def test_the_values_of_a_config_map_are_read_as_they_stand_when_nobody_is_named(
    bench,
) -> None:
    await bench.external(target=CONFIG_MAP)
    ours = field_manager("db")
    hashed = {"annotations": {DATA_HASH: "theirs"}}
    patch = {"data": {"password": "no base64!"}, "metadata": hashed}
    await edit(bench, CONFIG_MAPS, patch, ours)
    assert await data(bench) == {"password": "one"}
    assert "unknown writer" in (await repairs(bench))[0]


async def test_a_config_map_that_somebody_deletes_is_made_again(bench) -> None:
    await bench.external(target=CONFIG_MAP)
    await bench.api.delete(CONFIG_MAPS, "db", "n")
    await bench.clock.advance(0.5)
    assert await data(bench) == {"password": "one"}
    assert "was deleted" in (await repairs(bench))[0]


async def test_the_status_tells_a_new_version_that_changes_nothing_of_the_target(bench) -> None:
    """Rotation waits for it: what is no Secret records no version itself."""
    row = {"secretKey": "user", "remoteRef": {"key": "prod/db", "property": "username"}}
    await bench.external(target=CONFIG_MAP, data=[row])
    assert (await bench.item())["status"]["sourceVersions"] == "prod/db@1"
    writes = bench.api.writes
    bench.provider.put("prod/db", username="app", password="two")
    await bench.clock.advance(0.5)
    assert await data(bench) == {"user": "app"}
    assert (await bench.item())["status"]["sourceVersions"] == "prod/db@2"
    assert bench.api.writes == writes + 1


async def test_what_is_in_order_is_not_written(bench) -> None:
    await bench.external(target=CONFIG_MAP)
    writes = bench.api.writes
    await edit(bench, CONFIG_MAPS, {"metadata": {"labels": {"theirs": "x"}}})
    assert bench.api.writes == writes + 1
    assert await repairs(bench) == []


async def test_after_a_start_a_good_target_costs_one_read_and_no_write(bench) -> None:
    await bench.external(target=CONFIG_MAP)
    reads, writes = bench.provider.reads, bench.api.writes
    await bench.start()
    await bench.clock.advance(5)
    assert (bench.provider.reads, bench.api.writes) == (reads + 1, writes)
    await edit(bench, CONFIG_MAPS, {"data": {"password": "theirs"}})
    assert await data(bench) == {"password": "one"}
    assert bench.provider.reads == reads + 1


@pytest.mark.parametrize("what", ["edited", "a key taken out", "deleted"])
async def test_what_happened_while_no_operator_ran_is_found_at_the_start(bench, what: str) -> None:
    await bench.external(target=CONFIG_MAP)
    await bench.stop()
    if what == "deleted":
        await bench.api.delete(CONFIG_MAPS, "db", "n")
    else:
        value = "theirs" if what == "edited" else None
        await edit(bench, CONFIG_MAPS, {"data": {"password": value}})
    await bench.start()
    await bench.clock.advance(1)
    assert await data(bench) == {"password": "one"}


async def test_a_closed_window_is_waited_for_before_a_start_asks_the_store(bench) -> None:
    denied = {"kind": "deny", "windows": [{"schedule": "* * * * *", "duration": "1h"}]}
    await bench.external(target=CONFIG_MAP, syncWindows=denied)
    await bench.stop()
    await edit(bench, CONFIG_MAPS, {"data": {"password": "theirs"}})
    reads = bench.provider.reads
    await bench.start()
    await bench.clock.advance(5)
    assert (bench.provider.reads, await data(bench)) == (reads, {"password": "theirs"})


async def test_what_was_created_once_is_not_read_again_for_a_repair(bench) -> None:
    await bench.external(target=CONFIG_MAP, refreshPolicy="CreatedOnce")
    bench.provider.put("prod/db", password="two")
    await edit(bench, CONFIG_MAPS, {"data": {"password": "theirs"}})
    assert await data(bench) == {"password": "one"}
    await bench.start()
    await edit(bench, CONFIG_MAPS, {"data": {"password": "theirs"}})
    # What it held is known to nobody any more, and what the store holds now was not asked for.
    assert await data(bench) == {"password": "theirs"}


async def test_a_secret_and_a_config_map_of_one_name_are_no_rivals(bench) -> None:
    await bench.external(target=CONFIG_MAP)
    await bench.external("other", target={"name": "db"})
    for number in range(3):
        await edit(bench, CONFIG_MAPS, {"data": {"password": f"theirs-{number}"}})
    assert await data(bench) == {"password": "one"}
    assert await bench.secret() == {"password": "one"}


async def test_a_resource_of_any_kind_is_followed_when_it_is_allowed(idle) -> None:
    async def resolve(manifest) -> Resource:
        if manifest.kind != "Thing":
            raise Invalid("unknown-kind", "not served")
        return THINGS

    idle.resolve = resolve
    await idle.start()
    await idle.external(target={"manifest": {"apiVersion": "example.com/v1", "kind": "Thing"}})
    assert (await idle.api.get(THINGS, "db", "n"))["spec"]["data"] == {"password": "one"}
    await edit(idle, THINGS, {"spec": {"data": {"password": "theirs"}}}, "their-operator")
    assert (await idle.api.get(THINGS, "db", "n"))["spec"]["data"] == {"password": "one"}
    assert "Thing db" in (await repairs(idle))[0]
    assert "their-operator" in (await repairs(idle))[0]


async def test_a_fight_over_a_config_map_is_stopped(bench) -> None:
    await bench.external(target=CONFIG_MAP)
    for number in range(8):
        await edit(bench, CONFIG_MAPS, {"data": {"password": f"theirs-{number}"}}, "their-operator")
    assert await data(bench) == {"password": "theirs-7"}
    assert any(each.startswith("FightDetected") for each in await bench.notes())


async def test_a_target_of_an_external_secret_that_is_gone_is_left_alone(bench) -> None:
    await bench.external(target=CONFIG_MAP)
    await bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    await bench.api.delete(CONFIG_MAPS, "db", "n")
    await bench.clock.advance(2)
    with pytest.raises(NotFound):
        await data(bench)
