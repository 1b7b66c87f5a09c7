"""The command as people have it: a program named `vault`, against a server of its own, over TLS."""

import datetime
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jwt as pyjwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strongroom.app.cluster.control_plane import free_port

pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]
KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Program:
    """`vault WORDS`, with the server's address and a home of its own."""

    def __init__(self, folder: Path, server: subprocess.Popen[bytes], port: int) -> None:
        self.folder, self.server = folder, server
        clean = {name: each for name, each in os.environ.items() if not name.startswith("VAULT_")}
        self.env = {
            **clean,
            "HOME": str(folder),
            "VAULT_ADDR": f"https://127.0.0.1:{port}",
            "VAULT_SKIP_VERIFY": "true",
        }

    def run(self, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "vault"), *words],
            env={**self.env, **extra}, cwd=self.folder, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def root(self, *words: str) -> str:
        done = self.run(*words, VAULT_TOKEN="root")
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "vault").symlink_to(Path(sys.executable).parent / "strongroom")
    port = free_port()
    server = subprocess.Popen(
        [str(folder / "vault"), "server", "-dev-tls", "-dev-root-token-id=root",
         "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{port}"],
        cwd=folder, env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    found = Program(folder, server, port)
    deadline = time.monotonic() + 180
    try:
        while found.run("status").returncode != 0:
            assert time.monotonic() < deadline, found.run("status").stderr
        yield found
    finally:
        server.kill()
        server.wait()


def _logged_in(program: Program, method: str, *words: str, **extra: str) -> None:
    """The login is kept, and the next command is that of whoever logged in."""
    (program.folder / ".vault-token").unlink(missing_ok=True)
    done = program.run("login", f"-method={method}", *words, **extra)
    assert done.returncode == 0, done.stderr
    assert "Success! You are now authenticated." in done.stdout
    shown = json.loads(program.run("token", "lookup", "-format=json").stdout)["data"]
    assert shown["path"] == f"auth/{method}/login" + ("/ada" if method == "userpass" else "")


def test_by_token(program: Program) -> None:
    done = program.run("login", "root")
    assert done.returncode == 0, done.stderr
    assert program.run("token", "lookup", "-field=path").stdout == "auth/token/root"
    wrong = program.run("login", "wrong")
    assert wrong.returncode == 2
    assert "hint: the store knows no such token" in wrong.stderr


def test_by_password(program: Program) -> None:
    program.root("auth", "enable", "userpass")
    program.root("write", "auth/userpass/users/ada", "password=pw")
    (program.folder / "pw").write_text("pw")
    _logged_in(program, "userpass", "username=ada", "password=@pw")
    assert program.run("login", "-method=userpass", "username=ada", "password=x").returncode == 2


def test_a_mount_is_a_word_too(program: Program) -> None:
    """As in Vault, where -path is one way to say it."""
    (program.folder / ".vault-token").unlink(missing_ok=True)
    program.root("auth", "enable", "-path=team", "userpass")
    program.root("write", "auth/team/users/eve", "password=pw")
    words = ("login", "-method=userpass", "-no-store", "username=eve", "password=pw")
    for more in (("mount=team",), ("-path=team",), ("-path=other", "mount=team")):
        done = program.run(*words, *more)
        assert done.returncode == 0, done.stderr
    done = program.run(*words, "-path=none")
    assert done.returncode == 2
    assert "hint: either no userpass method is mounted at none/" in done.stderr


def test_by_role(program: Program) -> None:
    program.root("auth", "enable", "approle")
    program.root("write", "auth/approle/role/ci", "token_policies=default")
    role = program.root("read", "-field=role_id", "auth/approle/role/ci/role-id")
    secret = program.root("write", "-f", "-field=secret_id", "auth/approle/role/ci/secret-id")
    _logged_in(program, "approle", f"role_id={role}", f"secret_id={secret}")


def test_by_a_signed_token(program: Program) -> None:
    program.root("auth", "enable", "jwt")
    program.root("write", "auth/jwt/config", f"jwt_validation_pubkeys={PUBLIC}")
    program.root("write", "auth/jwt/role/app", "role_type=jwt", "user_claim=sub",
                 "bound_audiences=us")  # fmt: skip
    now = int(time.time())
    token = pyjwt.encode(
        {"sub": "ada", "aud": "us", "iat": now, "exp": now + 300}, KEY, algorithm="ES256"
    )
    _logged_in(program, "jwt", "role=app", f"jwt={token}")


def test_by_service_account(program: Program) -> None:
    program.root("auth", "enable", "kubernetes")
    program.root("write", "auth/kubernetes/config", "kubernetes_host=https://127.0.0.1:1",
                 "token_validation=local", f"pem_keys={PUBLIC}")  # fmt: skip
    program.root("write", "auth/kubernetes/role/app", "bound_service_account_names=app",
                 "bound_service_account_namespaces=tour", "audience=us")  # fmt: skip
    now = int(time.time())
    account = {"namespace": "tour", "serviceaccount": {"name": "app", "uid": "sa-uid"}}
    claims = {"sub": "system:serviceaccount:tour:app", "aud": ["us"], "iat": now,
              "exp": now + 300, "kubernetes.io": account}  # fmt: skip
    token = pyjwt.encode(claims, KEY, algorithm="ES256")
    _logged_in(program, "kubernetes", "role=app", f"jwt={token}")
    done = program.run("login", "-method=kubernetes", "role=app")
    assert (done.returncode, "no service-account token here" in done.stderr) == (1, True)


def test_by_certificate(program: Program) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
        .serial_number(7).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(KEY, hashes.SHA256())
    )  # fmt: skip
    private = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (program.folder / "c.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (program.folder / "k.pem").write_bytes(private)
    program.root("auth", "enable", "cert")
    program.root("write", "auth/cert/certs/web", "certificate=@c.pem")
    _logged_in(program, "cert", "-client-cert=c.pem", "-client-key=k.pem")
    assert program.run("login", "-method=cert").returncode == 2


def test_audit_devices_come_and_go(program: Program) -> None:
    log = program.folder / "second.log"
    program.root("audit", "enable", "-path=second", "-description=ours", "file", f"file_path={log}")
    assert "second/    file    ours" in program.root("audit", "list", "-detailed")
    assert f"file_path={log}" in program.root("audit", "list", "-detailed")
    hashed = program.root("audit", "hash", "second", "hello")
    assert hashed.startswith("hmac-sha256:")
    program.root("kv", "put", "secret/heard", "k=hello")
    assert hashed in log.read_text()
    assert json.loads(program.root("audit", "list", "-format=json"))["second/"]["type"] == "file"
    assert "Disabled audit device" in program.root("audit", "disable", "second")
    done = program.run("audit", "list", VAULT_TOKEN="root")
    assert (done.returncode, done.stderr) == (2, "No audit devices are enabled.\n")
    assert program.run("audit", "enable", "file", "novalue", VAULT_TOKEN="root").returncode == 1


def _on_a_terminal(program: Program, *words: str, **extra: str) -> str:
    """What the command writes on a terminal."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [str(program.folder / "vault"), *words],
        env={**program.env, "VAULT_TOKEN": "root", **extra}, stdout=side, stderr=side, stdin=side,
    )  # fmt: skip
    os.close(side)
    shown = _read(main)
    process.wait()
    return shown.decode().replace("\r\n", "\n")


def _read(main: int) -> bytes:
    """What comes from a terminal until its other side is closed."""
    shown = b""
    while True:
        try:
            piece = os.read(main, 4096)
        except OSError:  # Linux says so when the other side is closed.
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    return shown


# A terminal sends Ctrl-C to those whose own it is.
OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.parametrize("words", [("login",), ("operator", "unseal")])
@pytest.mark.parametrize(("key", "status"), [(b"\x03", 130), (b"\x04", 1)])
def test_a_question_may_be_left(program: Program, words, key, status) -> None:
    """By the first Ctrl-C, or by the end of the input, and without a traceback."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, str(program.folder / "vault"), *words],
        env={**program.env, "VAULT_TOKEN": ""}, start_new_session=True,
        stdout=side, stderr=side, stdin=side,
    )  # fmt: skip
    os.close(side)
    shown = b""
    while b"(will be hidden): " not in shown:
        shown += os.read(main, 4096)
    os.write(main, key)
    shown += _read(main)
    assert (process.wait(timeout=60), b"Traceback" in shown) == (status, False)


def test_colour_on_a_terminal_and_nowhere_else(program: Program) -> None:
    words = ("write", "-f", "sys/tools/random/8")
    coloured = _on_a_terminal(program, *words, NO_COLOR="")
    assert "\x1b[2mKey" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured).startswith("Key             Value\n---  ")
    assert "\x1b" not in _on_a_terminal(program, *words, NO_COLOR="1")
    assert "\x1b" not in program.root(*words)
    refused = _on_a_terminal(program, "kv", "get", "secret/none", NO_COLOR="")
    assert refused == "\x1b[31mNo value found at secret/data/none\x1b[0m\n"
    assert _on_a_terminal(program, "print", "token", NO_COLOR="") == "root\n"
