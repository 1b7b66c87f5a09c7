"""The command line of a Vault user, against a running store: words, flags, output, statuses."""

import json
import re
import stat
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from strongroom.app.cli_reference import markdown
from strongroom.app.client.kv_path import missing_mount
from strongroom.app.client.oidc_login import answer_page, oidc_login
from strongroom.app.client.output import go_text, human_duration
from strongroom.app.client.session import Session
from strongroom.app.command_tree import tree
from strongroom.app.store_address import StoreAddress
from strongroom.model.secret import Secret

ROOT = Path(__file__).resolve().parents[2]


async def test_a_secret_goes_in_and_comes_out(cli, tmp_path) -> None:
    (tmp_path / "password").write_text("from a file")
    out = await cli("kv", "put", "secret/prod/db", "user=app", f"password=@{tmp_path}/password")
    assert "secret/data/prod/db" in out
    assert re.search(r"^version +1$", out, re.M)
    out = await cli("kv", "get", "secret/prod/db")
    assert out.startswith("=== Secret Path ===\nsecret/data/prod/db\n\n======= Metadata =======\n")
    assert re.search(r"^password    from a file$", out, re.M)
    assert await cli("kv", "get", "-field=password", "-mount=secret", "prod/db") == "from a file"
    assert await cli("kv", "get", "-field=version", "secret/prod/db") == "1"
    assert (await cli.json("kv", "get", "secret/prod/db"))["data"]["data"]["user"] == "app"
    shown = yaml.safe_load(await cli("kv", "get", "--format=yaml", "secret/data/prod/db"))
    assert shown["data"]["metadata"]["version"] == 1


async def test_statuses_are_those_of_vault(cli, monkeypatch) -> None:
    await cli("kv", "get", "secret/nothing", expect=2)
    assert cli.err == "No value found at secret/data/nothing\n"
    await cli("kv", "get", expect=1)
    await cli("kv", "get", "secret/a", "-unknown", expect=1)
    await cli("kv", "frobnicate", expect=1)
    await cli("kv", "put", "secret/a", "novalue", expect=1)
    await cli("write", "secret/data/a", expect=1)
    await cli("kv", "put", "secret/a", "k=v", "-cas=7", expect=2)
    assert "Error making API request." in cli.err
    assert re.search(r"URL: PUT http://\S+/v1/secret/data/a\nCode: 400. Errors:\n\n\* ", cli.err)
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    await cli("kv", "get", "secret/a", expect=2)
    assert "* permission denied" in cli.err
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    await cli("kv", "get", "secret/a", expect=2)
    assert "no answer from" in cli.err


async def test_a_path_that_no_mount_begins_is_refused_and_near_mounts_are_named(cli) -> None:
    for words in (
        ("put", "secrt/db", "k=v"), ("get", "secrt/db"), ("delete", "secrt/db"),
        ("patch", "secrt/db", "k=v"), ("list", "secrt/db"), ("metadata", "delete", "secrt/db"),
    ):  # fmt: skip
        await cli("kv", *words, expect=2)
        assert re.search(r"URL: GET http://\S+/v1/sys/internal/ui/mounts/secrt/db\n", cli.err)
        assert "* preflight capability check returned 403" in cli.err
        assert cli.err.endswith("is at secrt/; did you mean secret/db?\n")
    await cli("kv", "put", "-mount=secrt", "db", "k=v", expect=2)
    assert cli.err.endswith("is at secrt/; did you mean -mount=secret db?\n")
    await cli("kv", "list", "secret", expect=2)
    assert cli.err == "No value found at secret/metadata\n"
    await cli("kv", "put", "secret/db", "k=v")
    for verb in ("copy", "move"):
        await cli("kv", verb, "secret/db", "prod/db", expect=2)
        assert cli.err.endswith("secret/, as in secret/prod/db\n")
        await cli("secrets", "enable", f"-path={verb}", "kv-v2")
        await cli("kv", verb, "secret/db", f"{verb}/db", expect=1)
        assert "[other-mount]" in cli.err
    assert await cli.json("kv", "list", "secret") == ["db"]


async def test_the_preflight_of_a_bad_token_is_refused_as_such(cli, monkeypatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    await cli("kv", "get", "none/db", expect=2)
    assert "* permission denied" in cli.err
    assert "mean" not in cli.err


@pytest.mark.parametrize(
    ("typed", "mount", "mounts", "said"),
    [
        ("prod/db", "", {}, "nothing is mounted (strongroom secrets enable -path=prod kv-v2)"),
        ("prod/db", "", {"b/": "kv", "a/": "kv"}, "there are a/, b/, as in a/prod/db"),
        ("db", "prod", {"secret/": "kv"}, "at prod/; there are secret/, as in -mount=secret db"),
        ("zz", "", {f"{each}/": "kv" for each in "abcdefg"}, "a/, b/, c/, d/, e/ and 2 more, as"),
        ("kv1", "", {"kv/": "kv"}, "did you mean kv?"),
        ("pkj/x", "", {"pki/": "pki", "z/": "kv"}, "there are z/, as in z/pkj/x"),
    ],
)
def test_the_hint_names_mounts_of_kv(typed, mount, mounts, said) -> None:
    found = {name: {"type": each} for name, each in mounts.items()}
    assert said in missing_mount(typed, mount, found)


@pytest.mark.long
async def test_every_verb_of_kv(cli) -> None:
    for number in (1, 2, 3):
        await cli("kv", "put", "secret/app/x", f"n={number}", "same=1")
    await cli("kv", "patch", "secret/app/x", "extra=1")
    assert (await cli.json("kv", "get", "secret/app/x"))["data"]["data"] == {
        "n": "3", "same": "1", "extra": "1",
    }  # fmt: skip
    await cli("kv", "patch", "-method=rw", "-remove-data=extra", "secret/app/x", "n=5")
    assert (await cli.json("kv", "get", "secret/app/x"))["data"]["data"] == {"n": "5", "same": "1"}
    assert "/n" in await cli("kv", "diff", "-from=1", "-to=2", "secret/app/x")
    await cli("kv", "delete", "secret/app/x")
    await cli("kv", "get", "-field=n", "secret/app/x", expect=2)
    await cli("kv", "undelete", "-versions=5", "secret/app/x")
    await cli("kv", "destroy", "-versions=1,2", "secret/app/x")
    await cli("kv", "rollback", "-version=3", "secret/app/x")
    assert await cli("kv", "get", "-field=n", "secret/app/x") == "3"
    await cli("kv", "metadata", "put", "-max-versions=9", "-custom-metadata=a=b", "secret/app/x")
    await cli("kv", "metadata", "patch", "-cas-required", "-custom-metadata=c=d", "secret/app/x")
    data = (await cli.json("kv", "metadata", "get", "secret/app/x"))["data"]
    assert (data["max_versions"], data["cas_required"]) == (9, True)
    assert data["custom_metadata"] == {"a": "b", "c": "d"}
    assert "== Version 3 ==" in (await cli("kv", "metadata", "get", "secret/app/x")).replace(
        "===", "=="
    )
    await cli("kv", "copy", "secret/app/x", "secret/app/deep/y")
    await cli("kv", "move", "secret/app/deep/y", "secret/app/z")
    assert await cli.json("kv", "list", "secret/app") == ["x", "z"]
    assert await cli("kv", "list", "secret") == "Keys\n----\napp/\n"
    assert sorted(await cli.json("kv", "scan", "secret")) == ["app/x", "app/z"]
    await cli("kv", "metadata", "delete", "secret/app/z")
    assert await cli.json("kv", "list", "-mount=secret", "app") == ["x"]


async def test_version_1_is_known_by_itself(cli) -> None:
    await cli("secrets", "enable", "-path=old", "-version=1", "kv")
    await cli("kv", "put", "old/a", "k=v")
    assert await cli("kv", "get", "-field=k", "old/a") == "v"
    assert re.search(r"^k +v$", await cli("kv", "get", "old/a"), re.M)
    assert await cli.json("kv", "list", "old") == ["a"]
    await cli("kv", "undelete", "-versions=1", "old/a", expect=1)
    assert "enable-versioning" in cli.err
    await cli("kv", "enable-versioning", "old")
    assert "old/data/a" in await cli("kv", "get", "old/a")


async def test_flags_come_before_and_after_with_one_dash_or_two(cli) -> None:
    for words in (
        ("-field", "k", "secret/a"), ("secret/a", "-field", "k"), ("secret/a", "--field=k"), ("--field", "k", "secret/a"),
    ):  # fmt: skip
        await cli("kv", "put", "secret/a", "k=v")
        assert await cli("kv", "get", *words) == "v"
    await cli("token", "create", "-orphan", "-policy", "default", "-renewable=false")


async def test_a_login_is_kept_for_the_next_command(cli, monkeypatch) -> None:
    monkeypatch.delenv("VAULT_TOKEN")
    await cli("kv", "list", "secret", expect=2)
    out = await cli("login", cli.store.root)
    assert "Success! You are now authenticated." in out
    assert re.search(r"^token +hvs\.", out, re.M)
    kept = cli.home / ".vault-token"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_text() == cli.store.root
    assert await cli("print", "token") == cli.store.root + "\n"
    await cli("auth", "enable", "userpass")
    await cli("write", "auth/userpass/users/ada", "password=pw", "token_ttl=1h")
    assert await cli("login", "-method=userpass", "-token-only", "username=ada", "password=pw")
    assert kept.read_text() == cli.store.root
    out = await cli("login", "-method=userpass", "username=ada", "password=pw")
    assert re.search(r'^token_policies +\["default"\]$', out, re.M)
    assert re.search(r"^token_duration +1h$", out, re.M)
    assert re.search(r"^token_meta_username +ada$", out, re.M)
    assert (await cli.json("token", "lookup"))["data"]["display_name"] == "userpass-ada"
    await cli("login", "-method=userpass", "username=ada", "password=wrong", expect=2)
    await cli("login", "-method=userpass", "username=ada", expect=1)
    await cli("login", "wrong", expect=2)
    # The whole of a reply, as scripts for Vault's command line read it.
    said = await cli.json("login", "-method=userpass", "username=ada", "password=pw")
    assert said.keys() >= {"request_id", "lease_duration", "data", "warnings", "auth"}
    assert said["auth"]["token_policies"] == ["default"]


@pytest.mark.long
async def test_tokens_policies_and_mounts(cli, tmp_path) -> None:
    (tmp_path / "app.hcl").write_text('path "secret/data/*" { capabilities = ["read"] }')
    assert "Uploaded policy: app" in await cli("policy", "write", "app", str(tmp_path / "app.hcl"))
    assert "app" in (await cli("policy", "list")).splitlines()
    assert "capabilities" in await cli("policy", "read", "app")
    await cli("policy", "fmt", str(tmp_path / "app.hcl"))
    await cli("policy", "read", "none", expect=2)
    await cli("policy", "write", "app", str(tmp_path / "none.hcl"), expect=2)
    token = await cli("token", "create", "-policy=app", "-ttl=1h", "-metadata=a=b", "-field=token")
    looked = (await cli.json("token", "lookup", token))["data"]
    assert (looked["policies"], looked["meta"]) == (["app", "default"], {"a": "b"})
    assert await cli("token", "capabilities", token, "secret/data/x") == "read\n"
    assert await cli("token", "capabilities", "secret/data/x") == "root\n"
    accessor = looked["accessor"]
    assert (await cli.json("token", "lookup", "-accessor", accessor))["data"]["id"] == ""
    assert await cli("token", "renew", "-increment=2h", "-field=token_duration", token) == "7200"
    await cli("token", "revoke", "-accessor", accessor)
    await cli("token", "lookup", token, expect=2)
    await cli("token", "revoke", expect=1)
    await cli("policy", "delete", "app")
    await cli("auth", "enable", "-path=people", "-description=humans", "userpass")
    await cli("auth", "tune", "-max-lease-ttl=24h", "-user-lockout-threshold=3", "people")
    listed = await cli("auth", "list", "-detailed")
    assert re.search(r"^people/ +userpass +auth_userpass_\w+ +humans +system +86400 ", listed, re.M)
    await cli("auth", "move", "people", "auth/humans/")
    await cli("auth", "move", "auth/humans/", "auth/people/")
    assert "people/" in await cli.json("auth", "list")
    await cli("auth", "disable", "people")
    assert "people/" not in await cli.json("auth", "list")
    await cli("secrets", "enable", "-path=team", "kv-v2")
    assert (await cli.json("secrets", "list"))["team/"]["options"] == {"version": "2"}
    await cli("secrets", "enable", "-path=own", "-local", "-seal-wrap", "kv")
    listed = await cli("secrets", "list", "-detailed")
    assert re.search(r"^own/ .* system +system +false +true +local +map\[\] ", listed, re.M)
    assert re.search(r"^team/ .* false +false +replicated +map\[version:2\] ", listed, re.M)


async def test_any_path_can_be_read_written_and_listed(cli, monkeypatch) -> None:
    await cli("auth", "enable", "approle")
    await cli("write", "auth/approle/role/ci", "token_ttl=10m", "token_policies=a,b")
    out = await cli("read", "auth/approle/role/ci")
    assert re.search(r"^token_policies +\[a b\]$", out, re.M)
    assert await cli("read", "-field=token_ttl", "auth/approle/role/ci") == "600"
    assert await cli("list", "auth/approle/role") == "Keys\n----\nci\n"
    made = await cli.json("write", "-f=true", "auth/approle/role/ci/secret-id")
    role = await cli("read", "-field=role_id", "auth/approle/role/ci/role-id")
    auth = await cli.json(
        "write", "auth/approle/login", f"role_id={role}", f"secret_id={made['data']['secret_id']}"
    )
    assert auth["auth"]["token_policies"] == ["a", "b", "default"]
    assert "Success! Data deleted" in await cli("delete", "auth/approle/role/ci")
    await cli("list", "auth/approle/role", expect=2)
    await cli("read", "auth/approle/role/ci", expect=2)
    assert json.loads(await cli("read", "-format=raw", "sys/health"))["initialized"] is True
    monkeypatch.setenv("VAULT_FORMAT", "json")
    assert (
        json.loads(await cli("read", "auth/token/lookup-self"))["data"]["path"] == "auth/token/root"
    )
    await cli("read", "-header=bad", "sys/mounts", expect=1)
    await cli("read", "-namespace=none", "sys/mounts", expect=2)


@pytest.mark.parametrize("method", ["jwt", "oidc"])
async def test_a_person_logs_in_by_a_browser(store, method) -> None:
    """The listener of the command line, with a browser that does what it is told."""
    asked = []

    class Issuing(Session):
        """A store that sends everybody straight back."""

        async def ask(self, verb, path, body=None, query=None, *, token=None):
            asked.append((verb, path, body or query))
            if path.endswith("auth_url"):
                url = f"https://issuer/?redirect_uri={body['redirect_uri']}&state=s"
                return type("Reply", (), {"data": {"auth_url": url}, "body": {}})()
            return type("Reply", (), {"data": {}, "body": {"auth": {"client_token": "t"}}})()

    pages = []

    def browser(url: str) -> bool:
        redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0].replace(
            "localhost", "127.0.0.1"
        )

        for target in (redirect + "x", redirect + "?code=c&state=s"):
            try:
                pages.append(urllib.request.urlopen(target, timeout=60).read())
            except urllib.error.HTTPError as error:
                pages.append(error.code)
        return True

    session = Issuing(StoreAddress(store.address, Secret("x"), None, ""), store.http)
    auth = await oidc_login(session, method, {"role": "people", "port": "0"}, browser)
    assert auth == {"client_token": "t"}
    assert asked[0][1] == f"auth/{method}/oidc/auth_url"
    assert asked[1][2]["code"] == "c"
    assert asked[1][2]["client_nonce"] == asked[0][2]["client_nonce"]
    assert pages[0] == 404


def test_cve_2026_33758_what_the_issuer_says_is_never_markup() -> None:
    shown = answer_page({"error": "x", "error_description": "<script>alert(1)</script>"})
    assert b"<script>" not in shown
    assert b"&lt;script&gt;" in shown
    assert b"Content-Security-Policy: default-src 'none'" in shown


def test_values_look_as_in_vaults_tables() -> None:
    assert go_text({"b": [1, None], "a": True}) == "map[a:true b:[1 <nil>]]"
    assert [human_duration(each) for each in (0, 45, 3600, 5400, 2764800)] == [
        "∞", "45s", "1h", "1h30m", "768h",
    ]  # fmt: skip


def test_the_page_about_the_command_line_is_what_the_program_has() -> None:
    """Made anew by `python -m strongroom.app.cli_reference > docs/cli.md`."""
    page = (ROOT / "docs/cli.md").read_text()
    assert page == markdown()
    # What runs by itself has its flags there besides its verbs, and what counts without them.
    assert "\n### `strongroom operator`\n\n| Flag" in page
    assert "| `--timeout` `TIMEOUT` | how long to wait for consumers (default 5m) |" in page


def test_every_verb_has_an_example() -> None:
    lacking = [
        " ".join(node.words)
        for top in tree()
        for node in top.walk()
        if not node.children
        and f"\n  strongroom {' '.join(node.words)}" not in (node.parser.epilog or "")
    ]
    assert lacking == []
