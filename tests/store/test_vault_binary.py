"""Programs made for a `vault` binary find one: the tutorial's commands, and hvac's way to a server."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hvac
import pytest
import requests

from strongroom.app.cluster.control_plane import free_port

pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]
SCRIPT = Path(__file__).with_name("vault_tutorial.sh")


@pytest.fixture
def path_with_vault(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has a `vault` that is a link to strongroom."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vault").symlink_to(Path(sys.executable).parent / "strongroom")
    clean = {name: each for name, each in os.environ.items() if not name.startswith("VAULT_")}
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {**clean, "PATH": path, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}


def test_the_tutorial(tmp_path: Path, path_with_vault: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", str(SCRIPT), str(free_port())],
        cwd=tmp_path, env=path_with_vault, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.endswith("tutorial done\n"), done.stderr + done.stdout


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path, path_with_vault: dict[str, str]) -> Iterator[Start]:
    """Starts `vault ARGUMENTS` with pipes that nobody reads, and kills it outright at the end."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        running.append(
            subprocess.Popen(
                ["vault", *arguments],
                cwd=tmp_path,
                env=path_with_vault,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            if what():
                return
        except requests.exceptions.ConnectionError:
            pass
        time.sleep(0.05)
    pytest.fail("it did not come about in time")


@pytest.mark.parametrize("storage", ['backend "inmem" {}', 'storage "file" { path = "data" }'])
def test_hvacs_way(tmp_path: Path, start: Start, storage: str) -> None:
    """hvac's own test suite: a config, the server, initialise, unseal, work, SIGKILL."""
    port = free_port()
    (tmp_path / "vault.hcl").write_text(
        f'{storage}\nlistener "tcp" {{ address = "127.0.0.1:{port}" tls_disable = true }}\n'
        'disable_mlock = true\ndefault_lease_ttl = "768h"\nmax_lease_ttl = "768h"\n'
    )
    process = start("server", "-config=vault.hcl")
    client = hvac.Client(url=f"http://127.0.0.1:{port}")
    until(lambda: client.sys.is_initialized() is False)
    made = client.sys.initialize(secret_shares=5, secret_threshold=3)
    assert len(made["keys"]) == 5
    client.token = made["root_token"]
    assert client.sys.is_sealed()
    client.sys.submit_unseal_keys(made["keys"][:3])
    assert not client.sys.is_sealed()
    assert client.is_authenticated()
    assert client.sys.read_health_status(method="GET")["sealed"] is False
    client.sys.enable_secrets_engine("kv", path="mine", options={"version": "2"})
    client.secrets.kv.v2.create_or_update_secret("a", {"k": "v"}, mount_point="mine")
    found = client.secrets.kv.v2.read_secret("a", mount_point="mine", raise_on_deleted_version=True)
    assert found["data"]["data"] == {"k": "v"}
    client.sys.seal()
    assert client.sys.is_sealed()
    client.sys.submit_unseal_keys(made["keys"][2:])
    assert not client.sys.is_sealed()
    client.adapter.close()
    process.send_signal(signal.SIGKILL)
    process.wait()

    def free() -> bool:
        try:
            requests.get(f"http://127.0.0.1:{port}/v1/sys/health", timeout=30)
        except requests.exceptions.ConnectionError:
            return True
        return False

    until(free)


def test_a_dev_server_is_open_with_the_root_token_it_was_told(tmp_path: Path, start: Start) -> None:
    port = free_port()
    process = start(
        "server", "-dev", "-dev-root-token-id=root", f"-dev-listen-address=127.0.0.1:{port}"
    )
    client = hvac.Client(url=f"http://127.0.0.1:{port}", token="root")
    until(client.is_authenticated)
    client.secrets.kv.v2.create_or_update_secret("a", {"k": "v"})
    client.adapter.close()
    assert (tmp_path / ".vault-token").read_text().strip() == "root"
    process.terminate()
    shown = process.communicate()[0].decode()
    assert "Root Token: root" in shown
    key = re.search(r"^Unseal Key: (\S+)$", shown, re.MULTILINE)
    assert key
    assert len(base64.b64decode(key[1], validate=True)) == 32
    assert "==> Vault server started! Log data will stream in below:" in shown
    assert f"export VAULT_ADDR='http://127.0.0.1:{port}'" in shown


def test_a_dev_server_takes_its_key_with_it(tmp_path: Path, start: Start) -> None:
    port = free_port()
    process = start(
        "server", "-dev", "-dev-tls", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{port}"
    )
    address = f"https://127.0.0.1:{port}/livez"

    def lives() -> bool:
        found = [str(each) for each in tmp_path.glob("strongroom-tls-*/ca.pem")]
        return bool(found) and requests.get(address, verify=found[0], timeout=30).ok

    until(lives)
    process.terminate()
    process.communicate()
    assert process.returncode == 0
    assert list(tmp_path.glob("strongroom-tls-*")) == []


def test_the_way_of_a_fixture_that_runs_the_command_line(
    tmp_path: Path, start: Start, path_with_vault: dict[str, str]
) -> None:
    """Waits for the words in the output, then initialises, unseals and works by the program."""
    port = free_port()
    (tmp_path / "vault.hcl").write_text(
        f'storage "file" {{ path = "data" }}\nworkers = 2\n'
        f'listener "tcp" {{ address = "127.0.0.1:{port}" tls_disable = true }}\n'
    )
    server = start("server", "-config=vault.hcl")
    assert server.stdout is not None
    for line in server.stdout:
        if b"Vault server started!" in line:
            break
    address = {"VAULT_ADDR": f"http://127.0.0.1:{port}"}

    def vault(*arguments: str, **more: str) -> tuple[int, str]:
        done = subprocess.run(
            ["vault", *arguments], cwd=tmp_path, env={**path_with_vault, **address, **more},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    assert re.match(r"Vault v\d+\.\d+\.\d+", vault("version")[1])
    assert re.match(r"Vault v\d+\.\d+\.\d+", vault("-version")[1])
    assert vault("operator", "init", "-status")[0] == 2
    code, said = vault("status", "-format=json")
    assert (code, json.loads(said)["initialized"]) == (2, False)
    code, said = vault(
        "operator", "init", "-key-shares=3", "-key-threshold=2", "-format=json"
    )  # fmt: skip
    made = json.loads(said)
    assert set(made) == {
        "unseal_keys_b64", "unseal_keys_hex", "unseal_shares", "unseal_threshold",
        "recovery_keys_b64", "recovery_keys_hex", "recovery_keys_shares",
        "recovery_keys_threshold", "root_token",
    }  # fmt: skip
    assert vault("operator", "init", "-status")[0] == 0
    assert json.loads(vault("operator", "unseal", "-format=json", made["unseal_keys_b64"][0])[1])[
        "progress"
    ] == 1  # fmt: skip
    assert vault("status")[0] == 2
    assert vault("operator", "unseal", made["unseal_keys_hex"][2])[0] == 0
    assert vault("status")[0] == 0
    token = {"VAULT_TOKEN": made["root_token"]}
    assert vault("secrets", "enable", "-path=kv", "kv-v2", **token)[0] == 0
    assert vault("kv", "put", "kv/a", "k=v", **token)[0] == 0
    assert vault("kv", "get", "-field=k", "kv/a", **token) == (0, "v")
    assert vault("operator", "seal", **token)[0] == 0
    assert vault("status")[0] == 2
    server.kill()
    server.communicate()
    assert vault("status")[0] == 1


def test_a_taken_port_and_a_wrong_file_are_refused_in_words(tmp_path: Path, start: Start) -> None:
    port = free_port()
    text = f'storage "inmem" {{}} listener "tcp" {{ address = "127.0.0.1:{port}" tls_disable = 1 }}'
    (tmp_path / "one.hcl").write_text(text)
    start("server", "-config=one.hcl")
    until(lambda: requests.get(f"http://127.0.0.1:{port}/livez", timeout=30).status_code == 200)
    second = start("server", "-config=one.hcl")
    assert b"[address-in-use]" in second.communicate(timeout=60)[1]
    assert second.returncode == 2
    (tmp_path / "bad.hcl").write_text("storage {")
    wrong = start("server", "-config=bad.hcl")
    assert b"bad.hcl: line 1, column" in wrong.communicate(timeout=60)[1]


def test_users_are_locked_as_the_configuration_says(tmp_path: Path, start: Start) -> None:
    port = free_port()
    (tmp_path / "lock.hcl").write_text(
        f'storage "inmem" {{}} listener "tcp" {{ address = "127.0.0.1:{port}" tls_disable = 1 }}\n'
        'user_lockout "all" { lockout_threshold = 2 }\n'
        'user_lockout "approle" { disable_lockout = true }\n'
    )
    start("server", "-config=lock.hcl")
    client = hvac.Client(url=f"http://127.0.0.1:{port}")
    until(lambda: not client.sys.is_initialized())
    made = client.sys.initialize(1, 1)
    client.sys.submit_unseal_keys(made["keys"])
    client.token = made["root_token"]
    client.sys.enable_auth_method("userpass")
    client.auth.userpass.create_or_update_user("ada", "right")
    for _ in range(2):
        with pytest.raises(hvac.exceptions.InvalidRequest):
            client.auth.userpass.login("ada", "wrong", use_token=False)
    with pytest.raises(hvac.exceptions.Forbidden):
        client.auth.userpass.login("ada", "right", use_token=False)
    client.adapter.close()
