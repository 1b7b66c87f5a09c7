"""Vault's verbs one at a time: the change feed, keys of one's own, wrapped replies, refusals."""

import asyncio
import base64
import io
import json
import re
import secrets
import signal
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.app.transcript import environment
from tests.conftest import over_tls


async def _started(store, home: Path, *words: str) -> asyncio.subprocess.Process:
    home_of_it = environment(home, VAULT_ADDR=store.address, VAULT_TOKEN=store.root)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "strongroom", *words, env=home_of_it,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.long
async def test_changes_are_printed_as_they_happen(store, tmp_path: Path) -> None:
    one = await _started(store, tmp_path, "events", "subscribe", "-count=1", "kv-v2/data-write")
    every = await _started(store, tmp_path, "events", "subscribe", "kv*")
    assert one.stdout
    assert every.stdout
    line = asyncio.ensure_future(every.stdout.readline())
    ended = asyncio.ensure_future(one.wait())
    number = 0
    # Nothing says when somebody listens, so there are changes until both have heard of one.
    while waiting := [each for each in (ended, line) if not each.done()]:
        number += 1
        await store.ask("POST", "secret/data/a", {"data": {"n": str(number)}})
        await asyncio.wait(waiting, timeout=0.2)
        assert number < 1000
    heard = (await one.stdout.read()).decode()
    assert heard.count("\n") == 1
    event = json.loads(heard)["data"]["event"]
    assert event["metadata"]["path"] == "secret/data/a"
    assert json.loads(line.result())["data"]["event_type"].startswith("kv-v2/")
    every.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(every.communicate(), 60)
    assert (every.returncode, err) == (130, b"")


async def test_who_may_not_hear_is_told_so_in_the_stores_words(cli, monkeypatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    await cli("events", "subscribe", "kv*", expect=2)
    assert "Code: 403. Errors:\n\n* 2 errors occurred:\n\t* permission denied" in cli.err
    await cli("events", "subscribe", "-filter=x", "kv*", expect=1)
    assert "error: -filter: changes are chosen by their type" in cli.err
    out = await cli("events", "subscribe", "-output-policy", "kv*")
    assert 'path "sys/events/subscribe/kv*"' in out


@pytest.mark.long
async def test_a_key_of_ones_own_is_what_the_store_encrypts_with(cli, tmp_path: Path) -> None:
    await cli("secrets", "enable", "transit")
    key, second = secrets.token_bytes(32), secrets.token_bytes(32)
    (tmp_path / "second").write_text(base64.b64encode(second).decode() + "\n")
    words = ["type=aes256-gcm96", "exportable=true"]
    out = await cli(
        "transit", "import", "transit/keys/mine", base64.b64encode(key).decode(), *words
    )
    assert out == "Success! Imported key: transit/keys/mine\n"
    await cli("transit", "import-version", "transit/keys/mine", f"@{tmp_path}/second")
    exported = (await cli.json("read", "transit/export/encryption-key/mine"))["data"]["keys"]
    assert [base64.b64decode(exported[each]) for each in ("1", "2")] == [key, second]


@pytest.mark.long
async def test_an_rsa_key_is_brought_in_pem(cli, tmp_path: Path) -> None:
    await cli("secrets", "enable", "transit")
    private = rsa.generate_private_key(65537, 2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    await cli("transit", "import", "transit/keys/r", f"@{tmp_path}/key.pem", "type=rsa-2048")
    shown = (await cli.json("read", "transit/keys/r"))["data"]
    assert (shown["type"], shown["imported_key"]) == ("rsa-2048", True)


@pytest.mark.long
async def test_a_key_that_is_none_is_refused_without_being_repeated(cli) -> None:
    await cli("secrets", "enable", "transit")
    await cli("transit", "import", "transit/keys/mine", "hunter2!", expect=1)
    assert "the key is not base64 [bad-key]" in cli.err
    assert "hunter2" not in cli.err
    await cli("transit", "import", "transit/mine", "aGk=", expect=1)
    assert "the path is MOUNT/keys/NAME [bad-path]" in cli.err
    await cli("transit", "import", "transit/keys/mine", "aGk=", "type=aes256-gcm96", expect=2)
    assert "Error making API request." in cli.err


@pytest.mark.parametrize(
    "words",
    [
        ("kv", "get", "secret/a"), ("kv", "list", "secret"), ("kv", "metadata", "get", "secret/a"),
        ("policy", "read", "default"), ("policy", "list"), ("secrets", "list"), ("auth", "list"),
        ("token", "lookup"), ("token", "capabilities", "secret/data/a"), ("read", "sys/mounts"),
        ("list", "sys/policies/acl"), ("operator", "key-status"), ("audit", "list"),
    ],
)  # fmt: skip
async def test_a_wrapped_reply_is_a_token_whatever_was_asked(cli, words) -> None:
    await cli("kv", "put", "secret/a", "k=v")
    token = await cli(*words, "-wrap-ttl=5m", "-field=wrapping_token")
    assert token.startswith("hvs.")
    assert "wrapping_token_ttl" in await cli(*words, "-wrap-ttl=5m")
    found = json.loads(await cli("unwrap", "-format=json", token))
    assert found if isinstance(found, list) else found["data"]


async def test_what_a_command_reads_on_its_way_is_not_wrapped(cli) -> None:
    await cli("kv", "put", "secret/a", "k=v")
    await cli("kv", "put", "secret/a", "k=w")
    wrapped = ("-wrap-ttl=5m", "-field=wrapping_token")
    assert await cli("kv", "patch", "-method=rw", *wrapped, "secret/a", "z=1")
    assert (await cli.json("kv", "get", "secret/a"))["data"]["data"] == {"k": "w", "z": "1"}
    assert await cli("kv", "rollback", "-version=1", *wrapped, "secret/a")
    assert (await cli.json("kv", "get", "secret/a"))["data"]["data"] == {"k": "v"}


async def test_what_is_written_to_be_wrapped_is_wrapped(cli) -> None:
    asked = ("write", "sys/wrapping/wrap", "k=v")
    assert "wrapping_token_ttl:              5m" in await cli(*asked)
    assert "wrapping_token_ttl:              10m" in await cli(*asked, "-wrap-ttl=10m")
    await cli("kv", "put", "secret/a", "k=v")
    token = await cli("kv", "list", "secret", "-wrap-ttl=1m", "-field=wrapping_token")
    assert await cli("unwrap", token) == "Keys\n----\na\n"


@pytest.mark.parametrize(
    "words",
    [
        ("secrets", "enable", "-plugin-name=x", "kv"),
        ("secrets", "enable", "-external-entropy-access", "kv"),
        ("secrets", "tune", "-allowed-managed-keys=x", "secret"),
        ("auth", "tune", "-identity-token-key=x", "token"),
        ("auth", "enable", "-delegated-auth-accessors=x", "userpass"),
        ("server", "-log-file=x"),
        ("server", "-recovery"),
        ("server", "-dev-plugin-dir=x"),
        ("server", "-dev-ha", "-dev"),
        ("server", "-dev", "-dev-kv-v1"),
        ("server", "-dev-tls-san=x", "-dev"),
        ("server", "-dev-three-node", "-dev"),
        ("server", "-dev-latency", "5", "-dev"),
        ("agent", "-exit-after-auth", "-config=x"),
        ("agent", "-log-level=debug", "-config=x"),
    ],
)  # fmt: skip
async def test_a_flag_of_vaults_that_means_nothing_is_refused_by_name(cli, words) -> None:
    await cli(*words, expect=2 if words[0] in ("server", "agent") else 1)
    flags = [each.partition("=")[0] for each in words if each.startswith("-")]
    assert cli.err.startswith(tuple(f"error: {flag}: " for flag in flags if flag != "-dev"))
    assert cli.err.count("\n") == 2
    assert cli.err.endswith("--help\n")


async def test_the_servers_flags_are_taken_as_vaults_are(cli) -> None:
    """Booleans with a value, and what asks for what is so anyway; else its own help is named."""
    (cli.home / "v.hcl").write_text(
        'storage "inmem" {}\nlistener "tcp" { address = "127.0.0.1:1" tls_disable = true }\n'
    )
    same = ("-exit-on-core-shutdown", "-combine-logs", "-disable-gated-logs=true", "-dev=false")
    said = await cli("server", "-test-config=true", f"-config={cli.home}/v.hcl", *same)
    assert said == "Success! The configuration is valid.\n"
    await cli("server", "-test-config", "-none", expect=2)
    assert cli.err == "error: there is no flag -none here\nhint: strongroom server --help\n"


async def test_an_agents_file_in_vaults_form_is_refused_as_such(cli) -> None:
    (cli.home / "agent.hcl").write_text('auto_auth { method "kubernetes" {} }\n')
    await cli("agent", f"-config={cli.home}/agent.hcl", expect=2)
    assert "is not JSON, and Vault Agent's HCL is not read [bad-config]" in cli.err
    assert "hint: see strongroom agent --help" in cli.err


async def test_sentences_are_those_of_vault(cli) -> None:
    said = {
        ("secrets", "enable", "-path=team", "-force-no-cache", "kv-v2"):
            "Success! Enabled the kv-v2 secrets engine at: team/",
        ("secrets", "tune", "-description=x", "team"):
            "Success! Tuned the secrets engine at: team/",
        ("secrets", "disable", "team"): "Success! Disabled the secrets engine (if it existed) at: team/",
        ("auth", "enable", "userpass"): "Success! Enabled userpass auth method at: userpass/",
        ("auth", "disable", "userpass"):
            "Success! Disabled the auth method (if it existed) at: userpass/",
        ("write", "-f", "sys/leases/tidy"): None,
        ("kv", "delete", "secret/a"): "Success! Data deleted (if it existed) at: secret/data/a",
        ("policy", "delete", "x"): "Success! Deleted policy: x",
        ("kv", "put", "secret/b", "k=v"): None,
        ("kv", "delete", "-versions=1", "secret/b"):
            "Success! Data deleted (if it existed) at: secret/data/b",
        ("lease", "revoke", "-prefix", "-force", "nothing"):
            "Success! Force revoked any leases with prefix: nothing",
        ("lease", "revoke", "-prefix", "-sync", "nothing"):
            "Success! Revoked any leases with prefix: nothing",
        ("lease", "revoke", "-prefix", "nothing"): "All revocation operations queued successfully!",
    }  # fmt: skip
    for words, sentence in said.items():
        out = await cli(*words)
        assert sentence is None or cli.err == ""
        assert sentence is None or out == sentence + "\n"


async def test_tables_have_times_as_they_are_said_and_nothing_is_not_blank(cli) -> None:
    """What scripts cut out of Vault's tables, by its name and place."""
    token = await cli("token", "create", "-ttl=90m", "-field=token")
    table = dict(
        line.split(maxsplit=1) for line in (await cli("token", "lookup", token)).splitlines()
    )
    assert (table["creation_ttl"], table["explicit_max_ttl"]) == ("1h30m", "0s")
    assert (table["entity_id"], table["num_uses"]) == ("n/a", "0")
    assert (await cli.json("token", "lookup", token))["data"]["creation_ttl"] == 5400
    wrapped = (await cli("token", "create", "-wrap-ttl=60s")).splitlines()
    names = [line.split()[0] for line in wrapped[2:]]
    assert names == [
        "wrapping_token:", "wrapping_accessor:", "wrapping_token_ttl:",
        "wrapping_token_creation_time:", "wrapping_token_creation_path:", "wrapped_accessor:",
    ]  # fmt: skip


async def test_a_key_given_again_makes_a_list(cli) -> None:
    await cli(
        "write", "auth/token/roles/r", "allowed_policies=a", "allowed_policies=b", "period=1h"
    )
    shown = (await cli.json("read", "auth/token/roles/r"))["data"]
    assert (shown["allowed_policies"], shown["token_period"]) == (["a", "b"], 3600)


async def test_a_reply_without_the_envelope_is_read_as_any_other(cli) -> None:
    assert await cli("read", "-field=sealed", "sys/seal-status") == "false"
    assert "initialized" in await cli("read", "sys/health")
    assert (await cli.json("read", "sys/health"))["data"]["sealed"] is False


async def test_a_secret_of_version_one_is_a_table_of_its_data(cli) -> None:
    await cli("secrets", "enable", "-version=1", "-path=old", "kv")
    await cli("kv", "put", "old/a", "k=v", "ttl=30m")
    out = await cli("kv", "get", "old/a")
    assert "= Data =" in out
    assert "refresh_interval" not in out
    assert "refresh_interval    30m\n" in await cli("read", "old/a")


async def test_of_a_deleted_version_its_metadata_is_shown(cli) -> None:
    """As in Vault, where a script learns from it when it was deleted."""
    await cli("kv", "put", "secret/a", "k=v")
    await cli("kv", "delete", "secret/a")
    shown = await cli("kv", "get", "secret/a")
    assert "= Metadata =" in shown
    assert "= Data =" not in shown
    for words in (("kv", "get", "secret/a"), ("read", "secret/data/a")):
        data = (await cli.json(*words))["data"]
        assert (data["data"], bool(data["metadata"]["deletion_time"])) == (None, True)
    await cli("kv", "get", "-field=k", "secret/a", expect=2)
    assert cli.err == "No data found at secret/data/a\n"
    assert await cli("kv", "get", "-field=version", "secret/a") == "1"
    await cli("kv", "patch", "-method=rw", "secret/a", "x=y", expect=2)
    await cli("kv", "rollback", "-version=1", "secret/a", expect=1)
    assert "Cannot roll back to a version that has been deleted" in cli.err
    await cli("kv", "undelete", "-versions=1", "secret/a")
    assert (await cli("kv", "rollback", "-version=1", "secret/a")).startswith("Key ")
    await cli("kv", "get", "secret/none", expect=2)


async def test_a_field_is_plain_and_json_or_yaml_where_that_was_said(cli) -> None:
    await cli("kv", "put", "secret/a", "k=v")
    assert await cli("kv", "get", "-field=k", "secret/a") == "v"
    assert await cli("kv", "get", "-field=k", "-format=json", "secret/a") == '"v"\n'
    assert await cli("read", "-field=data", "-format=yaml", "secret/data/a") == "k: v\n"
    assert await cli("status", "-field=sealed", "-format=json") == "false\n"
    await cli("kv", "get", "-field=none", "secret/a", expect=1)
    assert cli.err.endswith("hint: it has created_time, deletion_time, destroyed, k, version\n")


async def test_a_reply_that_is_no_json_is_printed_as_it_is(cli) -> None:
    asked = ("read", "sys/metrics", "format=prometheus")
    assert "# TYPE vault_core_unsealed gauge" in await cli(*asked, "-format=raw")
    for form in ("table", "json"):
        assert await cli(*asked, f"-format={form}", expect=1) == ""
        assert "what is at sys/metrics is not JSON" in cli.err
        assert "hint: -format=raw" in cli.err


async def test_a_form_is_named_in_any_case(cli, monkeypatch) -> None:
    for said in ("YAML", "yml", "Yml"):
        assert await cli("token", "capabilities", f"-format={said}", "secret/a") == "- root\n"
        monkeypatch.setenv("VAULT_FORMAT", said)
        assert await cli("token", "capabilities", "secret/a") == "- root\n"
        monkeypatch.delenv("VAULT_FORMAT")


async def test_the_field_data_is_all_of_a_secrets_data(cli) -> None:
    """Unless the secret has a field of that name, as in Vault; scripts ask for it as JSON."""
    await cli("kv", "put", "secret/a", "k=v", "n=1")
    asked = ("kv", "get", "-field=data", "secret/a")
    assert await cli.json(*asked) == {"k": "v", "n": "1"}
    assert await cli(*asked) == "map[k:v n:1]"
    await cli("kv", "patch", "secret/a", "data=inner")
    assert await cli(*asked) == "inner"
    await cli("kv", "delete", "secret/a")
    await cli(*asked, expect=2)


async def test_a_patch_may_remove_alone(cli) -> None:
    await cli("kv", "put", "secret/a", "k=v", "old=1", "older=2")
    await cli("kv", "patch", "-remove-data=old", "secret/a")
    await cli("kv", "patch", "-method=rw", "-remove-data=older", "secret/a")
    assert await cli.json("kv", "get", "-field=data", "secret/a") == {"k": "v"}
    await cli("kv", "patch", "secret/a", expect=1)
    assert "Must supply data" in cli.err


async def test_a_version_to_check_may_be_the_one_that_means_any(cli) -> None:
    """-1 is what `kv put` has without the flag in Vault, and 0 what `kv patch` has."""
    await cli("kv", "put", "-cas=-1", "secret/a", "k=1")
    await cli("kv", "put", "-cas=-1", "secret/a", "k=2")
    await cli("kv", "put", "-cas=0", "secret/a", "k=3", expect=2)
    await cli("kv", "patch", "-cas=0", "secret/a", "k=3")
    await cli("kv", "patch", "-cas=2", "secret/a", "k=4", expect=2)
    assert await cli("kv", "get", "-field=version", "secret/a") == "3"


async def test_no_names_are_an_empty_document(cli) -> None:
    for words in (("kv", "list", "secret/none"), ("list", "secret/metadata/none")):
        for form in ("json", "yaml"):
            assert await cli(*words, f"-format={form}", expect=2) == "{}\n"
            assert cli.err == "No value found at secret/metadata/none\n"
        assert await cli(*words, expect=2) == ""


async def test_a_list_may_say_what_the_names_stand_for(cli) -> None:
    made = await cli("write", "-field=id", "identity/entity", "name=ada")
    out = await cli("list", "-detailed", "identity/entity/id")
    assert re.match(r"Keys +aliases +name\n---- +------- +----\n", out)
    assert re.search(rf"^{made} +\[\] +ada$", out, re.M)
    data = (await cli.json("list", "-detailed", "identity/entity/id"))["data"]
    assert data["key_info"][made]["name"] == "ada"
    await cli("kv", "put", "secret/a", "k=v")
    assert await cli("list", "-detailed", "secret/metadata") == "Keys\n----\na\n"


async def test_a_field_that_is_no_text_is_printed_as_vault_does(cli) -> None:
    (cli.home / "value.json").write_text('{"l": ["a", 1, true], "m": {"x": null}}')
    await cli("kv", "put", "secret/a", f"@{cli.home}/value.json")
    assert await cli("kv", "get", "-field=l", "secret/a") == "[a 1 true]"
    assert await cli("kv", "get", "-field=m", "secret/a") == "map[x:<nil>]"
    assert await cli("kv", "get", "-field=l", "-format=json", "secret/a") == (
        '[\n  "a",\n  1,\n  true\n]\n'
    )
    assert await cli("read", "-field=keys", "sys/policies/acl") == "[default root]"
    # What the reply says around its data, as programs take it: seconds and lists.
    (cli.home / "policy.hcl").write_text('path "old/*" { capabilities = ["read"] }')
    await cli("policy", "write", "p", str(cli.home / "policy.hcl"))
    made = ("token", "create", "-policy=p", "-ttl=90m")
    assert await cli(*made, "-field=token_policies") == "[default p]"
    assert await cli(*made, "-field=token_duration") == "5400"
    assert await cli(*made, "-wrap-ttl=5m", "-field=wrapping_token_ttl") == "300"
    await cli("secrets", "enable", "-path=old", "-version=1", "kv")
    await cli("write", "old/a", "k=v", "renewable=yes")
    assert await cli("read", "-field=lease_duration", "old/a") == "2764800"
    assert await cli("read", "-field=data", "old/a") == "map[k:v renewable:yes]"
    assert await cli("read", "-field=renewable", "old/a") == "yes"
    # One that is null is not there.
    await cli("kv", "metadata", "get", "-field=custom_metadata", "secret/a", expect=1)


async def test_what_is_not_there_is_said_by_its_path(cli) -> None:
    for words in (
        ("kv", "patch", "secret/none", "a=b"),
        ("kv", "patch", "-method=rw", "secret/none", "a=b"),
    ):
        await cli(*words, expect=2)
        assert cli.err == "No value found at secret/data/none\n"
    await cli("kv", "metadata", "patch", "-max-versions=1", "secret/none", expect=2)
    assert cli.err == "No value found at secret/metadata/none\n"
    await cli("read", expect=1)
    assert cli.err.startswith("error: missing: path\n")


async def test_headings_are_even(cli) -> None:
    out = await cli("kv", "put", "secret/x", "k=v")
    assert out.startswith("== Secret Path ==\nsecret/data/x\n")
    for line in (await cli("kv", "get", "secret/x")).splitlines():
        if line.startswith("="):
            before, _, after = line.partition(" ")[0], "", line.rpartition(" ")[2]
            assert before == after


async def test_the_wrong_scheme_is_recognised(cli, store, tls_address) -> None:
    await cli("status", f"-address=https://127.0.0.1:{store.port}", expect=1)
    assert "it does not speak TLS" in cli.err
    await cli("token", "lookup", "-address", tls_address.replace("https", "http"), expect=2)
    assert "hint: https:// in place of http://, or another port?" in cli.err


@pytest.fixture
async def tls_address(store, tmp_path: Path):
    listener, address, _ = await over_tls(store.handler, tmp_path / "tls")
    yield address
    await listener.drain()


async def test_a_token_is_read_where_a_hyphen_stands_for_it(cli, monkeypatch) -> None:
    """Taken for the token itself, `revoke -` said Success and revoked nothing."""

    async def told(read: str, *words: str, expect: int = 0) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(read))
        return await cli(*words, expect=expect)

    token = await cli("token", "create", "-policy=default", "-field=token")
    once = await cli("token", "lookup", "-wrap-ttl=5m", "-field=wrapping_token")
    assert await told(f"{token}\n", "token", "lookup", "-field=id", "-") == token
    assert await told(token, "token", "capabilities", "-", "secret/a") == "deny\n"
    assert token in await told(token, "token", "renew", "-")
    assert "policies" in await told(once, "unwrap", "-")
    await told("", "token", "revoke", "-", expect=1)
    assert "error: there is no token at standard input" in cli.err
    await told("", "login", "-", expect=1)
    assert "error: there is no token at standard input" in cli.err
    await told("\n", "operator", "unseal", "-", expect=1)
    assert "error: there is no key at standard input" in cli.err
    await told(token, "token", "revoke", "-")
    await cli("token", "lookup", token, expect=2)
