"""What callers with narrow rights, or none, try to reach, to learn or to wear out."""

import time

import pytest

from strongroom.store.call import Call, Endpoint, Result, match


async def test_explain_self_does_not_tell_what_secrets_are_there(store) -> None:
    """A token without rights asked why it may not write, and heard whether there is a secret."""
    await store.ask("PUT", "secret/data/other/known", {"data": {"k": "v"}})
    nobody = await store.token_with('path "secret/data/mine" { capabilities = ["read"] }')
    said = []
    for name in ("known", "other-one"):
        asked = {"path": f"secret/data/other/{name}", "operation": "update"}
        status, reply = await store.ask("POST", "sys/explain-self", asked, token=nobody)
        assert status == 200
        assert reply["data"]["allowed"] is False
        assert reply["data"]["missing"].startswith("create, or update if it is there, on")
        said.append(str(reply["data"]).replace(f"other/{name}", ""))
    assert said[0] == said[1]


async def test_explain_tells_a_writer_which_of_the_two_it_is(store) -> None:
    await store.ask("PUT", "secret/data/there", {"data": {"k": "v"}})
    updater = await store.token_with('path "secret/data/*" { capabilities = ["update"] }')
    for name, operation, allowed in (("there", "update", True), ("none", "create", False)):
        asked = {"path": f"secret/data/{name}", "operation": "update"}
        _, reply = await store.ask("POST", "sys/explain-self", asked, token=updater)
        assert (reply["data"]["operation"], reply["data"]["allowed"]) == (operation, allowed)


@pytest.mark.parametrize("kind", ["entity", "group"])
async def test_an_id_beside_a_name_leads_to_no_other_row(store, kind) -> None:
    """Who may write entities or groups of some names wrote, read and removed any of them."""
    _, made = await store.ask("POST", f"identity/{kind}", {"name": "admins", "policies": "admin"})
    other = made["data"]["id"]
    mine = await store.token_with(
        f'path "identity/{kind}/name/team-*" {{'
        ' capabilities = ["create", "update", "read", "delete"] }'
    )
    path = f"identity/{kind}/name/team-a"
    status, said = await store.ask("POST", path, {"id": other, "policies": ["x"]}, token=mine)
    assert status == 200
    assert "[id]" in said["warnings"][0]
    assert (await store.ask("DELETE", path + f"?id={other}", token=mine))[0] in (200, 204)
    assert (await store.ask("GET", path + f"?id={other}", token=mine))[0] == 404
    _, shown = await store.ask("GET", f"identity/{kind}/id/{other}")
    assert (shown["data"]["name"], shown["data"]["policies"]) == ("admins", ["admin"])


async def entity_of(store, role: str, role_id: str) -> str:
    _, made = await store.ask("POST", f"auth/approle/role/{role}/secret-id", {})
    body = {"role_id": role_id, "secret_id": made["data"]["secret_id"]}
    status, said = await store.ask("POST", "auth/approle/login", body, token="")
    assert status == 200
    return said["auth"]["entity_id"]


async def test_a_role_id_in_another_case_is_not_another_roles_entity(store) -> None:
    """Who may write one role took the id of another in capitals, and was its entity."""
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    for name, role_id in (("one", "Payments"), ("two", "billing")):
        path = f"auth/approle/role/{name}"
        assert (await store.ask("PUT", path, {"role_id": role_id}))[0] == 204
    for taken in ("payments", "PAYMENTS", "Payments", "Billing", "billing"):
        for path in ("auth/approle/role/mine", "auth/approle/role/mine/role-id"):
            status, said = await store.ask("PUT", path, {"role_id": taken})
            if path.endswith("mine"):
                assert (status, said["errors"]) == (400, ["role_id already in use by another role"])
    # Its own in another case it may have, and what it gave up another may have.
    assert (await store.ask("PUT", "auth/approle/role/one", {"role_id": "PAYMENTS"}))[0] == 204
    before = await entity_of(store, "one", "PAYMENTS")
    assert (await store.ask("PUT", "auth/approle/role/one", {"role_id": "else"}))[0] == 204
    assert await entity_of(store, "one", "else") != before
    assert (await store.ask("PUT", "auth/approle/role/mine", {"role_id": "payments"}))[0] == 204
    await store.ask("DELETE", "auth/approle/role/mine")
    assert (await store.ask("PUT", "auth/approle/role/mine", {"role_id": "Payments"}))[0] == 204


async def test_a_role_id_is_free_again_once_the_release_before_has_removed_its_role(store) -> None:
    """That knows one of the two places of an id: the other refused it to everybody for good."""
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    path = "auth/approle/role/app"
    assert (await store.ask("PUT", path, {"role_id": "Fixed"}))[0] == 204
    mounts = await store.read(lambda view: view.mounts())
    mount = next(each.uuid for each in mounts if each.type == "approle")
    (index,) = await store.read(lambda view: view.document_names(mount, "role-id"))

    def removed_by_the_release_before(transaction) -> None:
        transaction.delete_document(mount, "role-id", index)
        transaction.delete_document(mount, "role", "app")

    await store.engine.transact(removed_by_the_release_before)
    for name in ("other", "app"):
        path = f"auth/approle/role/{name}"
        assert (await store.ask("PUT", path, {"role_id": "fixed"}))[0] == 204
        await store.ask("DELETE", path)
    assert (await store.ask("PUT", "auth/approle/role/app", {"role_id": "Fixed"}))[0] == 204
    assert (await store.ask("PUT", "auth/approle/role/other", {"role_id": "fixed"}))[0] == 400


async def test_long_paths_in_a_body_are_refused_and_not_remembered(store) -> None:
    """Each path that was asked about was kept, megabytes long, thousands of them for a token."""
    nobody = await store.token_with('path "secret/data/+/x" { capabilities = ["read"] }')
    long = "secret/data" + "/a" * 100_000
    for path, body in (
        ("sys/capabilities-self", {"paths": ["short", long]}),
        ("sys/explain-self", {"path": long}),
        ("sys/consumers/ack", {"path": long, "version": 1}),
    ):
        status, said = await store.ask("POST", path, body, token=nobody)
        assert status == 400
        assert "too long" in said["errors"][0]


async def test_an_acknowledgement_names_a_path_as_it_is_decided(store) -> None:
    reader = await store.token_with('path "secret/data/a/*" { capabilities = ["read"] }')
    body = {"path": "secret/data/a/../b", "version": 1}
    assert (await store.ask("POST", "sys/consumers/ack", body, token=reader))[0] == 400
    body = {"path": "/secret//data/a/b", "version": 1}
    assert (await store.ask("POST", "sys/consumers/ack", body, token=reader))[0] == 204
    _, said = await store.ask("GET", "sys/consumers?path=secret/data/a/b")
    assert len(said["data"]["consumers"]) == 1


async def test_an_acknowledgement_takes_no_other_batch_tokens_away(store) -> None:
    """They have no accessor, so all had one row: what one still used was given up by the next."""
    rule = 'path "secret/data/a" { capabilities = ["read"] }'
    for version in (1, 2):
        token = await store.token_with(rule, type="batch", ttl="1h")
        asked = {"path": "secret/data/a", "version": version}
        for _ in range(2):
            assert (await store.ask("POST", "sys/consumers/ack", asked, token=token))[0] == 204
    _, said = await store.ask("GET", "sys/consumers?path=secret/data/a")
    shown = [(each["kind"], each["version"], each["lapsed"]) for each in said["data"]["consumers"]]
    assert sorted(shown) == [("batch", 1, False), ("batch", 2, False)]
    assert token not in str(said)


def test_a_path_is_cut_at_its_slashes_only_for_patterns_that_it_begins_like() -> None:
    """A stranger's path of 30,000 segments was cut for each of the system's patterns."""
    long, patterns = "a/" * 30_000, [f"one/{{name}}/number-{each}" for each in range(1500)]
    before = time.process_time()
    assert not any(match(each, long) for each in patterns)
    assert time.process_time() - before < 0.2
    assert match("one/{name}/two", "one/x/two") == {"name": "x"}
    assert match("one/{name*}", "one") == {"name": ""}


async def test_no_token_stands_in_the_sentence_of_a_refusal(store) -> None:
    """One that was written into a path that leads nowhere was hidden there, and said beside it."""
    token = await store.token_with('path "secret/data/x" { capabilities = ["read"] }')
    for path in (f"auth/tokens/renew/{token}", f"{token}/x", token):
        status, said = await store.ask("GET", path)
        assert (status, token in said["errors"][0]) == (404, False)
    config = {"enable_rate_limit_audit_logging": True, "rate_limit_exempt_paths": ["auth/token/x"]}
    assert (await store.ask("POST", "sys/quotas/config", config))[0] == 204
    body = {"path": "auth/token/", "rate": 1}
    assert (await store.ask("POST", "sys/quotas/rate-limit/tokens", body))[0] == 204
    answers = {(await store.ask("POST", f"auth/token/renew/{token}", {}))[0] for _ in range(3)}
    assert 429 in answers
    assert token not in b"".join(store.device.lines).decode()


@pytest.mark.parametrize("metadata", ["[" * 100_000, '{"a": "\\ud800"}', '{"a": 1}'])
async def test_metadata_in_text_that_is_no_map_is_refused_and_no_bug(store, metadata) -> None:
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    await store.ask("PUT", "auth/approle/role/app", {"token_policies": "default"})
    path = "auth/approle/role/app/secret-id"
    assert (await store.ask("POST", path, {"metadata": metadata}))[0] == 400
    assert (await store.ask("POST", path, {"metadata": '{"a": "b"}'}))[0] == 200


async def test_strangers_make_no_wrapping_tokens(store) -> None:
    """Each was a token for a month, until nobody could log in: the default quota counts them."""
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("POST", "auth/userpass/users/ada", {"password": "pw"})
    await store.ask("PUT", "sys/quotas/lease-count/default", {"path": "", "max_leases": 9})
    for _ in range(12):
        path = "sys/internal/ui/mounts"
        status, said = await store.ask("GET", path, token="", X_Vault_Wrap_TTL="700h")
        assert (status, said["wrap_info"], set(said["data"])) == (200, None, {"secret", "auth"})
    path, body = "auth/userpass/login/ada", {"password": "pw"}
    status, said = await store.ask("POST", path, body, token="", X_Vault_Wrap_TTL="60s")
    assert status == 200
    assert said["wrap_info"]["token"]
    status, said = await store.ask("GET", "sys/internal/ui/mounts", X_Vault_Wrap_TTL="60s")
    assert said["wrap_info"]["token"]


class Looked:
    """An engine that notes for which paths it is asked whether something is there."""

    def __init__(self) -> None:
        self.at: list[str] = []

    @property
    def endpoints(self) -> list[Endpoint]:
        return [Endpoint("{path*}", {"update": lambda call: Result({"done": call.operation})})]

    def exists(self, call: Call) -> bool:
        self.at.append(call.rest)
        return call.rest == "there"


async def test_how_long_a_refusal_takes_does_not_tell_what_is_there(serve_with) -> None:
    """Even without a token a write was refused sooner where there was a secret: a fifth."""
    looked = Looked()
    async with serve_with(looked=lambda context, leases: looked) as store:
        await store.ask("POST", "sys/mounts/looked", {"type": "looked"})
        reader = await store.token_with('path "looked/*" { capabilities = ["read", "delete"] }')
        for token in (reader, "", "hvs.unknown"):
            for name in ("there", "none"):
                assert (await store.ask("POST", f"looked/{name}", {}, token=token))[0] == 403
        assert looked.at == []
        for capability, statuses in (("create", (403, 200)), ("update", (200, 403))):
            rule = f'path "looked/*" {{ capabilities = ["{capability}"] }}'
            writer = await store.token_with(rule)
            paths = ("looked/there", "looked/none")
            found = [(await store.ask("POST", each, {}, token=writer))[0] for each in paths]
            assert tuple(found) == statuses
        _, said = await store.ask("POST", "looked/none", {})
        assert said["data"]["done"] == "create"


async def test_an_id_beside_a_lease_in_the_path_leads_to_no_other_lease(store) -> None:
    """Who may revoke the leases of one path revoked any token, and renewed any lease."""
    await store.ask("POST", "sys/mounts/iss", {"type": "issuer"})
    _, made = await store.ask("GET", "iss/creds/other?ttl=1h")
    lease = made["lease_id"]
    mine = await store.token_with(
        'path "sys/leases/revoke/iss/creds/mine/*" { capabilities = ["update"] }\n'
        'path "sys/leases/renew/iss/creds/mine/*" { capabilities = ["update"] }'
    )
    for way in ("renew", "revoke"):
        for name in ("lease_id", "url_lease_id"):
            path = f"sys/leases/{way}/iss/creds/mine/x"
            await store.ask("PUT", path, {name: lease, "increment": "9h"}, token=mine)
    status, said = await store.ask("PUT", "sys/leases/lookup", {"lease_id": lease})
    assert (status, said["data"]["ttl"]) == (200, 3600)


DENIED_IN_PART = """\
path "secret/*" { capabilities = ["create", "read", "update", "list", "scan"] }
path "secret/data/hr/*" { capabilities = ["deny"] }
path "secret/metadata/hr/*" { capabilities = ["deny"] }
path "secret/metadata/open/one" { capabilities = ["deny"] }
path "secret/detailed-metadata/it/*" { capabilities = ["deny"] }
"""


async def test_a_denial_of_a_secret_denies_what_tells_the_same_beside_it(store) -> None:
    """Vault's policies do not know these paths: a wildcard over the mount gave them away."""
    for path in ("hr/pay/one", "hr/one", "it/one", "open/one", "open/two"):
        for value in ("a", "b"):
            await store.ask("PUT", f"secret/data/{path}", {"data": {"k": value}})
    mine = await store.token_with(DENIED_IN_PART)
    for verb, path in (
        ("LIST", "detailed-metadata/hr"),
        ("LIST", "detailed-metadata/hr/pay"),
        ("GET", "diff/hr/one"),
        ("SCAN", "metadata/hr"),
    ):
        assert (await store.ask(verb, f"secret/{path}", token=mine))[0] == 403, path
    _, said = await store.ask("LIST", "secret/detailed-metadata/open", token=mine)
    assert said["data"]["keys"] == ["one", "two"]
    assert list(said["data"]["key_info"]) == ["two"]
    for after in ("", "?after=hr/a", "?after=hr/pay/a"):
        _, said = await store.ask("SCAN", f"secret/metadata{after}", token=mine)
        told = said.get("data", {}).get("keys", [])
        assert set(told) <= {"it/one", "open/one", "open/two"}
        assert after or len(told) == 3
    _, said = await store.ask("SCAN", "secret/detailed-metadata", token=mine)
    assert sorted(said["data"]["keys"]) == ["open/one", "open/two"]
    assert list(said["data"]["key_info"]) == ["open/two"]
    assert (await store.ask("SCAN", "secret/detailed-metadata/hr", token=mine))[0] == 404
    assert (await store.ask("GET", "secret/diff/open/two", token=mine))[0] == 200


async def test_the_pattern_of_a_subscription_is_short(store) -> None:
    """Each `[` is looked through to the end: the next event took minutes, for everybody."""
    mine = await store.token_with("")
    for pattern, code in (("[" * 256, "websocket"), ("[" * 257, "at most 256 characters")):
        status, said = await store.ask("GET", f"sys/events/subscribe/{pattern}", token=mine)
        assert status == 400
        assert code in said["errors"][0]


async def test_a_token_speaks_for_no_pod_that_its_maker_wrote_into_it(store) -> None:
    """Its acknowledgement replaced that of the pod, and a rotation ended what the pod still used."""
    maker = await store.token_with(
        'path "secret/data/a" { capabilities = ["read"] }\n'
        'path "auth/token/create" { capabilities = ["update"] }'
    )
    meta = {"pod_uid": "of-another", "pod_name": "api-1", "service_account_namespace": "prod"}
    _, made = await store.ask("POST", "auth/token/create", {"meta": meta}, token=maker)
    body = {"path": "secret/data/a", "version": 9}
    child = made["auth"]["client_token"]
    assert (await store.ask("PUT", "sys/consumers/ack", body, token=child))[0] == 204
    _, said = await store.ask("GET", "sys/consumers?path=secret/data/a")
    (row,) = said["data"]["consumers"]
    assert (row["kind"], row["pod"], row["pod_uid"], row["namespace"]) == ("token", "", "", "")
    assert row["actor"] == made["auth"]["accessor"]


async def test_a_secret_id_is_no_wider_than_its_role_is_now(store) -> None:
    """A role that was narrowed went on giving tokens for the networks of before."""
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    role = "auth/approle/role/one"
    await store.ask("PUT", role, {"role_id": "id-of-one"})
    _, made = await store.ask("POST", f"{role}/secret-id", {"token_bound_cidrs": "127.0.0.0/8"})
    body = {"role_id": "id-of-one", "secret_id": made["data"]["secret_id"]}
    for networks, found in (
        (["127.0.0.0/16", "10.0.0.0/8"], ["127.0.0.0/16"]),
        (["0.0.0.0/0"], ["127.0.0.0/8"]),
        ([], ["127.0.0.0/8"]),
    ):
        await store.ask("PUT", role, {"token_bound_cidrs": networks})
        status, said = await store.ask("POST", "auth/approle/login", body, token="")
        assert status == 200
        _, shown = await store.ask(
            "GET", "auth/token/lookup-self", token=said["auth"]["client_token"]
        )
        assert shown["data"]["bound_cidrs"] == found
    await store.ask("PUT", role, {"token_bound_cidrs": ["10.0.0.0/8"]})
    assert (await store.ask("POST", "auth/approle/login", body, token=""))[0] == 403
