"""`operator`, `status` and `audit` as a Vault user types them, against a store that is served."""

import asyncio
import re

import pytest
import yaml

from strongroom.app.operator_verbs import status_rows


@pytest.mark.parametrize(
    ("about", "rows"),
    [
        ({"ha_enabled": False}, [("HA Enabled", False)]),
        ({"ha_enabled": True, "sealed": True}, [("HA Enabled", True)]),
        (
            {"ha_enabled": True, "is_self": True, "active_time": "2026-01-01T00:00:00Z"},
            [("HA Enabled", True), ("HA Cluster", "n/a"), ("HA Mode", "active"),
             ("Active Since", "2026-01-01T00:00:00Z")],
        ),
        (
            {"ha_enabled": True, "leader_address": "https://a", "leader_cluster_address": "https://b"},
            [("HA Enabled", True), ("HA Cluster", "https://b"), ("HA Mode", "standby"),
             ("Active Node Address", "https://a")],
        ),
    ],
)  # fmt: skip
def test_status_says_which_node_is_active(about, rows) -> None:
    status = {"type": "shamir", "initialized": True, "sealed": False, "n": 1, "t": 1,
              "version": "1.16.0", "progress": 0, "nonce": "", **about}  # fmt: skip
    assert status_rows(status)[-len(rows) :] == rows


async def test_status_in_every_form(cli, monkeypatch) -> None:
    out = await cli("status")
    assert re.search(r"^Sealed +false$", out, re.M)
    assert re.search(r"^HA Enabled +false$", out, re.M)
    assert (await cli.json("status"))["sealed"] is False
    assert yaml.safe_load(await cli("status", "-format=yaml"))["initialized"] is True
    assert await cli("status", "-field=type") == "static"
    assert await cli("status", "-field=is_self") == "true"
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    await cli("status", expect=1)
    assert cli.err.startswith("Error checking seal status: no answer from")
    await cli("status", "-unknown", expect=1)


async def test_init_says_whether_it_was(cli) -> None:
    assert await cli("operator", "init", "-status") == "Vault is initialized\n"
    assert await cli.json("operator", "init", "-status") == {"Initialized": True}
    await cli("operator", "init", expect=2)
    assert "* Vault is already initialized" in cli.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("init",), "if it was not before and is now, its keys were in the answer that was lost"),
        (("unseal", "a-key"), "strongroom status says how many keys it has"),
        (("rekey", "-init"), "ask with -status whether it goes on"),
    ],
)
async def test_whose_answer_is_lost_is_told_how_to_find_out(cli, monkeypatch, words, hint) -> None:
    sent: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not sent:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                reply = b'{"type": "shamir"}'
                kind = b"Content-Type: application/json\r\nContent-Length: %d" % len(reply)
                writer.write(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\n" + reply)
            else:
                sent.append(head)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{port}")
        await cli("operator", *words, expect=2)
    assert len(sent) == 1
    error, hinted = cli.err.splitlines()
    assert error.endswith("; whether it was done is not known [unreachable]")
    assert hint in hinted
    assert hinted.endswith(
        "if nothing is ever answered: https:// in place of http://, or another port?"
    )


@pytest.mark.parametrize(
    "flag",
    ["-pgp-keys=a", "-root-token-pgp-key=a", "-recovery-pgp-keys=a", "-stored-shares=1",
     "-consul-auto", "-consul-service=vault"],
)  # fmt: skip
async def test_what_init_does_not_do_is_refused_by_name(cli, flag) -> None:
    await cli("operator", "init", flag, expect=1)
    assert cli.err.startswith(f"error: {flag.partition('=')[0]}: ")


async def test_a_request_of_an_operator_is_described_and_not_sent(cli) -> None:
    out = await cli("operator", "seal", "-output-curl-string")
    assert out.startswith("curl -X PUT -H ")
    assert out.rstrip().endswith("/v1/sys/seal")
    assert cli.store.root not in out
    policy = await cli("operator", "rotate", "-output-policy")
    assert 'path "sys/rotate" {' in policy
    assert '"sudo"' in policy
    policy = await cli("operator", "snapshot", "save", "-output-policy", "x.snap")
    assert 'path "sys/storage/raft/snapshot" {\n  capabilities = ["read"' in policy
    policy = await cli("kv", "scan", "-output-policy", "secret")
    assert '["scan"]' in policy
    assert await cli("status", "-field=sealed") == "false"


async def test_a_new_key_under_everything(cli) -> None:
    term = int(await cli("operator", "key-status", "-field=term"))
    out = await cli("operator", "rotate")
    assert out.startswith("Success! Rotated key\n\nKey ")
    assert re.search(rf"^Key Term +{term + 1}$", out, re.M)
    assert (await cli.json("operator", "rotate"))["term"] == term + 2
    assert "Encryption Count" in await cli("operator", "key-status")


async def test_a_ceremony_that_was_not_begun_is_said_to_be(cli) -> None:
    for name in ("rekey", "generate-root"):
        await cli("operator", name, "c2hhcmU=", expect=1)
        assert cli.err == (
            f"error: nothing was begun [not-begun]\nhint: strongroom operator {name} -init\n"
        )
    out = await cli("operator", "rekey", "-status")
    assert re.search(r"^Started +false$", out, re.M)
    assert "Canceled rekeying" in await cli("operator", "rekey", "-cancel")
    await cli("operator", "unseal", expect=1)
    assert "no key was given [no-key]" in cli.err
    await cli("operator", "generate-root", "-init", expect=2)
    assert "* this cluster has no recovery keys" in cli.err
    await cli("operator", "generate-root", "-decode=x", expect=1)
    assert "[no-otp]" in cli.err
    for words in (["generate-root", "-pgp-key=a"], ["rekey", "-backup"], ["rekey", "-pgp-keys=a"]):
        await cli("operator", *words, expect=1)
        assert "not encrypted for PGP keys" in cli.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("operator", "migrate"), "storage is moved by a snapshot"),
        (("operator", "usage"), "clients are not counted"),
        (("operator", "diagnose"), "the server checks itself"),
        (("operator", "raft", "list-peers"), "a database, not Raft"),
        (("namespace", "list"), "there are no namespaces"),
        (("debug",), "bundles of a running server are not taken"),
        (("monitor", "-log-level=debug"), "not streamed by the API"),
        (("plugin", "list"), "there are no plugins"),
        (("ssh", "ada@host"), "sessions are not opened"),
        (("pki", "health-check"), "no tools for the authorities"),
        (("version-history",), "read sys/version-history list=true"),
        (("proxy",), "no API proxy"),
    ],
)
async def test_a_command_of_vaults_that_is_not_here_says_why(cli, words, said) -> None:
    await cli(*words, expect=1)
    assert said in cli.err
    assert re.fullmatch(r"error: strongroom .+\nhint: .+\n", cli.err)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("kv", "gett"), 1, "did you mean get?"),
        (("operator", "unseel"), 2, "did you mean unseal?"),
        (("frobnicate",), 2, "hint: there are dev, "),
        (("kv", "get"), 1, "error: missing: path\n"),
        (("kv", "get", "a", "-passwd=hunter2"), 1, "error: there is no flag -passwd here\n"),
        (
            ("kv", "get", "-format=xml", "secret/a"),
            1,
            "error: -format: 'xml' is not one of 'table'",
        ),
        (
            ("kv", "put", "-cas=new", "secret/a", "b=c"),
            1,
            "error: -cas: 'new' is no whole number\n",
        ),
        (("kv", "get", "secret/a", "-field"), 1, "error: -field: a value is missing\n"),
        (("kv", "undelete", "secret/a"), 1, "error: missing: -versions\n"),
        (("completion", "csh"), 2, "error: shell: 'csh' is not one of"),
    ],
)
async def test_a_misuse_is_said_in_words(cli, words, status, said) -> None:
    await cli(*words, expect=status)
    assert said in cli.err
    assert re.search(r"\nhint: .+\n\Z", cli.err)
    assert not re.search(r"usage:|argument|hunter2", cli.err)


async def test_a_word_without_a_verb_shows_what_there_is(cli) -> None:
    assert await cli("kv", expect=1) == ""
    assert cli.err.startswith("usage: strongroom kv VERB ...\n\nRead and write")
    assert await cli(expect=2) == ""
    assert "use a store:" in cli.err


async def test_audit_devices_that_the_configuration_does_not_let_in(cli, tmp_path) -> None:
    out = await cli("audit", "list")
    assert (
        out
        == "Path      Type    Description\n----      ----    -----------\nmemory    file    n/a\n"
    )
    assert list(await cli.json("audit", "list")) == ["memory"]
    await cli("audit", "enable", "file", f"file_path={tmp_path}/x", expect=2)
    assert "unsafe_allow_api_audit_creation" in cli.err
    assert not (tmp_path / "x").exists()
    await cli("audit", "hash", "memory", "value", "-field=none", expect=1)
    assert (await cli("audit", "hash", "memory", "value")).startswith("hmac-sha256:")


async def test_a_path_of_version_2_is_told_with_the_error(cli) -> None:
    await cli("kv", "put", "secret/a", "k=v")
    await cli("read", "secret/a", expect=2)
    assert cli.err.endswith("The versioned path is secret/data/a\nNo value found at secret/a\n")
    await cli("write", "secret/a", "k=v", expect=2)
    assert cli.err.rstrip().endswith("Code: 404.")


async def test_how_to_log_in_is_said_for_a_type_and_a_mount(cli) -> None:
    assert "-method=userpass username=NAME" in await cli("auth", "help", "userpass")
    await cli("auth", "enable", "-path=people", "userpass")
    assert "-method=userpass -path=people username" in await cli("auth", "help", "people/")
    await cli("auth", "help", "none/", expect=2)
    assert cli.err == "No auth method is mounted at: none/\n"
    await cli("auth", "help", "kerberos", expect=2)


FOR_PROGRAMS = """
status|operator key-status|operator members|operator rotate|operator init -status
operator rekey -status|operator generate-root -status|operator generate-root -generate-otp
operator generate-root -decode=BxkcQRcXFxc -otp=oooooooo|audit list -detailed|audit hash memory x
operator snapshot save s.snap|operator snapshot inspect s.snap|operator snapshot drill s.snap
"""
# The store answers these with nothing.
SILENT = """
operator rekey -cancel|operator generate-root -cancel|operator step-down
operator snapshot restore s.snap|operator seal
"""


async def test_a_program_reads_one_document_or_nothing(cli, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in FOR_PROGRAMS.strip().replace("\n", "|").split("|"):
        assert await cli.json(*words.split()), words
    for words in SILENT.strip().replace("\n", "|").split("|"):
        assert await cli(*words.split(), "-format=json") == "", words
