"""Identity tokens: an entity as a JWT that anybody can verify by published keys."""

import uuid

import jwt as pyjwt
import orjson
import pytest

from strongroom.model.errors import Invalid
from strongroom.store.assembly import upkeep
from strongroom.store.engine.identity_contract import AliasRow, EntityRow, GroupRow
from strongroom.store.identity import named_keys
from strongroom.store.identity.claims import check_template, claims_of, template_text
from strongroom.store.identity.resolve import Identity

ISSUER = "https://store.example:8200"
DAY = 24 * 3600
ADA = Identity(
    EntityRow("e-1", "ada", metadata={"team": 'a"b', "two.parts": "x"}, created=0.0, updated=0.0),
    (AliasRow("a-1", "e-1", "auth_1", "ada@x", metadata={"k": "v"}, custom_metadata={"c": "d"}),),
    (GroupRow("g-1", "ops", "internal", created=0.0, updated=0.0),),
    frozenset({"g-1"}),
)


def pair(algorithm: str = "ES256") -> named_keys.Pair:
    return named_keys.new_pair(algorithm, uuid.uuid4)


def key(now: float = 0.0, **settings: object) -> named_keys.Document:
    given = {**named_keys.default_settings(), "algorithm": "ES256", **settings}
    return named_keys.begun(given, pair(), pair(), now)


def ids(document: named_keys.Document, now: float) -> list[str]:
    return [each["kid"] for each in named_keys.published(document, now)]


# keys


def test_the_next_pair_is_published_before_it_signs_and_the_last_one_after() -> None:
    first = key()
    signing, following = ids(first, 0.0)
    assert pyjwt.get_unverified_header(named_keys.sign(first, {}))["kid"] == signing
    second = named_keys.rotated(first, pair(), 100.0, 50)
    assert pyjwt.get_unverified_header(named_keys.sign(second, {}))["kid"] == following
    assert ids(second, 149.0)[0] == following
    assert signing in ids(second, 149.0)
    assert signing not in ids(second, 150.0)
    # What is over is not kept, and the secret of what is retired is gone at once.
    third = named_keys.rotated(second, pair(), 200.0, 50)
    assert [each["jwk"]["kid"] for each in third["retired"]] == [following]
    assert all("private" not in each for each in third["retired"])


def test_another_algorithm_signs_at_once_and_the_old_pair_still_verifies() -> None:
    old = key()
    made = named_keys.with_new_pairs(
        old, {**named_keys.show(old), "algorithm": "EdDSA"}, (pair("EdDSA"), pair("EdDSA")), 10.0
    )
    assert pyjwt.get_unverified_header(named_keys.sign(made, {}))["alg"] == "EdDSA"
    assert ids(old, 0.0)[0] in ids(made, 10.0)


@pytest.mark.parametrize("algorithm", named_keys.KINDS)
def test_what_is_published_verifies_and_has_nothing_secret(algorithm: str) -> None:
    document = named_keys.begun(
        named_keys.default_settings(), pair(algorithm), pair(algorithm), 0.0
    )
    token = named_keys.sign(document, {"sub": "x"})
    public, _ = named_keys.published(document, 0.0)
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & public.keys()
    assert pyjwt.decode(token, pyjwt.PyJWK(public), algorithms=[algorithm]) == {"sub": "x"}


# claims


@pytest.mark.parametrize(
    ("template", "claims"),
    [
        ("", {}),
        ('{"n": {{identity.entity.name}}}', {"n": "ada"}),
        ('{"n": {{ identity.entity.metadata.team }}}', {"n": 'a"b'}),
        ('{"n": {{identity.entity.metadata.two.parts}}}', {"n": "x"}),
        ('{"n": {{identity.entity.metadata.none}}}', {"n": ""}),
        ('{"n": {{identity.entity.metadata}}}', {"n": {"team": 'a"b', "two.parts": "x"}}),
        ('{"n": {"deep": {{identity.entity.groups.names}}}}', {"n": {"deep": ["ops"]}}),
        ('{"n": {{identity.entity.groups.ids}}}', {"n": ["g-1"]}),
        ('{"n": {{identity.entity.aliases.auth_1.name}}}', {"n": "ada@x"}),
        ('{"n": {{identity.entity.aliases.auth_1.metadata.k}}}', {"n": "v"}),
        ('{"n": {{identity.entity.aliases.auth_1.custom_metadata}}}', {"n": {"c": "d"}}),
        ('{"n": {{identity.entity.aliases.auth_2.name}}}', {"n": ""}),
        ('{"n": {{identity.entity.aliases.auth_2.metadata}}}', {"n": {}}),
        ('{"n": {{identity.groups.ids.g-1.name}}}', {"n": "ops"}),
        ('{"n": {{identity.groups.ids.other.name}}}', {"n": ""}),
        ('{"n": {{time.now}}}', {"n": 1000}),
        ('{"n": {{time.now.plus.1h}}}', {"n": 4600}),
        ('{"n": {{time.now.minus.10s}}}', {"n": 990}),
    ],
)
def test_a_template_is_filled_in_as_json(template: str, claims: dict) -> None:
    check_template(template)
    assert claims_of(template, ADA, 1000.9) == claims


@pytest.mark.parametrize(
    "template",
    [
        "no JSON", "[1]", '{"n": "{{identity.entity.name}}"}x', '{"sub": "me"}', '{"exp": 1}',
        '{"n": {{identity.entity.nothing}}}', '{"n": {{identity.entity.aliases.a.b}}}',
        '{"n": {{what}}}', '{"n": {{identity.entity.name}', '{"n": {{time.now.plus.soon}}}',
    ],
)  # fmt: skip
def test_a_template_that_gives_no_claims_is_refused(template: str) -> None:
    with pytest.raises(Invalid):
        check_template(template)


def test_a_template_may_come_in_base64() -> None:
    assert template_text("eyJhIjogMX0=") == '{"a": 1}'
    assert template_text('{"a": 1}') == '{"a": 1}'


# the API


@pytest.fixture
async def ada(store) -> str:
    """A token with an entity whose policy lets it ask for tokens of the role `web`."""
    policy = 'path "identity/oidc/token/web" { capabilities = ["read"] }'
    await store.ask("PUT", "sys/policies/acl/web", {"policy": policy})
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    body = {"password": "pw", "token_policies": "web"}
    await store.ask("POST", "auth/userpass/users/ada", body)
    _, said = await store.ask("POST", "auth/userpass/login/ada", {"password": "pw"}, token="")
    return said["auth"]["client_token"]


async def begin(store, **role: object) -> None:
    await store.ask("POST", "identity/oidc/config", {"issuer": ISSUER})
    body = {
        "algorithm": "ES256", "allowed_client_ids": "*",
        "rotation_period": "1h", "verification_ttl": "10h",
    }  # fmt: skip
    assert (await store.ask("POST", "identity/oidc/key/fast", body))[0] == 204
    body = {"key": "fast", "client_id": "shop", "ttl": "10m", **role}
    assert (await store.ask("POST", "identity/oidc/role/web", body))[0] == 204


async def published(store) -> dict[str, pyjwt.PyJWK]:
    status, said = await store.ask("GET", "identity/oidc/.well-known/keys", token="")
    assert status == 200
    return {each["kid"]: pyjwt.PyJWK(each) for each in said["keys"]}


async def verified(store, token: str) -> dict:
    """As a relying party does it, without a token of the store; its clock is the real one."""
    header = pyjwt.get_unverified_header(token)
    keys = await published(store)
    return pyjwt.decode(
        token, keys[header["kid"]], algorithms=[header["alg"]], audience="shop",
        issuer=f"{ISSUER}/v1/identity/oidc", options={"verify_exp": False, "verify_iat": False},
    )  # fmt: skip


async def test_a_caller_gets_a_token_that_others_verify(store, ada) -> None:
    await begin(store, template='{"who": {{identity.entity.aliases.none.name}}, "n": 1}')
    status, said = await store.ask("GET", "identity/oidc/token/web", token=ada)
    assert status == 200, said
    assert (said["data"]["client_id"], said["data"]["ttl"]) == ("shop", 600)
    claims = await verified(store, said["data"]["token"])
    _, me = await store.ask("GET", "auth/token/lookup-self", token=ada)
    assert claims["sub"] == me["data"]["entity_id"]
    assert claims["exp"] - claims["iat"] == 600
    assert (claims["namespace"], claims["who"], claims["n"]) == ("root", "", 1)
    # The token is in no record.
    assert said["data"]["token"].encode() not in b"".join(store.device.lines)
    _, found = await store.ask("GET", "identity/oidc/.well-known/openid-configuration", token="")
    assert found["jwks_uri"] == f"{ISSUER}/v1/identity/oidc/.well-known/keys"


async def test_a_token_is_judged_by_introspection(store, ada) -> None:
    await begin(store)
    _, said = await store.ask("GET", "identity/oidc/token/web", token=ada)
    token = said["data"]["token"]

    async def judged(**body: str) -> dict:
        return (await store.ask("POST", "identity/oidc/introspect", {"token": token, **body}))[1]

    assert await judged() == {"active": True} == await judged(client_id="shop")
    assert (await judged(client_id="other"))["active"] is False
    head, payload, signature = token.split(".")
    forged = orjson.dumps({"alg": "none", "kid": pyjwt.get_unverified_header(token)["kid"]})
    assert (await judged(token=f"{pyjwt.utils.base64url_encode(forged).decode()}.{payload}."))[
        "active"
    ] is False
    assert (await judged(token=f"{head}.{payload[:-2]}AA.{signature}"))["active"] is False
    _, me = await store.ask("GET", "auth/token/lookup-self", token=ada)
    entity = f"identity/entity/id/{me['data']['entity_id']}"
    await store.ask("POST", entity, {"disabled": True})
    assert (await judged())["error"] == "the entity is gone or disabled"
    await store.ask("POST", entity, {"disabled": False})
    config = "identity/oidc/config"
    await store.ask("POST", config, {"issuer": "https://other.example"})
    assert await judged() == {"active": False, "error": "the token is of another issuer"}
    await store.ask("POST", config, {"issuer": ISSUER})
    assert await judged() == {"active": True}
    await store.clock.advance(600)
    assert await judged() == {"active": False, "error": "token is expired"}


async def test_many_keys_hide_none_from_introspection(store, ada) -> None:
    await begin(store)
    for number in range(40):
        body = {"algorithm": "EdDSA"}
        assert (await store.ask("POST", f"identity/oidc/key/a{number}", body))[0] == 204
    _, said = await store.ask("GET", "identity/oidc/token/web", token=ada)
    body = {"token": said["data"]["token"]}
    assert (await store.ask("POST", "identity/oidc/introspect", body))[1] == {"active": True}


async def test_a_key_rotates_when_it_signs_after_its_time(store, ada) -> None:
    await begin(store, ttl="2h")
    _, said = await store.ask("GET", "identity/oidc/token/web", token=ada)
    first = said["data"]["token"]
    following = list(await published(store))[1]
    store.clock.step_wall(3600)
    _, said = await store.ask("GET", "identity/oidc/token/web", token=ada)
    assert pyjwt.get_unverified_header(said["data"]["token"])["kid"] == following
    # Who has the first one can still be believed.
    await verified(store, first)
    store.clock.step_wall(DAY)
    assert pyjwt.get_unverified_header(first)["kid"] not in await published(store)


async def test_a_key_that_nobody_signs_with_rotates_by_its_period(store) -> None:
    await begin(store)
    body = {"algorithm": "EdDSA", "rotation_period": "1h", "verification_ttl": "10h"}
    assert (await store.ask("POST", "identity/oidc/key/other", body))[0] == 204
    before = list(await published(store))
    keeping = upkeep(store.engine, store.barrier, store.clock, store.seal)
    await store.engine.waiting(keeping.turn())
    assert list(await published(store)) == before
    await store.clock.advance(3600)
    await store.engine.waiting(keeping.turn())
    after = list(await published(store))
    # Of both keys a new pair is published, and those from before still are.
    assert len(after) == 6
    assert set(before) < set(after)
    await store.engine.waiting(keeping.turn())
    assert list(await published(store)) == after
    await store.clock.advance(3600)
    await store.engine.waiting(keeping.turn())
    assert len(await published(store)) == 8


async def test_other_settings_of_a_key_leave_its_pairs(store, ada) -> None:
    await begin(store)
    before = list(await published(store))
    body = {"rotation_period": "2h", "allowed_client_ids": "shop"}
    assert (await store.ask("POST", "identity/oidc/key/fast", body))[0] == 204
    assert (await store.ask("GET", "identity/oidc/key/fast"))[1]["data"] == {
        "algorithm": "ES256", "allowed_client_ids": ["shop"], "rotation_period": 7200,
        "verification_ttl": 36000,
    }  # fmt: skip
    assert list(await published(store)) == before
    assert (await store.ask("POST", "identity/oidc/key/fast", {"algorithm": "EdDSA"}))[0] == 204
    after = list(await published(store))
    assert (len(after), set(before) & set(after)) == (3, {before[0]})


async def test_rotation_by_hand_takes_trust_away_at_once(store, ada) -> None:
    await begin(store)
    _, said = await store.ask("GET", "identity/oidc/token/web", token=ada)
    body = {"verification_ttl": 0}
    assert (await store.ask("POST", "identity/oidc/key/fast/rotate", body))[0] == 204
    body = {"token": said["data"]["token"]}
    assert (await store.ask("POST", "identity/oidc/introspect", body))[1]["active"] is False
    # What is signed from now on is published for as long as its role says, whatever was said then.
    _, said = await store.ask("GET", "identity/oidc/token/web", token=ada)
    await store.clock.advance(3600)
    await store.ask("GET", "identity/oidc/token/web", token=ada)
    await verified(store, said["data"]["token"])


async def test_who_may_have_a_token_and_of_which_key(store, ada) -> None:
    assert (await store.ask("GET", "identity/oidc/token/web", token=ada))[0] == 400
    await begin(store)
    status, said = await store.ask("GET", "identity/oidc/token/web")
    assert (status, "no entity" in said["errors"][0]) == (400, True)
    await store.ask("POST", "identity/oidc/key/fast", {"allowed_client_ids": ["other"]})
    status, said = await store.ask("GET", "identity/oidc/token/web", token=ada)
    assert (status, "allowed client ID" in said["errors"][0]) == (400, True)
    await store.ask("POST", "identity/oidc/role/db", {"key": "fast"})
    assert (await store.ask("GET", "identity/oidc/token/db", token=ada))[0] == 403


async def test_the_default_key_is_made_for_the_role_that_names_it(store, ada) -> None:
    await store.ask("POST", "identity/oidc/config", {"issuer": ISSUER})
    assert (await store.ask("GET", "identity/oidc/key/default"))[0] == 404
    body = {"key": "default", "client_id": "shop"}
    assert (await store.ask("POST", "identity/oidc/role/web", body))[0] == 204
    _, said = await store.ask("GET", "identity/oidc/key/default")
    assert said["data"] == {
        "algorithm": "RS256", "allowed_client_ids": ["*"], "rotation_period": DAY,
        "verification_ttl": DAY,
    }  # fmt: skip
    _, said = await store.ask("GET", "identity/oidc/token/web", token=ada)
    await verified(store, said["data"]["token"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("key/k", {"algorithm": "HS256"}),
        ("key/k", {"rotation_period": 59}),
        ("key/k", {"rotation_period": "1m", "verification_ttl": "11m"}),
        ("key/k", {"verification_ttl": -1}),
        ("key/-k", {}),
        ("key/fast", {"verification_ttl": "9m"}),
        ("key/none/rotate", {}),
        ("key/fast/rotate", {"verification_ttl": -1}),
        ("role/r", {}),
        ("role/r", {"key": "none"}),
        ("role/r", {"key": "fast", "ttl": "25h"}),
        ("role/r", {"key": "fast", "ttl": 0}),
        ("role/r", {"key": "fast", "template": '{"iss": "me"}'}),
        ("role/r/", {"key": "fast", "template": "{"}),
        ("config", {"issuer": "store.example"}),
        ("config", {"issuer": "https://store.example/path"}),
        ("config", {"issuer": "https://user@store.example"}),
    ],
)
async def test_what_cannot_be_is_refused(store, path: str, body: dict) -> None:
    await begin(store)
    status, said = await store.ask("POST", f"identity/oidc/{path}", body)
    assert (status, bool(said["errors"])) == (400, True)


async def test_a_key_in_use_is_not_deleted(store) -> None:
    await begin(store)
    status, said = await store.ask("DELETE", "identity/oidc/key/fast")
    assert (status, said["errors"][0].endswith("these roles: web")) == (400, True)
    assert (await store.ask("DELETE", "identity/oidc/role/web"))[0] == 204
    assert (await store.ask("DELETE", "identity/oidc/key/fast"))[0] == 204
    assert await published(store) == {}


async def test_without_an_address_the_issuer_has_to_be_said(store, ada) -> None:
    await begin(store)
    assert (await store.ask("POST", "identity/oidc/config", {"issuer": ""}))[0] == 204
    status, said = await store.ask("GET", "identity/oidc/token/web", token=ada)
    assert (status, "its own address" in said["errors"][0]) == (400, True)
