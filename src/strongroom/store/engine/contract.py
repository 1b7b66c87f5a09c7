"""What the store asks of a storage engine: rows as values, reads now, writes in transactions.

Two kinds of access. A `View` answers point reads and pages at once, from committed state. A
`Transaction` is a view that can write; it is handed to a function that runs alone, and either
everything the function did is durable when `transact` returns, or nothing is.
Sealing and unsealing of values happens inside the engine; rows carry plain values.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from strongroom.store.engine.auth_contract import AuthTransaction, AuthView
from strongroom.store.engine.identity_contract import IdentityTransaction, IdentityView
from strongroom.store.engine.snapshot_contract import SnapshotTransaction, TablePage
from strongroom.store.engine.upkeep_contract import UpkeepTransaction, UpkeepView

T = TypeVar("T")
# No secret has it.
NO_MARK: Final = (0, 0)


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """The one row of a cluster: who it is, and its key ring wrapped by the seal."""

    cluster_id: str
    cluster_name: str
    seal_type: str
    wrapped_ring: bytes = field(repr=False)
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class MountRow:
    """A mounted engine (`kind` "secret") or auth method ("auth"); `path` ends in a slash.

    `flags` are those it was enabled with, which are shown and change nothing.
    """

    kind: str
    path: str
    type: str
    uuid: str
    accessor: str
    description: str = ""
    options: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DamagedMount:
    """A mount whose row does not open, so that only its place is known; `said` names it."""

    kind: str
    path: str
    said: str


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token. `id` is the keyed hash of its text; times are epoch seconds.

    `expires` is None for a token that does not expire; `uses_left` 0 means unlimited. `mount` is
    the uuid of the auth method that made it; `internal` is kept for the method and never shown.
    `maker` is the client whose token asked for this one, "" for a login and for what root made.
    """

    id: bytes = field(repr=False)
    accessor: str
    parent: bytes | None = field(repr=False)
    policies: tuple[str, ...]
    display_name: str
    path: str
    created: float
    ttl: int
    expires: float | None
    metadata: dict[str, str] = field(default_factory=dict)
    explicit_max_ttl: int = 0
    period: int = 0
    uses_left: int = 0
    renewable: bool = True
    bound_cidrs: tuple[str, ...] = ()
    renewed: float | None = None
    role: str = ""
    type: str = "service"
    entity_id: str = ""
    mount: str = ""
    internal: dict[str, str] = field(default_factory=dict)
    maker: str = ""

    @property
    def client(self) -> str:
        """For whom it counts: its maker, its entity, or itself; batch tokens of none together."""
        return self.maker or self.entity_id or self.id.hex() or self.type


# The end of a token that is revoked: it has come by every node's clock, also by one that is slow.
LONG_PAST: Final = 0.0
# When an acknowledgement ends, as far as is known now.
ClaimEnd = Callable[["ConsumerRow"], float | None]
# States of a lease whose thing may come to be at any moment.
MAKING: Final = ("pending", "abandoned")


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """What an engine made for a caller and has to take back; times are epoch seconds.

    `id` is the request path, a slash and a random name; `mount` the engine's uuid; `token` the
    hash of the token it was made for, None for one that outlives its token. `state` is "pending"
    while the thing is being made ("abandoned" when it is not wanted any more), then "live",
    "revoking" until it is undone, or "irrevocable" when that failed too often. At `due` something
    is to be done, None means never; `error` says
    why the last attempt failed. `data` is what the engine needs to undo it.
    """

    id: str
    mount: str
    token: bytes | None = field(repr=False)
    issued: float
    expires: float
    ttl: int
    due: float | None
    state: str = "live"
    attempts: int = 0
    max_ttl: int = 0
    renewable: bool = True
    renewed: float | None = None
    error: str = ""
    data: dict[str, Any] = field(default_factory=dict, repr=False)


class KvVersionInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of a version without its data; `deleted` is when, or None.

    `by_request` says that somebody has deleted it, so that it is gone whatever a clock says.
    A list in JSON. A struct, because a write reads and makes a dozen of them.
    """

    version: int
    created: float
    deleted: float | None = None
    destroyed: bool = False
    by_request: bool = False


class KvMetadata(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A KV v2 secret. `max_versions` 0 means the mount's setting.

    `mark` is which row was read and how often it had been written, for `View.kv_stands`; rows
    that differ in it alone are equal. A struct, because a write makes two.
    """

    mount: str
    path: str
    created: float
    updated: float
    current_version: int = 0
    oldest_version: int = 0
    max_versions: int = 0
    cas_required: bool = False
    delete_version_after: int = 0
    custom: dict[str, str] = {}
    versions: tuple[KvVersionInfo, ...] = ()
    mark: tuple[int, int] = NO_MARK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KvMetadata) and self._told() == other._told()

    def __hash__(self) -> int:
        return hash((self.mount, self.path, self.current_version))

    def _told(self) -> tuple[Any, ...]:
        return msgspec.structs.astuple(self)[:-1]

    def info(self, version: int) -> KvVersionInfo | None:
        """The entry of a version, or None."""
        return next((each for each in self.versions if each.version == version), None)


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """Who says it uses which version of a secret; one row for a path and actor."""

    path: str
    actor: str
    kind: str
    namespace: str
    service_account: str
    pod: str
    pod_uid: str
    node: str
    token_id: str
    version: int
    acknowledged: float
    expires: float | None


# A secret's mount and path.
SecretName = tuple[str, str]


class About(NamedTuple):
    """What a unit of work will ask: a secret, and the nameless document of a kind of its mount."""

    mount: str
    path: str
    document: str = ""


# The operation of an event behind which all is as a snapshot had it.
RESTORED: Final = "restored"


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """One entry of the change feed, in commit order.

    `damage` says why an entry does not open; then nothing but its number is known. `versions` are
    those that a call of `delete/`, `undelete/` or `destroy/` changed.
    """

    sequence: int
    time: float
    path: str
    operation: str
    version: int
    mount: str
    damage: str = ""
    versions: tuple[int, ...] = ()

    @property
    def breaks(self) -> bool:
        """Whether nobody can tell from the feed what has changed here."""
        return bool(self.damage) or self.operation == RESTORED


class View(IdentityView, AuthView, UpkeepView, Protocol):
    """Reads of committed state. Absent rows are None, never an error."""

    def cluster(self) -> ClusterRow | None:
        """The cluster row; readable while sealed."""

    def check_schema(self) -> None:
        """Raise Unavailable(`schema-too-new`) when this program must not use the database any more.

        A later version has taken away what this one reads or writes.
        """

    def generation(self) -> int:
        """Moves when the seal, a mount, a policy, a quota, an entity, a group or a token that was
        there changes; not with secrets.
        """

    def mounts(self) -> Sequence[MountRow]:
        """Every mount whose row opens."""

    def damaged_mounts(self) -> Sequence[DamagedMount]:
        """The others; their places are taken."""

    def policy(self, name: str) -> str | None:
        """The text of a policy."""

    def policy_names(self) -> Sequence[str]:
        """All names, sorted."""

    def token(self, token_id: bytes) -> TokenRow | None:
        """A token by its hash, expired or not."""

    def token_by_accessor(self, accessor: str) -> TokenRow | None:
        """A token by its accessor."""

    def accessors(self, now: float = 0.0) -> Sequence[str]:
        """Accessors of the tokens that have not ended by `now`."""

    def token_count(self) -> int:
        """How many tokens are kept; one that has expired counts until it is removed."""

    def token_ids(
        self, prefix: str, *, after: str = "", limit: int = 0, now: float = 0.0
    ) -> Sequence[tuple[str, bytes]]:
        """Path and id of tokens whose path is or lies under `prefix`, sorted; "" means all.

        `after` is a path and a hexadecimal id joined by `/h`; what has ended by `now` is left out.
        """

    def count_under(self, prefix: str, limit: int) -> int:
        """How many tokens and leases have a path that begins so, counted to `limit`."""

    def count_of(self, client: str, limit: int) -> int:
        """How many tokens a client has, and leases with them, counted to `limit`.

        What the release before has written counts for nobody.
        """

    def next_due(self) -> float | None:
        """When the next token or lease comes to its end, or a lease is to be tried again."""

    def lease(self, lease_id: str) -> LeaseRow | None:
        """A lease."""

    def lease_ids(self, prefix: str, *, after: str = "", limit: int = 0) -> Sequence[str]:
        """Ids that begin so, sorted, those after `after`."""

    def stuck_leases(self, limit: int) -> Sequence[LeaseRow]:
        """Leases that could not be revoked."""

    def cubbyhole(self, token: bytes, path: str) -> bytes | None:
        """What a token keeps under a path."""

    def cubbyhole_paths(self, token: bytes) -> Sequence[str]:
        """Every path under which a token keeps something, sorted."""

    def cubbyhole_size(self, token: bytes) -> int:
        """How many these are; no name is opened for it."""

    def document(self, mount: str, kind: str, name: str) -> dict[str, Any] | None:
        """A configuration document of a mount, such as an auth role."""

    def document_names(self, mount: str, kind: str) -> Sequence[str]:
        """Names of a mount's documents of a kind, sorted."""

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        """A secret's metadata; `mount` is the mount's uuid."""

    def kv_exists(self, mount: str, path: str) -> bool:
        """Whether the secret has metadata; cheaper than reading it."""

    def kv_stands(self, mark: tuple[int, int]) -> bool:
        """Whether the secret with this mark is there and was not written since; one point read.

        Its data is what it was, too. Holds for one generation: a restore gives marks anew.
        """

    def kv_data(self, mount: str, path: str, version: int) -> bytes | None:
        """The JSON text of a version that is neither deleted nor destroyed."""

    def kv_list(self, mount: str, folder: str, *, after: str = "", limit: int = 0) -> Sequence[str]:
        """Names in a folder ("" the top); a subfolder ends in a slash.

        All of them sorted or, with `limit`, so many (fewer at the end) in an order of the engine's,
        in which a secret stands directly before the folder of the same name. `after` is the
        name that the page begins behind, with the slash of a folder.
        """

    def consumers(self, path: str) -> Sequence[ConsumerRow]:
        """Who acknowledged a version of the secret."""

    def events_after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        """Change-feed entries after a sequence number, oldest first."""

    def last_event(self) -> int:
        """The newest sequence number, 0 when there is none."""


class Transaction(
    View, IdentityTransaction, AuthTransaction, UpkeepTransaction, SnapshotTransaction, Protocol
):
    """A view that can write."""

    def put_cluster(self, row: ClusterRow) -> bool:
        """Write the cluster row if there is none; False when somebody was first."""

    def replace_ring(self, wrapped: bytes) -> None:
        """Store a new wrapped key ring."""

    def put_mount(self, row: MountRow) -> None:
        """Insert or replace a mount."""

    def delete_mount(self, row: MountRow) -> None:
        """Remove a mount and everything under it but its leases."""

    def delete_rows_of_mount(self, mount: str) -> None:
        """Remove what is under the uuid of a mount that is not there any more."""

    def move_mount(self, row: MountRow, path: str) -> None:
        """Give a mount another path; what is under it stays."""

    def put_policy(self, name: str, text: str) -> None:
        """Insert or replace."""

    def delete_policy(self, name: str) -> None:
        """Remove; no error when absent."""

    def put_token(self, row: TokenRow) -> None:
        """Insert or replace."""

    def delete_token(
        self, token_id: bytes, *, orphan: bool = False, now: float = 0.0
    ) -> Sequence[bytes]:
        """Remove a token and its children, or leave these orphans; returns the removed ids.

        Cubbyholes go along, and leases of removed tokens are due for revocation at `now`.
        """

    def delete_expired_tokens(self, now: float, limit: int) -> int:
        """Remove up to `limit` expired tokens, and what goes with them; returns how many.

        The generation stays when nothing but expired tokens has gone, for these were refused
        already.
        """

    def put_lease(self, row: LeaseRow) -> None:
        """Insert or replace."""

    def delete_lease(self, lease_id: str) -> None:
        """Remove; no error when absent."""

    def claim_leases(
        self, now: float, until: float, limit: int, *, apart: Sequence[str] = ()
    ) -> Sequence[LeaseRow]:
        """Take leases that are due, oldest first, to be revoked by the caller alone until then.

        Those of the mounts `apart`, by uuid, are left to others, and what somebody holds locked in
        the database to a later claim.
        Each is "revoking" with one more attempt. One whose row is damaged is "irrevocable" from
        then on, and its `error` among `stuck_leases` says so.
        """

    def revoke_leases(self, now: float, *, prefix: str = "", mount: str = "") -> None:
        """Make every lease whose id begins so, or of a mount, due for revocation.

        One that is being made is "abandoned" and stays due when it was: undone before it is
        there, it would stand for ever.
        """

    def revoke_tokens(self, prefix: str) -> None:
        """End tokens whose path is or lies under `prefix`, and all they made, at LONG_PAST."""

    def move_generation(self) -> None:
        """Something that is remembered with mounts, policies and tokens has changed."""

    def revoke_abandoned_leases(self, now: float) -> None:
        """The same for live leases whose token is gone, and forget cubbyholes without a token."""

    def put_cubbyhole(self, token: bytes, path: str, data: bytes) -> None:
        """Insert or replace."""

    def delete_cubbyhole(self, token: bytes, path: str) -> None:
        """Remove; no error when absent."""

    def use_token(self, token_id: bytes) -> bool:
        """Count one use of a limited token; False when none is left."""

    def put_document(self, mount: str, kind: str, name: str, value: dict[str, Any]) -> None:
        """Insert or replace."""

    def delete_document(self, mount: str, kind: str, name: str) -> None:
        """Remove; no error when absent."""

    def put_kv_metadata(self, row: KvMetadata) -> None:
        """Insert or replace metadata and the entries of its versions; data is kept."""

    def put_kv_version(self, row: KvMetadata, data: bytes) -> None:
        """The same, and the JSON text of its current version, which is new."""

    def put_kv_data(self, mount: str, path: str, version: int, data: bytes) -> None:
        """Store the JSON text of a version whose entry is there."""

    def delete_kv(self, mount: str, path: str) -> None:
        """Remove a secret with all versions; empty folders above it go too."""

    def put_consumer(self, row: ConsumerRow) -> None:
        """Insert or replace by path and actor."""

    def forget_consumers(self, before: float, end_of: ClaimEnd, limit: int) -> int:
        """Look at so many acknowledgements that are to have lapsed before a time; how many it were.

        They are removed, but for those that by `end_of` end later, as of a token that was renewed.
        """

    def append_event(self, event: EventRow) -> None:
        """Add to the change feed; the engine assigns the sequence."""

    def forget_events(self, kept: int, limit: int) -> bool:
        """Remove the oldest, about `limit` of them; True while more than `kept` are left."""


class Engine(Protocol):
    """A storage engine. Reads are for the event-loop thread alone.

    Where `waits` is true the database answers over a socket. Reads look the same, but may only
    be made inside `waiting` (the pipeline sees to it for handlers) or inside `transact`.
    """

    waits: bool

    @property
    def view(self) -> View:
        """Committed state."""

    def transact(
        self, work: Callable[[Transaction], T], *, about: About | None = None
    ) -> "asyncio.Future[T]":
        """Have `work` run alone; done when what it did is durable, or undone since it raised.

        `work` is a plain function of the transaction: it may be run again when an attempt was
        undone. `about` foretells what it asks; work that asks for more is only slower. What
        `work` raises is raised when the future is awaited, and Unavailable when the database is
        full, locked for too long or gone.
        """

    async def transact_alone(self, work: Callable[[Transaction], T]) -> T:
        """The same for work that may take minutes: nobody else's shares its transaction."""

    def gather_by(self, gather: Callable[[], Awaitable[None]]) -> None:
        """Await it before each group of writes where one costs round trips, however many join it.

        It says when no more are on their way, or that they take too long.
        """

    def check_writes(self) -> None:
        """Raise Unavailable(`writing-ended`) when no write will be done any more."""

    def pages(self) -> AsyncIterator[TablePage]:
        """Every row of one moment, for a snapshot; writes go on meanwhile.

        Raises Invalid(`no-snapshot`) where nothing is stored.
        """

    def waiting(self, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """The coroutine with the right to read the view, now and after each of its awaits."""

    async def side_by_side(self, works: Iterable[Callable[[], None]]) -> None:
        """Run plain functions that read the view and raise nothing; where reads wait, together."""

    def revision(self) -> int:
        """A number that changes whenever anybody, in any process, has committed; a read."""

    def revision_and_known(
        self, secrets: Iterable[SecretName]
    ) -> tuple[int, frozenset[SecretName]]:
        """The revision, and secrets that were certainly there when it was read; not always all.

        Costs no more than `revision`.
        """

    def generation_at(self, revision: int) -> int:
        """The generation (`View.generation`) when `revision` was read, or a newer one; a read."""

    async def close(self) -> None:
        """Finish what is queued and let go of files and connections."""
