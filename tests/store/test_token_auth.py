"""auth/token: what a token may make, how long it lives, and what ends it."""

import base64

import orjson
import pytest

from strongroom.crypto.keyring import KeyRing
from strongroom.store.batch_tokens import _KEPT, MAX_TEXT, BatchTokens
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import TokenRow
from strongroom.store.engine.memory import MemoryEngine

SUDO = 'path "auth/token/create*" { capabilities = ["update", "sudo"] }'
PLAIN = 'path "auth/token/create*" { capabilities = ["update"] }'


async def create(store, token=None, path="auth/token/create", **body):
    return await store.ask("POST", path, body, token=token)


async def made(store, **body) -> dict:
    status, said = await create(store, **body)
    assert status == 200, said
    return said["auth"]


async def look(store, token: str) -> dict:
    return (await store.ask("POST", "auth/token/lookup", {"token": token}))[1]["data"]


async def test_a_child_has_no_more_than_its_parent(store) -> None:
    parent = await store.token_with(PLAIN)
    for body, sentence in (
        ({"policies": ["other"]}, "child policies must be subset of parent"),
        ({"policies": ["root"]}, "child policies must be subset of parent"),
        ({"no_parent": True}, "root or sudo privileges required to create orphan token"),
        ({"period": "1h"}, "root or sudo privileges required to create periodic token"),
        ({"id": "mine"}, "root or sudo privileges required to specify token id"),
        ({"ttl": "-1s"}, "ttl must be positive"),
        ({"num_uses": -1}, "number of uses cannot be negative"),
        ({"entity_alias": "a"}, "'entity_alias' is only allowed in combination with token role"),
    ):
        assert await create(store, parent, **body) == (400, {"errors": [sentence]})
    assert (await create(store, parent, path="auth/token/create-orphan"))[0] == 403
    status, said = await create(store, parent)
    assert status == 200
    assert said["auth"]["policies"] == (await look(store, parent))["policies"]
    plain = (await create(store, parent, no_default_policy=True))[1]["auth"]
    assert "default" not in plain["policies"]


async def test_metadata_is_text_also_where_it_came_as_numbers(store) -> None:
    auth = await made(
        store, policies=["default"], meta={"team": "red", "n": 1, "f": 1.5, "b": True}
    )
    assert auth["metadata"] == {"team": "red", "n": "1", "f": "1.5", "b": "1"}
    for meta in ("team=red", ["team=red"]):
        assert (await made(store, policies=["default"], meta=meta))["metadata"] == {"team": "red"}
    for meta in ({"a": ["b"]}, {"a": None}, ["a"], "a"):
        assert await create(store, meta=meta) == (
            400,
            {"errors": ["meta must be a map of strings"]},
        )


async def test_the_token_mount_has_no_type_of_its_own(store) -> None:
    """Nothing looks at it, so that it would be kept without an effect."""
    status, said = await store.ask("POST", "sys/auth/token/tune", {"token_type": "batch"})
    assert (status, said["errors"][0].startswith("'token_type' cannot be set")) == (400, True)
    body = {"token_type": "", "default_lease_ttl": "1h"}
    assert (await store.ask("POST", "sys/auth/token/tune", body))[0] == 204
    assert (await made(store, policies=["default"]))["lease_duration"] == 3600


async def test_sudo_may_more_but_never_root(store) -> None:
    strong = await store.token_with(SUDO)
    status, said = await create(
        store, strong, policies=["other"], no_parent=True, period="1h", id="mine"
    )
    assert status == 200
    assert said["warnings"] == ['Policy "other" does not exist']
    assert said["auth"]["client_token"] == "mine"
    looked = await look(store, "mine")
    assert (looked["orphan"], looked["period"], looked["ttl"]) == (True, 3600, 3600)
    status, said = await create(store, strong, policies=["root"])
    assert said == {"errors": ["root tokens may not be created without parent token being root"]}
    for text in ("s.x", "hvs.x", "hvb.x", "a.b"):
        assert (await create(store, strong, id=text))[0] == 400
    assert (await create(store, strong, id="mine"))[0] == 400


async def test_times_are_capped_with_a_warning(store) -> None:
    _, said = await create(store, policies=["default"], ttl="1000h")
    assert said["warnings"] == [
        'TTL of "1000h0m0s" exceeded the effective max_ttl of "768h0m0s";'
        " TTL value is capped accordingly"
    ]
    assert said["auth"]["lease_duration"] == 768 * 3600
    _status, said = await create(store, policies=["default"], explicit_max_ttl="800h", ttl="1h")
    assert "value is being capped" in said["warnings"][0]
    await store.ask(
        "POST", "sys/auth/token/tune", {"max_lease_ttl": "2h", "default_lease_ttl": "1h"}
    )
    assert (await made(store, policies=["default"]))["lease_duration"] == 3600
    assert (await made(store, policies=["default"], ttl="9h"))["lease_duration"] == 7200


async def test_a_renewal_ends_at_the_maximum_and_a_period_does_not(store) -> None:
    capped = (await made(store, policies=["default"], ttl="1h", explicit_max_ttl="90m"))[
        "client_token"
    ]
    endless = (await made(store, policies=["default"], period="1h"))["client_token"]
    store.clock.step_wall(3000)
    for token, left in ((capped, 2400), (endless, 3600)):
        status, said = await store.ask("POST", "auth/token/renew-self", {"increment": "9h"}, token)
        assert status == 200
        assert said["auth"]["lease_duration"] == left
        assert said["auth"]["client_token"] == token
    for _ in range(30):
        store.clock.step_wall(3500)
        assert (await store.ask("POST", "auth/token/renew-self", {}, endless))[0] == 200
    assert (await store.ask("POST", "auth/token/renew-self", {}, capped))[0] == 403


async def test_cve_2021_32923_a_renewal_in_the_last_second_does_not_make_a_token_endless(
    store,
) -> None:
    token = (await made(store, policies=["default"], ttl="60s", explicit_max_ttl="60s"))[
        "client_token"
    ]
    store.clock.step_wall(59.6)
    status, said = await store.ask("POST", "auth/token/renew-self", {"increment": "1h"}, token)
    assert status == 400
    assert "past the max TTL" in said["errors"][0]
    store.clock.step_wall(0.5)
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403


async def test_a_renewal_that_asks_for_nothing_gives_what_the_token_had(store) -> None:
    """And not the mount's usual time, which is a month."""
    _, made = await store.ask("POST", "auth/token/create", {"policies": ["default"], "ttl": "1h"})
    token = made["auth"]["client_token"]
    store.clock.step_wall(1800)
    for body in ({}, {"increment": None}, {"increment": ""}):
        _, said = await store.ask("POST", "auth/token/renew-self", body, token=token)
        assert said["auth"]["lease_duration"] == 3600
    _, said = await store.ask("POST", "auth/token/renew-self", {"increment": "2h"}, token=token)
    assert said["auth"]["lease_duration"] == 7200
    _, said = await store.ask("POST", "auth/token/renew-self", {}, token=token)
    assert said["auth"]["lease_duration"] == 7200


async def test_not_everything_can_be_renewed(store) -> None:
    for body, sentence in (
        ({"renewable": False}, "lease is not renewable"),
        ({"type": "batch"}, "batch tokens cannot be renewed"),
    ):
        token = (await made(store, policies=["default"], **body))["client_token"]
        assert await store.ask("POST", "auth/token/renew", {"token": token}) == (
            400, {"errors": [sentence]},
        )  # fmt: skip
    assert await store.ask("POST", "auth/token/renew", {"token": "nobody"}) == (
        400, {"errors": ["token not found"]},
    )  # fmt: skip


async def test_revocation_takes_the_children_unless_they_are_to_stay(store) -> None:
    parent = await store.token_with(PLAIN)
    child = (await create(store, parent))[1]["auth"]["client_token"]
    grandchild = (await create(store, child))[1]["auth"]["client_token"]
    assert (await store.ask("POST", "auth/token/revoke-orphan", {"token": child}))[0] == 204
    assert (await look(store, grandchild))["orphan"] is True
    other = (await create(store, parent))[1]["auth"]
    assert (await store.ask("POST", "auth/token/revoke-self", token=parent))[0] == 204
    assert (await store.ask("GET", "auth/token/lookup-self", token=other["client_token"]))[0] == 403
    assert (await store.ask("GET", "auth/token/lookup-self", token=grandchild))[0] == 200
    assert (await store.ask("POST", "auth/token/revoke", {"token": "gone"}))[0] == 204
    assert await store.ask("POST", "auth/token/revoke-orphan", {"token": "gone"}) == (
        400, {"errors": ["token to revoke not found"]},
    )  # fmt: skip
    gone = {"accessor": other["accessor"]}
    for action in ("lookup-accessor", "renew-accessor"):
        assert (await store.ask("POST", f"auth/token/{action}", gone)) == (
            400, {"errors": ["invalid accessor"]},
        )  # fmt: skip
    status, said = await store.ask("POST", "auth/token/revoke-accessor", gone)
    assert (status, said["warnings"]) == (200, ["No token found with this accessor"])
    assert (await store.ask("POST", "auth/token/revoke-accessor", {}))[0] == 400


@pytest.mark.parametrize("verb", ["revoke-prefix", "revoke-force"])
async def test_what_a_revoked_prefix_made_is_gone_with_the_reply(store, verb) -> None:
    parent = await store.token_with(PLAIN)
    child = (await create(store, parent))[1]["auth"]["client_token"]
    await store.ask("PUT", "sys/policies/acl/maker", {"policy": PLAIN})
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    user = {"password": "pw", "token_policies": "maker"}
    await store.ask("POST", "auth/userpass/users/ada", user)
    _, said = await store.ask("POST", "auth/userpass/login/ada", {"password": "pw"}, token="")
    tokens = [said["auth"]["client_token"]]
    for _ in range(2):
        tokens.append((await create(store, tokens[-1]))[1]["auth"]["client_token"])
    assert (await store.ask("PUT", f"sys/leases/{verb}/auth/userpass"))[0] == 204
    asked = [await store.ask("GET", "auth/token/lookup-self", token=each) for each in tokens]
    assert [status for status, _ in asked] == [403] * 3
    # No list has them either, though their rows are removed later.
    assert (await store.ask("LIST", "sys/leases/lookup/auth/userpass"))[0] == 404
    accessors = (await store.ask("LIST", "auth/token/accessors"))[1]["data"]["keys"]
    assert said["auth"]["accessor"] not in accessors
    assert (await store.ask("GET", "auth/token/lookup-self", token=child))[0] == 200


async def test_a_batch_token_is_its_own_text(store) -> None:
    rows = len(await store.read(lambda view: view.accessors()))
    parent = (await made(store, policies=["root"], ttl="1h"))["client_token"]
    batch = (await create(store, parent, type="batch", policies=["default"], ttl="10m"))[1]["auth"]
    token = batch["client_token"]
    assert token.startswith("hvb.")
    assert (batch["accessor"], batch["renewable"], batch["token_type"]) == ("", False, "batch")
    assert len(await store.read(lambda view: view.accessors())) == rows + 1
    looked = (await store.ask("GET", "auth/token/lookup-self", token=token))[1]["data"]
    assert (looked["type"], looked["orphan"], looked["ttl"]) == ("batch", False, 600)
    assert (await create(store, token))[1] == {
        "errors": ["1 error occurred:\n\t* permission denied\n\n"]
    }
    assert (await store.ask("POST", "auth/token/revoke", {"token": token}))[1] == {
        "errors": ["batch tokens cannot be revoked"]
    }
    last = token[-2]
    forged = token[:-2] + ("A" if last != "A" else "B") + token[-1]
    assert (await store.ask("GET", "auth/token/lookup-self", token=forged))[0] == 403
    assert (await store.ask("POST", "auth/token/revoke", {"token": parent}))[0] == 204
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403


async def test_a_batch_token_that_is_too_long_to_be_taken_is_not_given(store) -> None:
    fields = {"type": "batch", "policies": ["default"]}
    short = {"meta": {"a": "x" * (MAX_TEXT // 2)}}
    token = (await made(store, **fields, **short))["client_token"]
    assert (await store.ask("POST", "auth/token/lookup", {"token": token}))[0] == 200
    status, said = await create(store, **fields, meta={"a": "x" * MAX_TEXT})
    assert status == 400
    assert "too much metadata" in said["errors"][0]


def test_a_batch_token_beyond_the_bound_is_not_opened() -> None:
    barrier, row = Barrier(), TokenRow(b"", "", None, ("default",), "", "", 0.0, 60, 60.0)
    barrier.unseal(KeyRing.new(0.0))
    tokens = BatchTokens(barrier)
    content = {name: getattr(row, name) for name in _KEPT} | {"parent": None}
    for padding, opens in ((0, True), (MAX_TEXT, False)):
        content["metadata"] = {"a": "x" * padding}
        sealed = barrier.seal("batch token", "", 0, orjson.dumps(content))
        text = "hvb." + base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        assert (tokens.open(text, MemoryEngine().view) is not None) == opens


async def test_a_batch_token_cannot_have_what_needs_a_row(store) -> None:
    for name, value in (("period", "1h"), ("num_uses", 3), ("explicit_max_ttl", "1h")):
        _status, said = await create(store, type="batch", policies=["default"], **{name: value})
        assert said == {"errors": [f'batch tokens cannot have "{name}" set']}
    batch = await store.token_with(PLAIN, type="batch")
    assert (await create(store, batch))[1] == {"errors": ["batch tokens cannot create more tokens"]}
    limited = (await made(store, policies=["root"], num_uses=3))["client_token"]
    assert (await create(store, limited))[1] == {
        "errors": ["restricted use token cannot generate child tokens"]
    }


async def test_a_root_token_is_never_a_batch_token(store) -> None:
    """Nobody can revoke one."""
    refused = (400, {"errors": ["batch tokens cannot be root tokens"]})
    for fields in ({}, {"policies": ["Root"]}, {"ttl": "1h"}, {"no_parent": True}):
        assert await create(store, type="batch", **fields) == refused
    role = {"token_type": "batch", "orphan": True, "renewable": False, "allowed_policies": "root"}
    assert (await store.ask("POST", "auth/token/roles/r", role))[0] == 204
    assert await create(store, path="auth/token/create/r", policies=["root"]) == refused


async def test_a_root_token_with_an_end_makes_none_without(store) -> None:
    """Else whoever is root for an hour would be so for good."""
    refused = (400, {"errors": ["expiring root tokens cannot create non-expiring root tokens"]})
    ends = ({"ttl": "1h"}, {"period": "1h"}, {"explicit_max_ttl": "1h"})
    for fields in ends:
        parent = (await made(store, **fields))["client_token"]
        assert await create(store, parent) == refused
        assert await create(store, parent, no_parent=True) == refused
        assert await create(store, parent, path="auth/token/create-orphan") == refused
        for allowed in (*ends, {"policies": ["default"]}):
            assert (await create(store, parent, **allowed))[0] == 200
    assert (await create(store))[0] == 200


async def test_a_batch_token_ends_with_its_time_and_its_parents(store) -> None:
    parent = (await made(store, policies=["root"], ttl="5m"))["client_token"]
    child = (await create(store, parent, type="batch", policies=["default"], ttl="1h"))[1]["auth"][
        "client_token"
    ]
    lone = (await made(store, type="batch", no_parent=True, policies=["default"], ttl="10m"))[
        "client_token"
    ]
    store.clock.step_wall(299)
    assert [
        (await store.ask("GET", "auth/token/lookup-self", token=each))[0] for each in (child, lone)
    ] == [200, 200]
    store.clock.step_wall(2)
    assert [
        (await store.ask("GET", "auth/token/lookup-self", token=each))[0] for each in (child, lone)
    ] == [403, 200]
    store.clock.step_wall(300)
    assert (await store.ask("GET", "auth/token/lookup-self", token=lone))[0] == 403


@pytest.fixture
async def roles(store):
    await store.ask(
        "POST",
        "auth/token/roles/Deploy",
        {
            "allowed_policies": "dev,test",
            "allowed_policies_glob": "team-*",
            "disallowed_policies": ["team-admin"],
            "orphan": True,
            "token_period": "2h",
            "path_suffix": "ci",
            "token_bound_cidrs": "127.0.0.0/8",
            "token_num_uses": 5,
        },
    )
    return store


async def test_a_role_bounds_what_is_made_with_it(roles) -> None:
    caller = await roles.token_with('path "auth/token/create/deploy" { capabilities = ["update"] }')
    path = "auth/token/create/deploy"
    _status, said = await create(roles, caller, path=path)
    auth = said["auth"]
    assert auth["policies"] == ["default", "dev", "test"]
    assert (auth["orphan"], auth["lease_duration"], auth["num_uses"]) == (True, 7200, 5)
    looked = await look(roles, auth["client_token"])
    assert looked["role"] == "deploy"
    assert looked["path"] == "auth/token/create/deploy/ci"
    assert looked["bound_cidrs"] == ["127.0.0.0/8"]
    assert (await create(roles, caller, path=path, policies=["team-x"]))[0] == 200
    assert "subset of the role's allowed policies" in (
        await create(roles, caller, path=path, policies=["prod"]))[1]["errors"][0]  # fmt: skip
    assert (await create(roles, caller, path=path, policies=["team-admin"]))[1] == {
        "errors": ['token policy "team-admin" is disallowed by this role']
    }
    # As without a role: the period that was asked for is not passed over without a word.
    assert (await create(roles, caller, path=path, period="1h"))[1] == {
        "errors": ["root or sudo privileges required to create periodic token"]
    }
    assert (await made(roles, path=path, period="1h"))["lease_duration"] == 3600
    assert (await create(roles, path="auth/token/create/none"))[1] == {
        "errors": ["unknown role none"]
    }


async def test_a_role_that_only_forbids_gives_what_the_parent_has(store) -> None:
    for name, body in (
        ("no-admin", {"disallowed_policies": "admin"}),
        ("no-p", {"disallowed_policies_glob": "p*"}),
        ("teams", {"allowed_policies_glob": "team-*", "disallowed_policies": "admin"}),
    ):
        await store.ask("POST", f"auth/token/roles/{name}", body)
    caller = await store.token_with(PLAIN)
    has = (await look(store, caller))["policies"]
    path = "auth/token/create"
    assert (await create(store, caller, path=f"{path}/no-admin"))[1]["auth"]["policies"] == has
    assert (await create(store, caller, path=f"{path}/teams"))[1]["auth"]["policies"] == ["default"]
    status, said = await create(store, caller, path=f"{path}/no-p")
    assert (status, "is disallowed by this role" in said["errors"][0]) == (400, True)


async def test_a_roles_limit_of_uses_is_not_lost_in_a_batch_token(store) -> None:
    for kind, body in (("default-batch", {}), ("default-service", {"type": "batch"})):
        role = {"token_type": kind, "token_num_uses": 3, "allowed_policies": "default"}
        await store.ask("POST", f"auth/token/roles/{kind}", role)
        path = f"auth/token/create/{kind}"
        assert (await create(store, path=path, **body))[1] == {
            "errors": ['batch tokens cannot have "num_uses" set']
        }
        assert (await made(store, path=path, type="service"))["num_uses"] == 3


async def test_networks_that_are_asked_for_are_not_lost_to_a_role(store) -> None:
    for name, networks in (("plain", []), ("bound", ["127.0.0.0/8", "10.0.0.0/8"])):
        role = {"allowed_policies": "default", "token_bound_cidrs": networks}
        await store.ask("POST", f"auth/token/roles/{name}", role)
        path = f"auth/token/create/{name}"
        token = (await made(store, path=path, bound_cidrs="10.1.0.0/16"))["client_token"]
        assert (await look(store, token))["bound_cidrs"] == ["10.1.0.0/16"]
        assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403
        token = (await made(store, path=path))["client_token"]
        assert (await look(store, token)).get("bound_cidrs", []) == networks
    beyond = await create(store, path="auth/token/create/bound", bound_cidrs=["10.0.0.0/8", "::/0"])
    assert beyond == (
        400, {"errors": ["bound_cidrs must lie within the role's token_bound_cidrs"]},
    )  # fmt: skip


async def test_a_child_is_bound_to_the_networks_of_its_parent(store) -> None:
    networks = ["127.0.0.0/8", "10.0.0.0/8"]
    auth = await made(store, policies=["root"], ttl="1h", bound_cidrs=networks)
    parent = auth["client_token"]

    async def bound(**body) -> list[str]:
        status, said = await create(store, parent, policies=["default"], **body)
        assert status == 200, said
        lookup = await store.ask(
            "GET", "auth/token/lookup-self", token=said["auth"]["client_token"]
        )
        return lookup[1]["data"].get("bound_cidrs", [])

    assert await bound() == networks
    assert await bound(type="batch") == networks
    assert await bound(bound_cidrs="127.0.0.1/32") == ["127.0.0.1/32"]
    assert await create(store, parent, bound_cidrs="192.0.2.0/24") == (
        400, {"errors": ["bound_cidrs must lie within those of the parent token"]},
    )  # fmt: skip
    # As in Vault, neither an orphan, which takes sudo, nor the token of a role is a child in this.
    assert await bound(no_parent=True) == []
    await store.ask("POST", "auth/token/roles/free", {"allowed_policies": "default"})
    assert await bound(path="auth/token/create/free") == []


async def test_the_type_of_a_role_goes_before_the_one_that_is_asked_for(store) -> None:
    """Vault's command line asks for `service` where nobody named a type."""
    for given, asked in (("batch", "service"), ("service", "batch")):
        role = {"token_type": given, "orphan": True, "renewable": False}
        assert (await store.ask("POST", f"auth/token/roles/{given}", role))[0] == 204
        path = f"auth/token/create/{given}"
        assert (await made(store, path=path, type=asked, policies=["default"]))[
            "token_type"
        ] == given


async def test_an_entity_alias_says_whose_the_token_is(store) -> None:
    role = {"allowed_entity_aliases": "Web-*,db", "allowed_policies": "default"}
    await store.ask("POST", "auth/token/roles/jobs", role)
    path, made_of = "auth/token/create/jobs", []
    for body in (
        {"entity_alias": "web-1"},
        {"entity_alias": "WEB-1", "type": "batch"},
        {"entity_alias": "db"},
        {},
    ):
        auth = await made(store, path=path, **body)
        made_of.append(auth["entity_id"])
        assert (await look(store, auth["client_token"]))["entity_id"] == auth["entity_id"]
    assert made_of[0] == made_of[1] != made_of[2]
    assert (all(made_of[:3]), made_of[3]) == (True, "")
    assert (await create(store, path=path, entity_alias="other")) == (
        400, {"errors": ["invalid 'entity_alias' value"]},
    )  # fmt: skip
    _, entity = await store.ask("GET", f"identity/entity/id/{made_of[0]}")
    (alias,) = entity["data"]["aliases"]
    assert (alias["name"], alias["mount_path"]) == ("web-1", "auth/token/")
    # Its policies are the entity's, and an entity that is disabled gets no token.
    body = {"policies": "of-web", "disabled": True}
    await store.ask("POST", f"identity/entity/id/{made_of[0]}", {"policies": "of-web"})
    auth = await made(store, path=path, entity_alias="web-1")
    assert auth["identity_policies"] == ["of-web"]
    await store.ask("POST", f"identity/entity/id/{made_of[0]}", body)
    assert (await create(store, path=path, entity_alias="web-1"))[0] == 403


async def test_a_token_of_a_role_that_is_gone_is_not_renewed(roles) -> None:
    token = (await create(roles, path="auth/token/create/deploy"))[1]["auth"]["client_token"]
    await roles.ask("DELETE", "auth/token/roles/deploy")
    status, said = await roles.ask("POST", "auth/token/renew", {"token": token})
    assert status == 400
    assert "could not be found, not renewing" in said["errors"][0]


async def test_a_role_that_contradicts_itself_is_refused(store) -> None:
    for body in (
        {"token_type": "batch"},
        {"token_type": "batch", "orphan": True},
        {"token_type": "other"},
        {"path_suffix": "../x"},
        {"token_bound_cidrs": "here"},
        {"token_period": "-1h"},
    ):
        assert (await store.ask("POST", "auth/token/roles/r", body))[0] == 400, body
    fine = {"token_type": "batch", "orphan": True, "renewable": False}
    assert (await store.ask("POST", "auth/token/roles/r", fine))[0] == 204
    auth = (await create(store, path="auth/token/create/r", policies=["default"]))[1]["auth"]
    assert auth["token_type"] == "batch"
    shown = (await store.ask("GET", "auth/token/roles/r"))[1]["data"]
    assert shown["name"] == "r"
    assert shown["explicit_max_ttl"] == 0


async def test_tidy_answers_at_once_and_removes_what_has_expired(store) -> None:
    await made(store, policies=["default"], ttl="10s")
    store.clock.step_wall(11)
    before = len(await store.read(lambda view: view.accessors()))
    status, said = await store.ask("POST", "auth/token/tidy")
    assert status == 202
    assert "Tidy operation successfully started" in said["warnings"][0]
    assert len(await store.read(lambda view: view.accessors())) == before - 1


async def test_a_token_does_not_outlive_its_auth_method(store) -> None:
    await store.ask("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    from strongroom.model.principal import ReviewedToken

    jwt = "e30.eyJleHAiOjk5OTk5OTk5OTl9.c2ln"
    store.reviewer.known[jwt] = ReviewedToken("n", "a", "uid")
    config = {"kubernetes_host": "https://c", "token_reviewer_jwt": "r"}
    await store.ask("POST", "auth/kubernetes/config", config)
    for kind in ("service", "batch"):
        body = {
            "bound_service_account_names": "*",
            "bound_service_account_namespaces": "*",
            "token_type": kind,
        }
        await store.ask("POST", f"auth/kubernetes/role/{kind}", body)
    tokens = []
    for kind in ("service", "batch"):
        login = {"role": kind, "jwt": jwt}
        said = (await store.ask("POST", "auth/kubernetes/login", login, token=""))[1]
        assert said["auth"]["token_type"] == kind
        tokens.append(said["auth"]["client_token"])
    for token in tokens:
        assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 200
    await store.ask("DELETE", "sys/auth/kubernetes")
    await store.ask("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    for token in tokens:
        assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403


async def test_a_pattern_of_forbidden_policies_forbids_in_any_case(store) -> None:
    token = await store.token_with('path "auth/token/create/r" { capabilities = ["update"] }')
    await store.ask("POST", "auth/token/roles/r", {"disallowed_policies_glob": ["Admin*"]})
    for name in ("admin-x", "ADMIN-x"):
        body = {"policies": [name]}
        status, said = await store.ask("POST", "auth/token/create/r", body, token=token)
        assert (status, "disallowed by this role" in str(said)) == (400, True)
    body = {"allowed_policies_glob": ["Dev-*"], "disallowed_policies_glob": []}
    await store.ask("POST", "auth/token/roles/r", body)
    for name, status in (("dev-a", 200), ("Dev-a", 200), ("ops", 400)):
        made = await store.ask("POST", "auth/token/create/r", {"policies": [name]}, token=token)
        assert made[0] == status


async def test_a_token_has_a_bounded_number_of_policies(store) -> None:
    """Each is read when it is first used: 900,000 held up their process for minutes."""
    names = [f"p{number}" for number in range(2_001)]
    said = (400, {"errors": ["at most 2,000 policies"]})
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    for path, body in (
        ("auth/token/create", {"policies": names}),
        ("auth/userpass/users/ada", {"password": "pw", "token_policies": names}),
        ("auth/token/roles/r", {"allowed_policies": names}),
        ("identity/entity", {"name": "ada", "policies": names}),
    ):
        assert await store.ask("POST", path, body) == said, path
    status, said = await store.ask("POST", "auth/token/create", {"policies": names[:2_000]})
    # `default` came to them, and one that is made of all that it has is no larger.
    child = {"policies": said["auth"]["token_policies"]}
    assert (status, len(child["policies"])) == (200, 2_001)
    assert (await store.ask("POST", "auth/token/create", child))[0] == 200
