"""The plugin over a real socket with a real gRPC client, its keys on disk, and their refusals."""

import asyncio
import json
import re
import socket as sockets
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from strongroom.app.main import main
from strongroom.crypto.keyfile import create_key_file
from strongroom.encrypt.kms.keeper import Keeper
from strongroom.encrypt.kms.keys import Backends, Place, make
from strongroom.encrypt.kms.messages import (
    SERVICE,
    DecryptRequest,
    EncryptRequest,
    EncryptResponse,
    plaintext_of,
)
from strongroom.encrypt.kms.page import HealthPage
from strongroom.encrypt.kms.peers import check_own
from strongroom.encrypt.kms.plugin import Plugin, ask_status, serve
from strongroom.encrypt.kms.standing import Policy
from strongroom.encrypt.kms.state import first, load, prepared, promoted, retired, save
from strongroom.model.clock import SystemClock, rfc3339
from strongroom.model.errors import Unavailable
from strongroom.wire.client import HttpClient
from strongroom.wire.grpc_unix import call_unix
from strongroom.wire.keywrap.key_file import KeyFileWrapper
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Listener

SEED = b"s" * 32
PLACE = Place("strongroom", "c")
CLOCK = SystemClock()
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/encrypt.md").read_text()
DASHBOARD = (ROOT / "deploy/grafana/strongroom-kms.json").read_text()
RULES = (ROOT / "deploy/prometheus/strongroom-kms-rules.yaml").read_text()


def test_a_plugin_that_is_gone_is_seen_and_clusters_are_not_compared() -> None:
    """What is gone has no sum, and others have; two clusters never have one key."""
    by_name = {
        rule["alert"]: rule["expr"]
        for group in yaml.safe_load(RULES)["groups"]
        for rule in group["rules"]
    }
    assert by_name["StrongroomKmsNotServing"].startswith('up{job=~"kms.*"} == 0 or ')
    assert by_name["StrongroomKmsKeysDiffer"].startswith("count by (job) (count by (job, ")
    assert "  - job_name: kms\n" in PAGE


class Running:
    """A plugin on a socket, its keys and its keeper."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kms.sock"
        self.state = folder / "state.json"
        create_key_file(folder / "key")
        self.backends = Backends((KeyFileWrapper("file", folder / "key"),))
        self.keeper = Keeper(self.state, self.backends, PLACE, Policy(), CLOCK)
        self.plugin = Plugin(self.keeper, CLOCK)

    async def first_key(self) -> None:
        entry, _ = await make(self.backends, PLACE, 1.0)
        save(self.state, first(entry))
        await self.keeper.probe()

    async def rotate(self) -> None:
        entry, _ = await make(self.backends, PLACE, 2.0)
        save(self.state, promoted(prepared(load(self.state), entry), 1e6))
        await self.keeper.probe()


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        made = Running(Path(folder))
        server = await serve(made.plugin, made.path)
        yield made
        await server.stop()
        assert not made.path.exists()


@pytest.fixture
async def socket(running: Running) -> Path:
    await running.first_key()
    return running.path


async def encrypted(path: Path) -> EncryptResponse:
    message = EncryptRequest(SEED, "uid").dumps()
    return EncryptResponse.loads(await call_unix(path, f"/{SERVICE}/Encrypt", message))


async def decrypted(path: Path, response: EncryptResponse, key_id: str = "") -> bytes:
    request = DecryptRequest(response.ciphertext, "uid", key_id or response.key_id)
    return plaintext_of(await call_unix(path, f"/{SERVICE}/Decrypt", request.dumps()))


async def test_before_there_is_a_key_it_listens_and_says_unavailable(running: Running) -> None:
    with pytest.raises(Unavailable, match="starting"):
        await ask_status(running.path)
    await running.first_key()
    assert (await ask_status(running.path)).healthz == "ok"


async def test_status_names_the_key_that_encrypts(socket: Path) -> None:
    status, made = await ask_status(socket), await encrypted(socket)
    assert (status.version, status.healthz, status.key_id) == ("v2", "ok", made.key_id)
    assert SEED not in made.ciphertext
    assert 0 < len(made.ciphertext) <= 1024
    assert await decrypted(socket, made) == SEED
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600


async def test_a_rotated_key_still_opens_what_the_old_one_sealed(
    socket: Path, running: Running
) -> None:
    old = await encrypted(socket)
    await running.rotate()
    new = await encrypted(socket)
    assert new.key_id != old.key_id
    assert await asyncio.gather(decrypted(socket, old), decrypted(socket, new)) == [SEED, SEED]


async def test_what_does_not_fit_is_refused_without_saying_what_it_held(socket: Path) -> None:
    made = await encrypted(socket)
    changed = EncryptResponse(made.ciphertext[:-1] + bytes([made.ciphertext[-1] ^ 1]), made.key_id)
    for attempt, code in (
        (decrypted(socket, changed), "permission_denied"),
        (decrypted(socket, made, "unknown"), "not_found"),
        (call_unix(socket, f"/{SERVICE}/Decrypt", b"\xff\xff"), "invalid_argument"),
        (call_unix(socket, f"/{SERVICE}/Encrypt", b""), "invalid_argument"),
        (
            call_unix(socket, f"/{SERVICE}/Encrypt", EncryptRequest(b"x" * 2000, "u").dumps()),
            "invalid_argument",
        ),
        (
            decrypted(socket, EncryptResponse(made.ciphertext + bytes(1024), made.key_id)),
            "invalid_argument",
        ),
        (call_unix(socket, f"/{SERVICE}/Nothing", b""), "unimplemented"),
    ):
        with pytest.raises(Unavailable, match=code) as refused:
            await attempt
        assert "sss" not in str(refused.value)


async def test_many_at_once_all_get_their_answer(socket: Path) -> None:
    made = await encrypted(socket)
    assert set(await asyncio.gather(*(decrypted(socket, made) for _ in range(50)))) == {SEED}


async def test_a_live_socket_is_not_taken_over(
    socket: Path, running: Running, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable) as caught:
        await serve(Plugin(running.keeper, CLOCK), socket)
    assert caught.value.code == "socket-in-use"
    assert (await ask_status(socket)).healthz == "ok"
    # Nor one of a program that takes no lock.
    other = tmp_path / "o.sock"
    foreign = await asyncio.start_unix_server(lambda reader, writer: None, other)
    with pytest.raises(Unavailable, match="another process"):
        await serve(Plugin(running.keeper, CLOCK), other)
    foreign.close()


async def test_a_dead_socket_is_replaced_and_a_foreign_file_or_folder_refused(
    running: Running,
) -> None:
    with tempfile.TemporaryDirectory(prefix="sr-") as name:
        folder = Path(name)
        listener = await asyncio.start_unix_server(lambda reader, writer: None, folder / "dead")
        listener.close()
        await listener.wait_closed()
        server = await serve(running.plugin, folder / "dead")
        await server.stop()
        (folder / "file").write_text("x")
        with pytest.raises(Unavailable, match="no socket"):
            await serve(running.plugin, folder / "file")
        folder.chmod(0o777)
        with pytest.raises(Unavailable, match="others may write"):
            await serve(running.plugin, folder / "s")
        with pytest.raises(Unavailable, match="no folder"):
            await serve(running.plugin, folder / "absent" / "s")


async def test_the_page_for_probes_and_metrics(running: Running) -> None:
    listener = Listener(HealthPage(running.keeper, running.plugin.metrics), Limits(), CLOCK)
    _, port = await listener.start("127.0.0.1", 0)
    async with HttpClient() as http:

        async def get(path: str) -> tuple[int, str]:
            reply = await http.request("GET", f"http://127.0.0.1:{port}{path}")
            return reply.status, reply.body.decode()

        assert (await get("/healthz"))[0] == 200
        assert (await get("/readyz"))[0] == 503
        await running.first_key()
        made = await encrypted(running.path)
        assert (await get("/readyz"))[0] == 200
        status, keys = await get("/keys")
        assert json.loads(keys)["decrypts"] == [made.key_id]
        status, text = await get("/metrics")
        assert status == 200
        assert 'strongroom_kms_calls_total{method="Encrypt",code="ok"} 1' in text
        assert 'strongroom_kms_standing{standing="ready"} 1' in text
        assert 'strongroom_kms_backend_up{backend="file"} 1' in text
        there = set(re.findall(r"^# TYPE (\w+)", text, re.M))
        assert {name for name in there if f"`{name}`" not in PAGE} == set()
        assert set(re.findall(r"\bstrongroom_kms_\w+", RULES)) <= there
        shown = set(re.findall(r"\bstrongroom_kms_\w+", DASHBOARD))
        assert {name.removesuffix("_bucket") for name in shown} == there
        assert (await get("/other"))[0] == 404
    await listener.drain(0.1)


def test_memory_is_locked_and_dumped_nowhere() -> None:
    """In a process of its own, since it cannot be undone."""
    text = (
        "import ctypes, pathlib\n"
        "from strongroom.app.locked_memory import lock_memory\n"
        "locked = lock_memory()\n"
        "lines = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
        "size = next(line.split()[1] for line in lines if line.startswith('VmLck'))\n"
        "print(int(locked), size, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"  # PR_GET_DUMPABLE
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    locked, kibibytes, dumpable = (int(each) for each in done.stdout.split())
    assert dumpable == 0
    # Where the limit forbids it the plugin says so; see strongroom_kms_memory_locked.
    assert (kibibytes > 1000) == bool(locked)


def kms(running: Running, *words: str) -> int:
    """A verb of the command line, for the plugin that runs."""
    backend = {"name": "file", "type": "key_file", "path": str(running.state.with_name("key"))}
    given = {"socket": str(running.path), "state": str(running.state), "backends": [backend]}
    given |= {"provider": PLACE.provider, "cluster": PLACE.cluster}
    config = running.state.with_name("kms.yaml")
    config.write_text(json.dumps(given))
    return main(["kms", *words, "--config", str(config)])


async def test_the_key_that_a_plugin_still_encrypts_with_is_not_retired(
    running: Running, socket: Path, capsys
) -> None:
    """A promotion is read within a minute; retired before that, the key would be in no file."""
    old = (await ask_status(socket)).key_id
    await asyncio.to_thread(kms, running, "prepare")
    assert await asyncio.to_thread(kms, running, "promote", "--alone") == 0
    before = running.state.read_bytes()
    assert await asyncio.to_thread(kms, running, "retire", old, "--unproved") == 2
    assert "still encrypts with" in capsys.readouterr().err
    assert running.state.read_bytes() == before
    # By a file from another node it comes all the same: it is refused, and status says so.
    save(running.state, retired(load(running.state), old))
    await running.keeper.probe()
    assert (await ask_status(socket)).key_id == old
    assert "lacks the key" in running.keeper.snapshot.reason
    assert await asyncio.to_thread(kms, running, "status") == 1
    assert "lacks the key" in capsys.readouterr().out
    # Nor does any other key go from a file that is not the one this plugin lives by.
    other, _ = await make(running.backends, PLACE, 3.0)
    state = load(running.state)
    save(running.state, replace(state, keys=(*state.keys, other)))
    assert await asyncio.to_thread(kms, running, "retire", other.id, "--unproved") == 2
    assert f"still encrypts with the key {old}" in capsys.readouterr().err
    # The file from before, a reload, and then it may go.
    running.state.write_bytes(before)
    await running.keeper.probe()
    assert (await ask_status(socket)).key_id != old
    assert await asyncio.to_thread(kms, running, "retire", old, "--unproved") == 0
    await running.keeper.probe()
    assert await asyncio.to_thread(kms, running, "status") == 0


async def test_no_key_is_promoted_that_the_plugin_of_the_node_does_not_open(
    running: Running, socket: Path, capsys
) -> None:
    """Other nodes would write under it, and this one's API server could not read that."""
    await asyncio.to_thread(kms, running, "prepare")
    prepared_file, pending = running.state.read_bytes(), load(running.state).pending
    key = running.state.with_name("key")
    kept = key.read_bytes()
    key.write_bytes(kept[::-1])  # The backend is away.
    assert await asyncio.to_thread(kms, running, "promote", "--alone") == 2
    said = capsys.readouterr().err
    assert f"{socket} does not open the key {pending}" in said
    assert "[peer-not-ready]" in said
    assert running.state.read_bytes() == prepared_file
    key.write_bytes(kept)
    await running.keeper.probe()
    assert await asyncio.to_thread(kms, running, "promote", "--alone") == 0


async def test_a_key_is_retired_with_a_proof_or_by_its_own_word(
    running: Running, socket: Path, capsys
) -> None:
    old = (await ask_status(socket)).key_id
    await running.rotate()
    new = (await ask_status(socket)).key_id
    assert new != old

    async def retire(*words: str) -> str:
        status = await asyncio.to_thread(kms, running, "retire", old, *words)
        said = capsys.readouterr()
        return said.out if status == 0 else said.err

    assert "[no-proof]" in await retire()
    file = running.state.with_name("proof.json")
    assert "[no-file]" in await retire("--proof", str(file))
    proof = {"holds": True, "still_under": {}, "began": rfc3339(SystemClock().now())}
    for key_id, said in ((old, "[not-proved]"), (new, "Nothing is under it of: secrets\n")):
        expected = {"secrets": {"form": "kms-v2", "provider": "strongroom", "key_id": key_id}}
        file.write_text(json.dumps({**proof, "expected": expected}))
        assert said in await retire("--proof", str(file))


@pytest.mark.long
async def test_while_the_plugin_hangs_no_key_is_retired(capsys) -> None:
    """It may have read no promotion, and then goes on under the old key until its restart."""
    with (
        tempfile.TemporaryDirectory(prefix="sr-") as folder,
        sockets.socket(sockets.AF_UNIX) as hung,
    ):
        running = Running(Path(folder))
        await running.first_key()
        old = load(running.state).current
        await running.rotate()
        hung.bind(str(running.path))
        hung.listen()
        before = running.state.read_bytes()
        assert await asyncio.to_thread(kms, running, "retire", old, "--unproved") == 2
        assert "[plugin-silent]" in capsys.readouterr().err
        assert running.state.read_bytes() == before
        with pytest.raises(Unavailable, match="no answer"):
            await check_own(running.path, old)
        hung.close()  # It died and left its socket: the next one takes the file as it is.
        await check_own(running.path, old)
        assert await asyncio.to_thread(kms, running, "retire", old, "--unproved") == 0


async def test_nothing_is_built_on_a_file_that_the_node_refuses(
    running: Running, socket: Path, capsys
) -> None:
    """A few changes on, an older file would have the higher epoch, and no key of what is in use."""
    older = running.state.read_bytes()
    await running.rotate()
    newest = running.state.read_bytes()
    old, new = load(running.state).keys
    running.state.write_bytes(older)
    for verb in (
        ("prepare",),
        ("promote", "--alone"),
        ("retire", old.id, "--unproved"),
        ("rewrap",),
        ("drill", "--escrow-key", "none"),  # Which would pass without the keys of the newest file.
    ):
        assert await asyncio.to_thread(kms, running, *verb) == 2
        assert f"this node has seen epoch 3 and key {new.id}" in capsys.readouterr().err
        assert running.state.read_bytes() == older
    running.state.write_bytes(newest)
    assert await asyncio.to_thread(kms, running, "prepare") == 0
