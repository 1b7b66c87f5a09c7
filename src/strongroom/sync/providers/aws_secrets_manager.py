"""AWS Secrets Manager.

Fields: https://external-secrets.io/latest/provider/aws-secrets-manager/; API:
https://docs.aws.amazon.com/secretsmanager/latest/apireference/.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from strongroom.model.errors import Denied, Invalid, NotFound, Refusal
from strongroom.model.secret import Secret
from strongroom.sync.providers.aws_session import AwsIdentity
from strongroom.sync.providers.contract import (
    Fetched,
    Find,
    OneByOne,
    Pages,
    Pushed,
    PushTarget,
    Traits,
    absent,
    is_ours,
    marked_tags,
    not_ours,
    push_metadata,
    tag_changes,
    understood,
)
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.objects import with_property, without_property
from strongroom.sync.spec import RemoteRef
from strongroom.wire.aws import AwsJson
from strongroom.wire.client import HttpClient

BATCH: Final = 20
CURRENT: Final = "AWSCURRENT"
_DELETED: Final = "aws-deleted"
_DEFAULT_KEY: Final = "alias/aws/secretsmanager"
_SERVICE: Final = "AWS Secrets Manager"
_PUSHED: Final = (
    "tags", "description", "secretPushFormat", "kmsKeyId", "replicationLocations", "resourcePolicy"
)  # fmt: skip
_FORMAT: Final = "secretPushFormat"


@dataclass(frozen=True, slots=True)
class SecretsManagerSettings:
    """`prefix` stands before every key; the other two say how a pushed secret is deleted."""

    prefix: str = ""
    force_delete: bool = False
    recovery_days: int = 0

    @classmethod
    def from_spec(cls, spec: Fields) -> "SecretsManagerSettings":
        """Read `spec.provider.aws`; raises Invalid."""
        part = spec.part("secretsManager") or Fields({}, spec.where)
        force, days = (
            part.flag("forceDeleteWithoutRecovery"),
            part.number("recoveryWindowInDays", 0),
        )
        if force and days:
            raise part.bad("recoveryWindowInDays", "cannot go with forceDeleteWithoutRecovery")
        if days and not 7 <= days <= 30:
            raise part.bad("recoveryWindowInDays", "must be 7 to 30")
        return cls(spec.text("prefix"), force, days)


@dataclass(frozen=True, slots=True)
class SecretsManagerInputs:
    """What pushes need from elsewhere: ids of new versions, and texts that their metadata name.

    `text` gives what a selector with a `kind` points to in a namespace; raises Invalid.
    """

    new_id: Callable[[], str]
    text: Callable[[Fields, str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Stored:
    content: bytes = field(repr=False)
    version: str
    form: str


class SecretsManager(OneByOne):
    """One region and one identity. Implements Provider."""

    traits = Traits("ReadWrite", batch=BATCH)

    def __init__(
        self,
        settings: SecretsManagerSettings,
        api: AwsJson,
        identity: AwsIdentity,
        http: HttpClient,
        inputs: SecretsManagerInputs,
    ) -> None:
        self._settings = settings
        self._api = api
        self._identity = identity
        self._http = http
        self._inputs = inputs
        self._may_batch = True

    async def _call(self, operation: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        return await self._identity.session.use(
            lambda _: self._api.call(f"secretsmanager.{operation}", body)
        )

    async def validate(self) -> None:
        await self._identity.prove()

    # reading

    async def fetch(self, ref: RemoteRef) -> Fetched:
        name = self._settings.prefix + ref.key
        try:
            if ref.metadata:
                found = await self._call("DescribeSecret", SecretId=name)
                return Fetched(str(found.get("Name")), ref.version or CURRENT, _tags(found))
            return _fetched(await self._call("GetSecretValue", SecretId=name, **_version(ref)))
        except NotFound as refusal:
            raise absent(refusal, name, ref.version) from None

    async def fetch_many(self, refs: Sequence[RemoteRef]) -> Sequence[Fetched | Refusal]:
        plain = [ref for ref in refs if not ref.version and not ref.metadata]
        found: dict[str, Fetched | Refusal] = {}
        for start in range(0, len(plain), BATCH):
            found |= await self._batch([ref.key for ref in plain[start : start + BATCH]])
        rest = [ref for ref in refs if ref not in plain or ref.key not in found]
        others = dict(zip(rest, await super().fetch_many(rest), strict=True))
        return [others[ref] if ref in others else found[ref.key] for ref in refs]

    async def _batch(self, keys: list[str]) -> dict[str, Fetched | Refusal]:
        """What one request gives; nothing where the identity may only read them one by one."""
        if len(keys) < 2 or not self._may_batch:
            return {}
        names = {self._settings.prefix + key: key for key in keys}
        try:
            said = await self._call("BatchGetSecretValue", SecretIdList=list(names))
        except Denied:
            # BatchGetSecretValue is a permission of its own, which older policies do not have.
            self._may_batch = False
            return {}
        except Invalid:
            # A name that cannot be is the trouble of whoever asks for it, not of the others.
            return {}
        found: dict[str, Fetched | Refusal] = {}
        for entry in said.get("SecretValues") or []:
            key = names.get(entry.get("Name")) or names.get(entry.get("ARN"))
            if key is not None:
                found[key] = _fetched(entry)
        for error in said.get("Errors") or []:
            name = str(error.get("SecretId"))
            code = str(error.get("ErrorCode"))
            if "NotFound" in code and name in names:
                # As it is said when the secret is read alone, for a status that changes is written.
                missing = NotFound("aws-not-found", f"GetSecretValue: {code}")
                found[names[name]] = absent(missing, name)
        # Any other failure of one secret is looked at by reading it alone.
        return found

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:
        filters = [{"Key": "name", "Values": [wanted.path]}] if wanted.path else []
        for key, value in wanted.tags.items():
            filters += [
                {"Key": "tag-key", "Values": [key]},
                {"Key": "tag-value", "Values": [value]},
            ]
        entries: dict[str, dict[str, str]] = {}
        pages, more = Pages(_SERVICE), dict[str, str]()
        while True:
            page = await self._call("ListSecrets", Filters=filters, MaxResults=100, **more)
            with understood(_SERVICE):
                tagged = {each["Name"]: _tags(each) for each in page["SecretList"]}
            entries |= {name: tags for name, tags in tagged.items() if wanted.wants(name, tags)}
            token = pages.next(page.get("NextToken"))
            if not token:
                break
            more = {"NextToken": token}
        if wanted.metadata:
            return {name: Fetched(name, CURRENT, tags) for name, tags in entries.items()}
        # Names of a list are whole; a prefix stands before keys of references alone.
        bare = SecretsManager(
            SecretsManagerSettings(), self._api, self._identity, self._http, self._inputs
        )
        return await bare.fetch_named(list(entries))

    # writing

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        name = self._settings.prefix + target.key
        meta = push_metadata(target, *_PUSHED)
        policy = await self._policy_text(target, meta)
        described = await self._described(name)
        if described is None:
            content = value.reveal()
            if target.property:
                content = with_property(None, name, target.property, content)
            pushed = await self._create(name, content, meta)
            await self._settle_policy(name, policy, meta)
            return pushed
        if not is_ours(_tags(described)):
            raise not_ours(name)
        before = await self._value(name)
        content = value.reveal()
        if target.property:
            content = with_property(
                before.content if before else None, name, target.property, content
            )
        await self._settle(name, described, meta)
        await self._settle_policy(name, policy, meta)
        if before and before.content == content:
            return Pushed(changed=False, version=before.version)
        return await self._put(name, _form(content, meta))

    async def _put(self, name: str, form: Mapping[str, str]) -> Pushed:
        said = await self._call(
            "PutSecretValue", SecretId=name, ClientRequestToken=self._inputs.new_id(), **form
        )
        return _pushed(said)

    async def _described(self, name: str) -> dict[str, Any] | None:
        try:
            described = await self._call("DescribeSecret", SecretId=name)
        except NotFound:
            return None
        with understood(_SERVICE):
            name = described["Name"]
        if described.get("DeletedDate"):
            raise Invalid(_DELETED, f"{name} is marked for deletion", hint="restore it, or wait")
        return described

    async def _value(self, name: str) -> "_Stored | None":
        try:
            said = await self._call("GetSecretValue", SecretId=name)
        except NotFound:
            return None
        form = "string" if said.get("SecretString") is not None else "binary"
        found = _fetched(said)
        return _Stored(_content(said), str(found.version), form)

    async def _create(self, name: str, content: bytes, meta: Fields) -> Pushed:
        key = meta.text("kmsKeyId", _DEFAULT_KEY)
        body: dict[str, Any] = {
            "Name": name,
            "Description": meta.text("description", "secret 'managed-by:external-secrets'"),
            "KmsKeyId": key,
            "Tags": [{"Key": k, "Value": v} for k, v in marked_tags(meta).items()],
            "ClientRequestToken": self._inputs.new_id(),
        }
        regions = meta.texts("replicationLocations")
        if regions:
            body["AddReplicaRegions"] = [{"Region": each} for each in regions]
        said = await self._call("CreateSecret", **body, **_form(content, meta))
        return _pushed(said)

    async def _settle(self, name: str, described: Mapping[str, Any], meta: Fields) -> None:
        """Tags and replicas as the PushSecret wants them, when it says anything about them."""
        if meta.labels("tags"):
            gone, new = tag_changes(_tags(described), marked_tags(meta))
            if gone:
                await self._call("UntagResource", SecretId=name, TagKeys=gone)
            if new:
                await self._call("TagResource", SecretId=name, Tags=new)
        there = {each.get("Region") for each in described.get("ReplicationStatus") or []}
        missing = [each for each in meta.texts("replicationLocations") if each not in there]
        if missing:
            regions = [{"Region": each} for each in missing]
            await self._call("ReplicateSecretToRegions", SecretId=name, AddReplicaRegions=regions)

    async def _policy_text(self, target: PushTarget, meta: Fields) -> str | None:
        """The policy that a push wants its secret to have, None when it says nothing about it."""
        part = meta.part("resourcePolicy")
        if part is None:
            return None
        selector = part.needed("policySourceRef")
        return (await self._inputs.text(selector, target.source.namespace)).strip()

    async def _settle_policy(self, name: str, policy: str | None, meta: Fields) -> None:
        """The resource policy as the PushSecret wants it; an empty text takes it off."""
        if policy is None:
            return
        held = (await self._call("GetResourcePolicy", SecretId=name)).get("ResourcePolicy") or ""
        if _same_json(held, policy):
            return
        if not policy:
            await self._call("DeleteResourcePolicy", SecretId=name)
            return
        body: dict[str, Any] = {"ResourcePolicy": policy}
        part = meta.needed("resourcePolicy")
        if "blockPublicPolicy" in part.names():
            body["BlockPublicPolicy"] = part.flag("blockPublicPolicy")
        await self._call("PutResourcePolicy", SecretId=name, **body)

    async def delete(self, target: PushTarget) -> None:
        name = self._settings.prefix + target.key
        try:
            described = await self._described(name)
        except Invalid as refusal:
            if refusal.code == _DELETED:
                return
            raise
        if described is None or not is_ours(_tags(described)):
            return
        if target.property:
            before = await self._value(name)
            rest = without_property(before.content, name, target.property) if before else None
            if before and rest is not None:
                if rest != before.content:
                    await self._put(name, _form(rest, Fields({_FORMAT: before.form}, name)))
                return
        how: dict[str, Any] = {}
        if self._settings.force_delete:
            how["ForceDeleteWithoutRecovery"] = True
        elif self._settings.recovery_days:
            how["RecoveryWindowInDays"] = self._settings.recovery_days
        await self._call("DeleteSecret", SecretId=name, **how)

    async def close(self) -> None:
        await self._http.close()


def _same_json(one: str, other: str) -> bool:
    """Whether two policies say the same, however they are written; what is no JSON differs."""
    if not one or not other:
        return one == other
    try:
        return bool(orjson.loads(one) == orjson.loads(other))
    except orjson.JSONDecodeError:
        return False


def _version(ref: RemoteRef) -> dict[str, str]:
    """A stage, or with `uuid/` before it a version's id."""
    if ref.version.startswith("uuid/"):
        return {"VersionId": ref.version.removeprefix("uuid/")}
    return {"VersionStage": ref.version or CURRENT}


def _fetched(said: Mapping[str, Any]) -> Fetched:
    with understood(_SERVICE):
        return Fetched(said["Name"], str(said["VersionId"]), _content(said))


def _pushed(said: Mapping[str, Any]) -> Pushed:
    with understood(_SERVICE):
        return Pushed(changed=True, version=str(said["VersionId"]))


def _content(said: Mapping[str, Any]) -> bytes:
    if said.get("SecretString") is not None:
        return str(said["SecretString"]).encode()
    return base64.b64decode(said["SecretBinary"], validate=True)


def _form(content: bytes, meta: Fields) -> dict[str, str]:
    if meta.choice(_FORMAT, ("binary", "string"), "binary") == "binary":
        return {"SecretBinary": base64.b64encode(content).decode()}
    try:
        return {"SecretString": content.decode()}
    except UnicodeDecodeError:
        raise meta.bad(_FORMAT, "is string, and the value is no text") from None


def _tags(said: Mapping[str, Any]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in said.get("Tags") or []}
