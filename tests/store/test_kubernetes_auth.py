"""Kubernetes auth: what the review said is on the token, and who is not bound is refused."""

import base64
import json

import pytest
from tests.store.test_cert_auth import Maker, pem

from strongroom.model.principal import ReviewedToken
from strongroom.model.secret import Secret
from strongroom.store.auth.kubernetes_cluster import PodIdentity


def jwt(name: str, expires: float = 9e9) -> str:
    """Something shaped like a service-account token."""
    claims = base64.urlsafe_b64encode(json.dumps({"sub": name, "exp": expires}).encode())
    return f"e30.{claims.decode().rstrip('=')}.c2ln"


@pytest.fixture
async def mounted(store):
    await store.ask("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    await store.ask(
        "POST",
        "auth/kubernetes/config",
        {"kubernetes_host": "https://cluster", "token_reviewer_jwt": "marked-reviewer"},
    )
    await store.ask(
        "POST",
        "auth/kubernetes/role/App",
        {
            "bound_service_account_names": "app",
            "bound_service_account_namespaces": ["tour", "team-*"],
            "audience": "strongroom",
            "policies": ["reader"],
            "ttl": "10m",
        },
    )
    store.reviewer.known[jwt("app")] = ReviewedToken(
        "tour", "app", "uid", ("strongroom",), "app-1", "pod-uid", "node1", "JTI=1"
    )
    store.reviewer.known[jwt("other")] = ReviewedToken("tour", "other", "uid2")
    store.reviewer.known[jwt("far")] = ReviewedToken("elsewhere", "app", "uid3")
    return store


async def test_tokens_from_files_end_in_a_line_break(mounted) -> None:
    """`kubectl create token` writes one, and no header can have it."""
    body = {"kubernetes_host": "https://cluster", "token_reviewer_jwt": "from-a-file\n"}
    assert (await mounted.ask("POST", "auth/kubernetes/config", body))[0] == 204
    path = "auth/kubernetes/login"
    login = {"role": "app", "jwt": jwt("app") + "\n"}
    assert (await mounted.ask("POST", path, login, token=""))[0] == 200
    assert mounted.reviewer.servers[-1].reviewer.reveal_text() == "from-a-file"
    login["jwt"] = jwt("app").replace(".", "\n.", 1)
    assert (await mounted.ask("POST", path, login, token=""))[0] == 403
    body["token_reviewer_jwt"] = "two\nlines"
    assert (await mounted.ask("POST", "auth/kubernetes/config", body))[0] == 400


async def test_a_login_keeps_pod_node_and_token_id(mounted) -> None:
    status, said = await mounted.ask(
        "POST", "auth/kubernetes/login", {"role": "app", "jwt": jwt("app")}, token=""
    )
    assert status == 200
    auth = said["auth"]
    assert auth["policies"] == ["default", "reader"]
    assert auth["lease_duration"] == 600
    assert auth["metadata"]["pod_uid"] == "pod-uid"
    assert mounted.reviewer.asked == [("https://cluster", ("strongroom",))]
    _, looked = await mounted.ask("GET", "auth/token/lookup-self", token=auth["client_token"])
    assert looked["data"]["display_name"] == "kubernetes-tour-app"
    assert looked["data"]["meta"]["token_id"] == "JTI=1"
    record = mounted.records()[-1]
    assert record["auth"]["metadata"]["node_name"] == "node1"
    login = next(
        each
        for each in mounted.records()
        if each["request"]["path"].endswith("/login") and each["type"] == "response"
    )
    assert login["response"]["auth"]["metadata"]["pod_name"] == "app-1"
    assert auth["client_token"] not in str(mounted.records())


@pytest.mark.parametrize(
    ("role", "token", "status"),
    [
        ("", jwt("app"), 400),
        ("app", "", 400),
        ("missing", jwt("app"), 400),
        ("app", jwt("other"), 403),
        ("app", jwt("far"), 403),
        ("app", jwt("unknown"), 403),
        ("app", jwt("app", 1.0), 403),
        ("app", "no jwt at all", 403),
    ],
)
async def test_who_is_not_bound_is_refused(mounted, role: str, token: str, status: int) -> None:
    answer = await mounted.ask(
        "POST", "auth/kubernetes/login", {"role": role, "jwt": token}, token=""
    )
    assert answer[0] == status


async def test_the_reviewer_is_never_shown(mounted) -> None:
    _, said = await mounted.ask("GET", "auth/kubernetes/config")
    assert said["data"]["token_reviewer_jwt_set"] is True
    assert "marked-reviewer" not in str(said) + str(mounted.records())
    assert (await mounted.ask("LIST", "auth/kubernetes/role"))[1]["data"]["keys"] == ["app"]
    assert (
        await mounted.ask("POST", "auth/kubernetes/role/x", {"bound_service_account_names": "a"})
    )[0] == 400
    await mounted.ask("DELETE", "auth/kubernetes/role/app")
    assert (await mounted.ask("GET", "auth/kubernetes/role/app")) == (404, {"errors": []})


@pytest.fixture
async def local(store, issuer):
    await store.ask("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    config = {"kubernetes_host": issuer.url, "token_validation": "local"}
    assert (await store.ask("POST", "auth/kubernetes/config", config))[0] == 204
    body = {
        "bound_service_account_names": "app", "bound_service_account_namespaces": "tour",
        "audience": "strongroom",
    }  # fmt: skip
    await store.ask("POST", "auth/kubernetes/role/app", body)
    return store


def bound(**claims):
    return {
        "aud": ["strongroom"],
        "jti": "one",
        "kubernetes.io": {
            "namespace": "tour",
            "serviceaccount": {"name": "app", "uid": "sa-uid"},
            "pod": {"name": "app-1", "uid": "pod-uid"},
            "node": {"name": "node1"},
        },
        **claims,
    }


async def local_login(store, token):
    return await store.ask("POST", "auth/kubernetes/login", {"role": "app", "jwt": token}, token="")


async def test_a_token_is_checked_by_the_clusters_keys_without_asking_it(local, issuer) -> None:
    status, said = await local_login(local, issuer.sign(**bound()))
    assert status == 200, said
    metadata = said["auth"]["metadata"]
    assert metadata["pod_name"] == "app-1"
    assert metadata["token_id"] == "JTI=one"
    assert local.reviewer.asked == []
    for claims in (
        bound(aud="other"), bound(aud=None), bound(exp=1), {"aud": "strongroom"},
        bound(**{"kubernetes.io": {"namespace": "tour"}}),
    ):  # fmt: skip
        assert (await local_login(local, issuer.sign(**claims)))[0] == 403
    known = issuer.key_id
    issuer.rotate()
    issuer.key_id = known
    assert (await local_login(local, issuer.sign(**bound())))[0] == 403


async def test_keys_may_be_given_and_the_issuer_bound(local, issuer) -> None:
    config = {
        "kubernetes_host": "https://away", "token_validation": "local",
        "pem_keys": [issuer.pem], "issuer": issuer.url,
    }  # fmt: skip
    assert (await local.ask("POST", "auth/kubernetes/config", config))[0] == 204
    assert (await local_login(local, issuer.sign(**bound())))[0] == 200
    assert (await local_login(local, issuer.sign(**bound(iss="x"))))[0] == 403
    for wrong in ({"token_validation": "odd"}, {"pem_keys": ["none"]}):
        assert (await local.ask("POST", "auth/kubernetes/config", {**config, **wrong}))[0] == 400
    await local.ask("POST", "auth/kubernetes/role/app", {"audience": ""})
    status, said = await local_login(local, issuer.sign(**bound()))
    assert status == 403
    assert "role-needs-audience" in said["errors"][0]


async def test_an_alias_is_by_uid_or_by_name(mounted) -> None:
    async def alias() -> str:
        body = {"role": "app", "jwt": jwt("app")}
        said = (await mounted.ask("POST", "auth/kubernetes/login", body, token=""))[1]
        entity = said["auth"]["entity_id"]
        shown = (await mounted.ask("GET", f"identity/entity/id/{entity}"))[1]["data"]
        return shown["aliases"][0]["name"]

    assert await alias() == "uid"
    body = {"alias_name_source": "serviceaccount_name"}
    assert (await mounted.ask("POST", "auth/kubernetes/role/app", body))[0] == 204
    assert await alias() == "tour/app"
    body = {"alias_name_source": "other"}
    assert (await mounted.ask("POST", "auth/kubernetes/role/app", body))[0] == 400


# Who asks the cluster, and what is looked at before it is asked


async def configure(store, **config) -> tuple[int, object]:
    return await store.ask(
        "POST", "auth/kubernetes/config", {"kubernetes_host": "https://cluster", **config}
    )


async def kubernetes_login(store, token: str) -> tuple[int, dict]:
    body = {"role": "app", "jwt": token}
    return await store.ask("POST", "auth/kubernetes/login", body, token="")


async def test_the_configured_reviewer_asks_else_the_pod_else_the_caller(mounted, issuer) -> None:
    authority = Maker(mounted.clock.now()).certificate
    mounted.reviewer.identity = PodIdentity(Secret("pod-token"), "pod-ca")
    for config, asking, ca in (
        ({"token_reviewer_jwt": "configured"}, "configured", "pod-ca"),
        ({}, "pod-token", "pod-ca"),
        ({"disable_local_ca_jwt": True}, jwt("app"), ""),
        ({"kubernetes_ca_cert": pem(authority)}, "pod-token", pem(authority)),
    ):
        assert (await configure(mounted, **config))[0] == 204
        assert (await kubernetes_login(mounted, jwt("app")))[0] == 200
        server = mounted.reviewer.servers[-1]
        assert (server.reviewer.reveal_text(), server.ca) == (asking, ca)


async def test_an_authority_that_cannot_be_read_is_kept_with_a_warning(mounted, issuer) -> None:
    asked = len(mounted.reviewer.servers)
    status, said = await configure(mounted, kubernetes_ca_cert="-----BEGIN CERTIFICATE-----\\nx")
    assert (status, len(said["warnings"])) == (200, 1)
    status, said = await kubernetes_login(mounted, jwt("app"))
    assert (status, len(mounted.reviewer.servers)) == (503, asked)
    assert "kubernetes_ca_cert holds no certificate that can be read" in said["errors"][0]


async def test_a_host_needs_no_scheme(mounted) -> None:
    for given, kept in (("cluster:6443/", "https://cluster:6443"), ("http://c", "http://c")):
        assert (await configure(mounted, kubernetes_host=given))[0] == 204
        _, said = await mounted.ask("GET", "auth/kubernetes/config")
        assert said["data"]["kubernetes_host"] == kept
    for wrong in ("", "ftp://cluster"):
        assert (await configure(mounted, kubernetes_host=wrong))[0] == 400


async def test_keys_and_issuer_are_looked_at_before_the_cluster_is_asked(mounted, issuer) -> None:
    known = mounted.reviewer.known
    signed = issuer.sign(iss="kubernetes/serviceaccount")
    known[signed] = known[jwt("app")]
    assert (await configure(mounted, pem_keys=issuer.pem))[0] == 204
    assert (await kubernetes_login(mounted, signed))[0] == 200
    status, said = await kubernetes_login(mounted, jwt("app"))
    assert (status, "bad-signature" in said["errors"][0]) == (403, True)
    assert len(mounted.reviewer.asked) == 1
    for config, token, wanted in (
        ({"disable_iss_validation": False}, signed, 200),
        ({"disable_iss_validation": False}, jwt("app"), 403),
        ({"disable_iss_validation": False, "issuer": "https://i"}, signed, 403),
        ({"issuer": "https://i"}, signed, 200),
    ):
        assert (await configure(mounted, **config))[0] == 204
        assert (await kubernetes_login(mounted, token))[0] == wanted, config


async def test_a_reviewer_that_may_not_ask_is_named(mounted) -> None:
    mounted.reviewer.forbidden = {"reviews"}
    status, said = await kubernetes_login(mounted, jwt("app"))
    assert status == 403
    assert "system:auth-delegator" in said["errors"][0]


# What a role binds


async def bind(store, **fields) -> tuple[int, object]:
    body = {"bound_service_account_names": "app", **fields}
    return await store.ask("POST", "auth/kubernetes/role/app", body)


SELECTOR = "bound_service_account_namespace_selector"


@pytest.mark.parametrize(
    ("selector", "status"),
    [
        ('{"matchLabels": {"stage": "prod"}}', 200),
        ("matchLabels:\n  stage: prod\n", 200),
        ({"matchLabels": {"stage": "prod", "team": "red"}}, 200),
        ('{"matchLabels": {"stage": "test"}}', 403),
        ('{"matchExpressions": [{"key": "team", "operator": "In", "values": ["red"]}]}', 200),
        ('{"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}', 403),
    ],
)
async def test_a_namespace_is_bound_by_its_labels(mounted, selector, status: int) -> None:
    mounted.reviewer.labels["elsewhere"] = {"stage": "prod", "team": "red"}
    fields = {"bound_service_account_namespaces": "", SELECTOR: selector}
    assert (await bind(mounted, **fields))[0] == 204
    assert (await kubernetes_login(mounted, jwt("far")))[0] == status
    _, said = await mounted.ask("GET", "auth/kubernetes/role/app")
    assert "matchL" in said["data"][SELECTOR] or "matchE" in said["data"][SELECTOR]


async def test_a_namespace_is_bound_by_its_name_or_its_labels(mounted) -> None:
    mounted.reviewer.labels = {"elsewhere": {"stage": "prod"}}
    fields = {
        "bound_service_account_namespaces": "tour",
        SELECTOR: '{"matchLabels":{"stage":"prod"}}',
    }
    assert (await bind(mounted, **fields))[0] == 204
    assert (await kubernetes_login(mounted, jwt("app")))[0] == 200
    assert (await kubernetes_login(mounted, jwt("far")))[0] == 200
    mounted.reviewer.labels = {}
    assert (await kubernetes_login(mounted, jwt("far")))[0] == 403
    # Whose name is bound needs no labels; who does need them hears that they cannot be read.
    mounted.reviewer.forbidden = {"namespaces"}
    assert (await kubernetes_login(mounted, jwt("app")))[0] == 200
    status, said = await kubernetes_login(mounted, jwt("far"))
    assert status == 503
    assert 'grant the reviewer "get" of namespaces' in said["errors"][0]


@pytest.mark.parametrize(
    "fields",
    [
        {"bound_service_account_namespaces": ""},
        {"bound_service_account_namespaces": ["*", "tour"]},
        {"bound_service_account_names": ["*", "app"]},
        {SELECTOR: "matchLabels: ["},
        {SELECTOR: "just text"},
        {SELECTOR: "matchLabels: &a {x: y}\nother: *a"},
        {SELECTOR: "matchLabels: !!bool maybe"},
        {SELECTOR: "matchLabels: !!int ''"},
        {SELECTOR: "matchLabels: !!timestamp noon"},
        {SELECTOR: "{}"},
        {SELECTOR: '{"matchLabels": {"a": 1}}'},
        {SELECTOR: '{"matchLabels": {"a": "b"}, "more": 1}'},
        {SELECTOR: '{"matchExpressions": [{"key": "a", "operator": "Near"}]}'},
        {SELECTOR: "{matchLabels: {a: b}, matchExpressions: [{key: a, operator: Near}]}"},
        {SELECTOR: '{"matchExpressions": [{"key": "a", "operator": "In"}]}'},
        {SELECTOR: '{"matchExpressions": ["a"]}'},
        {SELECTOR: " " * 9000 + "{matchLabels: {a: b}}"},
    ],
)
async def test_a_role_that_binds_nothing_or_nonsense_is_refused(mounted, fields) -> None:
    assert (await bind(mounted, **fields))[0] == 400


async def test_only_the_star_is_special_in_a_bound_name(mounted) -> None:
    for name, status in (("a*", 200), ("*p", 200), ("ap?", 403), ("[a]pp", 403), ("App", 403)):
        assert (await bind(mounted, bound_service_account_names=name))[0] == 204
        assert (await kubernetes_login(mounted, jwt("app")))[0] == status, name


async def test_annotations_become_metadata_of_the_alias(mounted) -> None:
    prefix = "vault.hashicorp.com/alias-metadata-"
    mounted.reviewer.notes["tour", "app"] = {prefix + "team": "red", "other": "x"}
    token = jwt("app")
    config = {"use_annotations_as_alias_metadata": True}
    assert (await configure(mounted, **config))[0] == 204
    _, said = await kubernetes_login(mounted, token)
    _, entity = await mounted.ask("GET", f"identity/entity/id/{said['auth']['entity_id']}")
    metadata = entity["data"]["aliases"][0]["metadata"]
    assert (metadata["team"], metadata["service_account_name"]) == ("red", "app")
    assert "other" not in str(metadata)
    mounted.reviewer.notes["tour", "app"] = {prefix + "service_account_uid": "another"}
    assert (await kubernetes_login(mounted, token))[0] == 400
    mounted.reviewer.forbidden = {"serviceaccounts"}
    status, said = await kubernetes_login(mounted, token)
    assert (status, 'grant the reviewer "get" of serviceaccounts' in said["errors"][0]) == (
        503,
        True,
    )
    assert (await configure(mounted))[0] == 204
    assert (await kubernetes_login(mounted, token))[0] == 200
