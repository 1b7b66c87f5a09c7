"""JWT and OIDC: whose signature counts, which claims, and the way through a browser."""

import hmac
import json
import ssl
from base64 import urlsafe_b64encode
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.crypto.x509_dev import issue
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Denied
from strongroom.store.auth.jwt_verify import Leeways, check_bound, check_times, claim
from strongroom.store.auth.oidc import is_allowed_redirect

AUDIENCE = "strongroom"


@pytest.fixture
async def mounted(store, issuer):
    await store.ask("POST", "sys/auth/jwt", {"type": "jwt"})
    status, said = await store.ask("POST", "auth/jwt/config", {"oidc_discovery_url": issuer.url})
    assert status == 204, said
    await role(store)
    return store


async def role(store, name="app", **fields):
    body = {
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": AUDIENCE,
        "token_policies": "team", **fields,
    }  # fmt: skip
    status, said = await store.ask("POST", f"auth/jwt/role/{name}", body)
    assert status == 204, said


async def login(store, token: str, role: str = "app"):
    return await store.ask("POST", "auth/jwt/login", {"role": role, "jwt": token}, token="")


async def test_a_token_from_a_file_ends_in_a_line_break(mounted, issuer) -> None:
    await role(mounted)
    assert (await login(mounted, f" {issuer.sign(aud=AUDIENCE)}\n"))[0] == 200


async def test_a_login_carries_claims_into_metadata(mounted, issuer) -> None:
    await role(mounted, claim_mappings={"email": "mail", "/org/unit": "unit", "admin": "admin"})
    token = issuer.sign(aud=AUDIENCE, email="a@b", org={"unit": "x"}, admin=True)
    status, said = await login(mounted, token)
    assert status == 200
    auth = said["auth"]
    assert auth["metadata"] == {"role": "app", "mail": "a@b", "unit": "x", "admin": "true"}
    assert auth["policies"] == ["default", "team"]
    assert (await login(mounted, token))[1]["auth"]["entity_id"] == auth["entity_id"]
    assert token not in str(mounted.records())


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"aud": None}, "audience claim does not match"),
        ({"aud": "other"}, "audience claim does not match"),
        ({"aud": ["other", "another"]}, "audience claim does not match"),
        ({"iss": "https://elsewhere"}, "invalid issuer (iss) claim"),
        ({"exp": 1}, "token is expired"),
        ({"nbf": 9e9}, "not yet valid"),
        ({"iat": 9e9}, "in the future"),
        ({"exp": None, "iat": None}, "no issued at (iat)"),
        ({"exp": "soon"}, "is not a time"),
        ({"sub": None}, 'claim "sub" not found'),
        ({"sub": 7}, "could not be converted to string"),
    ],
)
async def test_a_token_that_is_not_right_is_refused(mounted, issuer, claims, sentence) -> None:
    status, said = await login(mounted, issuer.sign(**{"aud": AUDIENCE, **claims}))
    assert status == 400
    assert sentence in said["errors"][0]


async def test_cve_2024_5798_an_audience_counts_as_text_and_as_a_list(mounted, issuer) -> None:
    for given_, status in (
        (AUDIENCE, 200), ([AUDIENCE, "x"], 200), ("x", 400), (["x"], 400), ([], 400),
    ):  # fmt: skip
        assert (await login(mounted, issuer.sign(aud=given_)))[0] == status, given_
    await role(mounted, bound_audiences="", bound_subject="ada")
    for given_, status in ((None, 200), (AUDIENCE, 400), ([AUDIENCE], 400)):
        assert (await login(mounted, issuer.sign(aud=given_)))[0] == status, given_


async def test_a_forged_token_is_refused(mounted, issuer) -> None:
    good = issuer.sign(aud=AUDIENCE)
    head, body, _ = good.split(".")

    def part(value) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    unsigned = f"{part({'alg': 'none', 'kid': issuer.key_id})}.{body}."
    shared_head = part({"alg": "HS256", "kid": issuer.key_id})
    mac = hmac.digest(issuer.pem.encode(), f"{shared_head}.{body}".encode(), "sha256")
    shared = f"{shared_head}.{body}.{urlsafe_b64encode(mac).decode().rstrip('=')}"
    swapped = f"{head}.{part({'sub': 'root', 'aud': AUDIENCE, 'exp': 9e9})}.{good.split('.')[2]}"
    for token in (unsigned, shared, swapped, "a.b.c", "no token", "x" * 70_000):
        status, said = await login(mounted, token)
        assert status == 400
        assert "error validating token" in said["errors"][0]


async def test_a_rotated_key_is_found_and_an_unknown_one_does_not_hammer(mounted, issuer) -> None:
    assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == 200
    issuer.rotate()
    await mounted.clock.advance(11)
    assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == 200
    asked = len(issuer.asked)
    known = issuer.key_id
    for _ in range(20):
        issuer.key_id = "unknown"
        assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == 400
    assert len(issuer.asked) == asked
    issuer.key_id = known


async def test_keys_are_configured_one_way(store, issuer) -> None:
    await store.ask("POST", "sys/auth/jwt", {"type": "jwt"})
    for body in (
        {},
        {"jwks_url": issuer.url + "/keys", "oidc_discovery_url": issuer.url},
        {"jwks_url": issuer.url + "/nothing"},
        {"oidc_discovery_url": "http://127.0.0.1:1"},
        # What answers there is another issuer's word.
        {"oidc_discovery_url": issuer.url.replace("127.0.0.1", "localhost")},
        {"jwt_validation_pubkeys": "no key"},
        {"jwks_url": issuer.url + "/keys", "jwt_supported_algs": "HS256"},
        {"oidc_discovery_url": issuer.url, "oidc_client_id": "x"},
    ):
        assert (await store.ask("POST", "auth/jwt/config", body))[0] == 400, body
    await role(store)
    for body in (
        {"jwks_url": issuer.url + "/keys"},
        {"jwks_pairs": [{"jwks_url": issuer.url + "/keys"}]},
        {"jwt_validation_pubkeys": issuer.pem},
        {"jwt_validation_pubkeys": [issuer.pem], "bound_issuer": issuer.url},
    ):
        assert (await store.ask("POST", "auth/jwt/config", body))[0] == 204, body
        assert (await login(store, issuer.sign(aud=AUDIENCE)))[0] == 200, body
    assert (await login(store, issuer.sign(aud=AUDIENCE, iss="x")))[0] == 400


async def test_an_issuer_that_is_away_locks_out_nobody_of_another(store, issuer) -> None:
    await store.ask("POST", "sys/auth/jwt", {"type": "jwt"})
    await role(store)
    pairs = [{"jwks_url": issuer.url + path} for path in ("/gone", "/keys")]
    config = {"jwks_pairs": pairs}
    assert (await store.ask("POST", "auth/jwt/config", config))[0] == 400
    config["skip_jwks_validation"] = True
    assert (await store.ask("POST", "auth/jwt/config", config))[0] == 204
    assert (await login(store, issuer.sign(aud=AUDIENCE)))[0] == 200
    # Whether the other one knows the key cannot be told.
    issuer.rotate()
    unknown = issuer.sign(aud=AUDIENCE)
    issuer.rotate()
    assert (await login(store, unknown))[0] == 503


async def test_a_roles_name_has_no_case(mounted, issuer) -> None:
    await role(mounted, "Mixed", token_policies="mixed")
    for name in ("mixed", "MIXED"):
        status, said = await mounted.ask("GET", f"auth/jwt/role/{name}")
        assert (status, said["data"]["token_policies"]) == (200, ["mixed"])
        status, said = await login(mounted, issuer.sign(aud=AUDIENCE), name)
        assert (status, said["auth"]["metadata"]["role"]) == (200, "mixed")
    assert (await mounted.ask("LIST", "auth/jwt/role"))[1]["data"]["keys"] == ["app", "mixed"]
    assert (await mounted.ask("DELETE", "auth/jwt/role/MiXed"))[0] == 204
    assert (await login(mounted, issuer.sign(aud=AUDIENCE), "mixed"))[0] == 400


async def test_roles_that_bind_nothing_are_refused(mounted) -> None:
    for body in (
        {"role_type": "jwt", "user_claim": "sub"},
        {"role_type": "jwt", "bound_audiences": "x"},
        {"role_type": "odd", "user_claim": "sub", "bound_audiences": "x"},
        {"user_claim": "sub"},
        {"role_type": "jwt", "user_claim": "sub", "bound_claims": {"a": {"b": 1}}},
        {"role_type": "jwt", "user_claim": "sub", "bound_claims": {"a": "b"}, "bound_claims_type": "re"},
        {"role_type": "jwt", "user_claim": "sub", "bound_audiences": "x", "claim_mappings": {"a": "m", "b": "m"}},
        {"role_type": "jwt", "user_claim": "sub", "bound_audiences": "x", "claim_mappings": {"a": "role"}},
    ):  # fmt: skip
        assert (await mounted.ask("POST", "auth/jwt/role/r", body))[0] == 400, body
    assert (await login(mounted, "x", role="none"))[1] == {
        "errors": ['role "none" could not be found']
    }
    await mounted.ask(
        "POST", "auth/jwt/role/Case", {"user_claim": "sub", "allowed_redirect_uris": "http://x"}
    )
    assert (await login(mounted, "x", role="Case"))[0] == 400


async def test_bound_claims_are_values_lists_or_globs(mounted, issuer) -> None:
    await role(mounted, bound_claims={"team": ["red", "blue"], "/k/v": 3})
    for claims, status in (
        ({"team": "red", "k": {"v": 3}}, 200),
        ({"team": ["green", "blue"], "k": {"v": 3}}, 200),
        ({"team": "green", "k": {"v": 3}}, 400),
        ({"team": "red", "k": {"v": "3"}}, 400),
        ({"team": "red"}, 400),
    ):
        assert (await login(mounted, issuer.sign(aud=AUDIENCE, **claims)))[0] == status, claims
    await role(mounted, bound_claims={"sub": "ad*"}, bound_claims_type="glob")
    assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == 200
    assert (await login(mounted, issuer.sign(aud=AUDIENCE, sub="bob")))[0] == 400


async def test_groups_of_the_token_are_outside_groups_here(mounted, issuer) -> None:
    await role(mounted, groups_claim="groups")
    accessor = (await mounted.ask("GET", "sys/auth"))[1]["data"]["jwt/"]["accessor"]
    _, group = await mounted.ask(
        "POST", "identity/group", {"name": "Admins", "type": "external", "policies": "admin"}
    )
    await mounted.ask(
        "POST",
        "identity/group-alias",
        {"name": "adm", "mount_accessor": accessor, "canonical_id": group["data"]["id"]},
    )
    auth = (await login(mounted, issuer.sign(aud=AUDIENCE, groups=["adm", "x"])))[1]["auth"]
    assert auth["identity_policies"] == ["admin"]
    auth = (await login(mounted, issuer.sign(aud=AUDIENCE, groups=["x"])))[1]["auth"]
    assert "identity_policies" not in auth
    # Also where somebody has looked who they are in the meantime.
    for groups, policies in ((["adm"], ["admin"]), ([], []), (["adm"], ["admin"])):
        await mounted.ask("GET", "auth/token/lookup-self", token=auth["client_token"])
        auth = (await login(mounted, issuer.sign(aud=AUDIENCE, groups=groups)))[1]["auth"]
        assert auth.get("identity_policies", []) == policies
        assert auth["policies"] == sorted(["default", "team", *policies])
    assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == 400
    assert (await login(mounted, issuer.sign(aud=AUDIENCE, groups=[1])))[0] == 400


async def test_a_group_from_outside_has_one_name_there(mounted, issuer) -> None:
    """As in Vault, a new alias of a group takes the former one's place, of another method too."""
    await role(mounted, groups_claim="groups")
    await mounted.ask("POST", "sys/auth/people", {"type": "userpass"})
    methods = (await mounted.ask("GET", "sys/auth"))[1]["data"]
    jwt, people = methods["jwt/"]["accessor"], methods["people/"]["accessor"]
    _, group = await mounted.ask(
        "POST", "identity/group", {"name": "Admins", "type": "external", "policies": "admin"}
    )
    group_id = group["data"]["id"]

    async def policies(name: str) -> list[str]:
        said = (await login(mounted, issuer.sign(aud=AUDIENCE, groups=[name])))[1]
        return said["auth"].get("identity_policies", [])

    for name, accessor, let_in in (
        ("admins-old", jwt, ["admins-old"]), ("admins", jwt, ["admins"]), ("staff", people, []),
    ):  # fmt: skip
        body = {"name": name, "mount_accessor": accessor, "canonical_id": group_id}
        status, made = await mounted.ask("POST", "identity/group-alias", body)
        assert (status, made["data"]["canonical_id"]) == (200, group_id)
        _, listed = await mounted.ask("LIST", "identity/group-alias/id")
        assert listed["data"]["keys"] == [made["data"]["id"]]
        _, shown = await mounted.ask("GET", f"identity/group/id/{group_id}")
        assert shown["data"]["alias"]["name"] == name
        for other in ("admins-old", "admins", "staff"):
            assert await policies(other) == (["admin"] if other in let_in else [])


async def test_each_leeway_of_a_role_is_its_own(mounted, issuer) -> None:
    now = int(mounted.clock.now())

    async def accepted(fields, **claims) -> bool:
        await mounted.ask("DELETE", "auth/jwt/role/app")
        await role(mounted, **fields)
        every = {"aud": AUDIENCE, "iat": None, "exp": None, **claims}
        return (await login(mounted, issuer.sign(**every)))[0] == 200

    for name, claims in (
        ("clock_skew_leeway", {"exp": now - 100}),
        ("expiration_leeway", {"nbf": now - 300}),
    ):
        assert not await accepted({}, **claims)
        assert await accepted({name: 200 if name == "clock_skew_leeway" else 400}, **claims)
    # A negative one is none at all: the default's minute and 150 seconds are gone.
    assert await accepted({}, exp=now - 30)
    assert not await accepted({"clock_skew_leeway": -1}, exp=now - 30)
    assert await accepted({"expiration_leeway": 0}, nbf=now - 100)
    assert not await accepted({"expiration_leeway": -1}, nbf=now - 100)
    # A start that is missing is the end less its leeway.
    assert not await accepted({}, exp=now + 1000)
    assert await accepted({"not_before_leeway": 2000}, exp=now + 1000)
    assert not await accepted({"not_before_leeway": -1, "clock_skew_leeway": -1}, exp=now + 100)


async def test_the_user_is_a_claim_or_a_pointer_into_one(mounted, issuer) -> None:
    token = issuer.sign(aud=AUDIENCE, who={"name": "eve"})
    await role(mounted, user_claim="/who/name", user_claim_json_pointer=True)
    status, said = await login(mounted, token)
    assert status == 200
    _, entity = await mounted.ask("GET", f"identity/entity/id/{said['auth']['entity_id']}")
    assert entity["data"]["aliases"][0]["name"] == "eve"
    await role(mounted, user_claim="/who/name", user_claim_json_pointer=False)
    assert (await login(mounted, token))[0] == 400
    # Without the flag the slash is part of the name, as some issuers write theirs.
    assert (await login(mounted, issuer.sign(aud=AUDIENCE, **{"/who/name": "eve"})))[0] == 200


async def test_a_subject_is_bound_and_a_role_has_a_default(mounted, issuer) -> None:
    await role(mounted, bound_subject="ada")
    assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == 200
    assert (await login(mounted, issuer.sign(aud=AUDIENCE, sub="bob")))[0] == 400
    token = issuer.sign(aud=AUDIENCE)
    assert (await login(mounted, token, role=""))[1] == {"errors": ["missing role"]}
    config = {"oidc_discovery_url": issuer.url, "default_role": "app"}
    await mounted.ask("POST", "auth/jwt/config", config)
    assert (await login(mounted, token, role=""))[0] == 200


async def test_an_issuer_is_the_discovered_one_with_or_without_its_last_slash(
    mounted, issuer
) -> None:
    for said, status in ((issuer.url, 200), (issuer.url + "/", 200), (issuer.url + "/x", 400)):
        assert (await login(mounted, issuer.sign(aud=AUDIENCE, iss=said)))[0] == status
    config = {"oidc_discovery_url": issuer.url, "bound_issuer": "https://other"}
    await mounted.ask("POST", "auth/jwt/config", config)
    for said, status in ((issuer.url, 400), ("https://other", 200), ("https://other/", 400)):
        assert (await login(mounted, issuer.sign(aud=AUDIENCE, iss=said)))[0] == status


async def test_only_the_algorithms_of_the_configuration_count(mounted, issuer) -> None:
    for algorithms, status in ((["RS256"], 400), (["RS256", "ES256"], 200)):
        config = {"oidc_discovery_url": issuer.url, "jwt_supported_algs": algorithms}
        await mounted.ask("POST", "auth/jwt/config", config)
        assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == status


async def test_an_issuer_over_tls_is_trusted_by_its_own_authority(store, issuer, tmp_path) -> None:
    await store.ask("POST", "sys/auth/jwt", {"type": "jwt"})
    made = issue(("localhost", "127.0.0.1"), SystemClock().now())
    for name, content in (("crt", made.certificate), ("key", made.key)):
        (tmp_path / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    authority = made.authority.decode()
    async with issuer.over_tls(context):
        keys = f"{issuer.url}/keys"
        for body, status in (
            ({"oidc_discovery_url": issuer.url, "oidc_discovery_ca_pem": authority}, 204),
            ({"oidc_discovery_url": issuer.url}, 400),
            ({"jwks_url": keys, "jwks_ca_pem": authority}, 204),
            ({"jwks_url": keys}, 400),
            ({"jwks_pairs": [{"jwks_url": keys, "jwks_ca_pem": authority}]}, 204),
            ({"jwks_pairs": [{"jwks_url": keys}]}, 400),
        ):
            assert (await store.ask("POST", "auth/jwt/config", body))[0] == status, body
            if status == 204:
                await role(store)
                assert (await login(store, issuer.sign(aud=AUDIENCE)))[0] == 200, body


@given(st.integers(0, 4000), st.integers(-1, 300))
def test_a_token_ends_at_its_time_and_its_leeway(age: int, skew: int) -> None:
    claims = {"iat": 1000.0, "exp": 3000.0}
    grace = 60 if skew == 0 else max(skew, 0)
    try:
        check_times(claims, Leeways(skew=skew), float(age))
        accepted = True
    except Denied:
        accepted = False
    assert accepted == (1000 - grace <= age <= 3000 + grace)


@pytest.mark.parametrize("name", ["iat", "nbf", "exp"])
def test_any_of_the_three_times_is_enough(name: str) -> None:
    check_times({name: 1000.0}, Leeways(), 1000.0)
    with pytest.raises(Denied):
        check_times({name: 1000.0}, Leeways(), 2000.0)


def test_a_pointer_goes_into_lists_and_escapes() -> None:
    claims = {"a/b": {"~": [1, {"c": 2}]}, "/x": 3}
    assert claim(claims, "/a~1b/~0/1/c") == 2
    assert claim(claims, "/a~1b/~0/7") is None
    assert claim(claims, "/a~1b/~0/-1") is None
    assert claim(claims, "/a~1b/~0/first") is None
    assert claim(claims, "/none/at/all") is None
    with pytest.raises(Denied):
        check_bound({"a": True}, {"a": 1}, globs=False)


# OpenID Connect

REDIRECT = "http://localhost:8250/oidc/callback"


@pytest.fixture
async def oidc(store, issuer):
    await store.ask("POST", "sys/auth/oidc", {"type": "oidc"})
    body = {
        "oidc_discovery_url": issuer.url, "oidc_client_id": issuer.client,
        "oidc_client_secret": issuer.secret, "default_role": "people",
        "jwt_supported_algs": ["ES256"],
    }  # fmt: skip
    assert (await store.ask("POST", "auth/oidc/config", body))[0] == 204
    body = {"user_claim": "sub", "allowed_redirect_uris": REDIRECT, "oidc_scopes": "profile",
            "groups_claim": "groups", "token_policies": "team"}  # fmt: skip
    assert (await store.ask("POST", "auth/oidc/role/people", body))[0] == 204
    issuer.claims = {"groups": ["g"]}
    return store


async def begin(store, **body):
    sent = {"role": "people", "redirect_uri": REDIRECT, "client_nonce": "cn", **body}
    return await store.ask("POST", "auth/oidc/oidc/auth_url", sent, token="")


async def end(store, **query):
    sent = "&".join(f"{key}={each}" for key, each in {"client_nonce": "cn", **query}.items())
    return await store.ask("GET", f"auth/oidc/oidc/callback?{sent}", token="")


async def test_a_person_comes_back_with_a_code(oidc, issuer) -> None:
    url = (await begin(oidc))[1]["data"]["auth_url"]
    assert url.startswith(issuer.url + "/authorize?")
    for part in ("code_challenge_method=S256", "scope=openid+profile", "response_type=code"):
        assert part in url
    back = await issuer.go(url)
    status, said = await end(oidc, **back)
    assert status == 200, said
    assert said["auth"]["policies"] == ["default", "team"]
    assert (await end(oidc, **back))[0] == 400  # the issuer takes a code once
    shown = (await oidc.ask("GET", "auth/oidc/config"))[1]["data"]
    assert "oidc_client_secret" not in shown
    assert issuer.secret not in str(oidc.records())
    assert said["auth"]["client_token"] not in str(oidc.records())


async def test_whoever_began_the_login_ends_it(oidc, issuer) -> None:
    back = await issuer.go((await begin(oidc))[1]["data"]["auth_url"])
    assert (await end(oidc, **back, client_nonce="other"))[1] == {
        "errors": ["invalid client_nonce"]
    }
    assert (await end(oidc, code="x", state="forged"))[1] == {
        "errors": ["Expired or missing OAuth state."]
    }
    assert (await end(oidc, code="x"))[0] == 400
    assert (await end(oidc, state=back["state"]))[0] == 400
    assert (await end(oidc, state=back["state"], error="access_denied"))[0] == 400
    oidc.clock.step_wall(601)
    assert "Expired" in (await end(oidc, **back))[1]["errors"][0]


FORM = "application/x-www-form-urlencoded"


async def post_form(store, **fields: str):
    sent = urlencode(fields).encode()
    return await store.ask(
        "POST", "auth/oidc/oidc/callback", sent, token="", Content_Type=FORM
    )  # fmt: skip


async def configure(store, issuer, **more: str) -> None:
    body = {
        "oidc_discovery_url": issuer.url, "oidc_client_id": issuer.client,
        "oidc_client_secret": issuer.secret, "default_role": "people",
        "jwt_supported_algs": ["ES256"], **more,
    }  # fmt: skip
    assert (await store.ask("POST", "auth/oidc/config", body))[0] == 204


async def test_a_form_is_handed_on_and_the_login_finished_by_who_began_it(oidc, issuer) -> None:
    """As Vault's command line does it: the form is posted, then the same is asked by a GET."""
    await configure(oidc, issuer, oidc_response_mode="form_post")
    url = (await begin(oidc))[1]["data"]["auth_url"]
    asked = parse_qs(urlsplit(url).query)
    assert (asked["response_mode"], asked["response_type"]) == (["form_post"], ["code"])
    back = await issuer.go(url)
    # An issuer's own form has no nonce, and it gets no token.
    for nonce in ({}, {"client_nonce": "cn"}, {"client_nonce": "other"}):
        status, said = await post_form(oidc, **back, **nonce, id_token="")
        assert (status, "under way" in said) == (200, True), said
    assert (await end(oidc, **back, client_nonce="other"))[0] == 400
    status, said = await end(oidc, **back, id_token="")
    assert (status, said["warnings"]) == (200, None), said
    assert said["auth"]["policies"] == ["default", "team"]


async def test_a_form_of_no_login_that_is_under_way_is_refused(oidc, issuer) -> None:
    await configure(oidc, issuer, oidc_response_mode="form_post")
    back = await issuer.go((await begin(oidc))[1]["data"]["auth_url"])
    assert (await post_form(oidc, **back))[0] == 200
    assert (await post_form(oidc, code="x", state="forged"))[1] == {
        "errors": ["Expired or missing OAuth state."]
    }
    assert (await post_form(oidc, code="x"))[0] == 400
    assert (await post_form(oidc, state=back["state"]))[0] == 400
    refused = await post_form(oidc, state=back["state"], error="access_denied")
    assert refused[1] == {"errors": ["the OIDC provider refused the login"]}
    oidc.clock.step_wall(601)
    assert "Expired" in (await post_form(oidc, **back))[1]["errors"][0]


async def test_a_mount_that_asks_for_no_form_takes_none(oidc, issuer) -> None:
    for mode in ("", "query"):
        await configure(oidc, issuer, oidc_response_mode=mode)
        url = (await begin(oidc))[1]["data"]["auth_url"]
        assert "response_mode" not in url
        assert (await post_form(oidc, **await issuer.go(url)))[0] == 405


async def test_an_issuer_signs_with_rs256_where_nothing_else_is_said(oidc, issuer) -> None:
    """For OpenID Connect alone: a role for tokens takes any algorithm with a public key."""
    body = {
        "oidc_discovery_url": issuer.url, "oidc_client_id": issuer.client,
        "oidc_client_secret": issuer.secret, "default_role": "people",
    }  # fmt: skip
    assert (await oidc.ask("POST", "auth/oidc/config", body))[0] == 204

    async def log_in() -> tuple[int, object]:
        return await end(oidc, **await issuer.go((await begin(oidc))[1]["data"]["auth_url"]))

    status, said = await log_in()
    assert (status, "error validating token" in said["errors"][0]) == (400, True)
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": "x"}
    assert (await oidc.ask("POST", "auth/oidc/role/job", role))[0] == 204
    body = {"role": "job", "jwt": issuer.sign(aud="x")}
    assert (await oidc.ask("POST", "auth/oidc/login", body, token=""))[0] == 200
    issuer.rotate(usual=True)
    await oidc.clock.advance(11)
    assert (await log_in())[0] == 200


async def test_the_state_of_one_mount_is_worth_nothing_on_another(oidc, issuer) -> None:
    await oidc.ask("POST", "sys/auth/second", {"type": "oidc"})
    config = {
        "oidc_discovery_url": issuer.url,
        "oidc_client_id": issuer.client,
        "oidc_client_secret": "s",
    }
    await oidc.ask("POST", "auth/second/config", config)
    back = await issuer.go((await begin(oidc))[1]["data"]["auth_url"])
    query = f"state={back['state']}&code={back['code']}&client_nonce=cn"
    assert (await oidc.ask("GET", f"auth/second/oidc/callback?{query}", token=""))[0] == 400


@pytest.mark.parametrize("wrong", ["nonce", "audience", "azp", "info", "late"])
async def test_an_id_token_for_somebody_else_is_refused(oidc, issuer, wrong) -> None:
    back = await issuer.go((await begin(oidc))[1]["data"]["auth_url"])
    if wrong == "nonce":
        issuer.nonce = "replayed"
    elif wrong == "audience":
        issuer.audience = "another-client"
    elif wrong == "azp":
        issuer.claims["azp"] = "another-client"
    elif wrong == "info":
        issuer.info["sub"] = "bob"
    else:
        issuer.claims["exp"] = int(oidc.clock.now()) - 61
    assert (await end(oidc, **back))[0] == 400


async def test_a_login_has_ten_minutes_and_the_issuers_code_is_shown(oidc, issuer) -> None:
    url = (await begin(oidc))[1]["data"]["auth_url"]
    late = await issuer.go((await begin(oidc))[1]["data"]["auth_url"])
    oidc.clock.step_wall(599)
    assert (await end(oidc, **await issuer.go(url)))[0] == 200
    oidc.clock.step_wall(1)
    said = {"errors": ["Expired or missing OAuth state."]}
    assert await end(oidc, **late) == (400, said)
    url = (await begin(oidc))[1]["data"]["auth_url"]
    back = await issuer.go(url)
    issuer.secret = "another"
    status, said = await end(oidc, **back)
    assert status == 400
    assert said["errors"] == [
        f"Error exchanging oidc code: {issuer.url}/token answered with status 400 (invalid_grant)"
    ]


async def test_a_login_needs_no_user_info_that_its_role_does_not(oidc, issuer) -> None:
    issuer.no_info = True
    status, said = await end(oidc, **await issuer.go((await begin(oidc))[1]["data"]["auth_url"]))
    assert status == 200, said
    assert said["warnings"] == [
        f"the user info could not be read: {issuer.url}/userinfo answered with status 503"
    ]
    issuer.claims = {}
    status, said = await end(oidc, **await issuer.go((await begin(oidc))[1]["data"]["auth_url"]))
    assert status == 400
    assert '"groups" claim not found in token; the user info could not be' in said["errors"][0]
    issuer.no_info, issuer.info = False, {"groups": ["g"]}
    status, said = await end(oidc, **await issuer.go((await begin(oidc))[1]["data"]["auth_url"]))
    assert (status, said["warnings"]) == (200, None)


def test_cve_2026_33757_a_redirect_goes_where_the_role_says() -> None:
    allowed = [REDIRECT, "https://app.example/callback"]
    assert is_allowed_redirect("http://localhost:50000/oidc/callback", allowed)
    assert is_allowed_redirect("https://app.example/callback", allowed)
    for uri in (
        "http://localhost:8250/other", "https://localhost:8250/oidc/callback",
        "http://localhost.evil/oidc/callback", "http://user@localhost:1/oidc/callback",
        "http://localhost:8250/oidc/callback?x=1", "https://app.example:444/callback",
        "https://app.example/callback/", "http://127.0.0.1:8250/oidc/callback",
    ):  # fmt: skip
        assert not is_allowed_redirect(uri, allowed), uri
    assert not is_allowed_redirect("http://[", allowed)
    assert is_allowed_redirect("http://localhost:1/oidc/callback", ["http://[", REDIRECT])


async def test_cve_2026_33757_an_unknown_redirect_is_refused_before_anybody_is_sent(oidc) -> None:
    assert (await begin(oidc, redirect_uri="https://evil.example/"))[0] == 400
    assert (await begin(oidc, redirect_uri=""))[0] == 400
    assert (await begin(oidc, role="none"))[0] == 400
