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


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        ("delete", "update on secret/delete/prod/db"),
        ("data", "update on secret/data/prod/db"),
        ("", ""),
    ],
)
async def test_a_token_that_may_not_do_it_all_begins_nothing(
    cli, rotate, monkeypatch, left_out, missing
) -> None:
    rules = {"data": '"read", "update"', "metadata": '"read", "patch"', "delete": '"update"'}
    policy = "".join(
        f'path "secret/{kind}/prod/*" {{ capabilities = [{words}] }} '
        for kind, words in rules.items()
        if kind != left_out
    )
    policy += 'path "sys/consumers" { capabilities = ["read"] }'
    if left_out == "data":
        # Of a plan it reads the value; that it may not write is what the run finds out.
        policy += 'path "secret/data/prod/*" { capabilities = ["read"] }'
    monkeypatch.setenv("VAULT_TOKEN", await cli.store.token_with(policy))
    planned = await rotate("--dry-run")
    assert planned["outcome"] == "planned"
    said = await rotate(expect=2 if missing else 0)
    if missing:
        assert said["reason"] == "rights-missing"
        assert said["error"].endswith(f"does: {missing}")
    _, found = await cli.store.ask("GET", "secret/metadata/prod/db")
    assert found["data"]["current_version"] == (1 if missing else 2)
    assert bool(found["data"]["custom_metadata"]) != bool(missing)
