"""Flags that describe a request or keep a command from asking, and login's warnings."""

import json
import re
import shlex
import stat
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from strongroom.app.client.dry_run import SUDO, as_policy
from strongroom.app.client.mounts import AUTH, SECRETS
from strongroom.store.assembly import AUTH_METHODS, SECRETS_ENGINES


async def _policy(cli, *words: str) -> str:
    return await cli(*words, "-output-policy")


async def test_a_request_is_shown_as_curl_and_not_sent(cli) -> None:
    out = await cli("kv", "put", "-output-curl-string", "-ns=", "secret/a", "k=it's")
    assert cli.store.root not in out
    assert 'X-Vault-Token: $(strongroom print token)"' in out
    await cli("kv", "get", "secret/a", expect=2)
    # The shell's own reading of it does what the command would have done.
    words = shlex.split(out.replace("$(strongroom print token)", cli.store.root))
    done = await _ran(words)
    assert json.loads(done)["data"]["version"] == 1
    assert await cli("kv", "get", "-field=k", "secret/a") == "it's"


async def _ran(words: list[str]) -> bytes:
    import asyncio

    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return out


async def test_curl_gets_the_certificates_and_headers_of_the_command(cli) -> None:
    words = ["read", "-tls-skip-verify", "-ca-cert=/c a", "-header=X-A=1", "-wrap-ttl=5m", "sys/x"]
    out = await cli(*words, "-output-curl-string")
    assert out.startswith("curl --insecure --cacert '/c a' -H ")
    assert "-H 'X-A: 1'" in out
    assert "-H 'X-Vault-Wrap-TTL: 5m'" in out
    assert " -X " not in out


async def test_the_policy_of_a_request_is_enough_for_it(cli, tmp_path, monkeypatch) -> None:
    text = await _policy(cli, "kv", "put", "secret/a", "k=v")
    assert text == 'path "secret/data/a" {\n  capabilities = ["create", "update"]\n}\n'
    assert '["list"]' in await _policy(cli, "kv", "list", "secret")
    assert '"sys/remount" {\n  capabilities = ["create", "update", "sudo"]' in await _policy(
        cli, "secrets", "move", "a", "b"
    )
    (tmp_path / "p.hcl").write_text(text)
    await cli("policy", "write", "p", str(tmp_path / "p.hcl"))
    token = await cli("token", "create", "-policy=p", "-field=token")
    monkeypatch.setenv("VAULT_TOKEN", token)
    await cli("kv", "put", "secret/a", "k=v")
    await cli("kv", "get", "secret/a", expect=2)


async def test_paths_that_need_sudo_are_those_of_the_store(cli) -> None:
    document = json.loads(await cli("read", "-format=raw", "sys/internal/specs/openapi"))
    marked = {
        path.strip("/").replace("{", "").replace("}", "")
        for path, item in document["paths"].items()
        if item.get("x-vault-sudo")
    }
    assert marked
    lacking = [each for each in marked if not any(fnmatchcase(each, rule) for rule in SUDO)]
    idle = [rule for rule in SUDO if not any(fnmatchcase(each, rule) for each in marked)]
    assert (lacking, idle) == ([], [])


def test_a_path_with_quotes_stays_one_string() -> None:
    assert as_policy("GET", 'a"b', listing=False).startswith('path "a\\"b" {')


async def test_nobody_is_asked_when_that_was_said(cli, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    await cli("login", "-non-interactive", "-method=userpass", "username=ada", expect=1)
    assert "-non-interactive was given [nobody-to-ask]" in cli.err


async def test_wrapping_by_the_environment(cli, monkeypatch) -> None:
    monkeypatch.setenv("VAULT_WRAP_TTL", "2m")
    assert "wrapping_token" in await cli("token", "lookup")


async def test_a_login_says_when_the_environment_goes_before_it(cli, monkeypatch) -> None:
    await cli("login", cli.store.root)
    assert cli.err.startswith("WARNING! VAULT_TOKEN is set")
    await cli("login", "-no-store", cli.store.root)
    assert cli.err == ""
    monkeypatch.delenv("VAULT_TOKEN")
    await cli("login", cli.store.root)
    assert cli.err == ""


async def test_a_token_that_cannot_be_kept_is_shown(cli) -> None:
    await cli("auth", "enable", "userpass")
    await cli("write", "auth/userpass/users/ada", "password=pw")
    by_name = ("login", "-method=userpass", "username=ada", "password=pw")
    (cli.home / ".vault-token").mkdir()
    shown = await cli(*by_name, expect=2)
    assert "Success" not in shown
    assert f"cannot write {cli.home}/.vault-token: Is a directory [token-file]" in cli.err
    assert "the token was not stored: it is shown" in cli.err
    token = re.search(r"^token +(hvs\.\w+)$", shown, re.M)
    assert token is not None
    assert "userpass-ada" in await cli("token", "lookup", token[1])
    found = json.loads(await cli(*by_name, "-no-print", "-format=json", expect=2))
    assert found["auth"]["client_token"].startswith("hvs.")
    (cli.home / ".vault-token").rmdir()
    await cli(*by_name, "-no-store", "-no-print", expect=1)
    assert "leave nothing of the token" in cli.err


async def test_a_login_is_kept_also_where_replies_are_to_be_wrapped(cli, monkeypatch) -> None:
    await cli("auth", "enable", "userpass")
    await cli("write", "auth/userpass/users/ada", "password=pw")
    by_name = ("login", "-method=userpass", "username=ada", "password=pw")
    monkeypatch.setenv("VAULT_WRAP_TTL", "5m")
    kept = cli.home / ".vault-token"
    for words in (by_name, ("login", cli.store.root)):
        kept.unlink(missing_ok=True)
        assert "You are now authenticated" in await cli(*words)
        assert kept.read_text().startswith("hvs.") or kept.read_text() == cli.store.root
    assert "wrapping_token_creation_path:    auth/userpass/login/ada" in await cli(
        *by_name, "-no-store"
    )
    wrapping = await cli(*by_name, "-token-only")
    assert wrapping.startswith("hvs.")
    monkeypatch.delenv("VAULT_WRAP_TTL")
    assert "token_meta_username" in await cli("unwrap", wrapping)


HELPER = """#!/bin/sh
case $1 in
get) cat "$0.kept" 2>/dev/null || true ;;
store) cat > "$0.kept" ;;
*) echo "no such verb" >&2; exit 1 ;;
esac
"""


async def test_a_token_helper_keeps_the_token(cli, monkeypatch) -> None:
    """No file gets it then; `~/.vault` names the helper, or the file of VAULT_CONFIG_PATH."""
    helper = cli.home / "helper"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    (cli.home / ".vault").write_text(f'token_helper = "{helper}"\n')
    monkeypatch.delenv("VAULT_TOKEN")
    await cli("print", "token", expect=2)
    await cli("login", "-no-print", cli.store.root)
    assert not (cli.home / ".vault-token").exists()
    assert Path(f"{helper}.kept").read_text() == cli.store.root
    assert await cli("print", "token") == f"{cli.store.root}\n"
    assert await cli("token", "lookup", "-field=policies") == "[root]"
    (cli.home / "empty").write_text("")
    monkeypatch.setenv("VAULT_CONFIG_PATH", str(cli.home / "empty"))
    await cli("print", "token", expect=2)
    await cli("login", "-no-print", cli.store.root)
    assert (cli.home / ".vault-token").exists()


@pytest.mark.parametrize(
    ("config", "said", "status"),
    [
        ('token_helper = "helper"', "is the whole path of a program", 1),
        ("token_helper", ".vault cannot be read", 1),
        ('token_helper = "/none/helper"', "failed at get: No such file or directory", 2),
        ('token_helper = "/bin/false"', "failed at get: status 1", 2),
    ],
)
async def test_a_token_helper_that_fails_is_named(cli, monkeypatch, config, said, status) -> None:
    (cli.home / ".vault").write_text(config)
    assert await cli("token", "lookup", "-field=policies") == "[root]"
    monkeypatch.delenv("VAULT_TOKEN")
    await cli("token", "lookup", expect=status)
    assert said in cli.err
    assert "hint: " in cli.err or status == 1
    assert await cli("token", "lookup", f"-token-file={cli.home}/t", expect=1) == ""


@pytest.mark.parametrize("method", ["ldap", "okta", "radius", "github"])
async def test_a_method_the_store_lacks_is_refused_by_name(cli, method) -> None:
    await cli("login", f"-method={method}", "username=ada", "password=x", "token=x", expect=2)
    assert f"lets nobody log in at {method}/ [no-login-method]\n" in cli.err
    assert f"hint: Strongroom has no {method} method" in cli.err


@pytest.mark.parametrize(("kind", "there"), [(AUTH, AUTH_METHODS), (SECRETS, SECRETS_ENGINES)])
def test_the_help_of_enable_names_the_types_there_are(kind, there) -> None:
    """A refusal sends people there."""
    named = {each.partition("-")[0] for each in kind.types.split(", ")}
    assert named == set(there)


async def test_a_policy_file_is_laid_out_in_place(cli, tmp_path) -> None:
    file = tmp_path / "p.hcl"
    file.write_text('path "a" {capabilities=["read"]} # mine')
    file.chmod(0o640)
    assert "Formatted policy" in await cli("policy", "fmt", str(file))
    tidy = 'path "a" {\n  capabilities = ["read"]\n} # mine\n'
    assert file.read_text() == tidy
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.write_text("path")
    await cli("policy", "fmt", str(file), expect=1)
    assert file.read_text() == "path"


async def test_every_node_is_active_and_stays_so(cli) -> None:
    (node,) = (await cli.json("operator", "members"))["Nodes"]
    assert node["active_node"] is True
    assert node["hostname"] in await cli("operator", "members")
    await cli("operator", "step-down")
    (again,) = (await cli.json("operator", "members"))["Nodes"]
    assert again["active_node"] is True


async def test_lists_are_tuned_by_repeated_flags(cli) -> None:
    name = "audit-non-hmac-request-keys"
    await cli("secrets", "enable", f"-{name}=a", f"-{name}=b,c", "-path=team", "kv-v2")
    tuned = (await cli.json("read", "sys/mounts/team/tune"))["data"]
    assert tuned["audit_non_hmac_request_keys"] == ["a", "b", "c"]
    await cli("secrets", "tune", "-passthrough-request-headers=X-Mine", "team")
    tuned = (await cli.json("read", "sys/mounts/team/tune"))["data"]
    assert tuned["passthrough_request_headers"] == ["X-Mine"]
