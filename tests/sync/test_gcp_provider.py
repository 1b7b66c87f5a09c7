"""Identities, versions and pushes of Google stores on the fake that Google's own client accepts."""

import base64
import json
from pathlib import Path
from urllib.parse import unquote

import pytest

from strongroom.kube.resource import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS
from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Throttled, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import Find, PushTarget
from strongroom.sync.spec import RemoteRef
from strongroom.wire.http import Response

KEY = {"auth": {"secretRef": {"secretAccessKeySecretRef": {"name": "gcp", "key": "key"}}}}
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k"
READER = "reader@p.iam.gserviceaccount.com"


async def who_reads(gcp, auth: dict, environment: dict | None = None) -> str:
    """Read a secret, and say as whom."""
    gcp.fake.put("projects/p/secrets/db", b"one")
    provider = await gcp.provider({"auth": auth} if auth else {}, environment)
    found = await provider.fetch(RemoteRef("db"))
    await provider.close()
    assert found.data == b"one"
    (token,) = {
        each.headers["authorization"].removeprefix("Bearer ")
        for each in gcp.fake.requests
        if ":access" in each.target
    }
    return gcp.fake.tokens[token]


async def account(gcp, **annotations: str) -> None:
    metadata = {"name": "app", "namespace": "n", "annotations": annotations}
    await gcp.api.create(SERVICE_ACCOUNTS, {"metadata": metadata})

    def known(token: str, audience: str) -> bool:
        wanted = audience.removeprefix("identitynamespace:").partition(":")[0]
        granted = (gcp.api.tokens.get(token) or {}).get("audiences") or ["none"]
        return granted[0] in (audience, wanted)

    gcp.fake.subjects = known


async def test_a_service_accounts_key_logs_in_once(gcp) -> None:
    assert await who_reads(gcp, KEY["auth"]) == "reader@p"
    assert [each.target for each in gcp.fake.requests].count("/token") == 1


async def test_a_key_that_google_does_not_know_is_denied_in_its_words(gcp) -> None:
    gcp.fake.issuers.clear()
    with pytest.raises(Denied, match="invalid_grant: who"):
        await who_reads(gcp, KEY["auth"])


@pytest.mark.parametrize(("key", "said"), [("not json", "not JSON"), ("{}", "client_email")])
async def test_a_key_that_is_none_is_named(gcp, key: str, said: str) -> None:
    data = {"data": {"key": base64.b64encode(key.encode()).decode()}}
    await gcp.api.merge_patch(SECRETS, "gcp", "n", data)
    with pytest.raises(Invalid, match=said):
        await who_reads(gcp, KEY["auth"])


@pytest.mark.parametrize(
    ("annotations", "who"),
    [({"iam.gke.io/gcp-service-account": READER}, READER), ({}, "federated")],
)
async def test_gke_workload_identity(gcp, annotations: dict, who: str) -> None:
    gcp.fake.metadata = {
        "project/project-id": "p",
        "instance/attributes/cluster-location": "l",
        "instance/attributes/cluster-name": "c",
    }
    await account(gcp, **annotations)
    auth = {"workloadIdentity": {"serviceAccountRef": {"name": "app"}}}
    assert await who_reads(gcp, auth) == who
    (binding,) = [each for each in gcp.fake.requests if "identitybinding" in each.target]
    assert json.loads(binding.body)["audience"].endswith("/locations/l/clusters/c")


async def test_of_several_logins_the_first_is_used_and_the_rest_is_named(gcp) -> None:
    cluster = {"workloadIdentity": {"serviceAccountRef": {"name": "absent"}}}
    provider = await gcp.provider({"auth": {**cluster, **KEY["auth"]}})
    await provider.validate()
    (note,) = provider.traits.notes
    assert note.endswith("auth has workloadIdentity besides secretRef, which is used")
    await provider.close()


async def test_a_cluster_may_be_named_and_its_project_is_the_secrets_by_default(gcp) -> None:
    await account(gcp)
    gcp.fake.put("projects/p/secrets/db", b"one")
    identity = {
        "serviceAccountRef": {"name": "app"}, "clusterLocation": "far", "clusterName": "big",
        "clusterProjectID": "p",
    }  # fmt: skip
    provider = await gcp.provider({"projectID": "", "auth": {"workloadIdentity": identity}})
    assert (await provider.fetch(RemoteRef("db"))).data == b"one"
    (binding,) = [each for each in gcp.fake.requests if "identitybinding" in each.target]
    audience = json.loads(binding.body)["audience"]
    assert audience.endswith("/projects/p/locations/far/clusters/big")
    await provider.close()


@pytest.mark.parametrize(("email", "who"), [("", "federated"), (READER, READER)])
async def test_federation_with_a_service_account_of_the_cluster(gcp, email, who) -> None:
    await account(gcp)
    federation = {"serviceAccountRef": {"name": "app"}, "audience": POOL}
    if email:
        federation["gcpServiceAccountEmail"] = email
    assert await who_reads(gcp, {"workloadIdentityFederation": federation}) == who


@pytest.mark.parametrize(("named", "asked"), [([], [POOL]), (["own", "more"], ["own", "more"])])
async def test_a_federated_token_is_for_the_audiences_that_its_reference_names(
    gcp, named: list[str], asked: list[str]
) -> None:
    """A provider of a pool takes the audiences it allows; by default that is its own name."""
    await account(gcp)
    gcp.fake.subjects = lambda token, audience: audience == POOL
    federation = {"serviceAccountRef": {"name": "app", "audiences": named}, "audience": POOL}
    assert await who_reads(gcp, {"workloadIdentityFederation": federation}) == "federated"
    (granted,) = gcp.api.tokens.values()
    assert list(granted["audiences"]) == asked


async def test_federation_from_aws_sends_a_signed_request(gcp) -> None:
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "wJalr"}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in keys.items()}
    await gcp.api.create(SECRETS, {"metadata": {"name": "aws", "namespace": "n"}, "data": data})
    seen: list[dict] = []

    def signed_by_aws(token: str, audience: str) -> bool:
        seen.append(json.loads(unquote(token)))
        return audience == POOL

    gcp.fake.subjects = signed_by_aws
    part = {"region": "eu-west-1", "awsCredentialsSecretRef": {"name": "aws"}}
    auth = {"workloadIdentityFederation": {"awsSecurityCredentials": part, "audience": POOL}}
    assert await who_reads(gcp, auth) == "federated"
    (said,) = seen
    headers = {each["key"]: each["value"] for each in said["headers"]}
    assert said["url"].startswith("https://sts.eu-west-1.amazonaws.com?Action=GetCallerIdentity")
    assert headers["x-goog-cloud-target-resource"] == POOL
    assert "AKIA" in headers["authorization"]
    assert "wJalr" not in str(said)


async def external_account(gcp, **changes) -> dict:
    said = {
        "type": "external_account", "audience": POOL, "token_url": f"{gcp.address}/v1/token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "credential_source": {"file": changes.pop("file", "/absent")}, **changes,
    }  # fmt: skip
    body = {"metadata": {"name": "cred", "namespace": "n"}, "data": {"c": json.dumps(said)}}
    await gcp.api.create(CONFIG_MAPS, body)
    return {"workloadIdentityFederation": {"credConfig": {"name": "cred", "key": "c"}}}


async def test_federation_by_a_configuration_file(gcp, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("subject\n")
    gcp.fake.subjects = lambda token, audience: (token, audience) == ("subject", POOL)
    url = f"{gcp.address}/v1/projects/-/serviceAccounts/{READER}:generateAccessToken"
    auth = await external_account(
        gcp, file=str(tmp_path / "token"), service_account_impersonation_url=url
    )
    assert await who_reads(gcp, auth) == READER


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"token_url": "https://example.org/v1/token"}, "token_url"),
        ({"service_account_impersonation_url": "https://example.org/x"}, "impersonation"),
        ({"credential_source": {"executable": {"command": "sh"}}}, "executable"),
        ({"credential_source": {"url": "http://169.254.169.254/"}}, "externalTokenEndpoint"),
        ({"credential_source": {"environment_id": "aws1", "url": "http://a"}}, "environment_id"),
        ({"file": "/var/run/secrets/kubernetes.io/serviceaccount/token"}, "operator's own"),
        ({"type": "authorized_user"}, "type"),
    ],
)
async def test_a_configuration_cannot_send_tokens_elsewhere(gcp, change, field: str) -> None:
    auth = await external_account(gcp, **change)
    with pytest.raises(Invalid, match=field):
        await who_reads(gcp, auth)


async def test_without_auth_the_machine_or_the_file_of_the_environment(gcp, tmp_path) -> None:
    assert await who_reads(gcp, {}) == "machine"
    gcp.fake.requests.clear()
    found = await gcp.api.get(SECRETS, "gcp", "n")
    (tmp_path / "key.json").write_bytes(base64.b64decode(found["data"]["key"]))
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json")}
    assert await who_reads(gcp, {}, environment) == "reader@p"


async def test_versions_aliases_and_the_newest_that_is_enabled(gcp) -> None:
    name = "projects/p/secrets/db"
    for value in (b"one", b"two", b"three"):
        gcp.fake.put(name, value)
    secret = gcp.fake.secrets[name]
    secret.aliases["stable"] = 1
    secret.versions[2][1] = "DISABLED"
    provider = await gcp.provider(KEY)
    assert (await provider.fetch(RemoteRef("db", version="2"))).data == b"two"
    assert (await provider.fetch(RemoteRef("db", version="stable"))).version == "1"
    with pytest.raises(Invalid, match="DISABLED state"):
        await provider.fetch(RemoteRef("db"))
    await provider.close()
    lenient = await gcp.provider({**KEY, "secretVersionSelectionPolicy": "LatestOrFetch"})
    found = await lenient.fetch(RemoteRef("db"))
    assert (found.version, found.data) == ("2", b"two")
    with pytest.raises(Invalid, match="DISABLED state"):
        await lenient.fetch(RemoteRef("db", version="3"))
    await lenient.close()


async def test_a_push_says_where_it_is_kept_and_who_hears_of_it(gcp) -> None:
    provider = await gcp.provider(KEY)
    meta = {
        "labels": {"team": "blue"}, "annotations": {"why": "x"}, "topics": ["projects/p/topics/t"],
        "replicationLocations": ["europe-west1", "europe-west4"], "cmekKeyName": "k",
    }  # fmt: skip
    await provider.push(PushTarget("db", metadata=meta), Secret("one"))
    secret = gcp.fake.secrets["projects/p/secrets/db"]
    replicas = secret.rest["replication"]["userManaged"]["replicas"]
    assert [each["location"] for each in replicas] == ["europe-west1", "europe-west4"]
    assert replicas[0]["customerManagedEncryption"] == {"kmsKeyName": "k"}
    assert secret.rest["topics"] == [{"name": "projects/p/topics/t"}]
    assert secret.labels == {"team": "blue", "managed-by": "external-secrets"}
    # Merged labels are added, and those that are there stay; without a policy they are replaced.
    ours = {"managed-by": "external-secrets"}
    merge = {"labels": {"env": "prod", "team": "red"}, "mergePolicy": "Merge"}
    await provider.push(PushTarget("db", metadata=merge), Secret("one"))
    assert secret.labels == {"team": "blue", "env": "prod", **ours}
    await provider.push(PushTarget("db", metadata={"labels": {"team": "red"}}), Secret("one"))
    assert secret.labels == {"team": "red", **ours}
    assert len(secret.versions) == 1
    await provider.close()


@pytest.mark.parametrize(
    ("answer", "family"),
    [
        (Response(429, b"", (("Retry-After", "7"),)), Throttled),
        (Response(500, b"{}"), Unavailable),
        (Response(503, b"<html>"), Unavailable),
        (Response(404, b"<title>Error 404 (Not Found)!!1</title>"), Unavailable),
        (Response(200, b"half a bo"), Unavailable),
        (Response(200, b'{"name": "x"}'), Unavailable),
    ],
)
async def test_bad_days_are_refusals_of_their_family(gcp, answer, family) -> None:
    provider = await gcp.provider(KEY)
    await provider.validate()
    gcp.fake.answer_with = answer
    for work in (
        provider.fetch(RemoteRef("db")),
        provider.push(PushTarget("db"), Secret("marked-value")),
    ):
        with pytest.raises(Refusal) as caught:
            await work
        assert "marked-value" not in str(caught.value)
    with pytest.raises(family):
        await provider.fetch(RemoteRef("db"))
    if answer.status != 200:
        with pytest.raises(family):
            await provider.find(Find(path="x"))
    if family is Throttled:
        assert caught.value.retry_after == 7
    await provider.close()


async def test_a_key_with_a_slash_is_no_name(gcp) -> None:
    provider = await gcp.provider(KEY)
    with pytest.raises(Invalid, match="bad-remote-key"):
        await provider.fetch(RemoteRef("../../other/secrets/db"))
    with pytest.raises(NotFound):
        await provider.fetch(RemoteRef("absent"))
    await provider.close()


@pytest.mark.parametrize("policy", ["LatestOrFail", "LatestOrFetch"])
async def test_the_other_properties_of_a_version_that_is_disabled_do_not_go(gcp, policy) -> None:
    provider = await gcp.provider({**KEY, "secretVersionSelectionPolicy": policy})
    user, password = (PushTarget("db", name) for name in ("user", "password"))
    await provider.push(user, Secret("app"))
    await provider.push(password, Secret("one"))
    secret = gcp.fake.secrets["projects/p/secrets/db"]
    secret.versions[-1][1] = "DISABLED"
    with pytest.raises(Invalid, match="DISABLED"):
        await provider.push(password, Secret("two"))
    with pytest.raises(Invalid, match="DISABLED"):
        await provider.delete(user)
    assert len(secret.versions) == 2
    # A value that is the whole of it is written anew.
    assert (await provider.push(PushTarget("db"), Secret('{"user": "x", "n": 1}'))).changed
    await provider.delete(user)
    assert json.loads(secret.versions[-1][0]) == {"n": 1}
    # Of what is destroyed nothing can be lost.
    secret.versions[-1][1] = "DESTROYED"
    assert (await provider.push(password, Secret("three"))).changed
    await provider.close()
