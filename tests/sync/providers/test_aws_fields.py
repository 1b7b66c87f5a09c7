"""Fields of AWS stores against moto: prefixes, tags of a session, labels, and how things are deleted."""

import base64
import json

import pytest

from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.model.errors import Invalid, NotFound
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import Find, PushTarget, SourceMetadata
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import pick

pytestmark = pytest.mark.component
ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.mark.parametrize("service", ["SecretsManager", "ParameterStore"])
async def test_a_prefix_stands_before_every_key_and_no_name_that_is_found(aws, service) -> None:
    key = {"SecretsManager": "team-", "ParameterStore": "/team/"}[service]
    provider = await aws.provider({"service": service, "prefix": key})
    await provider.push(PushTarget("db", "p"), Secret("one"))
    plain = await aws.provider({"service": service})
    assert pick((await plain.fetch(RemoteRef(key + "db"))).data, RemoteRef("db", "p")) == b"one"
    assert pick((await provider.fetch(RemoteRef("db"))).data, RemoteRef("db", "p")) == b"one"
    both = await provider.fetch_many([RemoteRef("db"), RemoteRef("gone")])
    assert isinstance(both[1], NotFound)
    assert set(await provider.find(Find())) == {key + "db"}
    assert await provider.exists(PushTarget("db", "p"))
    await provider.delete(PushTarget("db"))
    with pytest.raises(NotFound):
        await plain.fetch(RemoteRef(key + "db"))
    for each in (provider, plain):
        await each.close()


async def test_a_session_has_tags_of_ones_own_and_those_of_the_store(aws) -> None:
    spec = {
        "role": ROLE,
        "sessionTags": [{"key": "team", "value": "blue"}],
        "sessionTagsPolicy": "Custom",
        "customSessionTags": {"cost": "42"},
    }
    provider = await aws.provider(spec)
    await provider.validate()
    form = next(each for each in aws.gate.forms if each.get("Action") == "AssumeRole")
    tags = {form[f"Tags.member.{at}.Key"]: form[f"Tags.member.{at}.Value"] for at in range(1, 6)}
    assert tags == {
        "team": "blue", "cost": "42",
        "esoNamespace": "n", "esoStoreName": "s", "esoStoreKind": "SecretStore",
    }  # fmt: skip
    await provider.close()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"sessionTags": [{"value": "b"}]}, "key is needed"),
        ({"sessionTagsPolicy": "Odd"}, "sessionTagsPolicy must be one of"),
        ({"additionalRoles": "x"}, "additionalRoles must be a list"),
        ({"customSessionTags": [], "sessionTagsPolicy": "Custom", "role": ROLE}, None),
        ({"secretsManager": {"recoveryWindowInDays": 3}}, "must be 7 to 30"),
        (
            {"secretsManager": {"recoveryWindowInDays": 7, "forceDeleteWithoutRecovery": True}},
            "cannot go with forceDeleteWithoutRecovery",
        ),
        ({"secretsManager": {"forceDeleteWithoutRecovery": "yes"}}, "must be true or false"),
    ],
)
async def test_a_field_that_cannot_be_used_is_named(aws, spec: dict, said: str | None) -> None:
    if said is None:
        await (await aws.provider(spec)).close()
        return
    with pytest.raises(Invalid, match=said):
        await aws.provider(spec)


KEYS = {
    "accessKeyIDSecretRef": {"name": "k", "key": "i"},
    "secretAccessKeySecretRef": {"name": "k", "key": "s"},
}
ACCOUNT = {"serviceAccountRef": {"name": "app"}}
TAGS = [{"key": "a", "value": "b"}]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, ()),
        ({"auth": {"secretRef": KEYS}, "sessionTagsPolicy": "None"}, ()),
        ({"auth": {"secretRef": KEYS, "jwt": ACCOUNT}}, ("jwt besides secretRef, which is used",)),
        ({"sessionTags": TAGS, "role": ROLE, "externalID": "x", "transitiveTagKeys": ["a"]}, ()),
        (
            {"sessionTags": TAGS, "externalID": "x"},
            ("externalID counts with role alone", "sessionTags counts with role alone"),
        ),
        ({"sessionTagsPolicy": "Simple"}, ("sessionTagsPolicy counts with role alone",)),
        ({"customSessionTags": {"a": "b"}}, ("counts with sessionTagsPolicy Custom alone",)),
    ],
)
@pytest.mark.parametrize("service", ["SecretsManager", "ParameterStore"])
async def test_what_counts_for_nothing_is_said(aws, service: str, spec: dict, said: tuple) -> None:
    provider = await aws.provider({"service": service, **spec})
    notes = provider.traits.notes
    assert len(notes) == len(said)
    assert all(each.endswith(end) for each, end in zip(notes, said, strict=True))
    await provider.close()


async def described(aws) -> dict:
    return await aws.call("secretsmanager.DescribeSecret", SecretId="db")


@pytest.mark.parametrize("days", [0, 7])
async def test_a_deleted_secret_can_be_recovered_for_so_many_days(aws, days: int) -> None:
    spec = {"secretsManager": {"recoveryWindowInDays": days}} if days else {}
    provider = await aws.provider(spec)
    await provider.push(PushTarget("db"), Secret("one"))
    await provider.delete(PushTarget("db"))
    said = await described(aws)
    assert said["DeletedDate"]
    # What is on its way out is there no more, and is in nobody's way twice.
    with pytest.raises(NotFound):
        await provider.fetch(RemoteRef("db"))
    await provider.delete(PushTarget("db"))
    with pytest.raises(Invalid, match="marked for deletion"):
        await provider.push(PushTarget("db"), Secret("two"))
    await provider.close()


async def test_a_secret_may_be_deleted_for_good(aws) -> None:
    provider = await aws.provider({"secretsManager": {"forceDeleteWithoutRecovery": True}})
    await provider.push(PushTarget("db"), Secret("one"))
    await provider.delete(PushTarget("db"))
    assert (await provider.push(PushTarget("db"), Secret("two"))).changed
    assert (await provider.fetch(RemoteRef("db"))).data == b"two"
    await provider.close()


async def test_versions_of_a_parameter_have_numbers_and_labels(aws) -> None:
    provider = await aws.provider({"service": "ParameterStore"})
    for value in ("one", "two"):
        await aws.call(
            "AmazonSSM.PutParameter", Name="/db", Value=value, Type="String", Overwrite=True
        )
    await aws.call(
        "AmazonSSM.LabelParameterVersion", Name="/db", ParameterVersion=1, Labels=["stable"]
    )
    for version, value in (("", b"two"), ("1", b"one"), ("2", b"two"), ("stable", b"one")):
        assert (await provider.fetch(RemoteRef("/db", version=version))).data == value
    both = [RemoteRef("/db", version="stable"), RemoteRef("/db")]
    assert [each.data for each in await provider.fetch_many(both)] == [b"one", b"two"]
    with pytest.raises(NotFound):
        await provider.fetch(RemoteRef("/db", version="none"))
    await provider.close()


@pytest.mark.parametrize("service", ["SecretsManager", "ParameterStore"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("user", b"u"), ("deep.port", b"5432"), ("list.1", b"b"), ("a\\.b", b"dotted"), ("a.b", b"dotted")],
)  # fmt: skip
async def test_a_property_is_a_path_into_json(aws, service: str, name: str, value: bytes) -> None:
    provider = await aws.provider({"service": service})
    text = '{"user": "u", "deep": {"port": 5432}, "list": ["a", "b"], "a.b": "dotted"}'
    if service == "SecretsManager":
        await aws.call("secretsmanager.CreateSecret", Name="db", SecretString=text)
    else:
        await aws.call("AmazonSSM.PutParameter", Name="db", Value=text, Type="SecureString")
    ref = RemoteRef("db", name)
    assert pick((await provider.fetch(ref)).data, ref) == value
    await provider.close()


WHOLE = {"b": b"text", "a": b"\x00\xff"}


async def parameter(aws) -> str:
    page = await aws.call("AmazonSSM.GetParameters", Names=["/db"], WithDecryption=True)
    return page["Parameters"][0]["Value"]


async def test_a_whole_source_is_a_parameter_of_values_in_base64_or_of_texts(aws) -> None:
    """As the other controller writes it, so that nobody who reads it sees a change."""
    provider = await aws.provider({"service": "ParameterStore"})
    await provider.push(PushTarget("/db", whole=WHOLE), Secret(b""))
    assert await parameter(aws) == '{"a":"AP8=","b":"dGV4dA=="}'
    decoded = {"encodeAsDecoded": True}
    with pytest.raises(Invalid, match="text only"):
        await provider.push(PushTarget("/db", whole=WHOLE, metadata=decoded), Secret(b""))
    texts = {"b": b"text", "a": b"<&>"}
    await provider.push(PushTarget("/db", whole=texts, metadata=decoded), Secret(b""))
    assert await parameter(aws) == '{"a":"<&>","b":"text"}'
    await provider.close()


@pytest.mark.parametrize("service", ["SecretsManager", "ParameterStore"])
async def test_metadata_that_a_push_does_not_know_are_refused(aws, service: str) -> None:
    provider = await aws.provider({"service": service})
    with pytest.raises(Invalid, match=r"metadata\.spec\.kmsKey is none of .*description, "):
        await provider.push(PushTarget("/db", metadata={"kmsKey": "k"}), Secret("one"))
    # Any case will do: their page says kmsKeyID where their code says kmsKeyId.
    meta = {"KMSKeyID": "alias/own", "secretType": "SecureString"}
    if service == "SecretsManager":
        del meta["secretType"]
    await provider.push(PushTarget("/db", metadata=meta), Secret("one"))
    if service == "SecretsManager":
        said = (await aws.call("secretsmanager.DescribeSecret", SecretId="/db"))["KmsKeyId"]
    else:
        said = (await aws.call("AmazonSSM.DescribeParameters"))["Parameters"][0]["KeyId"]
    assert said == "alias/own"
    await provider.close()


def statement(action: str) -> dict:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": "*", "Action": action, "Resource": "*"}],
    }


async def resource_policy(aws) -> dict | None:
    said = await aws.call("secretsmanager.GetResourcePolicy", SecretId="db")
    return json.loads(said["ResourcePolicy"]) if said.get("ResourcePolicy") else None


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
async def test_a_push_gives_its_secret_a_resource_policy(aws, kind: str) -> None:
    first, second = (statement(each) for each in ("secretsmanager:GetSecretValue", "*"))
    where = {"name": "policy", "namespace": "app"}
    texts = {"first": json.dumps(first), "second": json.dumps(second, indent=2), "none": " "}
    if kind == "ConfigMap":
        await aws.api.create(CONFIG_MAPS, {"metadata": where, "data": texts})
    else:
        data = {name: base64.b64encode(each.encode()).decode() for name, each in texts.items()}
        await aws.api.create(SECRETS, {"metadata": where, "data": data})
    provider = await aws.provider({})

    async def push(key: str, **more: object) -> None:
        selector = {"kind": kind, "name": "policy", "key": key}
        meta = {"resourcePolicy": {"policySourceRef": selector, **more}}
        target = PushTarget("db", metadata=meta, source=SourceMetadata("app"))
        await provider.push(target, Secret("one"))

    await push("first", blockPublicPolicy=True)
    assert await resource_policy(aws) == first
    await push("second")
    assert await resource_policy(aws) == second
    calls = len(aws.gate.calls)
    await push("second")
    # What says the same is not written again, and a push that says nothing of it leaves it.
    assert not any("PutResourcePolicy" in each for each in aws.gate.calls[calls:])
    await provider.push(PushTarget("db"), Secret("two"))
    assert await resource_policy(aws) == second
    await push("none")
    assert await resource_policy(aws) is None
    with pytest.raises(Invalid, match="policySourceRef points to nothing"):
        await push("elsewhere")
    await provider.close()
