"""What `encrypt init` writes: complete, private, accepted by the checks, by systemd, and it works."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from strongroom.app.main import main
from strongroom.crypto.signatures import new_key_pair, private_key_text, public_key_text
from strongroom.encrypt.check.chain import chain_of
from strongroom.encrypt.check.configuration import parse
from strongroom.encrypt.kms.config import load_config
from strongroom.encrypt.kms.keys import open_key
from strongroom.encrypt.kms.state import load
from strongroom.encrypt.setup import CLOUDS, ENCRYPTION, KINDS, STATE_DIR
from strongroom.wire.keywrap.key_file import KeyFileWrapper

WIRED = {
    "plain": "start kube-apiserver with", "kubeadm": "control-plane apiserver",
    "k3s": "systemctl restart k3s", "rke2": "systemctl restart rke2-server",
}  # fmt: skip


def init(folder: Path, *words: str) -> int:
    return main(["encrypt", "init", "--output", str(folder), "--cluster", "c1", *words])


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_is_private_and_passes_the_checks(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "o"
    assert init(folder, "--for", kind) == 0
    assert init(folder, "--for", kind) == 2  # Never over what is there.
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    files = {"--config": "encryption.yaml", "--plugin-config": "kms.yaml"}
    files |= {"--plugin-manifest": "strongroom-kms-pod.yaml"}
    words = [word for flag, name in files.items() for word in (flag, str(folder / name))]
    assert main(["encrypt", "check", *words, "--fail-on", "warning"]) == 0
    for path in folder.glob("*.yaml"):
        assert yaml.safe_load(path.read_text())


def test_the_first_key_is_there_and_opens_with_the_key_file(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "o"
    assert init(folder) == 0
    state, config = load(folder / "kms.json"), load_config(folder / "kms.yaml")
    assert state.current in capsys.readouterr().out
    wrapper = KeyFileWrapper(config.backends[0]["name"], folder / "kms.key")
    assert asyncio.run(open_key(state.keys[0], [wrapper], config.place)).key
    assert str(config.state).startswith(STATE_DIR)


def test_escrow_is_wrapped_from_the_start(tmp_path: Path, capsys) -> None:
    pair = new_key_pair("rsa-2048")
    private, public = private_key_text(pair), public_key_text("rsa-2048", pair)
    (tmp_path / "public.pem").write_text(public)
    (tmp_path / "private.pem").write_text(private)
    (tmp_path / "bad.pem").write_text("nothing")
    for path in ("bad.pem", "absent.pem"):
        assert init(tmp_path / "none", "--escrow", str(tmp_path / path)) == 2
        assert not (tmp_path / "none").exists()
    folder = tmp_path / "o"
    assert init(folder, "--escrow", str(tmp_path / "public.pem")) == 0
    # The drill, with the paths of this folder in place of the node's.
    config = (folder / "kms.yaml").read_text()
    config = config.replace("/etc/strongroom", str(folder)).replace(STATE_DIR, str(folder))
    (folder / "kms.yaml").write_text(config)
    words = ["--config", str(folder / "kms.yaml"), "--escrow-key", str(tmp_path / "private.pem")]
    assert main(["kms", "drill", *words]) == 0
    assert "DRILL PASSED" in capsys.readouterr().out


def test_the_steps_put_every_file_in_its_place_as_they_are_printed(tmp_path: Path, capsys) -> None:
    folder, root = tmp_path / "o", tmp_path / "root"
    public = public_key_text("rsa-2048", new_key_pair("rsa-2048"))
    (tmp_path / "public.pem").write_text(public)
    assert init(folder, "--escrow", str(tmp_path / "public.pem")) == 0
    for path in ("etc/systemd/system", "var/lib"):
        (root / path).mkdir(parents=True)
    lines = [each.strip() for each in capsys.readouterr().out.splitlines()]
    commands = [each for each in lines if each.startswith("install ")]
    for line in commands:
        here = line.replace(" /", f" {root}/")
        subprocess.run(["bash", "-ec", here], cwd=folder, check=True, capture_output=True)
    placed = {f"/{path.relative_to(root)}": path for path in root.rglob("*") if path.is_file()}
    keys = ("kms.yaml", "kms.key", "escrow.pem")
    wanted = {ENCRYPTION, f"{STATE_DIR}/kms.json", *(f"/etc/strongroom/{each}" for each in keys)}
    assert {path for path, there in placed.items() if there.stat().st_mode & 0o077 == 0} == wanted
    assert placed.keys() - wanted == {"/etc/systemd/system/strongroom-kms.service"}
    last = (folder / "encryption.yaml").read_text()
    assert (root / ENCRYPTION.lstrip("/")).read_text() == last


@pytest.mark.parametrize("kind", CLOUDS)
def test_a_managed_cloud_gets_its_own_commands_and_what_they_leave(kind: str, capsys) -> None:
    assert main(["encrypt", "init", "--for", kind]) == 0
    said = capsys.readouterr().out
    for command in CLOUDS[kind].commands:
        assert command.split()[0] in ("aws", "gcloud", "az")
        assert command in said
    assert "What these do not do" in said
    assert "prove --two-pass" in said


def test_the_steps_name_every_file(tmp_path: Path, capsys) -> None:
    for kind in KINDS:
        folder = tmp_path / kind
        assert init(folder, "--for", kind) == 0
        said = capsys.readouterr().out.partition("\n")[2]
        assert [path.name for path in folder.iterdir() if path.name not in said] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    folder = tmp_path / "o"
    assert init(folder, "--executable", shutil.which("true") or "") == 0
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(folder / "strongroom-kms.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # Other units of the machine are loaded too, and are not ours to judge.
    ours = [line for line in done.stderr.splitlines() if "strongroom-kms" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_encryption_configuration_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "o"
    assert init(folder) == 0
    assert parse((folder / "encryption.yaml").read_bytes()).rules[0].resources == ("secrets",)
    assert json.loads((folder / "kms.json").read_text())["version"] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_no_server_writes_what_another_does_not_read_yet(kind: str, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "o"
    assert init(folder, "--for", kind) == 0
    read, write = (
        chain_of(parse((folder / name).read_bytes()), "secrets")
        for name in ("encryption-read.yaml", "encryption.yaml")
    )
    assert (read.encrypts, write.encrypts) == (False, True)
    assert set(read.providers) == set(write.providers)
    # First on all, then the servers one by one, and only then the file that writes.
    said = capsys.readouterr().out
    places = [said.index(each) for each in (f"encryption-read.yaml {ENCRYPTION}", WIRED[kind])]
    assert sorted(places) == places
    writes = said.index(f" encryption.yaml {ENCRYPTION}")
    assert writes > places[-1]
    assert said.index("strongroom encrypt migrate") > writes


@pytest.mark.cluster
def test_the_api_server_accepts_the_static_pod(cluster, tmp_path: Path) -> None:
    """Every field is one it knows, and the values are valid."""
    folder = tmp_path / "o"
    assert init(folder) == 0
    pod = (folder / "strongroom-kms-pod.yaml").read_text()
    words = ("create", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-")
    assert cluster.kubectl(*words, stdin=pod).strip() == "pod/strongroom-kms"
