"""Vault's documented fields of each auth method: kept and shown, or refused with a reason.

That a field does what it says is in the test of its method; what all methods share is here.
Fields: https://developer.hashicorp.com/vault/api-docs/auth, as of 1.16.
"""

import time
from collections.abc import Iterator

import pytest
from tests.store.test_cert_auth import Maker, der, pem
from tests.store.test_kubernetes_auth import jwt as kubernetes_jwt

from strongroom.model.errors import Invalid
from strongroom.model.principal import ReviewedToken
from strongroom.store.auth.role_fields import MOST_NETWORKS, check_cidrs, covered, overlap, within

REFUSED = object()
NETWORKS = ["10.0.0.0/8"]
TOKEN_FIELDS = {
    "token_ttl": 60, "token_max_ttl": 120, "token_policies": ["a"], "token_bound_cidrs": NETWORKS,
    "token_explicit_max_ttl": 30, "token_no_default_policy": True, "token_num_uses": 2,
    "token_period": 300, "token_type": "batch",
}  # fmt: skip
JWT_CONFIG = {
    "oidc_discovery_url": None, "oidc_discovery_ca_pem": None, "oidc_client_id": None,
    "oidc_client_secret": None, "oidc_response_mode": "query", "oidc_response_types": ["code"],
    "jwks_url": None, "jwks_ca_pem": None, "jwks_pairs": None, "jwt_validation_pubkeys": None,
    "bound_issuer": "https://i", "jwt_supported_algs": ["RS256"], "default_role": "app",
    "provider_config": REFUSED, "namespace_in_state": False,
}  # fmt: skip
JWT_ROLE = {
    "role_type": "jwt", "bound_audiences": ["x"], "user_claim": "sub",
    "user_claim_json_pointer": True, "clock_skew_leeway": 30, "expiration_leeway": 31,
    "not_before_leeway": 32, "bound_subject": "ada", "bound_claims": {"a": ["b"]},
    "bound_claims_type": "glob", "groups_claim": "groups", "claim_mappings": {"a": "b"},
    "oidc_scopes": ["profile"], "allowed_redirect_uris": ["http://localhost"],
    "verbose_oidc_logging": REFUSED, "max_age": 60, **TOKEN_FIELDS,
}  # fmt: skip
KUBERNETES_CONFIG = {
    "kubernetes_host": "https://c", "kubernetes_ca_cert": None, "token_reviewer_jwt": None,
    "pem_keys": None, "disable_local_ca_jwt": True, "disable_iss_validation": False,
    "issuer": "https://i", "use_annotations_as_alias_metadata": True,
}  # fmt: skip
KUBERNETES_ROLE = {
    "bound_service_account_names": ["app"], "bound_service_account_namespaces": ["tour"],
    "bound_service_account_namespace_selector": '{"matchLabels":{"a":"b"}}', "audience": "x",
    "alias_name_source": "serviceaccount_name", **TOKEN_FIELDS,
}  # fmt: skip
CERT_ROLE = {
    "certificate": None, "allowed_names": ["a"], "allowed_common_names": ["a"],
    "allowed_dns_sans": ["a"], "allowed_email_sans": ["a"], "allowed_uri_sans": ["a"],
    "allowed_organizational_units": ["a"], "required_extensions": ["1.2.3:a"],
    "allowed_metadata_extensions": ["1.2.3"], "display_name": "a", "ocsp_enabled": True,
    "ocsp_ca_certificates": None, "ocsp_servers_override": ["http://ocsp.example"],
    "ocsp_fail_open": True, "ocsp_query_all_servers": True, **TOKEN_FIELDS,
}  # fmt: skip
APPROLE = {
    "bind_secret_id": True, "secret_id_bound_cidrs": NETWORKS, "secret_id_num_uses": 3,
    "secret_id_ttl": 600, "local_secret_ids": True, **TOKEN_FIELDS,
}  # fmt: skip
CLASHING = ("token_period", "token_num_uses")  # What a batch token cannot have.


async def enable(store, kind: str) -> None:
    assert (await store.ask("POST", f"sys/auth/{kind}", {"type": kind}))[0] == 204


@pytest.mark.parametrize(
    ("kind", "path", "fields", "needed"),
    [
        ("jwt", "role/r", JWT_ROLE, {"role_type": "jwt", "user_claim": "s", "bound_subject": "b"}),
        (
            "kubernetes", "role/r", KUBERNETES_ROLE,
            {"bound_service_account_names": "n", "bound_service_account_namespaces": "m"},
        ),
        ("kubernetes", "config", KUBERNETES_CONFIG, {"kubernetes_host": "https://d"}),
        ("approle", "role/r", APPROLE, {}),
        ("userpass", "users/r", TOKEN_FIELDS, {"password": "pw"}),
        ("cert", "certs/r", CERT_ROLE, {}),
        (
            "cert", "config",
            {
                "disable_binding": True, "enable_identity_alias_metadata": True,
                "ocsp_cache_size": 7,
            }, {},
        ),
    ],
)  # fmt: skip
async def test_each_documented_field_is_kept_or_refused(store, kind, path, fields, needed) -> None:
    await enable(store, kind)
    if kind == "cert" and path != "config":
        needed = {"certificate": pem(Maker(store.clock.now()).certificate)}
    for name, value in fields.items():
        body = {**needed, name: "asked for" if value is REFUSED else value}
        status, said = await store.ask("POST", f"auth/{kind}/{path}", body)
        if value is REFUSED:
            assert (status, f"'{name}' is not served; " in said["errors"][0]) == (400, True)
        elif value is not None:
            assert status == 204, (name, said)
            shown = (await store.ask("GET", f"auth/{kind}/{path}"))[1]["data"]
            assert shown[name] == value, name
        await store.ask("DELETE", f"auth/{kind}/{path}")


async def test_each_field_of_a_jwt_configuration_is_kept_or_refused(store, issuer) -> None:
    await enable(store, "jwt")
    authority = pem(Maker(store.clock.now()).certificate)
    keys = f"{issuer.url}/keys"
    given = [
        {"oidc_discovery_url": issuer.url, "oidc_client_id": "c", "oidc_client_secret": "marked"},
        {"oidc_discovery_url": issuer.url, "oidc_discovery_ca_pem": authority},
        {"jwks_url": keys, "jwks_ca_pem": authority},
        {"jwks_pairs": [{"jwks_url": keys, "jwks_ca_pem": authority}]},
        {"jwt_validation_pubkeys": [issuer.pem]},
        *(
            {"jwks_url": keys, name: value}
            for name, value in JWT_CONFIG.items()
            if value is not None and value is not REFUSED
        ),
    ]
    seen = set()
    for body in given:
        status, said = await store.ask("POST", "auth/jwt/config", body)
        assert status == 204, (body, said)
        shown = (await store.ask("GET", "auth/jwt/config"))[1]["data"]
        assert "marked" not in str(shown)
        for name in body.keys() - {"oidc_client_secret"}:
            assert shown[name] == body[name]
        seen |= body.keys()
    assert JWT_CONFIG.keys() - seen == {"provider_config"}
    for body in (
        {"provider_config": {"provider": "azure"}},
        {"oidc_response_mode": "fragment"},
        {"oidc_response_types": ["id_token"]},
        {"oidc_response_types": ["token"]},
        {"oidc_response_mode": "form_post", "oidc_response_types": ["code", "id_token"]},
        {"jwks_ca_pem": "none"},
    ):
        sent = {"jwt_validation_pubkeys": issuer.pem, **body}
        assert (await store.ask("POST", "auth/jwt/config", sent))[0] == 400


async def test_what_asks_for_nothing_is_not_refused(store, issuer) -> None:
    await enable(store, "jwt")
    body = {"jwks_url": f"{issuer.url}/keys", "provider_config": {}, "oidc_response_types": []}
    assert (await store.ask("POST", "auth/jwt/config", body))[0] == 204
    body = {"role_type": "jwt", "user_claim": "s", "bound_subject": "b"}
    body["verbose_oidc_logging"] = "false"
    assert (await store.ask("POST", "auth/jwt/role/r", body))[0] == 204


async def test_sizes_of_caches_that_are_not_there_are_said_to_be_ignored(store) -> None:
    await enable(store, "cert")
    status, said = await store.ask("POST", "auth/cert/config", {"role_cache_size": 7})
    assert (status, "role_cache_size" in said["warnings"][0]) == (200, True)
    assert (await store.ask("POST", "auth/cert/config", {"disable_binding": True}))[0] == 204


async def test_claims_are_mapped_by_words_too(store) -> None:
    await enable(store, "jwt")
    body = {
        "role_type": "jwt", "user_claim": "s", "bound_subject": "b",
        "claim_mappings": ["email=mail", "/org/unit=unit"],
    }  # fmt: skip
    assert (await store.ask("POST", "auth/jwt/role/r", body))[0] == 204
    _, said = await store.ask("GET", "auth/jwt/role/r")
    assert said["data"]["claim_mappings"] == {"email": "mail", "/org/unit": "unit"}
    body["claim_mappings"] = "email"
    assert (await store.ask("POST", "auth/jwt/role/r", body))[0] == 400


# What the fields that all methods share do at a login


class Method:
    """A mount of a kind, with one role that is written anew and logged in with."""

    def __init__(self, store, kind: str, issuer) -> None:
        self.store, self.kind, self.issuer = store, kind, issuer
        self._maker = Maker(store.clock.now())
        self._secret: dict[str, str] = {}

    async def ask(self, path: str, body=None, token: str | None = None, method: str = "POST"):
        return await self.store.ask(method, f"auth/{self.kind}/{path}", body, token)

    async def enable(self) -> None:
        await enable(self.store, self.kind)
        if self.kind == "jwt":
            await self.ask("config", {"jwks_url": f"{self.issuer.url}/keys"})
        elif self.kind == "kubernetes":
            await self.ask("config", {"kubernetes_host": "https://c"})
            self.store.reviewer.known[kubernetes_jwt("app")] = ReviewedToken("tour", "app", "uid")
        elif self.kind == "cert":
            self.store.certificate = der(self._maker.client())

    async def role(self, **fields) -> None:
        path, body = {
            "userpass": ("users/r", {"password": "pw"}),
            "approle": ("role/r", {"role_id": "rid", "bind_secret_id": False}),
            "jwt": ("role/r", {"role_type": "jwt", "user_claim": "sub", "bound_audiences": "x"}),
            "kubernetes": (
                "role/r",
                {"bound_service_account_names": "app", "bound_service_account_namespaces": "tour"},
            ),
            "cert": ("certs/r", {"certificate": pem(self._maker.certificate)}),
        }[self.kind]
        if self.kind == "approle":
            body["secret_id_bound_cidrs"] = "127.0.0.0/8"
        await self.ask(path, method="DELETE")
        status, said = await self.ask(path, {**body, "token_policies": "a", **fields})
        assert status == 204, said

    async def login(self):
        path, body = {
            "userpass": ("login/r", {"password": "pw"}),
            "approle": ("login", {"role_id": "rid"}),
            "jwt": ("login", {"role": "r", "jwt": self.issuer.sign(aud="x")}),
            "kubernetes": ("login", {"role": "r", "jwt": kubernetes_jwt("app")}),
            "cert": ("login", {"name": "r"}),
        }[self.kind]
        return await self.ask(path, body, token="")

    async def auth(self, **fields):
        """What a login with a role of these fields gives."""
        await self.role(**fields)
        status, said = await self.login()
        assert status == 200, said
        return said["auth"]


@pytest.fixture(params=["userpass", "approle", "jwt", "kubernetes", "cert"])
async def method(request, store, issuer) -> Method:
    made = Method(store, request.param, issuer)
    await made.enable()
    return made


async def test_times_of_the_role_are_those_of_the_token(method) -> None:
    auth = await method.auth(token_ttl=60, token_max_ttl=120)
    assert (auth["lease_duration"], auth["renewable"]) == (60, True)
    _, renewed = await method.store.ask(
        "POST", "auth/token/renew-self", {"increment": "1h"}, auth["client_token"]
    )
    assert 60 < renewed["auth"]["lease_duration"] <= 120
    auth = await method.auth(token_ttl=60, token_explicit_max_ttl=30)
    assert auth["lease_duration"] == 30
    auth = await method.auth(token_period=300)
    _, looked = await method.store.ask("GET", "auth/token/lookup-self", token=auth["client_token"])
    assert (auth["lease_duration"], looked["data"]["period"]) == (300, 300)


async def test_policies_uses_and_type_are_the_roles(method) -> None:
    assert (await method.auth())["policies"] == ["a", "default"]
    assert (await method.auth(token_no_default_policy=True))["policies"] == ["a"]
    token = (await method.auth(token_num_uses=2))["client_token"]
    asked = [
        (await method.store.ask("GET", "auth/token/lookup-self", token=token))[0] for _ in range(3)
    ]
    assert asked == [200, 200, 403]
    auth = await method.auth(token_type="batch")
    assert (auth["token_type"], auth["client_token"][:4]) == ("batch", "hvb.")


async def test_a_login_comes_from_the_roles_networks(method) -> None:
    assert (await method.auth(token_bound_cidrs="127.0.0.0/8"))["client_token"]
    await method.role(token_bound_cidrs="10.0.0.0/8")
    status, said = await method.login()
    assert (status, said["errors"]) == (403, ["permission denied"])


async def test_a_renewal_holds_to_the_role_as_it_is_now(method) -> None:
    token = (await method.auth())["client_token"]

    async def renew() -> int:
        return (await method.store.ask("POST", "auth/token/renew-self", {}, token))[0]

    assert await renew() == 200
    await method.role(token_policies="b")
    assert await renew() == 400
    await method.role()
    assert await renew() == 200
    await method.ask(
        {"userpass": "users/r", "cert": "certs/r"}.get(method.kind, "role/r"), method="DELETE"
    )
    assert await renew() == 400


async def test_a_role_shows_the_old_names_that_it_was_written_with(method) -> None:
    """Programs that know no others compare; ansible-modules-hashivault wrote at every run."""
    path = {"userpass": "users/r", "cert": "certs/r"}.get(method.kind, "role/r")

    async def shown() -> dict:
        data = (await method.ask(path, method="GET"))[1]["data"]
        assert "written_as" not in data
        return {name: data.get(name) for name in ("policies", "ttl", "period", "token_ttl")}

    await method.role()
    plain = {"policies": None, "ttl": None, "period": None, "token_ttl": 0}
    assert await shown() == plain
    assert (await method.ask(path, {"policies": "p,q", "ttl": "1m", "period": 0}))[0] == 204
    written = {"policies": ["p", "q"], "ttl": 60, "period": None, "token_ttl": 60}
    assert await shown() == written
    assert (await method.ask(path, {"token_type": "service"}))[0] == 204
    assert await shown() == written
    assert (await method.ask(path, {"token_policies": "a", "token_ttl": 0}))[0] == 204
    assert await shown() == plain


class Read(list[str]):
    """A list that counts how often it was read through."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()


def test_what_two_lists_of_networks_share_is_found_by_reading_each_once() -> None:
    """A login asks: to read one again for each of the other held up everybody for a second."""
    networks = Read(["10.0.0.0/8", "::/0", "10.0.0.1", "192.168.0.0/16"])
    others = Read(["10.1.0.0/16", "10.0.0.0/24", "::1", "0.0.0.0/1"])
    found = ["10.1.0.0/16", "10.0.0.0/24", "10.0.0.0/8", "::1/128", "10.0.0.1/32"]
    assert sorted(overlap(networks, others)) == sorted(found)
    assert (networks.times, others.times) == (1, 1)
    assert overlap(["10.0.0.0/8"], ["::/0", "11.0.0.0/8"]) == []


@pytest.mark.parametrize(
    ("address", "inside"),
    [("10.1.2.3", True), ("192.168.0.9", False), ("192.168.0.8", True), ("::1", True), ("::2", False),
     ("11.0.0.1", False), ("::ffff:10.1.2.3", False), ("nowhere", False)],
)  # fmt: skip
def test_an_address_is_looked_for_among_networks_of_both_kinds(address, inside) -> None:
    networks = ["10.0.0.0/8", "192.168.0.8", "::1/128", "10.9.9.9/16"]
    assert within(address, networks) is inside
    assert within(address, []) is True
    assert covered(["10.0.0.0/9", "::1"], networks)
    assert not covered(["10.0.0.0/7"], networks)


@pytest.mark.parametrize(
    ("network", "address", "inside"),
    [
        ("10.0.0.0/255.0.0.0", "10.1.2.3", True), ("10.0.0.0/0.255.255.255", "10.1.2.3", True),
        ("10.9.9.9/08", "10.1.2.3", True), ("0.0.0.0/0", "10.1.2.3", True),
        ("0.0.0.0/0", "::1", False), ("::/0", "10.1.2.3", False), ("2001:DB8::/32", "2001:db8::1", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", True), ("2001:db8::1", "2001:db8::1", True),
        ("010.0.0.0/8", "10.1.2.3", False), ("10.0.0.0/33", "10.1.2.3", False),
        ("10.0.0.0/", "10.0.0.0", False), ("10.0.0.0/٨", "10.1.2.3", False),
    ],
)  # fmt: skip
def test_every_form_of_a_network_means_what_it_says(network, address, inside) -> None:
    assert within(address, [network]) is inside


def test_a_long_list_of_networks_costs_no_more_at_each_use_of_a_token() -> None:
    """Whoever may make tokens could have each request with one of them take seconds."""
    networks = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(MOST_NETWORKS)]
    assert check_cidrs(networks) == networks
    begun = time.process_time()
    assert not any(within("127.0.0.1", networks) for _ in range(100))
    assert covered(networks, networks)
    assert len(overlap(networks, networks)) == MOST_NETWORKS
    assert time.process_time() - begun < 5
    with pytest.raises(Invalid, match="at most 10,000 networks"):
        check_cidrs([*networks, "127.0.0.1"])


async def test_a_role_with_more_networks_than_are_taken_now_can_be_changed_otherwise(store) -> None:
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    many = ["10.0.0.0/8"] * (MOST_NETWORKS + 1)
    path = "auth/approle/role/one"
    assert (await store.ask("PUT", path, {"token_bound_cidrs": many}))[0] == 400
    assert (await store.ask("PUT", path, {"token_bound_cidrs": many[1:]}))[0] == 204
    mount = (await store.ask("GET", "sys/auth"))[1]["data"]["approle/"]["uuid"]

    def as_before(transaction) -> None:
        role = transaction.document(mount, "role", "one")
        transaction.put_document(mount, "role", "one", {**role, "token_bound_cidrs": many})

    await store.engine.transact(as_before)
    assert (await store.ask("PUT", path, {"token_ttl": 60}))[0] == 204
    _, said = await store.ask("GET", path)
    assert (len(said["data"]["token_bound_cidrs"]), said["data"]["token_ttl"]) == (len(many), 60)
