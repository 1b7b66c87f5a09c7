"""`strongroom rotate` for programs: one document on standard output, progress beside it."""

import json

import pytest

ROTATE = ("rotate", "prod/db", "--no-cluster", "--format", "json")


@pytest.fixture
async def rotate(cli):
    await cli.store.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    await cli("kv", "put", "secret/prod/db", "password=old")

    async def run(*words: str, expect: int = 0):
        return json.loads(await cli(*ROTATE, *words, expect=expect))

    return run


async def test_a_plan_changes_nothing_and_a_rotation_says_that_it_is_done(cli, rotate) -> None:
    planned = await rotate("--dry-run")
    assert (planned["outcome"], planned["from"], planned["to"]) == ("planned", 1, 2)
    assert await cli("kv", "get", "-field=password", "secret/prod/db") == "old"
    done = await rotate()
    assert (done["outcome"], done["from"], done["to"]) == ("done", 1, 2)
    assert "done" in cli.err  # the progress
    assert await cli("kv", "get", "-field=password", "secret/prod/db") != "old"
    assert await rotate("--abandon") == {"abandoned": False}


async def test_who_blocks_stands_in_the_document(cli, rotate) -> None:
    reference = {"path": "secret/data/prod/db", "version": 1}
    await cli.store.ask("POST", "sys/consumers/ack", reference)
    blocked = await rotate("--timeout", "0s", expect=3)
    assert blocked["outcome"] == "blocked"
    assert "holds version 1" in blocked["message"]
    assert [each["behind"] for each in blocked["consumers"]] == [True]


async def test_what_cannot_be_meant_is_refused(cli, rotate) -> None:
    said = await cli("rotate", "prod/db@1", "--no-cluster", expect=2)
    assert "newest version" in said + cli.err
    said = await cli("rotate", "prod/db", "--no-cluster", "--timeout", "soon", expect=2)
    assert "--timeout 'soon' is no duration" in said + cli.err
