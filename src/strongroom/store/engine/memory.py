"""The fake engine: dictionaries, one writer at a time, undone when the work raises.

Passes the same conformance suite as the real ones; for tests of everything above the engine.
"""

import asyncio
import copy
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from strongroom.model.errors import Invalid
from strongroom.store.engine._refusals import writing_ended
from strongroom.store.engine.contract import (
    LONG_PAST,
    MAKING,
    About,
    ClaimEnd,
    ClusterRow,
    ConsumerRow,
    DamagedMount,
    EventRow,
    KvMetadata,
    LeaseRow,
    MountRow,
    SecretName,
    TokenRow,
    Transaction,
    View,
)
from strongroom.store.engine.memory_auth import AuthState, MemoryAuthRows
from strongroom.store.engine.memory_upkeep import MemoryUpkeepRows, UpkeepState
from strongroom.store.engine.snapshot_contract import TablePage

T = TypeVar("T")


@dataclass
class State(AuthState, UpkeepState):
    """Every row, by key."""

    cluster: ClusterRow | None = None
    mounts: dict[tuple[str, str], MountRow] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    tokens: dict[bytes, TokenRow] = field(default_factory=dict)
    documents: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    metadata: dict[tuple[str, str], KvMetadata] = field(default_factory=dict)
    data: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    leases: dict[str, LeaseRow] = field(default_factory=dict)
    cubbyholes: dict[tuple[bytes, str], bytes] = field(default_factory=dict)
    consumers: dict[tuple[str, str], ConsumerRow] = field(default_factory=dict)
    events: list[EventRow] = field(default_factory=list)
    # How many marks of secrets were given.
    marks: int = 0

    def copied(self) -> "State":
        """A copy that can be changed without touching this one; rows are values."""
        names = [each.name for each in dataclasses.fields(self)]
        return State(**{name: copy.copy(getattr(self, name)) for name in names})


class MemoryRows(MemoryAuthRows, MemoryUpkeepRows):
    """View and transaction over a state."""

    state: State

    def __init__(self, state: State) -> None:
        self.state = state

    def cluster(self) -> ClusterRow | None:
        return self.state.cluster

    def put_cluster(self, row: ClusterRow) -> bool:
        if self.state.cluster is not None:
            return False
        self.state.cluster = row
        return True

    def replace_ring(self, wrapped: bytes) -> None:
        if self.state.cluster is not None:
            self.state.cluster = dataclasses.replace(self.state.cluster, wrapped_ring=wrapped)
            self.state.generation += 1

    def generation(self) -> int:
        return self.state.generation

    def mounts(self) -> Sequence[MountRow]:
        return [self.state.mounts[key] for key in sorted(self.state.mounts)]

    def damaged_mounts(self) -> Sequence[DamagedMount]:
        return []

    def put_mount(self, row: MountRow) -> None:
        self.state.generation += 1
        self.state.mounts[row.kind, row.path] = row

    def delete_mount(self, row: MountRow) -> None:
        self.state.generation += 1
        self.state.mounts.pop((row.kind, row.path), None)
        self.delete_rows_of_mount(row.uuid)
        self.forget_aliases(row)

    def delete_rows_of_mount(self, mount: str) -> None:
        state = self.state
        state.documents = {key: each for key, each in state.documents.items() if key[0] != mount}
        state.metadata = {key: each for key, each in state.metadata.items() if key[0] != mount}
        state.data = {key: each for key, each in state.data.items() if key[0] != mount}
        self.forget_logins(mount)

    def move_mount(self, row: MountRow, path: str) -> None:
        self.state.mounts.pop((row.kind, row.path), None)
        self.put_mount(dataclasses.replace(row, path=path))

    def policy(self, name: str) -> str | None:
        return self.state.policies.get(name)

    def policy_names(self) -> Sequence[str]:
        return sorted(self.state.policies)

    def put_policy(self, name: str, text: str) -> None:
        self.state.generation += 1
        self.state.policies[name] = text

    def delete_policy(self, name: str) -> None:
        self.state.generation += 1
        self.state.policies.pop(name, None)

    def token(self, token_id: bytes) -> TokenRow | None:
        return self.state.tokens.get(token_id)

    def token_by_accessor(self, accessor: str) -> TokenRow | None:
        rows = self.state.tokens.values()
        return next((row for row in rows if row.accessor == accessor), None)

    def accessors(self, now: float = 0.0) -> Sequence[str]:
        rows = self.state.tokens.values()
        return sorted(row.accessor for row in rows if row.expires is None or row.expires > now)

    def token_count(self) -> int:
        return len(self.state.tokens)

    def put_token(self, row: TokenRow) -> None:
        self.state.generation += row.id in self.state.tokens
        self.state.tokens[row.id] = row

    def token_ids(
        self, prefix: str, *, after: str = "", limit: int = 0, now: float = 0.0
    ) -> Sequence[tuple[str, bytes]]:
        path, _, token_id = after.rpartition("/h")
        start = path, bytes.fromhex(token_id)
        rows = self._tokens_under(prefix)
        alive = (row for row in rows if row.expires is None or row.expires > now)
        found = sorted((row.path, row.id) for row in alive)
        return [each for each in found if each > start][: limit or None]

    def _tokens_under(self, prefix: str) -> list[TokenRow]:
        path = prefix.rstrip("/")
        inside = f"{path}/" if path else ""
        return [
            row
            for row in self.state.tokens.values()
            if row.path == path or row.path.startswith(inside)
        ]

    def revoke_tokens(self, prefix: str) -> None:
        self.state.generation += 1
        waiting = self._tokens_under(prefix)
        while waiting:
            row = waiting.pop()
            self.state.tokens[row.id] = dataclasses.replace(row, expires=LONG_PAST)
            waiting += [each for each in self.state.tokens.values() if each.parent == row.id]

    def move_generation(self) -> None:
        self.state.generation += 1

    def count_under(self, prefix: str, limit: int) -> int:
        paths = [row.path for row in self.state.tokens.values()] + list(self.state.leases)
        return min(limit, sum(path.startswith(prefix) for path in paths))

    def count_of(self, client: str, limit: int) -> int:
        tokens = {row.id for row in self.state.tokens.values() if row.client == client}
        leases = sum(row.token in tokens for row in self.state.leases.values())
        return min(limit, len(tokens) + leases)

    def next_due(self) -> float | None:
        ends = [row.due for row in self.state.leases.values()]
        ends += [row.expires for row in self.state.tokens.values()]
        return min((each for each in ends if each is not None), default=None)

    def delete_token(
        self, token_id: bytes, *, orphan: bool = False, now: float = 0.0
    ) -> Sequence[bytes]:
        self.state.generation += 1
        children = [row for row in self.state.tokens.values() if row.parent == token_id]
        gone = [token_id] if self.state.tokens.pop(token_id, None) else []
        for child in children:
            if orphan:
                self.state.tokens[child.id] = dataclasses.replace(child, parent=None)
            else:
                gone += self.delete_token(child.id, now=now)
        state = self.state
        state.cubbyholes = {
            key: data for key, data in state.cubbyholes.items() if key[0] not in gone
        }
        for lease in list(state.leases.values()):
            if lease.token in gone:
                self._revoke(dataclasses.replace(lease, token=None), now)
        return gone

    def delete_expired_tokens(self, now: float, limit: int) -> int:
        rows = list(self.state.tokens.values())
        expired = {row.id for row in rows if row.expires is not None and row.expires <= now}
        first = sorted((self.state.tokens[each].expires or 0.0, each) for each in expired)[:limit]
        generation = self.state.generation
        gone = {each for _, one in first for each in self.delete_token(one, now=now)}
        if gone <= expired:
            self.state.generation = generation
        return len(gone & expired)

    def use_token(self, token_id: bytes) -> bool:
        row = self.state.tokens.get(token_id)
        if row is None or row.uses_left <= 0:
            return False
        left = -1 if row.uses_left == 1 else row.uses_left - 1
        self.state.tokens[token_id] = dataclasses.replace(row, uses_left=left)
        return True

    # leases

    def lease(self, lease_id: str) -> LeaseRow | None:
        return self.state.leases.get(lease_id)

    def lease_ids(self, prefix: str, *, after: str = "", limit: int = 0) -> Sequence[str]:
        found = sorted(each for each in self.state.leases if each.startswith(prefix))
        return [each for each in found if each > after][: limit or None]

    def stuck_leases(self, limit: int) -> Sequence[LeaseRow]:
        rows = [self.state.leases[each] for each in sorted(self.state.leases)]
        return [row for row in rows if row.state == "irrevocable"][:limit]

    def put_lease(self, row: LeaseRow) -> None:
        self.state.leases[row.id] = row

    def delete_lease(self, lease_id: str) -> None:
        self.state.leases.pop(lease_id, None)

    def claim_leases(
        self, now: float, until: float, limit: int, *, apart: Sequence[str] = ()
    ) -> Sequence[LeaseRow]:
        due = [
            (row.due, row.id)
            for row in self.state.leases.values()
            if row.due is not None and row.due <= now and row.state != "irrevocable"
            if row.mount not in apart
        ]
        claimed = []
        for _, lease_id in sorted(due)[:limit]:
            row = self.state.leases[lease_id]
            row = dataclasses.replace(row, due=until, state="revoking", attempts=row.attempts + 1)
            self.state.leases[lease_id] = row
            claimed.append(row)
        return claimed

    def revoke_leases(self, now: float, *, prefix: str = "", mount: str = "") -> None:
        for row in list(self.state.leases.values()):
            if row.mount == mount if mount else row.id.startswith(prefix):
                self._revoke(row, now)

    def _revoke(self, row: LeaseRow, now: float) -> None:
        making = row.state in MAKING
        self.state.leases[row.id] = dataclasses.replace(
            row,
            due=row.due if making else now,
            state="abandoned" if making else "revoking",
            attempts=0,
        )

    def revoke_abandoned_leases(self, now: float) -> None:
        for row in list(self.state.leases.values()):
            if row.state == "live" and row.token and row.token not in self.state.tokens:
                self._revoke(row, now)
        kept = {
            key: data for key, data in self.state.cubbyholes.items() if key[0] in self.state.tokens
        }
        self.state.cubbyholes = kept

    # cubbyholes

    def cubbyhole(self, token: bytes, path: str) -> bytes | None:
        return self.state.cubbyholes.get((token, path))

    def cubbyhole_paths(self, token: bytes) -> Sequence[str]:
        return sorted(path for owner, path in self.state.cubbyholes if owner == token)

    def cubbyhole_size(self, token: bytes) -> int:
        return len(self.cubbyhole_paths(token))

    def put_cubbyhole(self, token: bytes, path: str, data: bytes) -> None:
        self.state.cubbyholes[token, path] = data

    def delete_cubbyhole(self, token: bytes, path: str) -> None:
        self.state.cubbyholes.pop((token, path), None)

    def document(self, mount: str, kind: str, name: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.state.documents.get((mount, kind, name)))

    def document_names(self, mount: str, kind: str) -> Sequence[str]:
        return sorted(key[2] for key in self.state.documents if key[:2] == (mount, kind))

    def put_document(self, mount: str, kind: str, name: str, value: dict[str, Any]) -> None:
        self.state.documents[mount, kind, name] = copy.deepcopy(value)

    def delete_document(self, mount: str, kind: str, name: str) -> None:
        self.state.documents.pop((mount, kind, name), None)

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        return self.state.metadata.get((mount, path))

    def kv_exists(self, mount: str, path: str) -> bool:
        return self.kv_metadata(mount, path) is not None

    def kv_stands(self, mark: tuple[int, int]) -> bool:
        return any(row.mark == mark for row in self.state.metadata.values())

    def kv_data(self, mount: str, path: str, version: int) -> bytes | None:
        return self.state.data.get((mount, path, version))

    def kv_list(self, mount: str, folder: str, *, after: str = "", limit: int = 0) -> Sequence[str]:
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        names = set()
        for where, path in self.state.metadata:
            if where == mount and path.startswith(prefix):
                head, slash, _ = path[len(prefix) :].partition("/")
                names.add(head + slash)
        found = [name for name in sorted(names, key=_place) if _place(name) > _place(after)]
        return found[:limit] if limit else sorted(found)

    def put_kv_metadata(self, row: KvMetadata) -> None:
        self.state.marks += 1
        mark = (self.state.marks, 1)
        self.state.metadata[row.mount, row.path] = msgspec.structs.replace(row, mark=mark)
        kept = {each.version for each in row.versions if not each.destroyed}
        for key in [key for key in self.state.data if key[:2] == (row.mount, row.path)]:
            if key[2] not in kept:
                del self.state.data[key]

    def put_kv_version(self, row: KvMetadata, data: bytes) -> None:
        self.put_kv_metadata(row)
        self.put_kv_data(row.mount, row.path, row.current_version, data)

    def put_kv_data(self, mount: str, path: str, version: int, data: bytes) -> None:
        self.state.data[mount, path, version] = data

    def delete_kv(self, mount: str, path: str) -> None:
        self.state.metadata.pop((mount, path), None)
        for key in [key for key in self.state.data if key[:2] == (mount, path)]:
            del self.state.data[key]

    def consumers(self, path: str) -> Sequence[ConsumerRow]:
        rows = [row for (where, _), row in self.state.consumers.items() if where == path]
        return sorted(rows, key=lambda row: row.actor)

    def put_consumer(self, row: ConsumerRow) -> None:
        self.state.consumers[row.path, row.actor] = row

    def forget_consumers(self, before: float, end_of: ClaimEnd, limit: int) -> int:
        rows = self.state.consumers.values()
        found = [row for row in rows if row.expires is not None and row.expires < before][:limit]
        for row in found:
            end = end_of(row)
            if end is None or end >= before:
                self.put_consumer(dataclasses.replace(row, expires=end))
            else:
                del self.state.consumers[row.path, row.actor]
        return len(found)

    def events_after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        return [each for each in self.state.events if each.sequence > sequence][:limit]

    def last_event(self) -> int:
        return self.state.events[-1].sequence if self.state.events else 0

    def append_event(self, event: EventRow) -> None:
        self.state.events.append(msgspec.structs.replace(event, sequence=self.last_event() + 1))

    def forget_events(self, kept: int, limit: int) -> bool:
        events = self.state.events
        del events[: max(0, min(len(events) - kept, limit))]
        return len(events) > kept

    # snapshots

    def replace_rows(self, pages: Iterable[TablePage]) -> None:  # noqa: ARG002
        raise _not_stored()

    def replace_cluster(self, row: ClusterRow, now: float) -> None:  # noqa: ARG002
        raise _not_stored()


def _not_stored() -> Invalid:
    return Invalid("no-snapshot", "an engine in memory stores no rows to copy")


def _place(name: str) -> tuple[str, bool]:
    """A secret comes before the folder of its name."""
    return name.rstrip("/"), name.endswith("/")


class MemoryEngine:
    """An engine for one process and one test."""

    waits = False

    def __init__(self) -> None:
        self._rows = MemoryRows(State())
        self._revision = 0
        self._closed = False

    @property
    def view(self) -> View:
        return self._rows

    def revision(self) -> int:
        return self._revision

    def revision_and_known(
        self,
        secrets: Iterable[SecretName],  # noqa: ARG002 - asking for each costs little
    ) -> tuple[int, frozenset[SecretName]]:
        """See the contract."""
        return self.revision(), frozenset()

    def generation_at(self, revision: int) -> int:  # noqa: ARG002 - what is newer will do
        return self._rows.generation()

    def gather_by(self, gather: Callable[[], Awaitable[None]]) -> None:
        """Not needed; see the contract."""

    def check_writes(self) -> None:
        if self._closed:
            raise writing_ended()

    def transact(
        self,
        work: Callable[[Transaction], T],
        *,
        about: About | None = None,  # noqa: ARG002 - reads cost little here
    ) -> "asyncio.Future[T]":
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        before = self._rows.state
        try:
            self.check_writes()
            self._rows.state = before.copied()
            result = work(self._rows)
        except BaseException as error:
            self._rows.state = before
            if not isinstance(error, Exception):
                raise
            done.set_exception(error)
        else:
            self._revision += 1
            done.set_result(result)
        return done

    async def side_by_side(self, works: Iterable[Callable[[], None]]) -> None:
        """One after another; see the contract."""
        for work in works:
            work()

    async def transact_alone(self, work: Callable[[Transaction], T]) -> T:
        return await self.transact(work)

    def pages(self) -> AsyncIterator[TablePage]:
        raise _not_stored()

    def waiting(self, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        return coroutine

    async def close(self) -> None:
        """Nothing to let go of."""
        self._closed = True
