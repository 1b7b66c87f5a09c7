"""What is often typed wrong, and what is said: what happened, what to do next, and the status."""

import io
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.app.transcript import environment
from tests.conftest import over_tls

from strongroom.app.client.hints import hint_for
from strongroom.app.cluster.control_plane import free_port
from strongroom.app.store_config.storage_place import check_url
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Invalid

CANARY = "hunter2"
# The words, the status (1: the command is wrong, 2: the store refused or is away), what happened,
# and what to do.
AT_A_STORE = [
    ("kv get secrt/a", 2, "preflight capability check", "did you mean secret/a?"),
    ("kv get transit/a", 2, "unsupported path", "transit/ is a mount of transit, not of KV"),
    ("kv get -field=none secret/a", 1, '"none" not present', "it has created_time"),
    ("kv put secret/a", 1, "missing: KEY=VALUE", "kv put --help"),
    ("kv put secret/a hunter2", 1, "not key=value", "write key=value"),
    ("kv put secret/a k=@missing", 1, "cannot read missing: No such file", "begins with one"),
    ("kv put secret/a @missing.json", 1, "cannot read missing.json: No such", "begins with one"),
    ("kv put secret/a @list.json", 1, "not a JSON object", "such as {"),
    ("kv put secret/a -", 1, "standard input is not JSON", "give a JSON object"),
    ("kv put -cas=7 secret/a k=v", 2, "check-and-set", "name its version: -cas=N"),
    ("kv undelete -versions=x secret/a", 1, "versions are numbers", "-versions=1,2"),
    ("kv undelete -versions=² secret/a", 1, "versions are numbers", "-versions=1,2"),
    ("policy write p missing.hcl", 2, "cannot read missing.hcl: No such file", "- for standard"),
    ("policy write p bad.hcl", 2, "line 3, column 1: expected ',' or ']'", ""),
    ("write nope/x a=b", 2, "no handler for route", "secrets list and auth list"),
    ("secrets enable nosuch", 2, "not found in the catalog", "secrets enable -h"),
    ("secrets enable transit", 2, "path is already in use", "-path=OTHER"),
    ("secrets move transit secret", 2, "path is already in use", "another path is needed"),
    ("kv get -namespace=team secret/a", 2, "no such namespace", "VAULT_NAMESPACE unset"),
    ("read -header=x-vault-token=hunter2 sys/mounts", 1, "cannot be given by -header", "-token-f"),
    ("login -method=userpass username=ada password=hunter2", 2, "no handler", "auth list"),
    ("login -method=nope", 1, "'nope' is not one of", "login --help"),
    ("unwrap hvs.hunter2", 2, "wrapping token is not valid", "ask for a new one"),
    ("token revoke", 1, "name one token, or give -self", ""),
    ("token revoke -self -mode=path", 1, "-mode=path needs the token or the path itself", ""),
    ("kv get -format=xml secret/a", 1, "'xml' is not one of", "kv get --help"),
]
WITHOUT = [
    ("kv get secret/a", {"VAULT_ADDR": "http://127.0.0.1:1"}, 2, "no answer", "is it running"),
    ("status", {"VAULT_ADDR": "http://127.0.0.1:1"}, 1, "no answer", "is it running"),
    (
        "kv get secret/a",
        {"VAULT_ADDR": "127.0.0.1:8200"},
        1,
        "no address of a store",
        "http://HOST",
    ),
    ("kv get secret/a", {"VAULT_TOKEN": ""}, 2, "permission denied", "there is no token"),
    ("kv get secret/a", {"VAULT_TOKEN": "hunter2"}, 2, "permission denied", "strongroom login"),
    ("kv get secret/a", {"VAULT_CACERT": "missing.pem"}, 1, "missing.pem", "hint: "),
    ("kv get secret/a", {"VAULT_ADDR": "http://h:99999"}, 1, "no address of a store", "HOST:PORT"),
    ("kv get secret/a", {"VAULT_CACERT": "missing.pem"}, 1, "there is no such file", "PEM"),
    ("kv get secret/a", {"VAULT_FORMAT": "xml"}, 1, "VAULT_FORMAT", "it is one of table"),
    ("kv get secret/a", {"VAULT_CLIENT_TIMEOUT": "soon"}, 1, "VAULT_CLIENT_TIMEOUT", "hint: "),
    ("kv get secret/a", {"VAULT_TOKEN": "hunter2\n"}, 1, "the token has a line's end", "printf"),
    ("kv get secret/a", {"VAULT_NAMESPACE": "a\n"}, 1, "the namespace has a line's end", "printf"),
    ("kv get secret/a", {"VAULT_WRAP_TTL": "5m\n"}, 1, "(VAULT_WRAP_TTL) has a line's", "printf"),
]
# Bytes that are no text, or numbers that JSON or the store does not have; \udcff stands for a byte
# in what the system hands over.
NO_TEXT = [
    (["kv", "put", "secret/a", "k=hunter2\udcff"], "", "is no text in UTF-8 [", "LANG=C.UTF-8"),
    (["kv", "put", "secret/\udcff", "k=v"], "", "what was given is not text", "base64"),
    (
        ["kv", "put", "secret/a", "-"],
        '{"k": 1e9, "n": 184467440737095516160}',
        "a value is a whole number beyond 64 bits",
        "as text",
    ),
    (["kv", "put", "secret/a", "-"], '{"k": "hunter2", "n": NaN}', "is not JSON", "JSON object"),
    (["kv", "put", "secret/a", "-"], '{"k": -Infinity}', "is not JSON", "JSON object"),
    (["policy", "write", "p", "-"], "\udcff", "a value is no text", "base64"),
    (["login", "-"], "hunter2\udcff", "what was given is not text", "base64"),
    (["read", "-token-file=bytes", "sys/mounts"], "", "the token file bytes is not text", ""),
]
# Verbs that ask the store, and most of them a cluster, for what they need themselves.
ROTATE, AUDIT = "rotate secret/a", "audit exposure secret/a --store-log log"
ASKING = [
    (f"{ROTATE} --no-cluster", {"VAULT_TOKEN": "hunter2"}, "permission denied", "token lookup"),
    (f"{ROTATE} --no-cluster", {"VAULT_TOKEN": "hunter2\n"}, "the token has a line's", "printf %s"),
    (f"{AUDIT} --no-cluster", {"VAULT_TOKEN": "hunter2"}, "permission denied", "token lookup"),
    ("rotate secret/none --no-cluster", {}, "nothing there", "strongroom kv list; --mount"),
    (f"{ROTATE} --no-cluster", {"VAULT_ADDR": "http://127.0.0.1:1"}, "no answer", "is it running"),
    (ROTATE, {"KUBECONFIG": "missing"}, "cannot read missing", "--no-cluster does without"),
    (AUDIT, {"KUBECONFIG": "missing"}, "cannot read missing", "--no-cluster does without"),
    ("explain es a/b", {"KUBECONFIG": "missing"}, "cannot read missing", "set KUBECONFIG"),
    ("explain es a/b", {"KUBECONFIG": "a:b"}, "cannot read a:b", "kubectl config view --flatten"),
    ("sync plan -f list.json", {"KUBECONFIG": "bad.hcl"}, "", ""),
    ("template render missing", {}, "cannot read missing", ""),
]
SERVER = [
    ("", 2, "needs --data and --seal-key-file", "server --help"),
    ("--data d", 2, "--seal-key-file is missing", "made at the first start"),
    ("--database postgresql://u:hunter2@h/d --seal-key-file k", 2, "--data is missing", "a folder"),
    ("--data /proc/x --seal-key-file k", 2, "cannot make the folder /proc/x", "may write to"),
    ("--data file --seal-key-file k", 2, "cannot make the folder file", "may write to"),
    ("-config=folder.hcl", 2, "cannot make the folder /proc/x", "may write to"),
    ("--data d --seal-key-file /proc/x/k", 2, "cannot write the key file", "make its folder"),
    ("--data d --seal-key-file k --database mysql://u:hunter2@h/d", 2, "address of the database",
     "postgresql://USER@HOST"),
    ("--data d --seal-key-file k --database postgresql://u:hunter2:x@h:p/d", 2,
     "a port of it is no number", "PGPASSWORD"),
    ("--data d --seal-key-file k --database postgresql://u:hunter2@127.0.0.1:1/d", 2,
     "the database cannot be reached", "a start has to be repeated"),
    ("--data d --seal-key-file raw.key", 2, "not base64 of 32 bytes", "openssl rand -base64 32"),
    ("--data d --seal-key-file k --listen 127.0.0.1:99999", 2, "not HOST:PORT", "127.0.0.1:8200"),
    ("--data d --seal-key-file k --listen 127.0.0.1:²", 2, "not HOST:PORT", "127.0.0.1:8200"),
    ("--data d --seal-key-file k --tls-cert a --tls-key b", 2, "cannot use a with b", "give a PEM"),
    ("--data d --seal-key-file k --audit-file /proc/x/a", 2, "cannot be written", "the path"),
    ("-config=missing.hcl", 2, "cannot read missing.hcl: No such file", ""),
    ("-config=bad.json", 2, "bad.json: line 1", ""),
    ("-config=consul.hcl", 2, "consul.hcl:1: storage 'consul'", "use file, raft"),
]  # fmt: skip


@pytest.fixture
def files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text(f'["{CANARY}"]')
    (tmp_path / "bad.hcl").write_text('path "x" {\n  capabilities = ["read"\n}\n')
    (tmp_path / "bad.json").write_text('{"storage": }')
    (tmp_path / "consul.hcl").write_text('storage "consul" {}\n')
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "raw.key").write_bytes(bytes(32))
    (tmp_path / "raw.key").chmod(0o600)
    (tmp_path / "folder.hcl").write_text(
        'storage "file" { path = "/proc/x" }\n'
        'listener "tcp" { address = "127.0.0.1:0"\n tls_disable = true }\n'
    )


def _judge(err: str, happened: str, next_step: str) -> None:
    assert happened in err
    assert next_step in err
    assert not next_step or "hint: " in err
    assert CANARY not in err
    assert "Traceback" not in err


async def test_mistakes_at_a_store(cli, files, monkeypatch) -> None:
    await cli("kv", "put", "secret/a", f"k={CANARY}")
    await cli("secrets", "enable", "transit")
    for words, status, happened, next_step in AT_A_STORE:
        monkeypatch.setattr("sys.stdin", io.StringIO(f'{{"k": {CANARY}'))
        await cli(*words.split(), expect=status)
        _judge(cli.err, happened, next_step)
    limited = await cli("token", "create", "-policy=default", "-field=token")
    monkeypatch.setenv("VAULT_TOKEN", limited)
    await cli("kv", "get", "secret/a", expect=2)
    _judge(cli.err, "preflight capability check", "its policies grant nothing there")
    await cli("secrets", "list", expect=2)
    _judge(cli.err, "permission denied", "token capabilities PATH")


async def test_mistakes_in_the_environment(cli, files, monkeypatch) -> None:
    for words, variables, status, happened, next_step in WITHOUT:
        with monkeypatch.context() as changed:
            for name, value in variables.items():
                changed.setenv(name, value)
            await cli(*words.split(), expect=status)
        _judge(cli.err, happened, next_step)


@pytest.mark.parametrize(("words", "typed", "happened", "next_step"), NO_TEXT)
async def test_what_cannot_be_sent_is_refused_in_words(
    words, typed, happened, next_step, cli, files, monkeypatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    await cli(*words, expect=1)
    _judge(cli.err, happened, next_step)
    await cli("kv", "list", "secret", expect=2)


async def test_standard_input_and_output_that_are_no_utf8(cli, files, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hunter2\xff"), "utf-8"))
    await cli("kv", "put", "secret/a", "k=-", expect=1)
    _judge(cli.err, "what was given is not text in UTF-8", "write bytes as base64")
    await cli("kv", "put", "secret/a", "k=ü")
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    await cli("kv", "get", "-field=k", "secret/a", expect=2)
    _judge(cli.err, "the answer has characters that ascii has not", "LANG=C.UTF-8")


@pytest.mark.parametrize(("words", "variables", "happened", "next_step"), ASKING)
async def test_mistakes_of_verbs_that_ask_for_themselves(
    words, variables, happened, next_step, cli, files, monkeypatch
) -> None:
    """Each says it to people, and as one document to a program."""
    await cli("kv", "put", "secret/a", f"k={CANARY}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert await cli(*words.split(), expect=2) == ""
    _judge(cli.err, happened, next_step)
    said = json.loads(await cli(*words.split(), "--format", "json", expect=2))
    assert set(said) == {"error", "reason", "hint"}
    assert happened in said["error"]
    assert next_step in said["hint"]
    assert f"[{said['reason']}]" in cli.err


async def test_a_sealed_store_and_a_rotation(cli) -> None:
    await cli("operator", "seal")
    await cli("rotate", "secret/a", "--no-cluster", expect=2)
    _judge(cli.err, "Vault is sealed", "strongroom operator unseal")


async def test_help_is_a_word_as_well(cli) -> None:
    for words in (("help", "kv", "get"), ("help", "rotate"), ("help",)):
        assert await cli(*words) == await cli(*words[1:], "--help")


async def test_a_token_that_has_ended_and_a_store_that_is_sealed(cli, monkeypatch) -> None:
    await cli("kv", "put", "secret/a", f"k={CANARY}")
    short = await cli("token", "create", "-policy=root", "-ttl=1m", "-field=token")
    with monkeypatch.context() as changed:
        changed.setenv("VAULT_TOKEN", short)
        await cli("kv", "get", "secret/a")
        await cli.store.clock.advance(61)
        await cli("kv", "get", "secret/a", expect=2)
    _judge(cli.err, "permission denied", "or is no longer: strongroom login")
    await cli("operator", "seal")
    for words in ("kv get secret/a", "kv put secret/a k=v", "token lookup"):
        await cli(*words.split(), expect=2)
        _judge(cli.err, "* Vault is sealed", "strongroom operator unseal")


async def test_a_store_whose_authority_is_not_known(cli, tmp_path) -> None:
    listener, address, authority = await over_tls(cli.store.handler, tmp_path / "tls")
    for words, status in (("kv get secret/a", 2), ("token lookup", 2), ("status", 1)):
        await cli(*words.split(), f"-address={address}", expect=status)
        _judge(cli.err, "its certificate is not trusted: ", "-ca-cert (VAULT_CACERT)")
    await cli("rotate", "a", "--no-cluster", f"-address={address}", expect=2)
    _judge(cli.err, "its certificate is not trusted: ", "-ca-cert (VAULT_CACERT)")
    await cli("token", "lookup", f"-address={address}", f"-ca-cert={authority}")
    await listener.drain(0.1)


@pytest.mark.parametrize(("days", "said"), [(-9000, "has expired"), (9000, "is not yet valid")])
async def test_a_certificate_out_of_its_time_is_about_clocks(cli, tmp_path, days, said) -> None:
    now = SystemClock().now() + days * 86400
    tls = await over_tls(cli.store.handler, tmp_path / "tls", now)
    listener, address, authority = tls
    words = ("token", "lookup", f"-address={address}", f"-ca-cert={authority}")
    await cli(*words, expect=2)
    _judge(cli.err, said, "or the clock here or there is wrong")
    await listener.drain(0.1)


def _server(words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "strongroom", "server", *words.split()], cwd=folder,
        env=environment(folder), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.long
def test_a_port_that_another_server_has(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = _server(f"--data d --seal-key-file k --listen 127.0.0.1:{port}", tmp_path)
    assert done.returncode == 2, done.stderr
    _judge(done.stderr, f"cannot listen on 127.0.0.1:{port}: ", "another server has it")


@pytest.mark.long
@pytest.mark.parametrize(("words", "status", "happened", "next_step"), SERVER)
def test_mistakes_at_the_start_of_a_server(
    words, status, happened, next_step, files, tmp_path
) -> None:
    if words.startswith("--data") and "--listen" not in words:
        words += f" --listen 127.0.0.1:{free_port()}"  # nobody else's
    done = _server(words, tmp_path)
    assert done.returncode == status, done.stderr
    _judge(done.stderr, happened, next_step)


KUBECONFIG = """
current-context: a
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: a, user: {token: x}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
"""


@pytest.mark.long
def test_a_page_of_an_operator_without_a_port(tmp_path) -> None:
    (tmp_path / "config").write_text(KUBECONFIG)
    words = ["operator", "--listen", "127.0.0.1:²", "--kubeconfig", "config"]
    done = subprocess.run(
        [sys.executable, "-m", "strongroom", *words], cwd=tmp_path, env=environment(tmp_path),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    _judge(done.stderr, "not HOST:PORT: 127.0.0.1:²", "127.0.0.1:8080")


@pytest.mark.parametrize(
    "url",
    ["postgresql://", "postgres://u@h/d", "postgresql://u:p@[::1]:5432/d?sslmode=require",
     "postgresql://u@a:1,b:2/d", "postgresql:///d?host=/run/postgresql", "postgresql://h:/d",
     "postgresql://a,b/d?target_session_attrs=read-write", "postgresql://?service=a%26b"],
)  # fmt: skip
def test_addresses_of_postgresql_are_taken(url) -> None:
    check_url(url)


@pytest.mark.parametrize("url", ["", "h/d", "mysql://h/d", "postgresql://h:x/d", "http://[::1"])
def test_other_addresses_are_not(url) -> None:
    with pytest.raises(Invalid, match="cannot be used"):
        check_url(url)


@pytest.mark.parametrize("target", ["standby", "read-only", "prefer-standby", "Primary"])
def test_a_server_of_postgresql_that_is_never_used_may_not_be_asked_for(target) -> None:
    """It counted for nothing, and who wanted reads from a standby was told nothing."""
    with pytest.raises(Invalid, match=f"target_session_attrs={target}, and") as caught:
        check_url(f"postgresql://a,b/d?sslmode=require&target_session_attrs={target}")
    assert caught.value.hint == "leave it out, or write one of any, primary, read-write"


def test_a_hint_goes_with_what_is_known() -> None:
    assert hint_for(503, ["Vault is sealed"], has_token=True).startswith("strongroom status")
    assert hint_for(503, ["the database is away"], has_token=True) == ""
    assert hint_for(404, [], has_token=True) == ""
    assert "no token" in hint_for(403, ["permission denied"], has_token=False)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("permission denied", "is no longer: strongroom login"),
        ("2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n", "no longer: strong"),
        ("1 error occurred:\n\t* permission denied\n\n", "token capabilities PATH"),
    ],
)
def test_a_bad_token_is_told_from_a_missing_right(said, hint) -> None:
    """By this store and Vault from 1.17 on, and by what came before."""
    assert hint in hint_for(403, [said], has_token=True)
