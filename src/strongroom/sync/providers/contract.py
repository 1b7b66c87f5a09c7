"""What sync asks of a provider: one protocol for the clouds, the stores and the fake.

Every method raises a Refusal of one of these families, and no other exception:

    NotFound      there is no such secret, version or property
    Denied        this identity may not; the same call a second later will not help
    Throttled     asked too often; `retry_after` when the server said when
    Unavailable   no answer, or none that can be used: the last good value stays
    Conflict      a push would overwrite what somebody else made, or lost a race
    Invalid       the reference or the store's spec is at fault, and the message names the field
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Protocol

from strongroom.model.errors import Conflict, Invalid, NotFound, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.objects import has_property
from strongroom.sync.spec import RemoteRef

# Vault and Google count; AWS, Azure and Kubernetes have names. "" where there are no versions.
Version = int | str
# An object of named values, or one value whose bytes may be JSON or anything else.
Data = Mapping[str, Any] | bytes
# Tells whether a name is wanted. A compiled pattern's `search` fits.
Matches = Callable[[str], object]

# What a pushed secret is marked with, so that nothing made by hand is overwritten.
MANAGED_BY: Final = ("managed-by", "external-secrets")


class ClusterAway(Unavailable):
    """The cluster, which has what a store is asked with, did not answer; the store may be well.

    It is asked again in `retry_after` seconds.
    """

    def __init__(self, refusal: Unavailable, retry_after: float = 0.0) -> None:
        super().__init__(refusal.code, refusal.message, hint=refusal.hint)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Traits:
    """What a provider can do.

    `batch` is how many references one request reads. `by_property`: the property is part of the
    request, so two references to one key with different properties are two reads. `bytes_by_key`:
    a push of a whole source is written from `PushTarget.whole`, so its values may be any bytes.
    `marked`: what was pushed bears a mark, and nothing without it is deleted or overwritten.
    `unchecked`: nobody can say beforehand whether the store lets us in; it can still be used.
    `notes` are sentences about its spec that its user should know, though it can be used.
    """

    access: str = "ReadOnly"
    batch: int = 1
    by_property: bool = False
    bytes_by_key: bool = False
    marked: bool = True
    unchecked: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fetched:
    """One secret at one version; `path` is the name that records and events have for it.

    With `metadataPolicy: Fetch` the data are the secret's tags, labels or custom metadata.
    """

    path: str
    version: Version
    data: Data = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """A path of a read that has changed; `position` is the place in the feed behind it, if any."""

    path: str
    position: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """What changed before a feed was listened to: by path the newest version, "" for no version.

    `whole` when the store remembers all since the position that was asked for. What was read before
    `unsure_before`, in epoch seconds, may have changed all the same: a snapshot was restored then.
    """

    versions: Mapping[str, Version]
    position: str
    whole: bool
    unsure_before: float = 0.0


# The position in front of all that a feed remembers.
BEGINNING: Final = "0"


@dataclass(frozen=True, slots=True)
class Find:
    """Which secrets `dataFrom.find` wants: below a path, by name, by tags; all must hold."""

    path: str = ""
    matches: Matches | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: bool = False

    def wants(self, name: str, tags: Mapping[str, Any] | None = None) -> bool:
        """Whether a name with these tags is meant; None when the tags are not to be looked at."""
        if self.matches is not None and not self.matches(name):
            return False
        return tags is None or all(str(tags.get(key)) == value for key, value in self.tags.items())


@dataclass(frozen=True, slots=True)
class SourceMetadata:
    """What a pushed Secret is besides its data, for a target that is a Secret too.

    `namespace` is the PushSecret's, in which what its metadata name is looked up.
    """

    namespace: str = ""
    type: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PushTarget:
    """Where a PushSecret writes: a key, and a property of the object there unless it is "".

    `metadata` is the `spec` of a PushSecretMetadata, free in form and different by provider.
    `whole` are the keys of the source when all of it is pushed: for a target that holds bytes by
    key, where the value as JSON could not hold them. `source` is what the source is besides, and
    `secret_key` the key of it that is pushed, "" for all of them.
    """

    key: str
    property: str = ""
    _: KW_ONLY
    secret_key: str = ""
    whole: Mapping[str, bytes] | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: SourceMetadata = field(default_factory=SourceMetadata)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did; nothing is written when the value is there already."""

    changed: bool
    version: Version = ""


class Provider(Protocol):
    """One store with one identity: one client, and one session that concurrent reads share."""

    @property
    def traits(self) -> Traits:
        """What it can do; the same for its whole life."""

    async def validate(self) -> None:
        """Prove that it can be reached and lets us in."""

    async def fetch(self, ref: RemoteRef) -> Fetched:
        """Read the secret a reference names, whole: its property is picked afterwards."""

    async def fetch_many(self, refs: Sequence[RemoteRef]) -> Sequence[Fetched | Refusal]:
        """Read several, in as few requests as the service allows; one answer for each."""

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:
        """Read every secret that is wanted, by the name users know it under."""

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        """Write a value unless it is there; raises Conflict for what we did not make."""

    async def delete(self, target: PushTarget) -> None:
        """Take back what was pushed; what is gone or not ours is left alone."""

    async def exists(self, target: PushTarget) -> bool:
        """Whether there is something under the key and property."""

    def changes(self, since: str = "") -> AsyncIterator[Change | History]:
        """Paths as they change; ends when there is no feed.

        With a position in `since`, a feed that remembers begins with a History. Raises
        Unavailable when it breaks or is closed, Denied when this identity has none.
        """

    async def close(self) -> None:
        """Let go of connections and give back the login."""


class OneByOne:
    """Half a provider: what a service without batches and without a change feed does.

    What it does with many names and with properties goes by `fetch` alone.
    """

    async def fetch(self, ref: RemoteRef) -> Fetched:
        """See Provider."""
        raise NotImplementedError

    async def fetch_many(self, refs: Sequence[RemoteRef]) -> Sequence[Fetched | Refusal]:
        """See Provider."""
        return await asyncio.gather(*(self._tried(ref) for ref in refs))

    async def _tried(self, ref: RemoteRef) -> Fetched | Refusal:
        try:
            return await self.fetch(ref)
        except Refusal as refusal:
            return refusal

    async def fetch_named(
        self, names: Sequence[str], *, metadata: bool = False
    ) -> dict[str, Fetched]:
        """What a find has listed, without what went since; raises any other refusal."""
        refs = [RemoteRef(name, metadata=metadata) for name in names]
        return present(dict(zip(names, await self.fetch_many(refs), strict=True)))

    async def exists(self, target: PushTarget) -> bool:
        """See Provider."""
        try:
            found = await self.fetch(RemoteRef(target.key))
        except NotFound:
            return False
        return not target.property or has_property(found.data, target.key, target.property)

    async def changes(self, since: str = "") -> AsyncIterator[Change | History]:  # noqa: ARG002
        """No feed."""
        return
        yield Change("")


@contextmanager
def understood(service: str) -> Iterator[None]:
    """Around the reading of a reply: one without what it must have is no answer.

    What was wrong is named by its kind alone, for the reply may hold values.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Unavailable(
            "bad-reply", f"the reply of {service} is not understood ({type(error).__name__})"
        ) from None


class Pages:
    """The places in a list, as its service gives them; one that comes again would never end."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._seen: set[str] = set()

    def next(self, token: object) -> str:
        """Where the list goes on, "" at its end; raises Unavailable(`bad-reply`)."""
        place = str(token or "")
        if place in self._seen:
            said = f"the list of {self._service} goes in a circle"
            raise Unavailable("bad-reply", said)
        if place:
            self._seen.add(place)
        return place


def absent(refusal: NotFound, name: str, version: str = "") -> NotFound:
    """What a service says is not there, by the name that manifests have for it. Pure."""
    of = f" in version {version}" if version else ""
    return NotFound(refusal.code, f"{name} is not there{of} ({refusal.message})")


def not_ours(key: str) -> Conflict:
    """The refusal to overwrite a secret that no PushSecret made."""
    return Conflict(
        "not-managed",
        f"{key} exists and is not marked {MANAGED_BY[0]}={MANAGED_BY[1]}",
        hint="delete it, or mark it so if a PushSecret may own it",
    )


def is_ours(tags: Mapping[str, Any]) -> bool:
    """Whether tags, labels or custom metadata have the mark of a PushSecret. Pure."""
    return tags.get(MANAGED_BY[0]) == MANAGED_BY[1]


def push_metadata(target: PushTarget, *known: str) -> Fields:
    """A push's metadata for a provider that knows these fields; raises Invalid for others. Pure.

    The case of a name does not matter, for it does not to the other controller either.
    """
    where = "metadata.spec"
    named = {each.lower(): each for each in known}
    found: dict[str, Any] = {}
    for name, value in target.metadata.items():
        if name.lower() not in named:
            said = f"{where}.{name} is none of {', '.join(sorted(known))}"
            raise Invalid("bad-field", said, hint="what is pushed would not be as it says")
        found[named[name.lower()]] = value
    return Fields(found, where)


def marked_tags(meta: Fields) -> dict[str, str]:
    """The `tags` of a push's metadata with the mark; raises Invalid for ones that set it. Pure."""
    tags = meta.labels("tags")
    if MANAGED_BY[0] in tags:
        raise meta.bad("tags", f"cannot have {MANAGED_BY[0]}, which is ours")
    return tags | dict([MANAGED_BY])


def tag_changes(
    before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[list[str], list[dict[str, str]]]:
    """Which tags of an AWS resource go, and which are written; Amazon's own stay. Pure."""
    gone = [each for each in before if each not in after and not each.startswith("aws:")]
    return gone, [{"Key": k, "Value": v} for k, v in after.items() if before.get(k) != v]


def present(found: Mapping[str, Fetched | Refusal]) -> dict[str, Fetched]:
    """What was found of a list; what went since it was listed is left out.

    Raises any other refusal: half a find would look like secrets that are gone.
    """
    kept: dict[str, Fetched] = {}
    for name, each in found.items():
        if isinstance(each, Fetched):
            kept[name] = each
        elif not isinstance(each, NotFound):
            raise each
    return kept
