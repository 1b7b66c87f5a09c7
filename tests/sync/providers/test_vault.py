"""Logins of Vault stores: each method's request, against our own store or what plays the cloud."""

import asyncio
import base64
import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from strongroom.crypto.x509_dev import issue
from strongroom.kube.resource import SECRETS, SERVICE_ACCOUNTS
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.patterns import compile_pattern
from strongroom.sync.providers.contract import Find, PushTarget
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.providers.vault_fake import VaultFake
from strongroom.sync.spec import RemoteRef
from strongroom.wire.aws import AwsCredentials, AwsRequest, signed_headers
from strongroom.wire.http import Request, Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Listener
from strongroom.wire.tls import server_context

READ = 'path "secret/data/*" { capabilities = ["read"] }'


async def cluster(api, **secrets: str) -> None:
    """One Secret with what logins refer to, and a service account."""
    data = {key: base64.b64encode(each.encode()).decode() for key, each in secrets.items()}
    await api.create(SECRETS, {"metadata": {"name": "auth", "namespace": "n"}, "data": data})
    await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "app", "namespace": "n"}})


async def provider_of(api, clock, server: str, auth: dict | None, **more: Any) -> Any:
    environment = more.pop("environment", {})
    vault = {"path": "secret", "auth": auth, "server": server, **more}
    store = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"provider": {"vault": vault}}}
    # The operator lends its own identity to this namespace.
    return await Providers(Surroundings(api, clock, environment, ("n",)))(store, "n")


async def reads(provider: Any) -> bool:
    found = await provider.fetch(RemoteRef("db"))
    return found.data == {"p": "one"}


def key(name: str) -> dict[str, str]:
    return {"name": "auth", "key": name}


# our own store


@pytest.fixture
async def ours(store, api):
    await store.ask("POST", "secret/data/db", {"data": {"p": "one"}})
    await store.ask("PUT", "sys/policies/acl/read", {"policy": READ})
    return store


async def test_an_approle_logs_in_and_its_token_ends_with_the_store(ours, api, clock) -> None:
    await ours.ask("POST", "sys/auth/approle", {"type": "approle"})
    await ours.ask("POST", "auth/approle/role/app", {"token_policies": "read"})
    _, role = await ours.ask("GET", "auth/approle/role/app/role-id")
    _, made = await ours.ask("POST", "auth/approle/role/app/secret-id", {})
    await cluster(api, id=role["data"]["role_id"], secret=made["data"]["secret_id"])
    auth = {"appRole": {"path": "approle", "roleRef": key("id"), "secretRef": key("secret")}}
    provider = await provider_of(api, clock, ours.address, auth)
    assert await reads(provider)
    _, before = await ours.ask("LIST", "auth/token/accessors")
    await provider.close()
    _, after = await ours.ask("LIST", "auth/token/accessors")
    assert len(before["data"]["keys"]) == len(after["data"]["keys"]) + 1


async def test_a_feed_that_is_denied_is_told_apart_from_a_store_that_is_away(
    ours, api, clock
) -> None:
    policy = f'{READ}\npath "sys/events/subscribe/*" {{ capabilities = ["deny"] }}'
    await ours.ask("PUT", "sys/policies/acl/read", {"policy": policy})
    _, made = await ours.ask("POST", "auth/token/create", {"policies": ["read"]})
    await cluster(api, token=made["auth"]["client_token"])
    auth = {"tokenSecretRef": key("token")}
    provider = await provider_of(api, clock, ours.address, auth)
    with pytest.raises(Denied) as caught:
        await anext(provider.changes())
    assert caught.value.code == "feed-denied"
    await provider.close()


async def test_a_users_password_logs_in(ours, api, clock) -> None:
    await ours.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    body = {"password": "marked-password", "token_policies": "read"}
    await ours.ask("POST", "auth/userpass/users/app", body)
    await cluster(api, password="marked-password")
    auth = {"userPass": {"path": "userpass", "username": "app", "secretRef": key("password")}}
    provider = await provider_of(api, clock, ours.address, auth)
    assert await reads(provider)
    await provider.close()


async def test_a_token_of_the_users_own_is_left_alone(ours, api, clock) -> None:
    token = await ours.token_with(READ)
    await cluster(api, token=token)
    provider = await provider_of(api, clock, ours.address, {"tokenSecretRef": key("token")})
    assert await reads(provider)
    await provider.close()
    assert (await ours.ask("GET", "auth/token/lookup-self", token=token))[0] == 200


async def test_of_several_logins_the_first_in_order_is_used(ours, api, clock) -> None:
    token = await ours.token_with(READ)
    await cluster(api, token=token, password="x")
    user = {"path": "nowhere", "username": "app", "secretRef": key("password")}
    # A certificate that is not there would be looked for, if it were to log in.
    cert = {"clientCert": {"name": "gone"}, "secretRef": {"name": "gone"}}
    auth = {"userPass": user, "tokenSecretRef": key("token"), "cert": cert}
    provider = await provider_of(api, clock, ours.address, auth)
    assert await reads(provider)
    assert provider.traits.notes == (
        "spec.provider.vault.auth has userPass and cert besides tokenSecretRef, which is used",
    )
    await provider.close()


async def test_an_auth_method_that_is_not_there_is_never_a_secret_that_is_not(
    ours, api, clock
) -> None:
    await cluster(api, password="x")
    auth = {"userPass": {"path": "nowhere", "username": "app", "secretRef": key("password")}}
    provider = await provider_of(api, clock, ours.address, auth)
    with pytest.raises(Refusal) as caught:
        await provider.fetch(RemoteRef("db"))
    assert isinstance(caught.value, Denied | Invalid | Unavailable)
    await provider.close()


# the requests, as the methods define them


Accepts = Callable[[Mapping[str, Any], Request], bool]


class Bed:
    """A server that has one login, and what an operator has around it."""

    def __init__(self, fake: VaultFake, address: str, api: Any, clock: Any) -> None:
        self.fake, self.address, self.api, self.clock = fake, address, api, clock
        self.bodies: list[Mapping[str, Any]] = []

    def login(self, path: str, accepts: Accepts = lambda _body, _request: True) -> None:
        def noted(body: Mapping[str, Any], request: Request) -> bool:
            self.bodies.append(body)
            return accepts(body, request)

        self.fake.logins[path] = noted

    async def reads(self, auth: dict | None, **more: Any) -> bool:
        provider = await provider_of(
            self.api, self.clock, **{"server": self.address, "auth": auth, **more}
        )
        try:
            found = await provider.fetch(RemoteRef("db"))
            return bool(found.data == {"p": "one"})
        finally:
            await provider.close()


@pytest.fixture
async def bed(api, clock, plain):
    fake = VaultFake()
    async with plain(fake) as address:
        given = {"tokenSecretRef": key("token")}
        await cluster(api, token="fake-root", password="pw", jwt="head.body.sig")
        made = Bed(fake, address, api, clock)
        provider = await provider_of(api, clock, address, given)
        await provider.push(PushTarget("db", "p"), Secret("one"))
        await provider.close()
        yield made


async def test_ldap_is_asked_by_its_user(bed) -> None:
    bed.login("auth/ldap/login/app", lambda body, _: body == {"password": "pw"})
    assert await bed.reads({"ldap": {"username": "app", "secretRef": key("password")}})


async def test_a_jwt_of_a_secret_and_one_of_the_cluster(bed) -> None:
    bed.login("auth/jwt/login")
    assert await bed.reads({"jwt": {"role": "r", "secretRef": key("jwt")}})
    account = {"serviceAccountRef": {"name": "app"}, "audiences": ["store"]}
    assert await bed.reads({"jwt": {"role": "r", "kubernetesServiceAccountToken": account}})
    assert bed.bodies[0] == {"role": "r", "jwt": "head.body.sig"}
    assert bed.api.tokens[bed.bodies[1]["jwt"]]["audiences"] == ["store"]


@pytest.mark.parametrize(
    ("account", "audiences"),
    [({"name": "app"}, ["vault"]), ({"name": "app", "audiences": ["own"]}, ["own"])],
)
async def test_kubernetes_gets_a_token_for_the_store_alone(bed, account, audiences) -> None:
    bed.login("auth/kubernetes/login")
    auth = {"kubernetes": {"role": "r", "serviceAccountRef": account}}
    assert await bed.reads(auth)
    assert bed.bodies[0]["role"] == "r"
    assert bed.api.tokens[bed.bodies[0]["jwt"]]["audiences"] == audiences


async def test_a_certificate_is_shown_in_the_handshake(api, clock, tls, tmp_path) -> None:
    made = issue(("client",), SystemClock().now())
    fake = VaultFake()
    fake.logins["auth/cert/login"] = lambda body, _: body == {"name": "app"}
    await cluster(api, crt=made.certificate.decode(), key=made.key.decode())
    async with tls(fake, tmp_path) as (address, authority):
        bundle = base64.b64encode(authority.read_bytes()).decode()
        auth = {"cert": {"vaultRole": "app", "clientCert": key("crt"), "secretRef": key("key")}}
        provider = await provider_of(api, clock, address, auth, caBundle=bundle)
        await provider.validate()
        await provider.close()
    assert fake.paths[0] == "auth/cert/login"


async def test_a_server_that_wants_a_certificate_of_everybody_gets_one(
    api, clock, tmp_path
) -> None:
    """`tls` is shown whatever the login is."""
    made, client = issue(("localhost",), SystemClock().now()), issue(("x",), SystemClock().now())
    (tmp_path / "crt").write_bytes(made.certificate)
    (tmp_path / "key").write_bytes(made.key)
    context = server_context(tmp_path / "crt", tmp_path / "key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=client.authority.decode())
    await cluster(api, token="fake-root", crt=client.certificate.decode(), key=client.key.decode())
    listener = Listener(VaultFake(), Limits(), SystemClock())
    _, port = await listener.start("127.0.0.1", 0, tls=context)
    where = {
        "server": f"https://localhost:{port}",
        "auth": {"tokenSecretRef": key("token")},
        "caBundle": base64.b64encode(made.authority).decode(),
    }
    shown = {"certSecretRef": key("crt"), "keySecretRef": key("key")}
    provider = await provider_of(api, clock, **where, tls=shown)
    await provider.validate()
    await provider.close()
    bare = await provider_of(api, clock, **where)
    with pytest.raises(Unavailable):
        await bare.validate()
    await bare.close()
    await listener.drain(0.1)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"server": "ftp://x"}, "server must be a URL"),
        ({"version": "v3"}, "version must be one of v1, v2"),
        ({"tls": {"certSecretRef": key("token")}}, r"tls\.keySecretRef is needed"),
        ({"headers": {"A": 1}}, "headers must be an object of strings"),
        ({"readYourWrites": "yes"}, "readYourWrites must be true or false"),
        ({"forwardInconsistent": 1}, "forwardInconsistent must be true or false"),
        ({"caBundle": "%"}, "caBundle is not base64"),
    ],
)
async def test_a_field_of_the_wrong_kind_is_named(bed, spec: dict, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        await bed.reads({"tokenSecretRef": key("token")}, **spec)


KEYS = {
    "accessKeyIDSecretRef": {"name": "auth", "key": "token"},
    "secretAccessKeySecretRef": {"name": "auth", "key": "password"},
}


async def test_iam_sends_a_question_to_aws_that_only_the_identity_can_sign(bed) -> None:
    bed.login("auth/aws/login")
    auth = {
        "iam": {
            "path": "aws", "region": "eu-west-1", "vaultRole": "r", "secretRef": KEYS,
            "vaultAwsIamServerID": "vault.example.com",
        }
    }  # fmt: skip
    assert await bed.reads(auth)
    (body,) = bed.bodies
    assert (body["role"], body["iam_http_request_method"]) == ("r", "POST")
    url = base64.b64decode(body["iam_request_url"]).decode()
    question = base64.b64decode(body["iam_request_body"])
    sent = {
        name.lower(): values[0]
        for name, values in json.loads(base64.b64decode(body["iam_request_headers"])).items()
    }
    assert url == "https://sts.eu-west-1.amazonaws.com/"
    assert question == b"Action=GetCallerIdentity&Version=2011-06-15"
    assert sent["x-vault-aws-iam-server-id"] == "vault.example.com"
    assert "x-vault-aws-iam-server-id" in sent["authorization"]
    # Signed by the secret key, over what was sent.
    plain = {name: sent[name] for name in ("content-type", "x-vault-aws-iam-server-id")}
    again = signed_headers(
        AwsRequest("POST", url, plain, question), ("eu-west-1", "sts"),
        AwsCredentials("fake-root", Secret("pw")), bed.clock.now(),
    )  # fmt: skip
    assert again["authorization"] == sent["authorization"]


def claims_of(jwt: str) -> dict[str, Any]:
    part = jwt.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


async def test_google_signs_for_the_account_of_a_key(bed, gcp) -> None:
    bed.login("auth/gcp/login")
    ref = {"secretAccessKeySecretRef": {"name": "gcp", "key": "key"}}
    assert await bed.reads({"gcp": {"role": "r", "secretRef": ref}}, environment=gcp.environment)
    (body,) = bed.bodies
    assert body["role"] == "r"
    claims = claims_of(body["jwt"])
    assert (claims["sub"], claims["aud"]) == ("reader@p", "vault/r")
    assert claims["exp"] == int(bed.clock.now()) + 900


async def test_google_signs_for_the_machine(bed, gcp) -> None:
    bed.login("auth/gcp/login")
    gcp.fake.metadata["instance/service-accounts/default/email"] = "node@p"
    assert await bed.reads({"gcp": {"role": "r"}}, environment=gcp.environment)
    assert claims_of(bed.bodies[0]["jwt"])["sub"] == "node@p"


async def test_google_signs_for_a_service_account_of_the_cluster(bed, gcp) -> None:
    bed.login("auth/gcp/login")
    notes = {"iam.gke.io/gcp-service-account": "app@p.iam.gserviceaccount.com"}
    patch = {"metadata": {"annotations": notes}}
    await bed.api.merge_patch(SERVICE_ACCOUNTS, "app", "n", patch)
    gcp.fake.subjects = lambda _token, _audience: True
    gcp.fake.metadata["instance/attributes/cluster-name"] = "c"
    auth = {"role": "r", "projectID": "p", "location": "l", "serviceAccountRef": {"name": "app"}}
    assert await bed.reads({"gcp": auth}, environment=gcp.environment)
    assert claims_of(bed.bodies[0]["jwt"])["sub"] == "app@p.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({}, "has none of"),
        ({"iam": {}}, "vaultRole"),
        ({"gcp": {}}, "role"),
    ],
)
async def test_an_auth_that_cannot_be_used_names_its_field(bed, auth, said) -> None:
    with pytest.raises(Invalid, match=said):
        await bed.reads(auth)


async def test_a_store_without_auth_leaves_the_token_to_a_proxy(bed) -> None:
    """The other controller asks without a token then, and so does a proxy's user."""
    played = {"headers": {"X-Vault-Token": "fake-root"}}
    assert await bed.reads(None, **played)
    with pytest.raises(Denied):
        await bed.reads(None)
    assert "x-vault-token" not in bed.fake.requests[-1].headers
    shown = {"certSecretRef": key("crt"), "keySecretRef": key("key")}
    with pytest.raises(Refusal, match="crt"):
        await bed.reads(None, tls=shown)


async def test_the_namespace_of_the_store_and_of_its_login(bed) -> None:
    bed.login("auth/userpass/login/app")
    auth = {"userPass": {"username": "app", "secretRef": key("password")}}
    extra = {"headers": {"X-Team": "blue"}}
    assert await bed.reads({**auth, "namespace": "login"}, namespace="team", **extra)
    assert await bed.reads(auth, namespace="team", **extra)
    asked = [each for each in bed.fake.requests if each.headers.get("x-team") == "blue"]
    seen = [(each.target.split("/")[2], each.headers["x-vault-namespace"]) for each in asked]
    assert [each for each in seen if each[0] == "auth"][::2] == [
        ("auth", "login"),
        ("auth", "team"),
    ]
    assert {where for what, where in seen if what == "secret"} == {"team"}


async def test_a_store_reads_what_it_wrote_or_is_told_that_its_replica_is_behind(bed) -> None:
    auth = {"tokenSecretRef": key("token")}

    async def store(**more: Any) -> Any:
        return await provider_of(bed.api, bed.clock, bed.address, auth, **more)

    careful = await store(readYourWrites=True)
    await careful.push(PushTarget("db", "p"), Secret("two"))
    bed.fake.unseen = 1
    with pytest.raises(Unavailable, match="required index") as caught:
        await careful.fetch(RemoteRef("db"))
    assert caught.value.code == "store-behind"
    # Who does not ask for it is not held to it, and who may have it forwarded gets an answer.
    plain = await store()
    assert (await plain.fetch(RemoteRef("db"))).data == {"p": "two"}
    patient = await store(readYourWrites=True, forwardInconsistent=True)
    await patient.push(PushTarget("db", "p"), Secret("three"))
    assert (await patient.fetch(RemoteRef("db"))).data == {"p": "three"}
    for each in (careful, plain, patient):
        await each.close()


async def test_a_token_that_a_replica_has_not_seen_yet_is_not_a_token_that_is_refused(bed) -> None:
    """The login's own index is sent with what is read afterwards."""
    bed.login("auth/userpass/login/app")
    auth = {"userPass": {"username": "app", "secretRef": key("password")}}
    bed.fake.unseen = 1
    with pytest.raises(Unavailable):
        await bed.reads(auth, readYourWrites=True)


async def test_a_kv_1_path_without_keys_is_a_refusal(bed) -> None:
    provider = await provider_of(
        bed.api, bed.clock, bed.address, {"tokenSecretRef": key("token")}, version="v1"
    )
    bed.fake.answer_with = Response(200, b'{"data": null}')
    with pytest.raises(Invalid, match="holds no keys"):
        await provider.fetch(RemoteRef("db"))
    await provider.close()


async def test_a_version_that_is_deleted_or_destroyed_is_not_there(ours, api, clock) -> None:
    await cluster(api, token=ours.root)
    await ours.ask("POST", "secret/data/db", {"data": {"p": "two"}})
    await ours.ask("DELETE", "secret/data/db")
    await ours.ask("PUT", "secret/destroy/db", {"versions": [1]})
    provider = await provider_of(api, clock, ours.address, {"tokenSecretRef": key("token")})
    for version in ("", "1", "2"):
        with pytest.raises(NotFound) as error:
            await provider.fetch(RemoteRef("db", version=version))
        assert error.value.code == "version-gone"
    for version in ("²", "-1", "9" * 5000):
        with pytest.raises(Invalid, match="is no number"):
            await provider.fetch(RemoteRef("db", version=version))
    await provider.close()


async def test_what_the_server_keeps_is_told_with_the_custom_metadata(ours, api, clock) -> None:
    await cluster(api, token=ours.root)
    await ours.ask("POST", "secret/data/db", {"data": {"p": "two"}})
    own = {"team": "blue", "created_time": "long ago"}
    settings = {"custom_metadata": own, "delete_version_after": "1h"}
    await ours.ask("POST", "secret/metadata/db", settings)
    provider = await provider_of(api, clock, ours.address, {"tokenSecretRef": key("token")})
    found = await provider.fetch(RemoteRef("db", metadata=True))
    told = {"current_version": "2", "delete_version_after": "1h0m0s"}
    assert (found.version, dict(found.data)) == (2, {**own, **told})
    await provider.close()


# custom metadata of what is pushed


MARK = {"managed-by": "external-secrets"}
TEAM = {"customMetadata": {"team": "blue", "managed-by": "me"}}


async def tags_of(ours) -> dict[str, str]:
    _, said = await ours.ask("GET", "secret/metadata/pushed")
    return said["data"]["custom_metadata"]


async def test_a_pushs_custom_metadata_are_merged_or_replace_what_is_there(
    ours, api, clock
) -> None:
    await cluster(api, token=ours.root)
    provider = await provider_of(api, clock, ours.address, {"tokenSecretRef": key("token")})

    async def push(value: str, **metadata: Any) -> bool:
        target = PushTarget("pushed", "p", metadata=metadata)
        return (await provider.push(target, Secret(value))).changed

    assert await push("one", **TEAM)
    assert await tags_of(ours) == {"team": "blue", **MARK}
    assert not await push("one", **TEAM)
    assert not await push("one")
    assert await push("one", customMetadata={"tier": "1"})
    assert await tags_of(ours) == {"team": "blue", "tier": "1", **MARK}
    assert await push("one", customMetadata={"tier": "2"}, mergePolicy="Replace")
    assert await tags_of(ours) == {"tier": "2", **MARK}
    with pytest.raises(Invalid, match="mergePolicy must be one of Merge, Replace"):
        await push("two", mergePolicy="Both")
    await provider.close()


async def test_of_pushes_to_one_secret_at_once_none_undoes_another(ours, api, clock) -> None:
    await cluster(api, token=ours.root)
    provider = await provider_of(api, clock, ours.address, {"tokenSecretRef": key("token")})
    await provider.push(PushTarget("pushed", "first"), Secret("v"))
    names = [f"p{number}" for number in range(8)]
    done = await asyncio.gather(
        *(provider.push(PushTarget("pushed", name), Secret("v")) for name in names),
        return_exceptions=True,
    )
    refused = [each for each in done if isinstance(each, BaseException)]
    assert {getattr(each, "code", each) for each in refused} <= {"store-conflict"}
    _, said = await ours.ask("GET", "secret/data/pushed")
    written = [name for name, each in zip(names, done, strict=True) if each not in refused]
    assert written
    assert set(said["data"]["data"]) == {"first", *written}
    await provider.close()


async def test_a_push_that_broke_off_before_its_data_is_taken_up(ours, api, clock) -> None:
    await cluster(api, token=ours.root)
    await ours.ask("POST", "secret/metadata/pushed", {"custom_metadata": MARK})
    provider = await provider_of(api, clock, ours.address, {"tokenSecretRef": key("token")})
    assert (await provider.push(PushTarget("pushed", "p"), Secret("one"))).changed
    assert (await provider.push(PushTarget("pushed", "p"), Secret("two"))).changed
    await provider.close()


async def test_metadata_that_were_there_before_the_first_version_stay(ours, api, clock) -> None:
    await cluster(api, token=ours.root)
    await ours.ask("POST", "secret/metadata/pushed", {"custom_metadata": {"owner": "blue"}})
    provider = await provider_of(api, clock, ours.address, {"tokenSecretRef": key("token")})
    assert (await provider.push(PushTarget("pushed", "p"), Secret("one"))).changed
    assert await tags_of(ours) == {"owner": "blue", **MARK}
    await provider.close()


@pytest.mark.parametrize("mount", ["secret", "kv/team"])
async def test_a_store_without_a_path_takes_the_mount_from_keys(ours, api, clock, mount) -> None:
    if mount != "secret":
        options = {"type": "kv", "options": {"version": "2"}}
        await ours.ask("POST", f"sys/mounts/{mount}", options)
    for name in ("database/one", "database/in/two", "other"):
        await ours.ask("POST", f"{mount}/data/{name}", {"data": {"p": name}})
    await cluster(api, token=ours.root)
    auth = {"tokenSecretRef": key("token")}
    provider = await provider_of(api, clock, ours.address, auth, path="")
    found = await provider.fetch(RemoteRef(f"{mount}/data/database/one"))
    assert (found.path, found.data) == (f"{mount}/data/database/one", {"p": "database/one"})
    # Names begin with the path as it was asked for.
    for path in (f"{mount}/data/database", f"/{mount}/data/database/"):
        start = f"{mount}/data/database"
        assert set(await provider.find(Find(path))) == {f"{start}/one", f"{start}/in/two"}
    inner = compile_pattern("/in/").search
    assert set(await provider.find(Find(f"{mount}/data", inner))) == {
        f"{mount}/data/database/in/two"
    }
    target = PushTarget(f"{mount}/data/pushed")
    await provider.push(target, Secret('{"p": "x"}'))
    _, said = await ours.ask("GET", f"{mount}/data/pushed")
    assert said["data"]["data"] == {"p": "x"}
    await provider.close()


async def test_what_lies_below_no_folder_is_missing_and_not_empty(ours, api, clock) -> None:
    await cluster(api, token=ours.root)
    provider = await provider_of(api, clock, ours.address, {"tokenSecretRef": key("token")})
    with pytest.raises(NotFound, match="nothing is below secret/absent/"):
        await provider.find(Find("absent"))
    assert await provider.find(Find(matches=compile_pattern("absent").search)) == {}
    await provider.close()
