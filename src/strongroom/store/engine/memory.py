"""The fake engine: dictionaries, one writer at a time, undone when the work raises.

Passes the same conformance suite as the real ones; for tests of everything above the engine.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from strongroom.store.engine.contract import (
    ClusterRow,
    ConsumerRow,
    EventRow,
    KvMetadata,
    MountRow,
    TokenRow,
    Transaction,
    View,
)

T = TypeVar("T")


@dataclass
class State:
    """Every row, by key."""

    cluster: ClusterRow | None = None
    generation: int = 0
    mounts: dict[tuple[str, str], MountRow] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    tokens: dict[bytes, TokenRow] = field(default_factory=dict)
    documents: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    metadata: dict[tuple[str, str], KvMetadata] = field(default_factory=dict)
    data: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    consumers: dict[tuple[str, str], ConsumerRow] = field(default_factory=dict)
    events: list[EventRow] = field(default_factory=list)

    def copied(self) -> "State":
        """A copy that can be changed without touching this one; rows are values."""
        names = [each.name for each in dataclasses.fields(self)]
        return State(**{name: copy.copy(getattr(self, name)) for name in names})


class MemoryRows:
    """View and transaction over a state."""

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

    def generation(self) -> int:
        return self.state.generation

    def mounts(self) -> Sequence[MountRow]:
        return [self.state.mounts[key] for key in sorted(self.state.mounts)]

    def put_mount(self, row: MountRow) -> None:
        self.state.generation += 1
        self.state.mounts[row.kind, row.path] = row

    def delete_mount(self, row: MountRow) -> None:
        self.state.generation += 1
        self.state.mounts.pop((row.kind, row.path), None)
        state, gone = self.state, row.uuid
        state.documents = {key: each for key, each in state.documents.items() if key[0] != gone}
        state.metadata = {key: each for key, each in state.metadata.items() if key[0] != gone}
        state.data = {key: each for key, each in state.data.items() if key[0] != gone}

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

    def accessors(self) -> Sequence[str]:
        return sorted(row.accessor for row in self.state.tokens.values())

    def put_token(self, row: TokenRow) -> None:
        self.state.generation += row.id in self.state.tokens
        self.state.tokens[row.id] = row

    def delete_token(self, token_id: bytes, *, orphan: bool = False) -> Sequence[bytes]:
        self.state.generation += 1
        children = [row for row in self.state.tokens.values() if row.parent == token_id]
        gone = [token_id]
        self.state.tokens.pop(token_id, None)
        for child in children:
            if orphan:
                self.state.tokens[child.id] = dataclasses.replace(child, parent=None)
            else:
                gone += self.delete_token(child.id)
        return gone

    def delete_expired_tokens(self, now: float, limit: int) -> int:
        rows = self.state.tokens.values()
        expired = [row.id for row in rows if row.expires is not None and row.expires <= now]
        return sum(len(self.delete_token(each)) for each in expired[:limit])

    def use_token(self, token_id: bytes) -> bool:
        row = self.state.tokens.get(token_id)
        if row is None or row.uses_left <= 0:
            return False
        left = -1 if row.uses_left == 1 else row.uses_left - 1
        self.state.tokens[token_id] = dataclasses.replace(row, uses_left=left)
        return True

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

    def kv_data(self, mount: str, path: str, version: int) -> bytes | None:
        return self.state.data.get((mount, path, version))

    def kv_list(self, mount: str, folder: str, *, after: str = "", limit: int = 0) -> Sequence[str]:
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        names = set()
        for where, path in self.state.metadata:
            if where == mount and path.startswith(prefix):
                head, slash, _ = path[len(prefix) :].partition("/")
                names.add(head + slash)
        found = [name for name in sorted(names) if name.rstrip("/") > after.rstrip("/")]
        return found[:limit] if limit else found

    def put_kv_metadata(self, row: KvMetadata) -> None:
        self.state.metadata[row.mount, row.path] = row
        kept = {each.version for each in row.versions if not each.destroyed}
        for key in [key for key in self.state.data if key[:2] == (row.mount, row.path)]:
            if key[2] not in kept:
                del self.state.data[key]

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

    def events_after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        return [each for each in self.state.events if each.sequence > sequence][:limit]

    def last_event(self) -> int:
        return self.state.events[-1].sequence if self.state.events else 0

    def append_event(self, event: EventRow) -> None:
        self.state.events.append(dataclasses.replace(event, sequence=self.last_event() + 1))


class MemoryEngine:
    """An engine for one process and one test."""

    def __init__(self) -> None:
        self._rows = MemoryRows(State())
        self._revision = 0

    @property
    def view(self) -> View:
        return self._rows

    def revision(self) -> int:
        return self._revision

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        before = self._rows.state
        self._rows.state = before.copied()
        try:
            result = work(self._rows)
        except BaseException:
            self._rows.state = before
            raise
        self._revision += 1
        return result

    def close(self) -> None:
        """Nothing to let go of."""
