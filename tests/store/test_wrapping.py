"""Response wrapping and cubbyholes: once, and for one token alone."""

import asyncio

import hvac.exceptions
import pytest

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Result
from strongroom.store.engine.contract import MountRow
from strongroom.store.wrapping import Wrapping

WRAPPED = {"X_Vault_Wrap_TTL": "5m"}


async def test_a_wrapped_reply_is_got_back_once_as_it_was(store) -> None:
    await store.ask("PUT", "secret/data/a", {"data": {"k": "marked-value"}})
    status, said = await store.ask("GET", "secret/data/a", **WRAPPED)
    assert status == 200
    info = said["wrap_info"]
    assert (info["ttl"], info["creation_path"]) == (300, "secret/data/a")
    assert said["data"] is None
    assert said["auth"] is None
    assert said["lease_id"] == ""
    assert "marked-value" not in str(said)
    _, looked = await store.ask("PUT", "sys/wrapping/lookup", {"token": info["token"]}, token="")
    assert looked["data"]["creation_ttl"] == 300
    assert looked["data"]["creation_path"] == "secret/data/a"
    status, back = await store.ask("PUT", "sys/wrapping/unwrap", {}, token=info["token"])
    assert status == 200
    assert back["data"]["data"] == {"k": "marked-value"}
    for token, body in ((info["token"], {}), (None, {"token": info["token"]})):
        status, said = await store.ask("PUT", "sys/wrapping/unwrap", body, token=token)
        assert status == 400
        assert said["errors"] == ["wrapping token is not valid or does not exist"]
    assert (await store.ask("PUT", "sys/wrapping/unwrap", {}, token=""))[0] == 403
    records = str(store.records())
    assert "marked-value" not in records
    assert info["token"] not in records


async def test_warnings_are_wrapped_with_the_reply_they_are_of(store) -> None:
    """As in Vault: who asked reads of the token alone, and who unwraps reads the reply's."""
    body = {"data": {"k": "v"}, "colour": "red"}
    warning = (await store.ask("PUT", "secret/data/a", body))[1]["warnings"]
    assert "colour" in str(warning)
    _, said = await store.ask("PUT", "secret/data/a", body, **WRAPPED)
    assert said["warnings"] is None
    token = said["wrap_info"]["token"]
    _, said = await store.ask("PUT", "sys/wrapping/rewrap", {"token": token})
    _, back = await store.ask("PUT", "sys/wrapping/unwrap", {}, token=said["wrap_info"]["token"])
    assert back["warnings"] == warning


async def test_a_wrapping_token_is_said_to_live_as_long_as_it_does(store) -> None:
    said = (await store.ask("POST", "sys/wrapping/wrap", {"k": "v"}, X_Vault_Wrap_TTL="5000h"))[1]
    most, info = 768 * 3600, said["wrap_info"]
    body = {"token": info["token"]}
    _, looked = await store.ask("PUT", "sys/wrapping/lookup", body, token="")
    assert (info["ttl"], looked["data"]["creation_ttl"]) == (most, most)
    store.clock.step_wall(most - 1)
    assert (await store.ask("PUT", "sys/wrapping/lookup", body, token=""))[0] == 200
    store.clock.step_wall(1)
    assert (await store.ask("PUT", "sys/wrapping/lookup", body, token=""))[0] == 400


async def test_a_wrapping_token_as_a_jwt_is_refused_and_not_given_as_another(store) -> None:
    """Only where something is to be wrapped; any other format is the plain token, as in Vault."""
    body = {"data": {"k": "v"}}
    jwt = {"X_Vault_Wrap_Format": "JWT"}
    status, said = await store.ask("PUT", "secret/data/a", body, **WRAPPED, **jwt)
    assert (status, len(said["errors"])) == (400, 1)
    assert "not served as a JWT; leave X-Vault-Wrap-Format out" in said["errors"][0]
    assert (await store.ask("GET", "secret/data/a"))[0] == 404
    assert (await store.ask("PUT", "secret/data/a", body, **jwt))[0] == 200
    status, said = await store.ask("GET", "secret/data/a", X_Vault_Wrap_TTL="0", **jwt)
    assert (status, said["data"]["data"]) == (200, {"k": "v"})
    other = {"X_Vault_Wrap_Format": "other"}
    _, said = await store.ask("GET", "secret/data/a", **WRAPPED, **other)
    assert said["wrap_info"]["token"].startswith("hvs.")


async def test_of_many_who_unwrap_at_once_one_gets_it(store) -> None:
    _, said = await store.ask("POST", "sys/wrapping/wrap", {"k": "v"}, **WRAPPED)
    token = said["wrap_info"]["token"]
    by_body = [store.ask("PUT", "sys/wrapping/unwrap", {"token": token}) for _ in range(8)]
    by_header = [store.ask("PUT", "sys/wrapping/unwrap", {}, token=token) for _ in range(8)]
    answers = await asyncio.gather(*by_body, *by_header)
    # Whoever comes second learns that somebody was first, and reads of no lack of permission.
    assert sorted(status for status, _ in answers) == [200] + [400] * 15


async def test_a_wrapped_login_names_the_accessor_inside(store) -> None:
    _, said = await store.ask("POST", "auth/token/create", {"ttl": "1h"}, **WRAPPED)
    info = said["wrap_info"]
    _, back = await store.ask("PUT", "sys/wrapping/unwrap", {"token": info["token"]})
    assert back["auth"]["accessor"] == info["wrapped_accessor"]
    token = back["auth"]["client_token"]
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 200


async def test_rewrapping_gives_a_new_token_for_the_same_time(store) -> None:
    _, said = await store.ask("POST", "sys/wrapping/wrap", {"k": "v"}, X_Vault_Wrap_TTL="60")
    first = said["wrap_info"]
    _, said = await store.ask("POST", "sys/wrapping/rewrap", {"token": first["token"]})
    second = said["wrap_info"]
    assert second["token"] != first["token"]
    assert second["creation_path"] == "sys/wrapping/wrap"
    assert second["ttl"] == 60
    status, _ = await store.ask("PUT", "sys/wrapping/unwrap", {"token": first["token"]})
    assert status == 400
    _, back = await store.ask("PUT", "sys/wrapping/unwrap", {"token": second["token"]})
    assert back["data"] == {"k": "v"}


async def test_what_cannot_be_wrapped_or_unwrapped(store) -> None:
    assert (await store.ask("POST", "sys/wrapping/wrap", {"k": "v"}))[0] == 400
    assert (await store.ask("GET", "secret/data/none", **WRAPPED))[0] == 404
    assert (await store.ask("PUT", "secret/data/a", {}, **WRAPPED))[0] == 400
    for ttl in ("x", "-5"):
        status, _ = await store.ask("GET", "sys/mounts", X_Vault_Wrap_TTL=ttl)
        assert status == 400
    for token in ("", "hvs.unknown", store.root):
        status, _ = await store.ask("PUT", "sys/wrapping/lookup", {"token": token}, token="")
        assert status == 400
    _, said = await store.ask("POST", "sys/wrapping/wrap", {"k": "v"}, X_Vault_Wrap_TTL="60")
    store.clock.step_wall(61)
    body = {"token": said["wrap_info"]["token"]}
    assert (await store.ask("PUT", "sys/wrapping/unwrap", body))[0] == 400
    assert await store.expire() == 1


async def test_a_wrapping_token_can_do_nothing_else(store) -> None:
    _, said = await store.ask("POST", "sys/wrapping/wrap", {"k": "v"}, **WRAPPED)
    token = said["wrap_info"]["token"]
    for path in ("secret/data/a", "sys/mounts", "auth/token/lookup-self"):
        assert (await store.ask("GET", path, token=token))[0] == 403
    # Nor can anybody make it do more.
    body = {"policy": 'path "*" { capabilities = ["read"] }'}
    assert (await store.ask("PUT", "sys/policies/acl/response-wrapping", body))[0] == 400


@pytest.mark.parametrize("how", ["unwrap", "lookup", "rewrap"])
async def test_who_comes_after_a_thief_learns_that_somebody_was_first(store, how) -> None:
    """The token's one use is spent by whatever it is used for, its cubbyhole among that."""
    _, said = await store.ask("POST", "sys/wrapping/wrap", {"k": "v"}, **WRAPPED)
    token = said["wrap_info"]["token"]
    status, said = await store.ask("GET", "cubbyhole/response", token=token)
    assert (status, '"k":"v"' in said["data"]["response"]) == (200, True)
    refusal = {"errors": ["wrapping token is not valid or does not exist"]}
    assert await store.ask("POST", f"sys/wrapping/{how}", {"token": token}) == (400, refusal)


async def test_a_stale_token_beside_a_wrapping_token_is_what_is_refused(store) -> None:
    """Nobody is told of a thief because of a token that has ended, and nothing is used up."""
    _, said = await store.ask("POST", "sys/wrapping/wrap", {"k": "v"}, X_Vault_Wrap_TTL="60")
    body = {"token": said["wrap_info"]["token"]}
    status, said = await store.ask("PUT", "sys/wrapping/unwrap", body, token="hvs.stale")
    assert (status, "invalid token" in said["errors"][0]) == (403, True)
    assert (await store.ask("PUT", "sys/wrapping/unwrap", body))[0] == 200


async def test_the_bounds_of_a_policy_make_wrapping_mandatory(store) -> None:
    token = await store.token_with(
        'path "secret/*" { capabilities = ["read"] min_wrapping_ttl = "1m" max_wrapping_ttl = "1h" }'
    )
    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    wanted = {"": 403, "30s": 403, "2m": 200, "2h": 403}
    for ttl, expected in wanted.items():
        headers = {"X_Vault_Wrap_TTL": ttl} if ttl else {}
        status, said = await store.ask("GET", "secret/data/a", token=token, **headers)
        assert status == expected, ttl
    asked = {"path": "secret/data/a"}
    _, said = await store.ask("POST", "sys/explain-self", asked, token=token)
    assert said["data"]["reason"] == "the reply has to be wrapped"


async def test_hvac_wraps_and_unwraps(store) -> None:
    client = store.hvac()
    made = await store.run(client.auth.token.create, ttl="1h", wrap_ttl="60s")
    token = made["wrap_info"]["token"]
    other = store.hvac(token)
    back = await store.run(other.sys.unwrap)
    assert back["auth"]["client_token"].startswith("hvs.")
    with pytest.raises(hvac.exceptions.InvalidRequest):
        await store.run(store.hvac(token).sys.unwrap)
    made = await store.run(client.sys.wrap, payload={"a": 1}, ttl=60)
    assert (await store.run(client.sys.unwrap, token=made["wrap_info"]["token"]))["data"] == {
        "a": 1
    }


# cubbyholes


async def test_a_cubbyhole_belongs_to_its_token_and_goes_with_it(store) -> None:
    one = await store.token_with("# one")
    two = await store.token_with("# two")
    assert (await store.ask("PUT", "cubbyhole/a/b", {"k": "v"}, token=one))[0] == 204
    assert (await store.ask("GET", "cubbyhole/a/b", token=one))[1]["data"] == {"k": "v"}
    for other in (two, None):
        assert await store.ask("GET", "cubbyhole/a/b", token=other) == (404, {"errors": []})
    assert (await store.ask("LIST", "cubbyhole/", token=one))[1]["data"]["keys"] == ["a/"]
    assert (await store.ask("LIST", "cubbyhole/a", token=one))[1]["data"]["keys"] == ["b"]
    assert (await store.ask("LIST", "cubbyhole/", token=two))[0] == 404
    assert (await store.ask("PUT", "cubbyhole/a", {}, token=one))[0] == 400
    assert (await store.ask("DELETE", "cubbyhole/a/b", token=one))[0] == 204
    assert (await store.ask("GET", "cubbyhole/a/b", token=one))[0] == 404
    await store.ask("PUT", "cubbyhole/x", {"k": "v"}, token=one)
    token_id = (await store.ask("GET", "auth/token/lookup-self", token=one))[1]["data"]["accessor"]
    row = await store.read(lambda view: view.token_by_accessor(token_id))
    await store.ask("POST", "auth/token/revoke-self", {}, token=one)
    assert await store.read(lambda view: view.cubbyhole_paths(row.id)) == []


async def test_a_batch_token_has_no_cubbyhole(store) -> None:
    token = await store.token_with("# batch", type="batch")
    status, said = await store.ask("PUT", "cubbyhole/a", {"k": "v"}, token=token)
    assert (status, said["errors"]) == (
        400,
        ["cubbyhole operations are only supported by service tokens"],
    )


async def test_what_is_wrapped_is_as_large_as_a_secret_at_most(store) -> None:
    """Every token may wrap: a body of 30 MiB lay in the database for a month."""
    token = await store.token_with('path "none" { capabilities = ["read"] }')
    for size, expected in ((1024 * 1024 - 10, 200), (1024 * 1024, 400)):
        body = {"k": "x" * size}
        status, said = await store.ask("POST", "sys/wrapping/wrap", body, token=token, **WRAPPED)
        assert status == expected
    assert said["errors"] == ["what is wrapped has at most 1048576 bytes"]


async def test_a_reply_that_is_very_long_is_not_wrapped() -> None:
    """It would lie in the database; a list of a hundred thousand names is still wrapped."""
    wrapping = Wrapping(None)  # type: ignore[arg-type] - it comes to nothing of it
    mount = MountRow("secret", "secret/", "kv", "u", "a")
    call = Call("list", "secret/metadata/", {}, mount, "metadata/", wrap_seconds=60)
    long = Result({"keys": ["x" * 100] * 50_000})
    with pytest.raises(Invalid) as refused:
        await wrapping.wrap(call, long)
    assert refused.value.code == "too-large-to-wrap"


async def test_a_token_of_one_use_that_wraps_nothing_is_not_used_up(store) -> None:
    """Whoever knows a token could end it by having it unwrapped."""
    body = {"policies": ["default"], "num_uses": 1}
    token = (await store.ask("POST", "auth/token/create", body))[1]["auth"]["client_token"]
    for path in ("unwrap", "rewrap", "lookup"):
        assert (await store.ask("POST", f"sys/wrapping/{path}", {"token": token}))[0] == 400
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 200
