"""Escrow and the commands around keys, by the command line: a drill, a loss, a recovery."""

import asyncio
import contextlib
import io
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from strongroom.app.commands.kms import _backends
from strongroom.app.main import main
from strongroom.crypto.keyfile import create_key_file
from strongroom.encrypt.kms.config import load_config
from strongroom.encrypt.kms.keys import make
from strongroom.encrypt.kms.state import first, save
from strongroom.model.clock import SystemClock


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A configuration with one key file and escrow, and a first key."""
    pair = rsa.generate_private_key(65537, 2048)
    pem = serialization.Encoding.PEM
    (tmp_path / "private.pem").write_bytes(
        pair.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "public.pem").write_bytes(
        pair.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    create_key_file(tmp_path / "kms.key")
    config = {
        "socket": str(tmp_path / "s"),
        "state": str(tmp_path / "state.json"),
        "backends": [{"name": "file", "type": "key_file", "path": str(tmp_path / "kms.key")}],
        "escrow": [{"name": "safe", "public_key": str(tmp_path / "public.pem")}],
    }
    (tmp_path / "kms.yaml").write_text(json.dumps(config))
    return tmp_path


def kms(folder: Path, verb: str, *words: str) -> tuple[int, str]:
    """The command in this process: its status and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(["kms", verb, "--config", str(folder / "kms.yaml"), *words])
    return status, said.getvalue()


def _first(folder: Path) -> None:
    config = load_config(folder / "kms.yaml")
    entry, _ = asyncio.run(make(_backends(config, SystemClock()), config.place, 1.0))
    save(config.state, first(entry))


@pytest.mark.long
def test_escrow_is_drilled_and_recovers_what_was_lost(installation: Path) -> None:
    _first(installation)
    folder, key = installation, ("--escrow-key", str(installation / "private.pem"))
    assert kms(folder, "prepare")[0] == 0
    status, said = kms(folder, "drill", *key)
    assert (status, "DRILL PASSED" in said) == (0, True)
    status, said = kms(folder, "promote")
    assert (status, "no-peers" in said) == (2, True)
    status, said = kms(folder, "promote", "--peer", "http://127.0.0.1:1")
    assert (status, "peer-not-ready" in said, "curl" in said) == (2, True, True)
    pending = json.loads((folder / "state.json").read_text())["pending"]
    for name, keys in (("behind", []), ("ahead", [pending])):
        (folder / f"{name}.json").write_text(json.dumps({"decrypts": keys}))
    for behind in ("behind.json", "absent.json", "kms.yaml"):
        status, said = kms(folder, "promote", "--peer", str(folder / behind))
        assert (status, "peer-not-ready" in said) == (2, True)
        assert ("copy the state file" in said) is (behind == "behind.json")
    assert kms(folder, "promote", "--peer", str(folder / "ahead.json"))[0] == 0
    # The key file is lost: escrow gives the keys to a new one.
    (folder / "kms.key").unlink()
    create_key_file(folder / "kms.key")
    assert kms(folder, "rewrap")[0] == 2
    status, said = kms(folder, "drill", *key)
    assert status == 1
    assert kms(folder, "recover", *key, "--output", str(folder / "new.json"))[0] == 0
    assert kms(folder, "recover", *key, "--output", str(folder / "new.json"))[0] == 2
    (folder / "new.json").rename(folder / "state.json")
    assert kms(folder, "drill", *key)[0] == 0
    status, said = kms(folder, "status", "--format", "json")
    keys = json.loads(said)["keys"]
    assert sorted(each["use"] for each in keys) == ["current", "decrypts"]
    assert kms(folder, "retire", keys[0]["id"], "--unproved")[0] == 0
    assert kms(folder, "rewrap")[0] == 0
