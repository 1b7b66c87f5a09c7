"""What the store asks of a storage engine: rows as values, reads now, writes in transactions.

Two kinds of access. A `View` answers point reads and pages at once, from committed state. A
`Transaction` is a view that can write; it is handed to a function that runs alone, and either
everything the function did is durable when `transact` returns, or nothing is.
Sealing and unsealing of values happens inside the engine; rows carry plain values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


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
    """A mounted engine (`kind` "secret") or auth method ("auth"); `path` ends in a slash."""

    kind: str
    path: str
    type: str
    uuid: str
    accessor: str
    description: str = ""
    options: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A service token. `id` is the keyed hash of its text; times are epoch seconds.

    `expires` is None for a token that does not expire; `uses_left` 0 means unlimited.
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


@dataclass(frozen=True, slots=True)
class KvVersionInfo:
    """What is known of a version without its data; `deleted` is when, or None."""

    version: int
    created: float
    deleted: float | None = None
    destroyed: bool = False


@dataclass(frozen=True, slots=True)
class KvMetadata:
    """A KV v2 secret. `max_versions` 0 means the mount's setting."""

    mount: str
    path: str
    created: float
    updated: float
    current_version: int = 0
    oldest_version: int = 0
    max_versions: int = 0
    cas_required: bool = False
    delete_version_after: int = 0
    custom: dict[str, str] = field(default_factory=dict)
    versions: tuple[KvVersionInfo, ...] = ()

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


@dataclass(frozen=True, slots=True)
class EventRow:
    """One entry of the change feed, in commit order."""

    sequence: int
    time: float
    path: str
    operation: str
    version: int
    mount: str


class View(Protocol):
    """Reads of committed state. Absent rows are None, never an error."""

    def cluster(self) -> ClusterRow | None:
        """The cluster row; readable while sealed."""

    def generation(self) -> int:
        """Moves when a mount, a policy or a token that was there changes; not with secrets."""

    def mounts(self) -> Sequence[MountRow]:
        """Every mount."""

    def policy(self, name: str) -> str | None:
        """The text of a policy."""

    def policy_names(self) -> Sequence[str]:
        """All names, sorted."""

    def token(self, token_id: bytes) -> TokenRow | None:
        """A token by its hash, expired or not."""

    def token_by_accessor(self, accessor: str) -> TokenRow | None:
        """A token by its accessor."""

    def accessors(self) -> Sequence[str]:
        """Accessors of all tokens."""

    def document(self, mount: str, kind: str, name: str) -> dict[str, Any] | None:
        """A configuration document of a mount, such as an auth role."""

    def document_names(self, mount: str, kind: str) -> Sequence[str]:
        """Names of a mount's documents of a kind, sorted."""

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        """A secret's metadata; `mount` is the mount's uuid."""

    def kv_data(self, mount: str, path: str, version: int) -> bytes | None:
        """The JSON text of a version that is neither deleted nor destroyed."""

    def kv_list(self, mount: str, folder: str, *, after: str = "", limit: int = 0) -> Sequence[str]:
        """Names in a folder ("" the top), sorted; a subfolder ends in a slash."""

    def consumers(self, path: str) -> Sequence[ConsumerRow]:
        """Who acknowledged a version of the secret."""

    def events_after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        """Change-feed entries after a sequence number, oldest first."""

    def last_event(self) -> int:
        """The newest sequence number, 0 when there is none."""


class Transaction(View, Protocol):
    """A view that can write."""

    def put_cluster(self, row: ClusterRow) -> bool:
        """Write the cluster row if there is none; False when somebody was first."""

    def replace_ring(self, wrapped: bytes) -> None:
        """Store a new wrapped key ring."""

    def put_mount(self, row: MountRow) -> None:
        """Insert or replace a mount."""

    def delete_mount(self, row: MountRow) -> None:
        """Remove a mount and everything under it."""

    def put_policy(self, name: str, text: str) -> None:
        """Insert or replace."""

    def delete_policy(self, name: str) -> None:
        """Remove; no error when absent."""

    def put_token(self, row: TokenRow) -> None:
        """Insert or replace."""

    def delete_token(self, token_id: bytes, *, orphan: bool = False) -> Sequence[bytes]:
        """Remove a token and its children, or leave these orphans; returns the removed ids."""

    def delete_expired_tokens(self, now: float, limit: int) -> int:
        """Remove up to `limit` expired tokens; returns how many."""

    def use_token(self, token_id: bytes) -> bool:
        """Count one use of a limited token; False when none is left."""

    def put_document(self, mount: str, kind: str, name: str, value: dict[str, Any]) -> None:
        """Insert or replace."""

    def delete_document(self, mount: str, kind: str, name: str) -> None:
        """Remove; no error when absent."""

    def put_kv_metadata(self, row: KvMetadata) -> None:
        """Insert or replace metadata and the entries of its versions; data is kept."""

    def put_kv_data(self, mount: str, path: str, version: int, data: bytes) -> None:
        """Store the JSON text of a version whose entry is there."""

    def delete_kv(self, mount: str, path: str) -> None:
        """Remove a secret with all versions; empty folders above it go too."""

    def put_consumer(self, row: ConsumerRow) -> None:
        """Insert or replace by path and actor."""

    def append_event(self, event: EventRow) -> None:
        """Add to the change feed; the engine assigns the sequence."""


class Engine(Protocol):
    """A storage engine. Reads are for the event-loop thread alone."""

    @property
    def view(self) -> View:
        """Committed state."""

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` alone; what it did is durable on return, or undone when it raises.

        Raises Unavailable when the database is full, locked for too long or gone.
        """

    def revision(self) -> int:
        """A number that changes whenever anybody, in any process, has committed."""

    def close(self) -> None:
        """Finish what is queued and let go of the files."""
