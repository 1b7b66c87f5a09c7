"""What an endpoint does not take is left out and named, in the words that Vault's clients show."""

import json

import pytest
import requests
from tests.store.test_openapi import LEFT_OUT, MOUNTS, THERE

from strongroom.store.call import match
from strongroom.store.parameters import fields, set_aside

IGNORED = "Endpoint ignored these unrecognized parameters: "
REPLACED = (
    "Endpoint replaced the value of these parameters with the values captured from the endpoint's"
    " path: "
)


def test_names_are_set_aside() -> None:
    takes = fields(text="a b", number="c")
    assert set_aside(takes, {"a": 1, "c": 2}, {"path": "x"}) == ([], [])
    assert set_aside(takes, {"a": 1, "z": 2, "y": 3}, {}) == (["y", "z"], [])
    assert set_aside(takes, {"a": 1, "name": 2, "z": 3}, {"name": "n"}) == (["z"], ["name"])
    # A part of the path that is empty gives nothing.
    assert set_aside(takes, {"path": "x"}, {"path": ""}) == ([], [])


def test_a_pattern_may_go_on_after_what_is_greedy() -> None:
    pattern = "mounts/{path*}/tune"
    assert match(pattern, "mounts/a/b/tune") == {"path": "a/b"}
    assert match(pattern, "mounts/a/tune/tune") == {"path": "a/tune"}
    # A mount may be called so itself.
    assert match(pattern, "mounts/tune") is None
    assert match(pattern, "mounts/a/b") is None


async def test_a_reply_names_what_was_ignored(store) -> None:
    status, said = await store.ask(
        "POST", "secret/data/a", {"data": {"k": "v"}, "cas": 7, "b": None, "option": {"cas": 0}}
    )
    assert (status, said["data"]["version"]) == (200, 1)
    assert said["warnings"] == [IGNORED + "[b cas option]"]
    status, said = await store.ask("GET", "secret/data/a?version=1&_=99")
    assert (status, said["warnings"]) == (200, [IGNORED + "[_]"])
    # The same question again is answered from memory, with the same warning.
    assert (await store.ask("GET", "secret/data/a?version=1&_=99"))[1]["warnings"] == [
        IGNORED + "[_]"
    ]
    assert (await store.ask("GET", "secret/data/a?version=1"))[1]["warnings"] is None


async def test_a_misspelt_setting_does_not_pass_for_done(store) -> None:
    """Where there is nothing else to say, the warning is what is said; the rest is carried out."""
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    status, said = await store.ask(
        "POST", "auth/approle/role/app", {"token_polices": "ops", "token_ttl": "5m"}
    )
    assert (status, said["warnings"]) == (200, [IGNORED + "[token_polices]"])
    assert said["data"] is None
    _, role = await store.ask("GET", "auth/approle/role/app")
    assert (role["data"]["token_ttl"], role["data"]["token_policies"]) == (300, [])
    assert await store.ask("POST", "auth/approle/role/app", {"token_ttl": "5m"}) == (204, None)


async def test_what_the_path_says_counts(store) -> None:
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    status, said = await store.ask("POST", "transit/keys/mine", {"name": "yours"})
    assert (status, said["data"]["name"]) == (200, "mine")
    assert said["warnings"] == [REPLACED + "[name]"]
    body = {"name": "x", "nme": "y", "input": "aGk="}
    _, said = await store.ask("POST", "transit/hmac/mine", body)
    assert said["warnings"] == [IGNORED + "[nme]", REPLACED + "[name]"]
    # Nothing to say stays nothing: the path was only said twice.
    body = {"name": "x", "policy": "# none"}
    assert await store.ask("PUT", "sys/policies/acl/x", body) == (204, None)


async def test_tuning_and_enabling_take_different_things(store) -> None:
    body = {"type": "kv", "default_lease_ttl": "1h", "config": {"default_lease_ttl": "2h"}}
    status, said = await store.ask("POST", "sys/mounts/a/b", body)
    assert (status, said["warnings"]) == (200, [IGNORED + "[default_lease_ttl]"])
    assert (await store.ask("GET", "sys/mounts/a/b/tune"))[1]["data"]["default_lease_ttl"] == 7200
    body = {"default_lease_ttl": "1h"}
    assert await store.ask("POST", "sys/mounts/a/b/tune", body) == (204, None)
    assert (await store.ask("GET", "sys/mounts/a/b/tune"))[1]["data"]["default_lease_ttl"] == 3600
    assert (await store.ask("POST", "sys/mounts/c/tune", body))[0] == 400


async def test_free_forms_keep_every_name(store) -> None:
    body = {"path": "p", "list": "l", "anything": {"at": "all"}}
    await store.ask("POST", "sys/mounts/old", {"type": "kv"})
    for path in ("old/a", "cubbyhole/a"):
        assert await store.ask("POST", path, body) == (204, None)
        assert (await store.ask("GET", path))[1]["data"] == body
    _, said = await store.ask("POST", "sys/wrapping/wrap", body, X_Vault_Wrap_TTL="60")
    _, said = await store.ask("POST", "sys/wrapping/unwrap", {"token": said["wrap_info"]["token"]})
    assert (said["data"], said["warnings"]) == (body, None)


async def test_what_is_ignored_is_decided_about_and_recorded_all_the_same(store) -> None:
    policy = 'path "secret/data/*" { capabilities = ["update", "create"]\n'
    policy += 'denied_parameters = { "colour" = [] } }'
    token = await store.token_with(policy)
    body = {"data": {}, "colour": "red"}
    assert (await store.ask("POST", "secret/data/a", body, token=token))[0] == 403
    assert (await store.ask("POST", "secret/data/a", {"data": {}, "tint": "x"}))[0] == 200
    last = store.records()[-1]
    assert set(last["request"]["data"]) == {"data", "tint"}


async def test_hvac_shows_it(store) -> None:
    client = store.hvac()
    reply = await store.run(client.write_data, "secret/data/a", data={"data": {}, "colour": "red"})
    assert reply["warnings"] == [IGNORED + "[colour]"]
    reply = await store.run(
        requests.put,
        f"{store.address}/v1/sys/policies/acl/p",
        data='{"policy": "# x", "rule": ""}',
        headers={"X-Vault-Token": store.root},
    )
    assert reply.status_code == 200
    assert list(json.loads(reply.text)) == [
        "request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings",
        "auth", "mount_type",
    ]  # fmt: skip


@pytest.mark.long
async def test_every_endpoint_that_answers_names_a_parameter_it_does_not_know(store) -> None:
    for path, body in MOUNTS.items():
        assert (await store.ask("POST", path, body))[0] == 204
    for path, body in THERE.items():
        assert (await store.ask("POST", path, body))[0] in (200, 204), path
    _, document = await store.ask("GET", "sys/internal/specs/openapi")
    asked, silent = 0, []
    for path, item in document["paths"].items():
        target = path.lstrip("/")
        while "{" in target:
            head, _, rest = target.partition("{")
            target = head + "x" + rest.partition("}")[2]
        if path.startswith((*LEFT_OUT, "/old/", "/cubbyhole/", "/sys/wrapping/wrap")):
            continue
        for verb in ("get", "post"):
            if verb not in item:
                continue
            query = "?quirk=1" if verb == "get" else ""
            body = None if verb == "get" else {**THERE.get(target, {}), "quirk": 1}
            status, said = await store.ask(verb.upper(), target + query, body)
            # Some replies have no envelope, and refusals no warnings.
            if status in (200, 204) and (said is None or "request_id" in said):
                asked += 1
                if said is None or f"{IGNORED}[quirk]" not in (said["warnings"] or []):
                    silent.append((verb, path, said))
    assert silent == []
    assert asked > 60


WORDS = 'length=20 rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz" }'


async def _three_of_each(store) -> dict[str, list[str]]:
    """Whole lists, by their paths."""
    for kind in ("approle", "userpass"):
        await store.ask("POST", f"sys/auth/{kind}", {"type": kind})
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    for name, mount in (("c", "secret"), ("a", "transit"), ("b", "auth/approle")):
        for path, body in (
            (f"sys/policies/acl/{name}", {"policy": "# none"}),
            (f"sys/policies/password/{name}", {"policy": WORDS}),
            (f"sys/quotas/rate-limit/{name}", {"rate": 1000, "path": mount}),
            (f"auth/token/roles/{name}", {}),
            (f"auth/approle/role/{name}", {}),
            (f"auth/userpass/users/{name}", {"password": "p"}),
            (f"transit/keys/{name}", {}),
            (f"identity/entity/name/{name}", {}),
            (f"identity/group/name/{name}", {}),
            (f"identity/oidc/role/{name}", {"key": "default"}),
            (f"cubbyhole/{name}", {"k": "v"}),
            ("auth/token/create", {}),
        ):
            status, said = await store.ask("POST", path, body)
            assert status in (200, 204), (path, said)
    for _ in range(3):
        await store.ask("POST", "auth/approle/role/a/secret-id", {})
    paths = (
        "sys/policies/acl", "sys/policy", "sys/policies/password", "sys/quotas/rate-limit",
        "auth/token/roles", "auth/token/accessors", "auth/approle/role", "auth/userpass/users",
        "auth/approle/role/a/secret-id", "transit/keys", "identity/entity/id",
        "identity/entity/name", "identity/group/id", "identity/group/name", "identity/oidc/role",
        "cubbyhole", "sys/leases/lookup/auth/token/create", "sys/plugins/catalog/auth",
    )  # fmt: skip
    found = {}
    for path in paths:
        status, said = await store.ask("LIST", path)
        assert status == 200, (path, said)
        found[path] = said["data"]["keys"]
    return found


async def test_every_list_is_read_in_pages(store) -> None:
    """A client that asks for pages until one is short comes to an end, and has them all."""
    for path, whole in (await _three_of_each(store)).items():
        assert len(whole) >= 3, path
        names: list[str] = []
        while True:
            after = f"&after={names[-1]}" if names else ""
            status, said = await store.ask("GET", f"{path}?list=true&limit=2{after}")
            if status == 404:
                assert said == {"errors": []}
                break
            page = said["data"]["keys"]
            assert (said["warnings"], len(page) <= 2) == (None, True), path
            assert page == said["data"].get("policies", page)
            assert set(said["data"].get("key_info", {})) <= set(page)
            names += page
            if len(page) < 2:
                break
        assert names == sorted(whole), path


async def test_a_page_begins_after_a_name_that_need_not_be_there(store) -> None:
    await _three_of_each(store)

    async def page(query: str) -> tuple[int, object]:
        status, said = await store.ask("GET", f"transit/keys?list=true&{query}")
        return status, said["data"]["keys"] if status == 200 else said["errors"]

    assert await page("after=aa") == (200, ["b", "c"])
    assert await page("after=c") == (404, [])
    assert await page("limit=0") == (200, ["a", "b", "c"])
    assert await page("limit=9999999") == (200, ["a", "b", "c"])
    assert await page("limit=-1") == (400, ["limit must not be negative"])
    assert (await page("limit=x"))[0] == 400
    # Nothing is listed there, and nothing is: as without pages.
    assert (await store.ask("GET", "sys/policies/egp?list=true&limit=1"))[0] == (
        await store.ask("GET", "sys/policies/egp?list=true")
    )[0]
    # What is no list has no pages.
    _, said = await store.ask("GET", "transit/keys/a?limit=1")
    assert said["warnings"] == [IGNORED + "[limit]"]
