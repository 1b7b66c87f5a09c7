"""Identities, object types and pushes of Azure stores on the fake that Azure's clients accept."""

import base64
import json
import ssl
from pathlib import Path

import pytest

from strongroom.crypto.pkcs12 import make_pkcs12
from strongroom.crypto.signatures import new_key_pair, private_key_text
from strongroom.crypto.x509_dev import issue
from strongroom.kube.resource import SECRETS, SERVICE_ACCOUNTS
from strongroom.model.errors import Conflict, Denied, Invalid, Refusal, Throttled, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import Find, PushTarget
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import extract
from strongroom.wire.http import Response

BY_SECRET = {
    "tenantId": "t",
    "authSecretRef": {
        "clientId": {"name": "azure", "key": "id"},
        "clientSecret": {"name": "azure", "key": "secret"},
    },
}


async def who_reads(azure, spec: dict, environment: dict | None = None) -> str:
    """Read a secret, and say as whom."""
    azure.fake.put("secrets", "db", value="one")
    provider = await azure.provider(spec, environment)
    found = await provider.fetch(RemoteRef("db"))
    await provider.close()
    assert found.data == b"one"
    request = azure.fake.requests[-1]
    return azure.fake.tokens[request.headers["authorization"].removeprefix("Bearer ")]


async def account(azure, **annotations: str) -> None:
    metadata = {"name": "app", "namespace": "n", "annotations": annotations}
    await azure.api.create(SERVICE_ACCOUNTS, {"metadata": metadata})

    def known(client: str, assertion: str) -> bool:
        granted = (azure.api.tokens.get(assertion) or {}).get("audiences")
        return client == "app-id" and granted == ["api://AzureADTokenExchange"]

    azure.fake.assertions = known


async def test_a_clients_secret_logs_in_once(azure) -> None:
    assert await who_reads(azure, BY_SECRET) == "t/app-id"
    assert ["oauth2" in each.target for each in azure.fake.requests].count(True) == 1


async def test_a_wrong_secret_is_denied_in_entras_words(azure) -> None:
    azure.fake.secrets.clear()
    with pytest.raises(Denied, match="AADSTS7000215") as caught:
        await who_reads(azure, BY_SECRET)
    assert "marked-secret" not in str(caught.value)


async def test_a_certificate_signs_an_assertion(azure) -> None:
    made = issue(("localhost",), azure.clock.now())
    rsa = private_key_text(new_key_pair("rsa-2048"))
    content = made.certificate + rsa.encode()
    data = {"data": {"pem": base64.b64encode(content).decode()}}
    await azure.api.merge_patch(SECRETS, "azure", "n", data)
    seen: list[list[dict]] = []

    def signed(client: str, assertion: str) -> bool:
        parts = [base64.urlsafe_b64decode(each + "==") for each in assertion.split(".")[:2]]
        seen.append([json.loads(each) for each in parts])
        return client == "app-id"

    azure.fake.assertions = signed
    selector = {"name": "azure", "key": "pem"}
    auth = {"clientId": BY_SECRET["authSecretRef"]["clientId"], "clientCertificate": selector}
    assert await who_reads(azure, {"tenantId": "t", "authSecretRef": auth}) == "t/app-id"
    ((head, claims),) = seen
    assert head["alg"] == "RS256"
    assert len(base64.urlsafe_b64decode(head["x5t"] + "==")) == 20
    assert claims["aud"] == f"{azure.address}/t/oauth2/v2.0/token"
    assert (claims["iss"], claims["sub"]) == ("app-id", "app-id")
    assert claims["exp"] - claims["nbf"] == 600


async def test_workload_identity_of_a_service_account(azure) -> None:
    notes = {"azure.workload.identity/client-id": "app-id"}
    await account(azure, **notes, **{"azure.workload.identity/tenant-id": "t2"})
    spec = {"authType": "WorkloadIdentity", "serviceAccountRef": {"name": "app"}}
    assert await who_reads(azure, spec) == "t2/app-id"


async def test_workload_identity_without_a_client_says_which_annotation(azure) -> None:
    await account(azure)
    spec = {"authType": "WorkloadIdentity", "serviceAccountRef": {"name": "app"}, "tenantId": "t"}
    with pytest.raises(Invalid, match=r"azure.workload.identity/client-id"):
        await who_reads(azure, spec)


async def test_workload_identity_of_the_operators_own_pod(azure, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("federated\n")
    azure.fake.assertions = lambda client, assertion: assertion == "federated"
    own = {
        "AZURE_CLIENT_ID": "own", "AZURE_TENANT_ID": "t",
        "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
    }  # fmt: skip
    assert await who_reads(azure, {"authType": "WorkloadIdentity"}, own) == "t/own"
    with pytest.raises(Invalid, match="AZURE_CLIENT_ID"):
        await who_reads(azure, {"authType": "WorkloadIdentity"})


@pytest.mark.parametrize("identity", ["", "user-assigned"])
async def test_managed_identity_of_the_machine(azure, identity: str) -> None:
    azure.fake.machines = {identity}
    spec = {"authType": "ManagedIdentity"} | ({"identityId": identity} if identity else {})
    assert await who_reads(azure, spec) == f"machine {identity}"


async def test_keys_certificates_and_attributes(azure) -> None:
    der = b"\x30\x03\x02\x01\x01"
    azure.fake.put("certificates", "web", cer=base64.b64encode(der).decode())
    azure.fake.put("keys", "sign", key={"kty": "RSA", "n": "AQ", "e": "AQAB"})
    azure.fake.put("secrets", "db", value="one", attributes={"exp": 1_900_000_000})
    provider = await azure.provider(BY_SECRET)
    assert (await provider.fetch(RemoteRef("cert/web"))).data == der
    key = await provider.fetch(RemoteRef("key/sign"))
    assert json.loads(key.data)["n"] == "AQ"
    tags = (await provider.fetch(RemoteRef("secret/db", metadata=True))).data
    assert tags["attribute.expires"] == "2030-03-17T17:46:40Z"
    azure.fake.put("secrets", "db", value="one", tags={"env": "prod", "of": '{"team": "x"}'})
    said = (await provider.fetch(RemoteRef("db", metadata=True))).data
    every = extract(said, RemoteRef("db"))
    assert (every["db_env"], every["db_of_team"]) == (b"prod", b"x")
    assert all(each.startswith("db_") for each in every)
    assert extract(said, RemoteRef("secret/db", "of")) == {"db_of": b'{"team": "x"}'}
    for bad in ("other/x", "a/b/c", "a_b", ""):
        with pytest.raises(Invalid, match="bad-remote-key"):
            await provider.fetch(RemoteRef(bad))
    await provider.close()


async def test_keys_and_certificates_are_pushed_once(azure) -> None:
    provider = await azure.provider(BY_SECRET)
    pem = private_key_text(new_key_pair("rsa-2048")).encode()
    made = issue(("localhost",), azure.clock.now())
    for key, value in (
        ("key/rsa", pem),
        ("key/ec", private_key_text(new_key_pair("ecdsa-p256")).encode()),
        ("cert/web", made.certificate + made.key),
        ("cert/file", make_pkcs12(made.certificate, made.key, b"", whole_chain=False)),
    ):
        first = await provider.push(PushTarget(key), Secret(value))
        again = await provider.push(PushTarget(key), Secret(value))
        assert (first.changed, again.changed) == (True, False)
        assert first.version == again.version
    for name in ("cert/web", "cert/file"):
        found = await provider.fetch(RemoteRef(name))
        assert found.data == ssl.PEM_cert_to_DER_cert(made.certificate.decode())
    (sent,) = [each for each in azure.fake.requests if each.target.startswith("/keys/rsa?")]
    assert {"n", "e", "d", "p", "q"} <= set(json.loads(sent.body)["key"])
    with pytest.raises(Invalid):
        await provider.push(PushTarget("key/rsa2"), Secret("-----BEGIN nothing"))
    await provider.close()


async def test_a_key_and_a_certificate_that_are_renewed_are_pushed_again(azure) -> None:
    provider = await azure.provider(BY_SECRET)
    one, two = (issue(("localhost",), azure.clock.now()) for _ in range(2))
    for key, values in (
        ("key/rsa", [private_key_text(new_key_pair("rsa-2048")).encode() for _ in range(2)]),
        ("cert/web", [each.certificate + each.key for each in (one, two)]),
    ):
        for value in values:
            assert (await provider.push(PushTarget(key), Secret(value))).changed
    found = await provider.fetch(RemoteRef("cert/web"))
    assert found.data == ssl.PEM_cert_to_DER_cert(two.certificate.decode())
    await provider.close()


async def test_a_secret_that_is_disabled_is_not_found_and_spoils_no_find(azure) -> None:
    provider = await azure.provider(BY_SECRET)
    azure.fake.put("secrets", "app-one", value="1")
    azure.fake.put("secrets", "app-two", value="2", attributes={"enabled": False})
    assert set(await provider.find(Find())) == {"app-one"}
    await provider.close()


async def test_a_push_has_a_date_a_type_and_tags(azure) -> None:
    provider = await azure.provider(BY_SECRET)
    meta = {
        "expirationDate": "2030-03-17T17:46:40Z", "contentType": "text/plain",
        "tags": {"team": "blue"},
    }  # fmt: skip
    await provider.push(PushTarget("db", metadata=meta), Secret("one"))
    (made,) = azure.fake.objects["secrets", "db"].versions
    assert made["attributes"]["exp"] == 1_900_000_000
    assert (made["contentType"], made["tags"]["team"]) == ("text/plain", "blue")
    with pytest.raises(Invalid, match="expirationDate"):
        await provider.push(PushTarget("db", metadata={"expirationDate": "soon"}), Secret("one"))
    with pytest.raises(Invalid, match="text only"):
        await provider.push(PushTarget("db"), Secret(b"\xff\xfe"))
    await provider.close()


async def test_a_deleted_secret_is_recovered_before_it_is_written(azure) -> None:
    import asyncio

    provider = await azure.provider(BY_SECRET)
    target = PushTarget("db")
    await provider.push(target, Secret("one"))
    await provider.delete(target)
    azure.fake.recovery_reads = 3
    pushing = asyncio.ensure_future(provider.push(target, Secret("two")))
    while not pushing.done():
        await asyncio.sleep(0.01)
        # Time passes while it sleeps, and not while the fake answers.
        if azure.clock.sleepers:
            await azure.clock.advance(1)
    assert (await pushing).changed
    assert (await provider.fetch(RemoteRef("db"))).data == b"two"
    await provider.close()


@pytest.mark.parametrize(
    ("answer", "family"),
    [
        (Response(429, b"", (("Retry-After", "7"),)), Throttled),
        (Response(500, b"{}"), Unavailable),
        (Response(503, b"<html>"), Unavailable),
        (Response(404, b"<html>nobody here</html>"), Unavailable),
        (Response(404, b""), Unavailable),
        (Response(200, b"half a bo"), Unavailable),
        (Response(200, b"{}"), Unavailable),
    ],
)
async def test_bad_days_are_refusals_of_their_family(azure, answer, family) -> None:
    provider = await azure.provider(BY_SECRET)
    await provider.validate()
    azure.fake.answer_with = answer
    for work in (provider.fetch(RemoteRef("db")), provider.find(Find())):
        with pytest.raises(family) as caught:
            await work
    if family is Throttled:
        assert caught.value.retry_after == 7
    with pytest.raises(Refusal) as caught:
        await provider.push(PushTarget("db"), Secret("marked-value"))
    assert isinstance(caught.value, Unavailable | Conflict)
    assert "marked-value" not in str(caught.value)
    await provider.close()


async def test_clouds_have_their_own_login(azure) -> None:
    from strongroom.sync.providers.azure_session import cloud_of
    from strongroom.sync.providers.fields import Fields

    def login(**spec) -> str:
        return cloud_of(Fields(spec, "spec.provider.azurekv"), {}).login

    assert login() == "https://login.microsoftonline.com"
    assert login(environmentType="ChinaCloud") == "https://login.chinacloudapi.cn"
    custom = {"activeDirectoryEndpoint": "https://adfs.local/"}
    assert (
        login(environmentType="AzureStackCloud", customCloudConfig=custom) == "https://adfs.local"
    )
    with pytest.raises(Invalid, match="customCloudConfig"):
        login(environmentType="AzureStackCloud")


async def test_a_secret_keeps_its_end_and_its_type_when_a_property_is_taken_back(azure) -> None:
    provider = await azure.provider(BY_SECRET)
    meta = {"expirationDate": "2030-03-17T17:46:40Z", "contentType": "application/json"}
    user, password = (PushTarget("db", name, metadata=meta) for name in ("user", "password"))
    await provider.push(user, Secret("app"))
    await provider.push(password, Secret("one"))
    await provider.delete(user)
    left = azure.fake.objects["secrets", "db"].versions[-1]
    assert left["value"] == '{"password":"one"}'
    assert (left["attributes"]["exp"], left["contentType"]) == (1_900_000_000, "application/json")
    assert left["tags"]["managed-by"] == "external-secrets"
    await provider.close()
