"""The agent against a real store: files change as a whole, and nothing leaves a gap."""

import ast
import asyncio
import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.app.waiting import until
from strongroom.deliver.agent.config import SecretFiles, load_config
from strongroom.deliver.agent.files import current_files, swap
from strongroom.deliver.agent.loop import Agent, collect
from strongroom.deliver.agent.store import Read
from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.errors import Denied, Invalid, NotFound, Unavailable
from strongroom.model.principal import ReviewedToken

JWT = "e30.eyJleHAiOiA5MDAwMDAwMDAwLCAic3ViIjogImFwcCJ9.c2ln"
AGENT = Path(__file__).resolve().parents[2] / "src/strongroom/deliver/agent"


def test_it_imports_the_standard_library_and_model_alone() -> None:
    model = AGENT.parents[1] / "model"
    for path in [*AGENT.glob("*.py"), *model.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                ours = name.startswith(("strongroom.deliver.agent", "strongroom.model"))
                assert ours or name.split(".")[0] in sys.stdlib_module_names, (path.name, name)


def test_it_starts_without_site_packages() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c",
         f"import sys; sys.path.insert(0, {str(AGENT.parents[2])!r});"
         "from strongroom.deliver.agent.__main__ import main; sys.argv = ['a', '--help']; main()"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "example" in done.stdout


def settings(**changes) -> dict:
    given = {
        "address": "https://store:8200",
        "auth": {"role": "app", "token_file": "/t"},
        "output": "/o",
        "secrets": [{"path": "secret/data/prod/db"}],
    }
    return {**given, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "http://store:8200"},
        {"address": "http://127.0.0.1.evil.example"},
        {"address": "https://[bad"},
        {"extra": 1},
        {"auth": None},
        {"auth": {"role": "", "token_file": "/t"}},
        {"secrets": []},
        {"secrets": [{"path": "a", "files": {"../x": "k"}}]},
        {"secrets": [{"path": "a", "files": {"x": "k"}}, {"path": "b", "files": {"x": "k"}}]},
        {"poll_seconds": 0},
        {"poll_seconds": True},
        {"file_mode": "999"},
        {"file_mode": "0666"},
        {"file_mode": "4440"},
        {"output": 7},
        {"ca_file": 5},
        {"file_mode": "0040"},
        {"poll_seconds": float("inf")},
        {"poll_seconds": float("nan")},
        {"address": "https://store:99999"},
        {"address": "https://store:port"},
        {"address": "https://store:8200/vault"},
        {"address": "https://user:marked@store:8200"},
        {"auth": {"role": "app", "token_file": "/t", "mounts": "jwt"}},
        {"auth": {"role": "app", "token_file": "/t", "mount": ["jwt"]}},
        {"secrets": [{"path": "secret/data/prod/db", "file": {"f": "k"}}]},
        {"secrets": [{"path": "/"}]},
    ],
)
def test_a_bad_configuration_is_refused(tmp_path, changes) -> None:
    (tmp_path / "c").write_text(json.dumps(settings(**changes)))
    with pytest.raises(Invalid) as caught:
        load_config(tmp_path / "c")
    assert caught.value.code == "bad-config"
    assert caught.value.hint


def test_what_is_no_configuration_is_refused(tmp_path) -> None:
    for content in ("", "{", "[]", "null"):
        (tmp_path / "c").write_text(content)
        with pytest.raises(Invalid):
            load_config(tmp_path / "c")
    with pytest.raises(Invalid):
        load_config(tmp_path / "absent")


def test_a_set_of_files_changes_as_a_whole(tmp_path) -> None:
    out = tmp_path / "not" / "there"
    assert swap(out, {"a": b"1", "b": b"1"}, {"p": 1}, 0o440, "one")
    handle, link = (out / "a").open("rb"), (out / "b").lstat().st_ino
    assert not swap(out, {"a": b"1", "b": b"1"}, {"p": 1}, 0o440, "same")
    assert swap(out, {"b": b"2", "c": b"2"}, {"p": 2}, 0o400, "two")
    # What stays is not linked anew: there would be a moment without it.
    assert (out / "b").lstat().st_ino == link
    # Who has the old file open still reads it; names that are gone are gone.
    assert handle.read() == b"1"
    handle.close()
    assert {path.name for path in out.iterdir()} == {"..two", "..data", "b", "c", ".meta.json"}
    assert (out / "b").read_bytes() == b"2"
    assert stat.S_IMODE((out / "b").stat().st_mode) == 0o400
    assert json.loads(current_files(out)[".meta.json"]) == {"versions": {"p": 2}}
    # A folder left by a swap that was cut off is no obstacle.
    (out / "..three").mkdir()
    assert swap(out, {"b": b"3"}, {"p": 3}, 0o400, "three")


def test_a_swap_that_was_cut_off_is_finished_by_the_next(tmp_path) -> None:
    out = tmp_path / "s"
    swap(out, {"a": b"1", "b": b"1"}, {"p": 1}, 0o440, "one")
    # Killed after the set was in place and before every name was linked, or before it was in place.
    (out / "a").unlink()
    (out / "..half").mkdir()
    (out / "..half" / "a").write_bytes(b"marked")
    assert not swap(out, {"a": b"1", "b": b"1"}, {"p": 1}, 0o440, "two")
    assert (out / "a").read_bytes() == b"1"
    assert {path.name for path in out.iterdir()} == {"..one", "..data", "a", "b", ".meta.json"}


def test_a_set_that_cannot_be_written_leaves_nothing(tmp_path) -> None:
    out = tmp_path / "s"
    swap(out, {"a": b"1"}, {"p": 1}, 0o440, "one")
    with pytest.raises(Unavailable):
        swap(out, {"a": b"2", "n" * 300: b"2"}, {"p": 2}, 0o440, "two")
    assert {path.name for path in out.iterdir()} == {"..one", "..data", "a", ".meta.json"}


def test_a_set_that_cannot_be_put_in_place_is_told(tmp_path) -> None:
    swap(tmp_path, {"a": b"1"}, {"p": 1}, 0o440, "one")
    (tmp_path / "..data.new").mkdir()
    with pytest.raises(Unavailable):
        swap(tmp_path, {"a": b"2"}, {"p": 2}, 0o440, "two")
    assert current_files(tmp_path)["a"] == b"1"
    assert not (tmp_path / "..two").exists()


def test_another_user_may_read_whatever_the_umask_is(tmp_path) -> None:
    before = os.umask(0o077)
    try:
        swap(tmp_path, {"a": b"1"}, {"p": 1}, 0o440, "one")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "..one").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/x",
        "a/b",
        "..data",
        "..data.new",
        ".meta.json",
        "",
        ".",
        "a\0b",
        "n" * 256,
        "\ud800",
    ],
)
def test_a_field_is_no_path(name) -> None:
    reads = {"p": Read(1, {"a": "1", name: "marked"})}
    with pytest.raises(Invalid, match="bad-file-name") as caught:
        collect((SecretFiles("p", {}),), reads)
    assert "marked" not in str(caught.value)
    # Under a name from the configuration the same field is written.
    assert collect((SecretFiles("p", {"f": name}),), reads) == {"f": b"marked"}


def test_names_that_applications_use_are_files() -> None:
    fields = {".dockerconfigjson": "1", "tls.crt": "2", "user name": "3", "größe": "4"}
    assert collect((SecretFiles("p", {}),), {"p": Read(1, fields)}) == {
        name: value.encode() for name, value in fields.items()
    }


def test_one_secret_does_not_take_the_file_of_another() -> None:
    reads = {"p": Read(1, {"password": "1"}), "q": Read(1, {"password": "2"})}
    with pytest.raises(Invalid, match="same-file"):
        collect((SecretFiles("p", {}), SecretFiles("q", {})), reads)


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(Unavailable) as caught:
        swap(tmp_path / "f" / "x", {"a": b"marked"}, {}, 0o400, "s")
    assert "marked" not in str(caught.value)


@pytest.fixture
async def served(store, tmp_path):
    """A store that lets service account `app` read prod/db, and the agent's configuration."""
    await store.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    await store.ask(
        "PUT",
        "sys/policies/acl/app",
        {
            "policy": 'path "secret/data/prod/*" { capabilities = ["read"] } path "sys/consumers/ack" { capabilities = ["update"] } path "sys/events/subscribe/kv*" { capabilities = ["read"] }'
        },
    )
    await store.ask("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    await store.ask(
        "POST",
        "auth/kubernetes/config",
        {"kubernetes_host": "https://c", "token_reviewer_jwt": "r"},
    )
    await store.ask(
        "POST",
        "auth/kubernetes/role/app",
        {
            "bound_service_account_names": "app",
            "bound_service_account_namespaces": "tour",
            "audience": "strongroom",
            "policies": "app",
            "ttl": "10m",
        },
    )
    store.reviewer.known[JWT] = ReviewedToken(
        "tour", "app", "u", ("strongroom",), "app-1", "pod-uid", "node1", "JTI=1"
    )
    await store.ask("POST", "secret/data/prod/db", {"data": {"password": "first", "port": 5432}})
    (tmp_path / "token").write_text(JWT)
    config = settings(
        address=store.address,
        auth={"role": "app", "token_file": str(tmp_path / "token")},
        output=str(tmp_path / "out"),
    )
    (tmp_path / "agent.json").write_text(json.dumps(config))
    return store


async def test_it_logs_in_writes_and_acknowledges(served, tmp_path) -> None:
    clock = SimulatedClock()
    agent = Agent(load_config(tmp_path / "agent.json"), clock)
    await asyncio.to_thread(agent.refresh)
    out = tmp_path / "out"
    assert (out / "password").read_text() == "first"
    assert (out / "port").read_text() == "5432"
    _, said = await served.ask("GET", "sys/consumers?path=secret/data/prod/db")
    row = said["data"]["consumers"][0]
    assert (row["pod"], row["version"], row["kind"], row["lapsed"]) == ("app-1", 1, "pod", False)
    # The pod's row stays to be seen after its token's end, marked as lapsed.
    await served.clock.advance(601)
    _, said = await served.ask("GET", "sys/consumers?path=secret/data/prod/db")
    assert said["data"]["consumers"][0]["lapsed"]
    # The login has lapsed as well; the agent's clock says so and it logs in anew.
    await clock.advance(601)
    await asyncio.to_thread(agent.refresh)
    assert len(served.reviewer.asked) == 2


async def test_a_refusal_keeps_the_last_good_files(served, tmp_path) -> None:
    agent = Agent(load_config(tmp_path / "agent.json"), SimulatedClock())
    await asyncio.to_thread(agent.refresh)
    await served.ask("DELETE", "secret/data/prod/db")
    with pytest.raises(NotFound):
        await asyncio.to_thread(agent.refresh)
    await served.ask("DELETE", "sys/policies/acl/app")
    with pytest.raises(Denied):
        await asyncio.to_thread(agent.refresh)
    assert (tmp_path / "out" / "password").read_text() == "first"


async def test_a_field_that_is_not_there_is_named(served, tmp_path) -> None:
    config = json.loads((tmp_path / "agent.json").read_text())
    config["secrets"] = [{"path": "secret/data/prod/db", "files": {"f": "absent"}}]
    (tmp_path / "agent.json").write_text(json.dumps(config))
    with pytest.raises(Invalid, match="absent"):
        await asyncio.to_thread(
            Agent(load_config(tmp_path / "agent.json"), SimulatedClock()).refresh
        )


async def test_the_process_follows_the_change_feed_until_it_is_told_to_end(
    served, tmp_path
) -> None:
    # It would look by itself in an hour: only the feed can bring what changes.
    config = json.loads((tmp_path / "agent.json").read_text())
    (tmp_path / "agent.json").write_text(json.dumps({**config, "poll_seconds": 3600}))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "strongroom", "agent", "--config", str(tmp_path / "agent.json"),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    clock = SystemClock()

    async def holds(value: str) -> bool | None:
        path = tmp_path / "out" / "password"
        return True if path.exists() and path.read_text() == value else None

    try:
        await until("the first file", lambda: holds("first"), clock)
        for value in ("second", "third"):
            await served.ask("POST", "secret/data/prod/db", {"data": {"password": value}})
            await until(value, lambda value=value: holds(value), clock, seconds=120)
        process.terminate()
        _, said = await asyncio.wait_for(process.communicate(), 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0
    # A file is there before the line about it, so the end may come between the two.
    assert b"version 2" in said
    assert b"third" not in said


async def test_once_ends_with_a_status(served, tmp_path) -> None:
    async def once() -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "strongroom.deliver.agent", "--once", "--config", str(tmp_path / "agent.json"),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, said

    assert (await once())[0] == 0
    (tmp_path / "token").write_text("e30.e30.c2ln")
    status, said = await once()
    assert status == 2
    assert b"error" in said
