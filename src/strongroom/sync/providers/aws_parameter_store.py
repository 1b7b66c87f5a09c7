"""AWS Systems Manager Parameter Store.

Fields: https://external-secrets.io/latest/provider/aws-parameter-store/; API:
https://docs.aws.amazon.com/systems-manager/latest/APIReference/.
"""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
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
from strongroom.sync.providers.objects import (
    as_value,
    with_property,
    without_property,
)
from strongroom.sync.spec import RemoteRef
from strongroom.wire.aws import AwsJson
from strongroom.wire.client import HttpClient

BATCH: Final = 10
_KINDS: Final = ("String", "StringList", "SecureString")
_TIERS: Final = ("Standard", "Advanced", "Intelligent-Tiering")
_PUSHED: Final = (
    "secretType", "kmsKeyID", "tier", "encodeAsDecoded", "tags", "description"
)  # fmt: skip
_SERVICE: Final = "AWS Parameter Store"
_TAGGED: Final = "Parameter"


class ParameterStore(OneByOne):
    """One region and one identity. Implements Provider."""

    traits = Traits("ReadWrite", batch=BATCH, bytes_by_key=True)

    def __init__(self, prefix: str, api: AwsJson, identity: AwsIdentity, http: HttpClient) -> None:
        self._prefix = prefix
        self._api = api
        self._identity = identity
        self._http = http
        self._may_batch = True

    async def _call(self, operation: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        return await self._identity.session.use(
            lambda _: self._api.call(f"AmazonSSM.{operation}", body)
        )

    async def validate(self) -> None:
        await self._identity.prove()

    # reading

    async def fetch(self, ref: RemoteRef) -> Fetched:
        name = self._prefix + ref.key
        try:
            found = await self._parameter(f"{name}:{ref.version}" if ref.version else name)
        except NotFound as refusal:
            raise absent(refusal, name, ref.version) from None
        if ref.metadata:
            return Fetched(found.path, found.version, await self._tags(name))
        return found

    async def _parameter(self, name: str) -> Fetched:
        said = await self._call("GetParameter", Name=name, WithDecryption=True)
        return _fetched(said.get("Parameter") or {})

    async def _tags(self, name: str) -> dict[str, str]:
        said = await self._call("ListTagsForResource", ResourceType=_TAGGED, ResourceId=name)
        return {each["Key"]: each["Value"] for each in said.get("TagList") or []}

    async def fetch_many(self, refs: Sequence[RemoteRef]) -> Sequence[Fetched | Refusal]:
        # A version is read alone: a reply does not always say which selector it answers.
        plain = [ref for ref in refs if not ref.metadata and not ref.version]
        names = {self._prefix + ref.key: ref for ref in plain}
        found: dict[RemoteRef, Fetched | Refusal] = {}
        every = list(names)
        for start in range(0, len(every), BATCH):
            answers = await self._batch(every[start : start + BATCH])
            found |= {names[name]: each for name, each in answers.items()}
        rest = [ref for ref in refs if ref not in found]
        found |= dict(zip(rest, await super().fetch_many(rest), strict=True))
        return [found[ref] for ref in refs]

    async def _batch(self, names: list[str]) -> dict[str, Fetched | Refusal]:
        """What one request gives; nothing where the identity may only read them one by one."""
        if len(names) < 2 or not self._may_batch:
            return {}
        try:
            said = await self._call("GetParameters", Names=names, WithDecryption=True)
        except Denied:
            # GetParameters is a permission of its own, which narrow policies do not have.
            self._may_batch = False
            return {}
        except Invalid:
            # A name that cannot be is the trouble of whoever asks for it, not of the others.
            return {}
        entries = [
            (name, each)
            for each in _entries(said)
            for name in (each["Name"], each.get("ARN", ""))
            if name in names
        ]
        # Of `db` and `db:3` both are called `db`: nobody can tell which of them is which.
        count = Counter(name for name, _ in entries)
        return {name: _fetched(each) for name, each in entries if count[name] == 1}

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:
        if wanted.tags:
            return await self._find_by_tags(wanted)
        found: dict[str, Fetched] = {}
        asked = {"Path": wanted.path or "/", "Recursive": True, "WithDecryption": True}
        try:
            async for page in self._pages("GetParametersByPath", asked):
                for each in _entries(page):
                    if wanted.wants(each["Name"]):
                        found[each["Name"]] = _fetched(each)
        except Denied as refusal:
            return await self._find_without_path(wanted, refusal)
        if wanted.metadata:
            return {
                name: Fetched(name, each.version, await self._tags(name))
                for name, each in found.items()
            }
        return found

    async def _find_without_path(self, wanted: Find, refusal: Denied) -> Mapping[str, Fetched]:
        """What DescribeParameters lists, read one by one; raises the refusal if that is denied too.

        GetParametersByPath is a permission of its own, which older policies do not have.
        """
        try:
            return await self._find_by_tags(wanted)
        except Denied:
            raise refusal from None

    async def _find_by_tags(self, wanted: Find) -> Mapping[str, Fetched]:
        filters = [{"Key": f"tag:{k}", "Values": [v]} for k, v in wanted.tags.items()]
        if wanted.path:
            filters.append({"Key": "Path", "Option": "Recursive", "Values": [wanted.path]})
        names: list[str] = []
        async for page in self._pages("DescribeParameters", {"ParameterFilters": filters}):
            names += [each["Name"] for each in _entries(page) if wanted.wants(each["Name"])]
        bare = ParameterStore("", self._api, self._identity, self._http)
        return await bare.fetch_named(names, metadata=wanted.metadata)

    async def _pages(self, operation: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
        pages, more = Pages(_SERVICE), dict[str, str]()
        while True:
            page = await self._call(operation, **body, **more)
            yield page
            token = pages.next(page.get("NextToken"))
            if not token:
                return
            more = {"NextToken": token}

    # writing

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        name = self._prefix + target.key
        meta = push_metadata(target, *_PUSHED)
        before = await self._ours(name)
        content = _content(target, value, meta)
        if target.property:
            old = before.data if before else None
            content = with_property(_bytes(old), name, target.property, content)
        if before is not None:
            if before.data == content:
                return Pushed(changed=False, version=before.version)
            said = await self._put(name, content, meta, Overwrite=True)
            await self._settle_tags(name, meta)
        else:
            tags = [{"Key": k, "Value": v} for k, v in marked_tags(meta).items()]
            said = await self._put(name, content, meta, Tags=tags)
        with understood(_SERVICE):
            return Pushed(changed=True, version=int(said["Version"]))

    async def _ours(self, name: str) -> Fetched | None:
        """The parameter that a PushSecret made, None for none; raises Conflict."""
        try:
            found = await self._parameter(name)
        except NotFound:
            return None
        if not is_ours(await self._tags(name)):
            raise not_ours(name)
        return found

    async def _put(self, name: str, content: bytes, meta: Fields, **how: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        kind = meta.choice("secretType", _KINDS, "String")
        body: dict[str, Any] = {"Name": name, "Value": as_value(content, name), "Type": kind, **how}
        if kind == "SecureString":
            body["KeyId"] = meta.text("kmsKeyID", "alias/aws/ssm")
        if meta.text("description"):
            body["Description"] = meta.text("description")
        tier = meta.part("tier")
        if tier:
            body["Tier"] = tier.choice("type", _TIERS, "Standard")
            policies = tier.raw().get("policies")
            if policies:
                body["Policies"] = orjson.dumps(policies).decode()
        return await self._call("PutParameter", **body)

    async def _settle_tags(self, name: str, meta: Fields) -> None:
        if not meta.labels("tags"):
            return
        gone, new = tag_changes(await self._tags(name), marked_tags(meta))
        place = {"ResourceType": _TAGGED, "ResourceId": name}
        if gone:
            await self._call("RemoveTagsFromResource", TagKeys=gone, **place)
        if new:
            await self._call("AddTagsToResource", Tags=new, **place)

    async def delete(self, target: PushTarget) -> None:
        name = self._prefix + target.key
        try:
            before = await self._parameter(name)
        except NotFound:
            return
        if not is_ours(await self._tags(name)):
            return
        if target.property:
            old = _bytes(before.data) or b""
            rest = without_property(old, name, target.property)
            if rest is not None:
                if rest != old:
                    await self._call("PutParameter", Name=name, Value=rest.decode(), Overwrite=True)
                return
        await self._call("DeleteParameter", Name=name)

    async def close(self) -> None:
        await self._http.close()


def _content(target: PushTarget, value: Secret, meta: Fields) -> bytes:
    """What a parameter shall hold: of a whole source a JSON object of its values in base64.

    With `encodeAsDecoded` they are texts.
    """
    if target.property or target.whole is None:
        return value.reveal()
    plain = meta.flag("encodeAsDecoded")
    return orjson.dumps(
        {
            name: as_value(each, target.key) if plain else base64.b64encode(each).decode()
            for name, each in sorted(target.whole.items())
        }
    )


def _bytes(data: Any) -> bytes | None:  # noqa: ANN401 - a parameter's value is always bytes
    return data if isinstance(data, bytes) else None


def _entries(page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    with understood(_SERVICE):
        return [each for each in page["Parameters"] if each["Name"]]


def _fetched(said: Mapping[str, Any]) -> Fetched:
    with understood(_SERVICE):
        return Fetched(said["Name"], int(said["Version"]), str(said["Value"]).encode())
