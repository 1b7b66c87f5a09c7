"""The plugin over a real socket with a real gRPC client, its keys on disk, and their refusals."""

import asyncio
import json
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from strongroom.crypto.keyfile import WrappingKey, create_key_file, load_key_file
from strongroom.encrypt.keks import load_or_create, rotate
from strongroom.encrypt.kms_messages import (
    SERVICE,
    DecryptRequest,
    EncryptRequest,
    EncryptResponse,
    plaintext_of,
)
from strongroom.encrypt.plugin import Plugin, ask_status, serve
from strongroom.model.errors import Denied, Invalid, Unavailable
from strongroom.wire.grpc_unix import call_unix

SEED = b"s" * 32


@pytest.fixture
def key(tmp_path: Path) -> WrappingKey:
    create_key_file(tmp_path / "key")
    return load_key_file(tmp_path / "key")


@pytest.fixture
async def socket(tmp_path: Path, key: WrappingKey) -> AsyncIterator[tuple[Path, Plugin]]:
    plugin = Plugin(load_or_create(tmp_path / "state", key, 1.0))
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        path = Path(folder) / "kms.sock"
        server = await serve(plugin, path)
        yield path, plugin
        await server.stop()
        assert not path.exists()


async def encrypted(path: Path) -> EncryptResponse:
    message = EncryptRequest(SEED, "uid").dumps()
    return EncryptResponse.loads(await call_unix(path, f"/{SERVICE}/Encrypt", message))


async def decrypted(path: Path, response: EncryptResponse, key_id: str = "") -> bytes:
    request = DecryptRequest(response.ciphertext, "uid", key_id or response.key_id)
    return plaintext_of(await call_unix(path, f"/{SERVICE}/Decrypt", request.dumps()))


async def test_status_names_the_key_that_encrypts(socket: tuple[Path, Plugin]) -> None:
    path, _ = socket
    status = await ask_status(path)
    made = await encrypted(path)
    assert (status.version, status.healthz, status.key_id) == ("v2", "ok", made.key_id)
    assert SEED not in made.ciphertext
    assert 0 < len(made.ciphertext) <= 1024
    assert await decrypted(path, made) == SEED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_rotated_key_still_opens_what_the_old_one_sealed(
    socket: tuple[Path, Plugin], tmp_path: Path, key: WrappingKey
) -> None:
    path, plugin = socket
    old = await encrypted(path)
    plugin.use(rotate(tmp_path / "state", key, 2.0))
    new = await encrypted(path)
    assert new.key_id != old.key_id
    assert await asyncio.gather(decrypted(path, old), decrypted(path, new)) == [SEED, SEED]
    assert load_or_create(tmp_path / "state", key, 3.0).current == new.key_id


async def test_what_does_not_fit_is_refused_without_saying_what_it_held(
    socket: tuple[Path, Plugin],
) -> None:
    path, _ = socket
    made = await encrypted(path)
    changed = EncryptResponse(made.ciphertext[:-1] + bytes([made.ciphertext[-1] ^ 1]), made.key_id)
    for attempt in (
        decrypted(path, changed),
        decrypted(path, made, "unknown"),
        call_unix(path, f"/{SERVICE}/Decrypt", b"\xff\xff"),
        call_unix(path, f"/{SERVICE}/Encrypt", b""),
        call_unix(path, f"/{SERVICE}/Encrypt", EncryptRequest(b"x" * 2000, "u").dumps()),
        call_unix(path, f"/{SERVICE}/Nothing", b""),
    ):
        with pytest.raises(Unavailable) as refused:
            await attempt
        assert "sss" not in str(refused.value)


async def test_many_at_once_all_get_their_answer(socket: tuple[Path, Plugin]) -> None:
    path, _ = socket
    made = await encrypted(path)
    assert set(await asyncio.gather(*(decrypted(path, made) for _ in range(50)))) == {SEED}


def test_the_state_needs_its_key_file_and_is_private(tmp_path: Path, key: WrappingKey) -> None:
    path = tmp_path / "state"
    load_or_create(path, key, 1.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    create_key_file(tmp_path / "other")
    with pytest.raises(Denied, match="wrapped by key"):
        load_or_create(path, load_key_file(tmp_path / "other"), 1.0)
    state = json.loads(path.read_text())
    state["keks"][0]["id"] = state["current"] = "renamed"
    path.write_text(json.dumps(state))
    for damaged in (path.read_text(), "{", '{"version": 1}', '{"current": "a", "keks": [1]}'):
        path.write_text(damaged)
        with pytest.raises(Invalid):
            load_or_create(path, key, 1.0)
