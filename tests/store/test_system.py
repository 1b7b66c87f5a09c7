"""`sys/`: mounts and their settings, policies, tools, explanations, the description of the API."""

import asyncio
import dataclasses
import socket
from types import SimpleNamespace

import pytest

from strongroom.model.clock import SimulatedClock, rfc3339
from strongroom.model.errors import Invalid
from strongroom.store.assembly import AUTH_METHODS, FIXED_TYPES, SECRETS_ENGINES
from strongroom.store.engine.contract import MountRow
from strongroom.store.password_policy import MOST_WORK, parse_password_policy
from strongroom.store.path_help import BACKENDS
from strongroom.store.presence import Presence
from strongroom.store.system.mounts import config_of, tuned
from strongroom.store.system.status import About
from strongroom.store.tokens import Bounds

# mounts


async def test_a_mount_keeps_the_settings_it_is_tuned_to(store) -> None:
    body = {"type": "kv", "description": "d", "options": {"version": "2"}}
    assert (await store.ask("POST", "sys/mounts/team/kv", body))[0] == 204
    tuned = {
        "default_lease_ttl": "1h",
        "max_lease_ttl": 7200,
        "description": "other",
        "listing_visibility": "unauth",
        "audit_non_hmac_request_keys": "a, b",
        "allowed_response_headers": ["X-One"],
    }
    assert (await store.ask("POST", "sys/mounts/team/kv/tune", tuned))[0] == 204
    _, said = await store.ask("GET", "sys/mounts/team/kv/tune")
    data = said["data"]
    assert (data["default_lease_ttl"], data["max_lease_ttl"]) == (3600, 7200)
    assert data["description"] == "other"
    assert data["audit_non_hmac_request_keys"] == ["a", "b"]
    assert (await store.ask("POST", "sys/mounts/team/kv/tune", {"max_lease_ttl": "system"}))[
        0
    ] == 204
    _, said = await store.ask("GET", "sys/mounts/team/kv/tune")
    assert said["data"]["max_lease_ttl"] == 2764800
    _, said = await store.ask("GET", "sys/mounts")
    assert said["team/kv/"] == said["data"]["team/kv/"]
    assert said["data"]["team/kv/"]["config"]["listing_visibility"] == "unauth"
    _, open_mounts = await store.ask("GET", "sys/internal/ui/mounts", token="")
    assert list(open_mounts["data"]["secret"]) == ["team/kv/"]
    assert "uuid" not in open_mounts["data"]["secret"]["team/kv/"]


@pytest.mark.parametrize(
    "bad",
    [
        {"default_lease_ttl": "2h", "max_lease_ttl": "1h"},
        {"default_lease_ttl": "769h"},
        {"listing_visibility": "everywhere"},
        {"passthrough_request_headers": [1]},
        {"max_lease_ttl": -1},
    ],
)
async def test_settings_that_cannot_be_are_refused_and_change_nothing(store, bad) -> None:
    before = (await store.ask("GET", "sys/mounts/secret/tune"))[1]["data"]
    assert (await store.ask("POST", "sys/mounts/secret/tune", bad))[0] == 400
    assert (await store.ask("GET", "sys/mounts/secret/tune"))[1]["data"] == before


async def test_paths_without_an_endpoint_tell_nothing_to_who_may_not_ask(store) -> None:
    status, said = await store.ask("GET", "sys/absent/heap")
    assert (status, said) == (404, {"errors": ["1 error occurred:\n\t* unsupported path\n\n"]})
    status, said = await store.ask("GET", "absent/x")
    assert (status, said["errors"]) == (
        404,
        ['no handler for route "absent/x". route entry not found.'],
    )
    token = await store.token_with('path "secret/*" { capabilities = ["read"] }')
    for path in ("sys/absent/heap", "absent/x"):
        assert (await store.ask("GET", path, token=token))[0] == 403
        assert (await store.ask("GET", path, token=""))[0] == 403


async def test_a_mount_sends_the_headers_it_is_tuned_to_alone(store) -> None:
    await store.ask("POST", "sys/mounts/iss", {"type": "issuer"})

    async def back() -> dict[str, str]:
        url = f"{store.address}/v1/iss/creds/app"
        reply = await store.http.request("GET", url, headers={"X-Vault-Token": store.root})
        return {name: value for name, value in reply.headers if name in ("X-Back", "X-Inner")}

    assert await back() == {}
    await store.ask("POST", "sys/mounts/iss/tune", {"allowed_response_headers": ["x-back"]})
    assert await back() == {"X-Back": "1"}


# policies


@pytest.mark.parametrize("rules", ['{"charset": %s}', '[{"charset": %s}]', '{"charset": [%s]}'])
async def test_a_password_policy_may_be_json_as_in_vault(store, rules: str) -> None:
    rule = rules % '{"charset": "abcdefghij", "min-chars": 1}'
    text = f'{{"length": 20, "rule": {rule}}}'
    assert (await store.ask("PUT", "sys/policies/password/j", {"policy": text}))[0] == 204
    _, said = await store.ask("GET", "sys/policies/password/j/generate")
    assert set(said["data"]["password"]) <= set("abcdefghij")
    for wrong in ('{"other": {}}', '"charset"', '{"charset": "abc"}', "[1]", '{"charset": {}}'):
        body = {"policy": f'{{"length": 20, "rule": {wrong}}}'}
        assert (await store.ask("PUT", "sys/policies/password/j", body))[0] == 400, wrong


async def test_a_password_policy_is_checked_kept_and_used(store) -> None:
    text = """length = 12
    rule "charset" { charset = "abc" min-chars = 2 }
    rule "charset" { charset = "0123456789" min-chars = 3 }"""
    path = "sys/policies/password/p"
    assert (await store.ask("PUT", path, {"policy": text}))[0] == 204
    assert (await store.ask("GET", path))[1]["data"]["policy"] == text
    assert (await store.ask("LIST", "sys/policies/password"))[1]["data"]["keys"] == ["p"]
    made = [(await store.ask("GET", f"{path}/generate"))[1]["data"]["password"] for _ in range(5)]
    assert len(set(made)) == 5
    for password in made:
        assert len(password) == 12
        assert sum(each in "abc" for each in password) >= 2
        assert sum(each.isdigit() for each in password) >= 3
    assert all(password not in str(store.records()) for password in made)
    assert (await store.ask("DELETE", path))[0] == 204
    assert (await store.ask("GET", path))[0] == 404
    assert (await store.ask("GET", f"{path}/generate"))[0] == 404


@pytest.mark.parametrize(
    "text",
    [
        "",
        "length = 3",
        "length = 20",
        'length = 8 rule "charset" { charset = "ab" }',
        'length = 8 rule "charset" { charset = "abcdefgh" min-chars = 9 }',
        'length = 20 rule "charset" { charset = "" }',
        'length = 20 rule "other" { charset = "abcdefgh" }',
        'length = 20 size = 3 rule "charset" { charset = "abcdefgh" }',
        'length = "x" rule "charset" { charset = "abcdefgh" }',
        "length = {",
    ],
)
def test_a_password_policy_that_cannot_be_is_refused(text) -> None:
    with pytest.raises(Invalid):
        parse_password_policy(text)


@pytest.mark.parametrize(("length", "rules"), [(100, 4), (1024, 2), (1024, 200)])
def test_the_search_for_a_password_has_an_end(length: int, rules: int) -> None:
    """A policy that asks for nearly every character held the whole process up for minutes."""
    least = length // rules
    rule = f'rule "charset" {{{{ charset = "{{}}x" min-chars = {least} }}}}'
    text = f"length = {length} " + " ".join(
        rule.format(each) for each in ("ab", "cd") * (rules // 2)
    )
    drawn = []

    def draw(number: int, _alphabet: str) -> str:
        drawn.append(number)
        return "a" * number

    with pytest.raises(Invalid, match="no password of this policy was found"):
        parse_password_policy(text).generate(draw)
    assert sum(drawn) * (1 + rules) <= MOST_WORK + length * (1 + rules)


async def test_a_patch_changes_a_policy_that_is_there(store) -> None:
    merge = {"Content_Type": "application/merge-patch+json"}
    body = {"policy": 'path "a" { capabilities = ["read"] }'}
    assert (await store.ask("PATCH", "sys/policies/acl/p", body, **merge))[0] == 404
    await store.ask("PUT", "sys/policies/acl/p", {"policy": "# nothing"})
    assert (await store.ask("PATCH", "sys/policies/acl/p", body, **merge))[0] == 204
    assert (await store.ask("GET", "sys/policies/acl/p"))[1]["data"]["policy"] == body["policy"]


async def test_what_the_policies_grant_together(store) -> None:
    token = await store.token_with(
        'path "a/b" { capabilities = ["read"] } path "c/*" { capabilities = ["list", "read"] }'
    )
    _, said = await store.ask("GET", "sys/internal/ui/resultant-acl", token=token)
    assert said["data"]["exact_paths"]["a/b"] == {"capabilities": ["read"]}
    assert said["data"]["glob_paths"]["c/"] == {"capabilities": ["list", "read"]}
    _, said = await store.ask("GET", "sys/internal/ui/resultant-acl")
    assert said["data"]["root"] is True


# explanations


POLICY = """
path "secret/data/app/*" { capabilities = ["read", "update"] denied_parameters = { "options" = [] } }
path "secret/data/app/private" { capabilities = ["deny"] }
path "sys/audit" { capabilities = ["read"] }
"""


@pytest.mark.parametrize(
    ("asked", "allowed", "rule", "reason"),
    [
        ({"path": "secret/data/app/x"}, True, "secret/data/app/*", "allowed"),
        ({"path": "/v1/secret/data/app/x"}, True, "secret/data/app/*", "allowed"),
        ({"path": "secret/data/app/private"}, False, "secret/data/app/private", "denies"),
        ({"path": "secret/data/app/x", "operation": "delete"}, False, "app/*", "lacks"),
        ({"path": "secret/data/app/x", "operation": "update"}, False, "app/*", "lacks"),
        ({"path": "secret/data/other"}, False, "", "no rule matches"),
        ({"path": "sys/audit"}, False, "sys/audit", "lacks"),
        ({"path": "absent/x"}, False, "", "no rule matches"),
        (
            {"path": "secret/data/app/there", "operation": "update", "data": {"options": {}}},
            False,
            "app/*",
            "'options' is denied",
        ),
    ],
)
async def test_an_explanation_cites_the_rule_and_what_failed(
    store, asked, allowed, rule, reason
) -> None:
    await store.ask("PUT", "secret/data/app/there", {"data": {"k": "v"}})
    token = await store.token_with(POLICY)
    status, said = await store.ask("POST", "sys/explain-self", asked, token=token)
    assert status == 200
    data = said["data"]
    assert data["allowed"] is allowed
    assert rule in data["rule"]
    assert reason in data["reason"]
    if rule:
        assert data["rules"][0]["governs"]
        assert rule in data["rules"][0]["path"]


@pytest.mark.parametrize(
    "path", ["secret/data/app/there", "secret/data/x", "sys/audit", "nowhere/x"]
)
@pytest.mark.parametrize("operation", ["read", "list", "update", "delete"])
async def test_what_is_explained_is_what_is_enforced(store, path, operation) -> None:
    await store.ask("PUT", "secret/data/app/there", {"data": {"k": "v"}})
    token = await store.token_with(POLICY)
    asked = {"path": path, "operation": operation}
    _, said = await store.ask("POST", "sys/explain-self", asked, token=token)
    verb = {"read": "GET", "list": "LIST", "update": "PUT", "delete": "DELETE"}[operation]
    body = {"data": {}} if verb == "PUT" else None
    status, _ = await store.ask(verb, path, body, token=token)
    assert said["data"]["allowed"] is (status != 403)


async def test_explaining_others_needs_a_policy_of_its_own(store) -> None:
    token = await store.token_with(POLICY)
    accessor = (await store.ask("GET", "auth/token/lookup-self", token=token))[1]["data"][
        "accessor"
    ]
    asked = {"path": "secret/data/app/x", "accessor": accessor}
    assert (await store.ask("POST", "sys/explain", asked, token=token))[0] == 403
    assert (await store.ask("POST", "sys/explain", asked))[1]["data"]["allowed"] is True
    asked = {"path": "secret/data/app/x", "policies": ["default"]}
    assert (await store.ask("POST", "sys/explain", asked))[1]["data"]["allowed"] is False
    asked = {"path": "secret/data/app/x", "accessor": "unknown"}
    assert (await store.ask("POST", "sys/explain", asked))[0] == 403


# tools, CORS, the description


async def test_tools(store) -> None:
    _, said = await store.ask("POST", "sys/tools/hash", {"input": "YWJj"})
    assert said["data"]["sum"].startswith("ba7816bf")
    for source, status in (("seal", 200), ("", 200), ("dice", 400), ("16", 400)):
        assert (await store.ask("POST", "sys/tools/random", {"source": source}))[0] == status
    _, said = await store.ask("POST", "sys/tools/random/16", {"format": "hex"})
    assert len(said["data"]["random_bytes"]) == 32


async def test_pages_of_other_origins_are_let_in_by_name_alone(store) -> None:
    ask = store.ask
    assert (await ask("OPTIONS", "secret/data/a", token="", Origin="https://a.test"))[0] == 405
    assert (await ask("GET", "sys/config/cors"))[1]["data"] == {"enabled": False}
    for value in ("X-\u2126", "X-A\rB", "X A"):
        body = {"allowed_origins": "https://a.test", "allowed_headers": [value]}
        assert (await ask("PUT", "sys/config/cors", body))[0] == 400
    body = {"allowed_origins": "https://a.test", "allowed_headers": "X-Mine"}
    assert (await ask("PUT", "sys/config/cors", body))[0] == 204
    url = f"{store.address}/v1/sys/health"
    reply = await store.http.request("OPTIONS", url, headers={"Origin": "https://a.test"})
    assert reply.status == 204
    said = {name.lower(): value for name, value in reply.headers}
    assert said["access-control-allow-origin"] == "https://a.test"
    assert "X-Mine" in said["access-control-allow-headers"]
    reply = await store.http.request("GET", url, headers={"Origin": "https://a.test"})
    assert ("Access-Control-Allow-Origin", "https://a.test") in reply.headers
    assert (await ask("GET", "sys/health", Origin="https://b.test"))[0] == 403
    assert (await ask("DELETE", "sys/config/cors"))[0] == 204
    assert (await ask("GET", "sys/health", Origin="https://b.test"))[0] == 200


async def test_the_root_namespace_is_accepted_and_said_back(store) -> None:
    url = f"{store.address}/v1/sys/mounts"
    headers = {"X-Vault-Token": store.root, "X-Vault-Namespace": "root/"}
    reply = await store.http.request("GET", url, headers=headers)
    assert reply.status == 200
    assert ("X-Vault-Namespace", "root") in reply.headers
    assert (await store.ask("GET", "sys/mounts", X_Vault_Namespace="team"))[0] == 404


FLAGS = ("local", "seal_wrap", "external_entropy_access")


@pytest.mark.parametrize("at", ["sys/mounts/m", "sys/auth/m"])
async def test_flags_of_a_mount_are_kept_and_shown(store, at: str) -> None:
    kind = "kv" if at == "sys/mounts/m" else "userpass"
    body = {"type": kind, **dict.fromkeys(FLAGS, True), "config": {"force_no_cache": "true"}}
    assert (await store.ask("POST", at, body))[0] == 204
    # What is tuned or moved stays what it was enabled as.
    assert (await store.ask("POST", f"{at}/tune", {"max_lease_ttl": "2h"}))[0] == 204
    prefix = "auth/" if kind == "userpass" else ""
    moved = {"from": f"{prefix}m", "to": f"{prefix}n"}
    assert (await store.ask("POST", "sys/remount", moved))[0] == 200
    _, said = await store.ask("GET", f"{at[:-1]}n")
    assert [said["data"][name] for name in FLAGS] == [True] * 3
    assert said["data"]["config"]["force_no_cache"] is True
    plain = {"type": kind, "local": False, "config": {"force_no_cache": False}}
    assert (await store.ask("POST", at, plain))[0] == 204
    _, said = await store.ask("GET", at)
    assert [said["data"][name] for name in FLAGS] == [False] * 3
    assert said["data"]["config"]["force_no_cache"] is False
    wrong = {"type": kind, "config": {"force_no_cache": "maybe"}}
    assert (await store.ask("POST", f"{at}/x", wrong))[0] == 400


async def test_a_setting_of_a_new_mount_that_is_unknown_is_named(store) -> None:
    config = {"max_lease_tll": "1h", "allowed_managed_keys": ["k"], "plugin_version": ""}
    status, said = await store.ask("POST", "sys/mounts/m", {"type": "kv", "config": config})
    assert status == 200
    assert said["warnings"][0].endswith("ignored: [allowed_managed_keys max_lease_tll]")
    assert (await store.ask("GET", "sys/mounts/m"))[0] == 200


async def test_an_auth_method_is_read_and_tuned_among_the_mounts_too(store) -> None:
    """Vault's Go client, and with it its command line and Terraform, tunes auth methods there."""
    await store.ask("POST", "sys/auth/team/up", {"type": "userpass"})
    _, said = await store.ask("GET", "sys/mounts/auth/team/up")
    assert (said["data"]["type"], said["data"]["config"]["token_type"]) == (
        "userpass", "default-service",
    )  # fmt: skip
    tuned = {"default_lease_ttl": "20m", "user_lockout_config": {"lockout_threshold": "7"}}
    path = "sys/mounts/auth/team/up/tune"
    assert (await store.ask("POST", path, tuned))[0] == 204
    for shown in (path, "sys/auth/team/up/tune"):
        data = (await store.ask("GET", shown))[1]["data"]
        assert (data["default_lease_ttl"], data["user_lockout_threshold"]) == (1200, 7)
    assert "token_type" not in (await store.ask("GET", "sys/mounts/secret"))[1]["data"]["config"]
    status, said = await store.ask("POST", "sys/mounts/secret/tune", {"token_type": "service"})
    assert (status, "can only be modified on auth mounts" in said["errors"][0]) == (400, True)
    for gone in ("sys/mounts/auth/none", "sys/mounts/auth/secret", "sys/auth/auth/team/up"):
        assert (await store.ask("GET", gone))[0] == 400
    assert (await store.ask("POST", "sys/mounts/auth/team/up", {"type": "kv"}))[0] == 400
    assert (await store.ask("DELETE", "sys/mounts/auth/team/up"))[0] == 400
    assert "team/up/" in (await store.ask("GET", "sys/auth"))[1]["data"]


async def test_a_body_of_null_is_a_body_without_parameters(store) -> None:
    """Vault's Go client sends it for a write that has no data."""
    status, said = await store.ask("PUT", "auth/token/create", b"null")
    assert (status, said["warnings"]) == (200, None)
    assert (await store.ask("PUT", "auth/token/create", b"[]"))[0] == 400


async def test_capabilities_are_said_in_order(store) -> None:
    rules = 'path "secret/*" { capabilities = ["update", "read", "list", "create", "sudo"] }'
    token = await store.token_with(rules)
    _, said = await store.ask("POST", "sys/capabilities-self", {"path": "secret/a"}, token=token)
    assert said["data"]["capabilities"] == ["create", "list", "read", "sudo", "update"]


async def test_a_path_is_explained_to_every_token(store) -> None:
    """`vault path-help`: what a path is for, not what lies there."""
    token = await store.token_with('path "nothing" { capabilities = ["read"] }')
    for method, path in (
        ("GET", "sys/mounts/secret?help=1"),
        ("GET", "sys/mounts/absent?help=true"),
        ("HELP", "sys/mounts/secret"),
    ):
        status, said = await store.ask(method, path, token=token)
        assert (status, set(said)) == (200, {"help", "see_also", "openapi"})
        assert "Matching Route: sys/mounts/{path*}" in said["help"]
        assert isinstance(said["see_also"], list)
        assert "read" in said["help"]
    await store.ask("PUT", "secret/data/a", {"data": {"k": "marked"}})
    _, said = await store.ask("GET", "secret/data/a?help=1", token=token)
    assert "marked" not in str(said)
    assert (await store.ask("GET", "secret/data/a?help=0", token=token))[0] == 403
    assert (await store.ask("GET", "sys/mounts/secret?help=1", token=""))[0] == 403
    assert (await store.ask("GET", "sys/absent?help=1", token=token))[0] == 403
    assert store.records()[-1]["request"]["operation"] == "help"
    assert "    options (map)\n" in said_of_data(await store.ask("GET", "secret/data/a?help=1"))


def said_of_data(reply) -> str:
    """The text of a help that was given."""
    status, said = reply
    assert status == 200
    return said["help"]


async def test_a_mount_is_explained_with_its_paths(store) -> None:
    await store.ask("POST", "sys/auth/people", {"type": "userpass"})
    await store.ask("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
    token = await store.token_with('path "nothing" { capabilities = ["read"] }')
    for path, sentence, line in (
        (
            "secret",
            "(KV version 2)",
            "    data/{path*}\n        create, delete, patch, read, update\n",
        ),
        ("secret/", "(KV version 2)", "    metadata/{path*}\n"),
        ("old", "(KV version 1)", "    {path*}\n"),
        ("cubbyhole", "end with it", "    {path*}\n"),
        ("sys", "own settings", "    mounts/{path*}\n"),
        ("auth/token", "revoke them", "    lookup-self\n"),
        ("auth/people", "a password", "    login/{username}\n        update; no token\n"),
    ):
        said = said_of_data(await store.ask("GET", f"{path}?help=1", token=token))
        assert said.startswith("## DESCRIPTION\n\n")
        assert sentence in said
        assert line in said
    # What is refused with a reason is no path to look up.
    assert "    raw\n" not in said_of_data(await store.ask("GET", "sys?help=1"))
    assert (await store.ask("GET", "absent?help=1"))[0] == 404
    assert (await store.ask("GET", "auth?help=1"))[0] == 404
    assert (await store.ask("GET", "secret?help=1", token=""))[0] == 403
    assert (await store.ask("GET", "secret"))[0] == 404


async def test_a_node_is_listed_once_it_is_open(store) -> None:
    """One that started sealed was not, for half a minute."""
    seal, clock = SimpleNamespace(sealed=True), SimulatedClock(store.clock.now())
    presence = Presence(store.engine, seal, clock, About(), "late")  # type: ignore[arg-type]
    running = asyncio.create_task(presence.run())
    await clock.advance(5.0)
    assert await store.read(lambda view: view.servers()) == []
    seal.sealed = False
    await clock.advance(1.0)
    async with asyncio.timeout(60):
        while not (found := await store.read(lambda view: view.servers())):
            await asyncio.sleep(0.01)
    assert [each.host_name for each in found] == ["late"]
    running.cancel()


async def test_every_node_is_active(store) -> None:
    """What clients ask of a cluster whose nodes take turns."""
    status, said = await store.ask("GET", "sys/ha-status")
    (node,) = said["nodes"]
    assert (status, said["data"]["nodes"]) == (200, [node])
    assert (node["active_node"], node["hostname"]) == (True, socket.gethostname())
    assert "every open node is active" in said["warnings"][0]
    # Nodes on the same database, one of them long unheard of.
    other = About("0.9", "1.16.0", address="https://b:8200", cluster_address="https://b:8201")
    gone = dataclasses.replace(other, address="https://c:8200")
    for about, host, ago in ((other, "b", 60), (gone, "c", 121)):
        clock = SimulatedClock(store.clock.now() - ago)
        await Presence(store.engine, store.seal, clock, about, host).beat()
    # It says so of itself as well, and is listed once.
    mine = Presence(store.engine, store.seal, store.clock, About(), socket.gethostname())
    await mine.beat()
    _, said = await store.ask("GET", "sys/ha-status")
    assert [each["hostname"] for each in said["nodes"]] == [socket.gethostname(), "b"]
    assert said["nodes"][0] == node
    assert said["nodes"][1] == {
        "hostname": "b", "api_address": "https://b:8200", "cluster_address": "https://b:8201",
        "active_node": True, "last_echo": rfc3339(store.clock.now() - 60), "version": "1.16.0",
        "upgrade_version": "1.16.0", "redundancy_zone": "", "strongroom_version": "0.9",
    }  # fmt: skip
    store.clock.step_wall(3601 - 60)
    await mine.beat()
    assert len(await store.read(lambda view: view.servers())) == 1
    for verb in ("PUT", "POST"):
        assert await store.ask(verb, "sys/step-down") == (204, None)
    assert (await store.ask("GET", "sys/leader"))[1]["is_self"] is True
    update = 'path "sys/step-down" { capabilities = ["update"] }'
    token = await store.token_with(update)
    assert (await store.ask("PUT", "sys/step-down", token=token))[0] == 403
    token = await store.token_with(update.replace('"update"', '"update", "sudo"'))
    assert (await store.ask("PUT", "sys/step-down", token=token))[0] == 204
    assert (await store.ask("GET", "sys/ha-status", token=token))[0] == 403


def test_every_backend_says_what_it_is_for() -> None:
    engines = {f"kv{version}" for version in (1, 2)} | SECRETS_ENGINES - {"kv"}
    assert set(BACKENDS) == engines | AUTH_METHODS | FIXED_TYPES


async def test_what_a_token_that_has_ended_may_is_not_said(store) -> None:
    """Its row is there until the next sweep."""
    _, made = await store.ask("POST", "auth/token/create", {"policies": ["default"], "ttl": "1m"})
    body = {"accessor": made["auth"]["accessor"], "paths": ["cubbyhole/x"]}
    assert (await store.ask("POST", "sys/capabilities-accessor", body))[0] == 200
    store.clock.step_wall(61)
    said = await store.ask("POST", "sys/capabilities-accessor", body)
    assert said == (400, {"errors": ["invalid accessor"]})


def test_a_mounts_times_are_held_against_the_servers_own() -> None:
    """They were held against 768 hours, whatever the configuration says."""
    hour = 3600
    assert config_of({"default_lease_ttl": "1000h"}, Bounds(hour, 2000 * hour)) == {
        "default_lease_ttl": 1000 * hour
    }
    with pytest.raises(Invalid, match="backend max lease TTL of 3600 would be less"):
        config_of({"default_lease_ttl": "2h"}, Bounds(hour, hour))
    # What was right once, under a longer one, keeps nobody from changing something else.
    before = {"default_lease_ttl": 2 * hour}
    assert config_of({"listing_visibility": "unauth"}, Bounds(hour, hour), before) == {
        "listing_visibility": "unauth"
    }
    with pytest.raises(Invalid, match="backend max lease TTL of 3600 would be less"):
        config_of({"max_lease_ttl": "1h"}, Bounds(hour, hour), before)
    mount = MountRow("secret", "kv/", "kv", "u", "a")
    shown = tuned(mount, Bounds(hour, 2 * hour))
    assert (shown["default_lease_ttl"], shown["max_lease_ttl"]) == (hour, 2 * hour)


async def test_a_request_asks_for_the_capabilities_of_so_many_paths(store) -> None:
    """Every token may ask, and a quarter of a million paths held the process up for seconds."""
    token = await store.token_with('path "secret/data/7" { capabilities = ["read"] }')
    for number, expected in ((5000, 200), (5001, 400)):
        body = {"paths": [f"secret/data/{each}" for each in range(number)]}
        status, said = await store.ask("POST", "sys/capabilities-self", body, token=token)
        assert status == expected
        if status == 200:
            assert said["data"]["secret/data/7"] == ["read"]
            assert len(said["data"]) == number


async def test_a_mount_is_never_made_or_taken_away_without_its_name(store) -> None:
    """One at `/` was made; and to disable an auth method there ended every token there was."""
    for kind, type_ in (("mounts", "kv"), ("auth", "approle")):
        before = (await store.ask("GET", f"sys/{kind}"))[1]["data"]
        assert (await store.ask("POST", f"sys/{kind}", {"type": type_}))[0] == 405
        assert (await store.ask("DELETE", f"sys/{kind}"))[0] == 405
        assert (await store.ask("GET", f"sys/{kind}"))[1]["data"] == before


async def test_a_mount_without_a_name_that_is_there_is_taken_away_alone(store) -> None:
    """As an earlier version made it."""
    made = MountRow("auth", "/", "approle", uuid="nameless", accessor="auth_approle_1")
    await store.engine.transact(lambda transaction: transaction.put_mount(made))
    assert (await store.ask("DELETE", "sys/auth"))[0] == 204
    status, said = await store.ask("GET", "sys/auth")
    assert status == 200
    assert set(said["data"]) == {"token/"}


async def test_a_monitor_learns_that_nothing_is_replicated(store) -> None:
    status, said = await store.ask("GET", "sys/replication/status", token="")
    assert (status, said["data"]) == (200, {"mode": "disabled"})
    assert (await store.ask("GET", "sys/replication/dr/status"))[0] == 404


async def test_a_page_learns_the_path_of_a_mount_among_those_of_its_kind(store) -> None:
    assert (await store.ask("POST", "sys/auth/team/role", {"type": "approle"}))[0] == 204
    for asked, path in (("auth/team/role/login", "team/role/"), ("secret/a", "secret/")):
        _, said = await store.ask("GET", f"sys/internal/ui/mounts/{asked}")
        assert said["data"]["path"] == path
