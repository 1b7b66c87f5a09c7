"""Holes that Vault and OpenBao had, each under its id: what bodies cost and what leaks of them."""

import asyncio
import json
import logging

import pytest

from strongroom.store import sessions
from strongroom.store.sessions import PREPARED_BYTES

CANARY = "marked-7f3a91"


@pytest.mark.parametrize("name", ["../team", "a/../team", "..%2fteam", "%2e%2e/team", "./team"])
@pytest.mark.parametrize("table", ["acl", "password"])
async def test_cve_2026_115365_a_policy_name_goes_nowhere(store, table, name) -> None:
    """CVE-2026-105820 as well: a name with dots hit the cache entry of another namespace."""
    from yarl import URL

    await store.ask("PUT", "sys/policies/acl/team", {"policy": "# team"})
    url = URL(f"{store.address}/v1/sys/policies/{table}/{name}", encoded=True)
    for method in ("GET", "PUT", "DELETE"):
        reply = await store.http.request(
            method, url, headers={"X-Vault-Token": store.root}, body=b'{"policy":"# x"}'
        )
        assert reply.status == 400
    assert (await store.ask("GET", "sys/policies/acl/team"))[1]["data"]["policy"] == "# team"


@pytest.mark.parametrize("names", [("one", "two"), ("two", "one")])
async def test_cve_2026_89322_all_who_ask_about_a_path_hear_the_same(store, names) -> None:
    """One evaluation of the policies for requests, another for questions; order mattered."""
    await store.ask("PUT", "secret/data/a/b", {"data": {"k": "v"}})
    texts = {
        "one": 'path "secret/data/*" { capabilities = ["read", "update"] }'
        ' path "secret/data/+/b" { capabilities = ["deny"] }',
        "two": 'path "secret/data/a/*" { capabilities = ["read"] }'
        ' path "secret/data/a/c" { capabilities = ["deny"] }',
    }
    for name, text in texts.items():
        await store.ask("PUT", f"sys/policies/acl/{name}", {"policy": text})
    _, made = await store.ask("POST", "auth/token/create", {"policies": list(names)})
    token = made["auth"]["client_token"]
    for path in ("secret/data/a/b", "secret/data/a/c", "secret/data/x/b", "secret/data/x/y"):
        enforced = (await store.ask("GET", path, token=token))[0] != 403
        _, said = await store.ask("POST", "sys/capabilities-self", {"path": path}, token=token)
        assert ("read" in said["data"]["capabilities"]) is enforced, path
        _, said = await store.ask("POST", "sys/capabilities", {"path": path, "token": token})
        assert ("read" in said["data"]["capabilities"]) is enforced, path
        asked = {"path": path, "operation": "read"}
        _, said = await store.ask("POST", "sys/explain-self", asked, token=token)
        assert said["data"]["allowed"] is enforced, path


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * 400 + b"1" + b"}" * 400,
        b'{"a":[' + b"1," * 300_000 + b"1]}",
        b'{"a":[' + b"{}," * 150_000 + b"{}]}",
        b'{"a":"' + b"x" * (9 * 1024 * 1024) + b'"}',
    ],
    ids=["deep", "many numbers", "many objects", "one long string"],
)
async def test_cve_2025_6203_structure_is_bounded_before_anything_is_parsed(store, body) -> None:
    """CVE-2025-59043 as well: a body within its bytes that parses into far more memory."""
    status, said = await store.ask("POST", "auth/token/create", body, token="")
    assert status == 413
    assert len(said["errors"][0]) < 200


async def test_cve_2025_6203_a_strangers_long_body_is_not_read(store) -> None:
    """One of 24 MB took half a second before its token was looked at."""
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    no_json = b"x" * (2**20 + 1)
    for path, token, expected in (
        ("secret/data/a", "hvs.unknown", 403), ("secret/data/a", "", 403), ("nowhere", "", 403),
        ("auth/approle/login", "", 413), ("sys/wrapping/lookup", "hvs.unknown", 413),
        ("secret/data/a", store.root, 400), ("auth/approle/login", store.root, 413),
    ):  # fmt: skip
        store.device.lines.clear()
        assert (await store.ask("POST", path, no_json, token=token))[0] == expected, path
        # As before, what needs a token is recorded, and what cannot be read is not.
        for each in store.records():
            assert each["request"]["data"] == {"values_left_out": True}
        assert bool(store.records()) is (expected == 403)
    # Up to there all is as it was.
    assert (await store.ask("POST", "secret/data/a", no_json[1:], token=""))[0] == 400


async def test_cve_2025_6203_nor_is_it_read_for_the_role_that_a_quota_counts(store) -> None:
    """Whose body it is was looked at after it was read for that."""
    await store.ask("POST", "sys/auth/jwt", {"type": "jwt"})
    quota = {"rate": 1, "interval": "1h", "path": "auth/jwt", "role": "dev"}
    assert (await store.ask("POST", "sys/quotas/rate-limit/dev", quota))[0] == 204
    no_json = b"x" * (2**20 + 1)
    named = b'{"role": "dev", "jwt": "%s"}' % no_json
    for path, body, token, expected in (
        ("auth/jwt/login", no_json, "", 413), ("auth/jwt/role/dev", no_json, "hvs.unknown", 403),
        # With a token, too: it would be a login that no quota counts.
        ("auth/jwt/login", named, store.root, 413), ("auth/jwt/login", no_json[1:], "", 400),
        ("auth/jwt/login", {"role": "dev"}, "", 400), ("auth/jwt/login", {"role": "dev"}, "", 429),
    ):  # fmt: skip
        assert (await store.ask("POST", path, body, token=token))[0] == expected, path


async def test_cve_2025_12044_a_rate_limit_counts_before_the_body_is_read(store) -> None:
    """What is over the limit is refused without a look into its body."""
    await store.ask("POST", "sys/quotas/rate-limit/all", {"rate": 1, "interval": "1h"})
    nested = b"[" * 5000 + b"]" * 5000
    said = [(await store.ask("PUT", "secret/data/a", nested, token=""))[0] for _ in range(3)]
    assert said[-1] == 429
    assert 429 in said
    assert (await store.ask("PUT", "secret/data/a", b"{", token=""))[0] == 429


async def test_cve_2023_6337_a_body_beyond_its_bound_is_refused_unread(store) -> None:
    """Announced, it is refused at once; streamed, as soon as it is too long."""
    for headers, sent in (
        (b"Content-Length: 99999999999\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n", b"300000\r\n" + b"x" * 0x300000),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", store.port)
        writer.write(b"PUT /v1/secret/data/a HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + sent)
        async with asyncio.timeout(60):
            assert (await reader.readline()).split()[1] == b"413"
        writer.close()
    assert store.records() == []


@pytest.mark.long
async def test_cve_2023_5954_what_is_remembered_is_bounded(store) -> None:
    """The cache of policies grew with every login."""
    live = store.handler._context.sessions
    for number in range(60):
        body = {"policies": [f"n{number}", "default"]}
        _, made = await store.ask("POST", "auth/token/create", body)
        await store.ask("GET", "auth/token/lookup-self", token=made["auth"]["client_token"])
    live.bound = 20
    for number in range(60, 120):
        body = {"policies": [f"n{number}", "default"]}
        _, made = await store.ask("POST", "auth/token/create", body)
        await store.ask("GET", "auth/token/lookup-self", token=made["auth"]["client_token"])
        assert max(live.remembered.values()) <= 80
    assert max(live.remembered.values()) <= 20
    assert sessions.SESSIONS == 20_000
    # Whole answers are kept as well: by their bytes, not by their number.
    large = {"data": {"k": "x" * 1_000_000}}
    await store.ask("PUT", "secret/data/large", large)
    for number in range(2 * PREPARED_BYTES // 1_000_000):
        assert (await store.ask("GET", f"secret/data/large?n={number}"))[0] == 200
        assert live.prepared_bytes <= PREPARED_BYTES


REFUSED = [
    ("PUT", "secret/data/a", {"data": CANARY}),
    ("PUT", "secret/data/a", {"data": {"k": CANARY}, "options": {"cas": CANARY}}),
    ("PUT", "secret/metadata/a", {"custom_metadata": [CANARY]}),
    ("PUT", "secret/config", {"delete_version_after": CANARY}),
    ("PUT", "sys/policies/password/p", {"policy": f'length = "{CANARY}"'}),
    ("POST", "auth/userpass/users/ada", {"password": {"p": CANARY}}),
    ("POST", "auth/userpass/login/ada", {"password": CANARY}),
    ("POST", "auth/approle/login", {"role_id": "x", "secret_id": CANARY}),
    ("POST", "auth/approle/role/r/secret-id", {"metadata": CANARY}),
    ("POST", "auth/token/lookup", {"token": CANARY}),
    ("POST", "auth/token/create", {"id": CANARY + ".x"}),
    ("PUT", "sys/wrapping/unwrap", {"token": CANARY}),
    ("PUT", "sys/unseal", {"key": CANARY}),
    ("PUT", "transit/encrypt/k", {"plaintext": CANARY}),
    ("PUT", "transit/decrypt/k", {"ciphertext": CANARY}),
    ("POST", "transit/keys/i/import", {"ciphertext": CANARY}),
    ("POST", "transit/restore", {"backup": CANARY}),
    ("PUT", "transit/verify/k", {"input": CANARY, "hmac": CANARY}),
    ("POST", "identity/entity", {"metadata": CANARY}),
    ("PUT", "secret/data/a", CANARY.encode()),
    ("PUT", "secret/data/a", b'{"data":{"k":"' + CANARY.encode() + b'"'),
    ("PUT", "cubbyhole/a", json.dumps([CANARY]).encode()),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), REFUSED)
async def test_cve_2025_4166_a_refusal_repeats_no_value(store, method, path, body, caplog) -> None:
    """CVE-2025-52893 as well: the sentence about a bad value held the value."""
    caplog.set_level(logging.DEBUG)
    for mount, kind in (("mounts/transit", "transit"), ("auth/userpass", "userpass")):
        await store.ask("POST", f"sys/{mount}", {"type": kind})
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    await store.ask("POST", "auth/approle/role/r", {})
    await store.ask("POST", "transit/keys/k", {})
    status, said = await store.ask(method, path, body)
    assert 400 <= status < 500, said
    assert CANARY not in json.dumps(said)
    assert CANARY not in caplog.text
    assert CANARY not in str(store.records())


async def test_cve_2025_62705_no_body_that_is_not_an_object_of_values_is_recorded(store) -> None:
    """Bytes and bare values went into the log as they were."""
    for body in (CANARY.encode(), f'"{CANARY}"'.encode(), json.dumps([CANARY]).encode()):
        assert (await store.ask("PUT", "secret/data/a", body))[0] == 400
    await store.ask("PUT", "secret/data/a", {"data": {CANARY: {"deep": [CANARY, {"x": CANARY}]}}})
    await store.ask("PATCH", "secret/data/a", {"data": {"k": CANARY}},
                    Content_Type="application/merge-patch+json")  # fmt: skip
    await store.ask("GET", f"secret/data/a?also={CANARY}")
    await store.ask("POST", "sys/tools/hash", {"input": CANARY})
    await store.ask("POST", "sys/wrapping/wrap", {"k": CANARY}, X_Vault_Wrap_TTL="60s")
    values = [line.replace(b'"' + CANARY.encode() + b'":', b"") for line in store.device.lines]
    assert CANARY.encode() not in b"".join(values)


async def test_cve_2024_8365_no_token_stands_in_a_record(store) -> None:
    """Tokens and accessors in answers of proxied requests were recorded as they were."""
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("POST", "auth/userpass/users/ada", {"password": "pw"})
    _, made = await store.ask("POST", "auth/userpass/login/ada", {"password": "pw"}, token="")
    token, accessor = made["auth"]["client_token"], made["auth"]["accessor"]
    _, wrapped = await store.ask("POST", "auth/token/create", {}, X_Vault_Wrap_TTL="60s")
    texts = [token, accessor, store.root, wrapped["wrap_info"]["token"]]
    for path, body in (
        ("auth/token/lookup", {"token": token}),
        ("auth/token/lookup-accessor", {"accessor": accessor}),
        ("auth/token/renew", {"token": token}),
        ("auth/token/renew-accessor", {"accessor": accessor}),
        ("sys/capabilities", {"token": token, "path": "x"}),
        ("sys/capabilities-accessor", {"accessor": accessor, "path": "x"}),
        ("sys/wrapping/lookup", {"token": texts[3]}),
        ("sys/wrapping/unwrap", {"token": texts[3]}),
    ):
        status, said = await store.ask("POST", path, body)
        assert status == 200, (path, said)
        if said.get("auth"):
            texts += [said["auth"]["client_token"], said["auth"]["accessor"]]
    # Older clients write it into the path, also of what is not there any more.
    assert (await store.ask("POST", f"auth/token/renew/{token}", {}))[0] == 200
    assert (await store.ask("POST", f"auth/token/revoke-orphan/{token}", {}))[0] == 404
    _, said = await store.ask("PUT", "sys/audit-hash/memory", {"input": token})
    (path,) = {each["request"]["path"] for each in store.records() if "/renew/" in str(each)}
    assert path == f"auth/token/renew/{said['data']['hash']}"
    await store.ask("POST", "auth/token/create", {"id": "chosen-by-hand", "ttl": "1h"})
    assert (await store.ask("POST", "auth/token/renew/chosen-by-hand", {}))[0] == 200
    texts.append("chosen-by-hand")
    await store.ask("GET", "auth/token/lookup-self", token=token)
    await store.ask("LIST", "auth/token/accessors")
    await store.ask("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    recorded = b"".join(store.device.lines).decode()
    # Who lists accessors is told them; that list is recorded as it is in Vault.
    listed = json.dumps(store.records()[-3]["response"]["data"])
    assert accessor in listed or "hmac-sha256" in listed
    recorded = recorded.replace(listed, "")
    for text in {each for each in texts if each and each != accessor}:
        assert text not in recorded


async def test_cve_2025_6203_what_strangers_send_is_recorded_in_little(store) -> None:
    """2 MB of short strings became 37 MB of records, and two seconds in which nobody was served."""
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    many = ["x"] * 5000
    for data in ({"a": many}, {"a": {"b": [many]}}, dict.fromkeys(map(str, range(5000)), "x")):
        for path, token in (
            ("auth/approle/login", ""), ("secret/data/a", ""), ("nowhere", "hvs.unknown"),
        ):  # fmt: skip
            store.device.lines.clear()
            assert (await store.ask("POST", path, data, token=token))[0] in (400, 403)
            records = store.records()
            assert records
            assert {str(each["request"]["data"]) for each in records} == {
                "{'values_left_out': True}"
            }
    few = {"role_id": "x", "secret_id": "y", "more": ["x"] * 900}
    await store.ask("POST", "auth/approle/login", few, token="")
    assert len(store.records()[-1]["request"]["data"]["more"]) == 900
    # Whoever has a token answers for what he sends.
    await store.ask("POST", "secret/data/a", {"data": {"a": many}})
    assert len(store.records()[-1]["request"]["data"]["data"]["a"]) == 5000
