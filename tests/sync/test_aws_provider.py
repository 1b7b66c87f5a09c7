"""Identities of AWS stores against moto, behind a gate that plays trust policies and bad days."""

import base64
import json
from pathlib import Path

import pytest
from tests.sync.conftest import aws_error

from strongroom.crypto.signatures import new_key_pair
from strongroom.kube.resource import SECRETS, SERVICE_ACCOUNTS
from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Throttled, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import Find, PushTarget
from strongroom.sync.providers.references import session_namespace
from strongroom.sync.spec import RemoteRef
from strongroom.wire.http import Response

pytestmark = pytest.mark.component
ROLE = "arn:aws:iam::123456789012:role/reader"
OWN = "system:serviceaccount:operator:sync"
NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
BY_SECRET = {
    "secretRef": {
        "accessKeyIDSecretRef": {"name": "aws", "key": "id"},
        "secretAccessKeySecretRef": {"name": "aws", "key": "secret"},
        "sessionTokenSecretRef": {"name": "aws", "key": "token"},
    }
}


async def secret_and_account(aws, **annotations: str) -> None:
    data = {"id": "AKIAKEY", "secret": "wJalr", "token": "session"}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    await aws.api.create(SECRETS, {"metadata": {"name": "aws", "namespace": "n"}, "data": encoded})
    metadata = {"name": "reader", "namespace": "n", "annotations": annotations}
    await aws.api.create(SERVICE_ACCOUNTS, {"metadata": metadata})
    await aws.call("secretsmanager.CreateSecret", Name="db", SecretString='{"p": "one"}')


async def reads(provider) -> bool:
    found = await provider.fetch(RemoteRef("db"))
    await provider.close()
    return found.data == b'{"p": "one"}'


async def test_keys_from_a_secret(aws) -> None:
    await secret_and_account(aws)
    provider = await aws.provider({"auth": BY_SECRET}, NO_KEYS)
    assert await reads(provider)
    assert aws.gate.calls == ["GetSecretValue"]


async def test_keys_that_are_not_there_are_named(aws) -> None:
    provider = await aws.provider({"auth": BY_SECRET}, NO_KEYS)
    with pytest.raises(Invalid, match="aws") as caught:
        await provider.fetch(RemoteRef("db"))
    assert caught.value.code == "credential-missing"
    await provider.close()


async def test_irsa_a_token_for_sts_and_one_login_for_all_reads(aws) -> None:
    await secret_and_account(aws, **{"eks.amazonaws.com/role-arn": ROLE})
    spec = {"auth": {"jwt": {"serviceAccountRef": {"name": "reader"}}}}
    provider = await aws.provider(spec, NO_KEYS)
    refs = [RemoteRef("db", version=each) for each in ("", "AWSCURRENT", "AWSPREVIOUS")]
    assert len(await provider.fetch_many(refs)) == 3
    assert aws.gate.calls.count("AssumeRoleWithWebIdentity") == 1
    assert aws.gate.forms[0]["RoleArn"] == ROLE
    await aws.clock.advance(3000)
    assert await reads(provider)
    assert aws.gate.calls.count("AssumeRoleWithWebIdentity") == 2


async def test_irsa_with_another_audience_is_refused_by_sts(aws) -> None:
    notes = {"eks.amazonaws.com/role-arn": ROLE, "eks.amazonaws.com/audience": "elsewhere"}
    await secret_and_account(aws, **notes)
    spec = {"auth": {"jwt": {"serviceAccountRef": {"name": "reader"}}}}
    provider = await aws.provider(spec, NO_KEYS)
    with pytest.raises(Denied, match="InvalidIdentityToken"):
        await provider.validate()
    await provider.close()


async def test_irsa_without_a_role_says_which_annotation(aws) -> None:
    await secret_and_account(aws)
    spec = {"auth": {"jwt": {"serviceAccountRef": {"name": "reader"}}}}
    provider = await aws.provider(spec, NO_KEYS)
    with pytest.raises(Invalid, match=r"eks.amazonaws.com/role-arn"):
        await provider.fetch(RemoteRef("db"))
    await provider.close()


async def test_roles_are_chained_and_the_last_has_tags_and_external_id(aws) -> None:
    await secret_and_account(aws)
    spec = {
        "auth": BY_SECRET,
        "additionalRoles": ["arn:aws:iam::123456789012:role/first"],
        "role": ROLE,
        "externalID": "x-1",
        "sessionTags": [{"key": "team", "value": "blue"}],
        "transitiveTagKeys": ["team"],
        "sessionTagsPolicy": "Simple",
    }
    assert await reads(await aws.provider(spec, NO_KEYS))
    assert aws.gate.calls == ["AssumeRole", "AssumeRole", "GetSecretValue"]
    first, last = aws.gate.forms[:2]
    assert first["RoleArn"].endswith("/first")
    assert "ExternalId" not in first
    assert (last["RoleArn"], last["ExternalId"]) == (ROLE, "x-1")
    tags = {last[f"Tags.member.{at}.Key"]: last[f"Tags.member.{at}.Value"] for at in range(1, 5)}
    assert tags == {
        "team": "blue", "esoNamespace": "n", "esoStoreName": "s", "esoStoreKind": "SecretStore",
    }  # fmt: skip
    assert last["TransitiveTagKeys.member.1"] == "team"


async def test_pod_identity_and_web_identity_of_the_operators_own_pod(aws, tmp_path: Path) -> None:
    await secret_and_account(aws)
    (tmp_path / "token").write_text("agent-token")
    said = {
        "AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t",
        "Expiration": "2033-01-01T00:00:00Z",
    }  # fmt: skip
    aws.gate.answers[""] = Response(200, json.dumps(said).encode())
    agent = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{aws.address}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
    }
    assert await reads(await aws.provider({}, NO_KEYS | agent))
    assert aws.gate.calls == ["", "GetSecretValue"]
    bad = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.org/steal"}
    provider = await aws.provider({}, NO_KEYS | bad)
    with pytest.raises(Invalid, match=r"example.org"):
        await provider.fetch(RemoteRef("db"))
    await provider.close()
    (tmp_path / "jwt").write_text(aws.api.signed(OWN, "sts.amazonaws.com"))
    own = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "jwt"), "AWS_ROLE_ARN": ROLE}
    assert await reads(await aws.provider({}, NO_KEYS | own))
    assert aws.gate.calls[-2:] == ["AssumeRoleWithWebIdentity", "GetSecretValue"]


@pytest.mark.parametrize("fault", ["", "signature", "audience", "issuer", "time"])
async def test_a_web_identity_is_taken_from_its_issuer_alone(aws, tmp_path, fault: str) -> None:
    await secret_and_account(aws)
    audience = "elsewhere" if fault == "audience" else "sts.amazonaws.com"
    claims = {"iss": "https://else.example"} if fault == "issuer" else {}
    pair = new_key_pair("rsa-2048") if fault == "signature" else b""
    (tmp_path / "jwt").write_text(aws.api.signed(OWN, audience, pair=pair, **claims))
    own = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "jwt"), "AWS_ROLE_ARN": ROLE}
    provider = await aws.provider({}, NO_KEYS | own)
    if fault == "time":
        await aws.clock.advance(3600)
    if not fault:
        assert await reads(provider)
        return
    with pytest.raises(Denied, match="InvalidIdentityToken"):
        await provider.fetch(RemoteRef("db"))
    assert aws.gate.calls == ["AssumeRoleWithWebIdentity"]
    await provider.close()


async def test_stages_and_ids_of_versions(aws) -> None:
    provider = await aws.provider({})
    first = await aws.call("secretsmanager.CreateSecret", Name="v", SecretString="one")
    await aws.call("secretsmanager.PutSecretValue", SecretId="v", SecretString="two")
    for version, value in (
        ("", b"two"), ("AWSCURRENT", b"two"), ("AWSPREVIOUS", b"one"),
        ("uuid/" + first["VersionId"], b"one"),
    ):  # fmt: skip
        assert (await provider.fetch(RemoteRef("v", version=version))).data == value
    by_arn = await provider.fetch(RemoteRef(first["ARN"]))
    assert (by_arn.path, by_arn.data) == ("v", b"two")
    await provider.close()


async def test_what_is_missing_is_said_alike_however_it_is_read(aws) -> None:
    """A status whose words change is written, and told by another Event."""
    provider = await aws.provider({})
    batch = await provider.fetch_many([RemoteRef("gone"), RemoteRef("lost")])
    assert aws.gate.calls == ["BatchGetSecretValue"]
    assert str(batch[0]) == str((await provider.fetch_many([RemoteRef("gone")]))[0])
    await provider.close()


@pytest.mark.parametrize("service", ["SecretsManager", "ParameterStore"])
async def test_a_version_that_is_missing_is_named(aws, service: str) -> None:
    provider = await aws.provider({"service": service})
    await provider.push(PushTarget("db"), Secret("one"))
    with pytest.raises(NotFound, match=r"^db is not there in version 77 \("):
        await provider.fetch(RemoteRef("db", version="77"))
    await provider.close()


@pytest.mark.parametrize("service", ["SecretsManager", "ParameterStore"])
async def test_batches_are_used_until_the_policy_forbids_them(aws, service: str) -> None:
    provider = await aws.provider({"service": service})
    batch = {"SecretsManager": "BatchGetSecretValue", "ParameterStore": "GetParameters"}[service]
    names = [f"/many/{number}" for number in range(25)]
    for name in names:
        if service == "SecretsManager":
            await aws.call("secretsmanager.CreateSecret", Name=name, SecretString=name)
        else:
            await aws.call("AmazonSSM.PutParameter", Name=name, Value=name, Type="String")
    refs = [RemoteRef(name) for name in names]
    assert [each.data.decode() for each in await provider.fetch_many(refs)] == names
    assert aws.gate.calls == [batch] * (2 if service == "SecretsManager" else 3)
    denied = {"__type": "AccessDeniedException", "message": "no"}
    aws.gate.answers[batch] = Response(400, json.dumps(denied).encode())
    for _ in range(2):
        aws.gate.calls.clear()
        assert [each.data.decode() for each in await provider.fetch_many(refs)] == names
    assert batch not in aws.gate.calls
    await provider.close()


@pytest.mark.parametrize(
    ("service", "operation", "entries"),
    [
        ("SecretsManager", "ListSecrets", "SecretList"),
        ("ParameterStore", "GetParametersByPath", "Parameters"),
    ],
)
async def test_a_list_that_goes_in_a_circle_ends(
    aws, service: str, operation: str, entries: str
) -> None:
    provider = await aws.provider({"service": service})
    said = {entries: [], "NextToken": "again"}
    aws.gate.answers[operation] = Response(200, json.dumps(said).encode())
    with pytest.raises(Unavailable, match="in a circle"):
        await provider.find(Find())
    assert aws.gate.calls.count(operation) == 2
    await provider.close()


async def test_parameters_are_found_without_the_right_to_read_by_path(aws) -> None:
    provider = await aws.provider({"service": "ParameterStore"})
    for name in ("/app/a", "/app/deep/b", "/other"):
        await aws.call("AmazonSSM.PutParameter", Name=name, Value=name, Type="String")
    denied = aws_error("AccessDeniedException")
    aws.gate.answers["GetParametersByPath"] = denied
    found = await provider.find(Find("/app", lambda name: "a" in name))
    assert {name: each.data for name, each in found.items()} == {
        "/app/a": b"/app/a", "/app/deep/b": b"/app/deep/b",
    }  # fmt: skip
    aws.gate.answers["DescribeParameters"] = denied
    with pytest.raises(Denied, match="GetParametersByPath"):
        await provider.find(Find("/app"))
    await provider.close()


@pytest.mark.parametrize("service", ["SecretsManager", "ParameterStore"])
async def test_tags_and_versions_that_are_read_among_others_are_what_was_asked(
    aws, service: str
) -> None:
    provider = await aws.provider({"service": service})
    for key in ("one", "two"):
        meta = {"tags": {"team": key}}
        for value in ("old", "new"):
            await provider.push(PushTarget(key, metadata=meta), Secret(f"{value}-{key}"))
    first = "AWSPREVIOUS" if service == "SecretsManager" else "1"
    older, tags = RemoteRef("one", version=first), RemoteRef("two", metadata=True)
    found = await provider.fetch_many([RemoteRef("one"), older, RemoteRef("two"), tags])
    assert [each.data for each in found[:3]] == [b"new-one", b"old-one", b"new-two"]
    assert found[3].data["team"] == "two"
    await provider.close()


@pytest.mark.parametrize("keys", [["/db", "/db:1"], ["/db:1", "/db"]])
async def test_a_key_that_names_a_version_is_not_taken_for_the_newest(aws, keys: list[str]) -> None:
    """AWS answers both by the same name."""
    provider = await aws.provider({"service": "ParameterStore"})
    for value in ("old", "new"):
        await provider.push(PushTarget("/db"), Secret(value))
    found = await provider.fetch_many([RemoteRef(each) for each in keys])
    assert {key: each.data for key, each in zip(keys, found, strict=True)} == {
        "/db": b"new", "/db:1": b"old",
    }  # fmt: skip
    await provider.close()


@pytest.mark.parametrize("service", ["SecretsManager", "ParameterStore"])
async def test_a_name_that_cannot_be_fails_whoever_asks_for_it(aws, service: str) -> None:
    """Manifests of all namespaces share a batch, and AWS refuses it as a whole."""
    provider = await aws.provider({"service": service})
    batch = {"SecretsManager": "BatchGetSecretValue", "ParameterStore": "GetParameters"}[service]
    if service == "SecretsManager":
        await aws.call("secretsmanager.CreateSecret", Name="good", SecretString="one")
    else:
        await aws.call("AmazonSSM.PutParameter", Name="good", Value="one", Type="String")
    refused = {"__type": "ValidationException", "message": "Parameter name: is not valid"}
    aws.gate.answers[batch] = Response(400, json.dumps(refused).encode())
    found = await provider.fetch_many([RemoteRef("good"), RemoteRef("ssm of nobody")])
    assert found[0].data == b"one"
    assert isinstance(found[1], Refusal)
    # Another batch is tried all the same.
    await provider.fetch_many([RemoteRef("good"), RemoteRef("other")])
    assert aws.gate.calls.count(batch) == 2
    await provider.close()


@pytest.mark.parametrize(
    ("answer", "family"),
    [
        (Response(400, b'{"__type": "ThrottlingException"}', (("Retry-After", "7"),)), Throttled),
        (Response(500, b'{"__type": "InternalServiceError"}'), Unavailable),
        (Response(503, b"<html>"), Unavailable),
        (Response(200, b"half a bo"), Unavailable),
        (Response(200, b"{}"), Unavailable),
        (Response(400, b'{"__type": "ValidationException"}'), Invalid),
        (Response(400, b'{"__type": "com.amazon#DecryptionFailure"}'), Invalid),
    ],
)
async def test_bad_days_are_refusals_of_their_family(aws, answer, family) -> None:
    provider = await aws.provider({})
    aws.gate.answer = answer
    for work in (
        provider.fetch(RemoteRef("db")),
        provider.find(Find(path="x")),
        provider.push(PushTarget("db"), Secret("marked-value")),
    ):
        with pytest.raises(Refusal) as caught:
            await work
        assert isinstance(caught.value, family)
        assert "marked-value" not in str(caught.value)
    if family is Throttled:
        assert caught.value.retry_after == 7
    await provider.close()


async def test_a_push_says_how_it_is_kept(aws) -> None:
    provider = await aws.provider({"secretsManager": {"recoveryWindowInDays": 7}, "prefix": "p-"})
    meta = {
        "secretPushFormat": "string", "kmsKeyId": "alias/k", "description": "d",
        "tags": {"team": "blue"}, "replicationLocations": ["us-east-1"],
    }  # fmt: skip
    target = PushTarget("db", metadata=meta)
    await provider.push(target, Secret("one"))
    said = await aws.call("secretsmanager.DescribeSecret", SecretId="p-db")
    assert (said["KmsKeyId"], said["Description"]) == ("alias/k", "d")
    assert {each["Key"] for each in said["Tags"]} == {"team", "managed-by"}
    assert [each["Region"] for each in said["ReplicationStatus"]] == ["us-east-1"]
    await provider.push(PushTarget("db", metadata={"tags": {"env": "x"}}), Secret("two"))
    said = await aws.call("secretsmanager.DescribeSecret", SecretId="p-db")
    assert {each["Key"] for each in said["Tags"]} == {"env", "managed-by"}
    await provider.close()
    store = await aws.provider({"service": "ParameterStore"})
    meta = {"secretType": "SecureString", "kmsKeyID": "alias/k", "tier": {"type": "Advanced"}}
    await store.push(PushTarget("/p", metadata=meta), Secret("one"))
    page = await aws.call("AmazonSSM.DescribeParameters")
    (entry,) = [each for each in page["Parameters"] if each["Name"] == "/p"]
    assert (entry["Type"], entry["KeyId"], entry["Tier"]) == ("SecureString", "alias/k", "Advanced")
    await store.close()


async def test_tags_of_amazons_own_stay_with_a_parameter_that_is_pushed(aws) -> None:
    """AWS refuses to take them off, and so the whole push."""
    store = await aws.provider({"service": "ParameterStore"})
    await store.push(PushTarget("/t", metadata={"tags": {"team": "blue"}}), Secret("one"))
    own = {"Key": "aws:cloudformation:stack-name", "Value": "s"}
    place = {"ResourceType": "Parameter", "ResourceId": "/t"}
    await aws.call("AmazonSSM.AddTagsToResource", Tags=[own], **place)
    await store.push(PushTarget("/t", metadata={"tags": {"env": "x"}}), Secret("two"))
    tags = (await aws.call("AmazonSSM.ListTagsForResource", **place))["TagList"]
    assert {each["Key"] for each in tags} == {own["Key"], "env", "managed-by"}
    await store.close()


def test_a_session_is_shared_unless_the_namespace_matters() -> None:
    def shared(provider: dict) -> str:
        store = {"metadata": {"name": "s"}, "spec": {"provider": {"aws": provider}}}
        return session_namespace(store, "asking")

    pinned = {"name": "aws", "namespace": "infra", "key": "id"}
    assert shared({"region": "r"}) == ""
    assert shared({"auth": {"secretRef": {"accessKeyIDSecretRef": pinned}}}) == ""
    assert shared({"auth": {"jwt": {"serviceAccountRef": {"name": "reader"}}}}) == "asking"
    assert shared({"region": "r", "sessionTagsPolicy": "Simple"}) == "asking"
    home = {"metadata": {"namespace": "home"}, "spec": {"provider": {"aws": {}}}}
    assert session_namespace(home, "home") == "home"
