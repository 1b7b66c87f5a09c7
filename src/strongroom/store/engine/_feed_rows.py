"""Who uses which version of a secret, and the change feed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from strongroom.crypto.aead import Tampered
from strongroom.store.engine._sealed_rows import SealedRows, pack, unpack
from strongroom.store.engine.contract import RESTORED, ClaimEnd, ConsumerRow, EventRow
from strongroom.store.engine.sql import upsert

PUT_CONSUMER: Final = upsert("consumer", "path, actor", "expires, version, body")


class _Stored(msgspec.Struct, gc=False, omit_defaults=True):
    """The sealed part of an event; an earlier program passes over what it does not know."""

    time: float
    path: str
    operation: str
    version: int
    mount: str
    versions: tuple[int, ...] = ()


# The body of an entry that was written without a key, of when a snapshot was restored. Whoever can
# forge it can make followers read anew, and no more.
_UNSEALED: Final = b"restored "
_DECODER: Final = msgspec.json.Decoder(_Stored)
_ENCODER: Final = msgspec.json.Encoder()


def unsealed_restore(now: float) -> bytes:
    """The body of an entry that says, where no key is at hand, that a snapshot was restored."""
    return _UNSEALED + repr(now).encode()


def restored_at(body: bytes) -> float | None:
    """When the snapshot was restored of which such an entry tells; None for any other. Pure."""
    if not body.startswith(_UNSEALED):
        return None
    try:
        return float(body.removeprefix(_UNSEALED))
    except ValueError:
        return None


def sealed_event(seal: Callable[[str, str, int, bytes], bytes], event: EventRow) -> bytes:
    """The body of an event's row; it is sealed before the database gives the number."""
    told = (event.operation, event.version, event.mount, event.versions)
    row = _Stored(event.time, event.path, *told)
    return seal("event", "", 0, _ENCODER.encode(row))


class FeedRows(SealedRows):
    """Consumers and events."""

    def _consumer_key(self, text: str) -> bytes:
        return self._barrier.mac(b"consumer").digest(text.encode())

    def consumers(self, path: str) -> Sequence[ConsumerRow]:
        key = self._consumer_key(path)
        rows = self._sql.all("SELECT actor, version, body FROM consumer WHERE path = ?", key)
        # All or none: who rotates must not take a list for whole that is not.
        return sorted(map(self._consumer, rows), key=lambda row: row.actor)

    def _consumer(self, row: Any) -> ConsumerRow:  # noqa: ANN401 - columns
        actor, version, body = row
        opened = self._barrier.open("consumer", actor.hex(), version, body)
        return ConsumerRow(**unpack(ConsumerRow, opened))

    def put_consumer(self, row: ConsumerRow) -> None:
        path, actor = self._consumer_key(row.path), self._consumer_key(f"{row.path}\n{row.actor}")
        version, _ = self._next_version(
            "SELECT version FROM consumer WHERE path = ? AND actor = ?", path, actor
        )
        body = self._barrier.seal("consumer", actor.hex(), version, pack(row))
        self._sql.run(PUT_CONSUMER, path, actor, row.expires, version, body)

    def forget_consumers(self, before: float, end_of: ClaimEnd, limit: int) -> int:
        asked = "SELECT path, actor, version, body FROM consumer WHERE expires < ? LIMIT ?"
        found = self._sql.all(asked, before, limit)
        for path, *rest in found:
            try:
                row = self._consumer(rest)
                end = end_of(row)
            except Tampered:
                pass  # Of what does not open nobody knows more than that it has lapsed.
            else:
                if end is None or end >= before:
                    self.put_consumer(replace(row, expires=end))
                    continue
            self._sql.run("DELETE FROM consumer WHERE path = ? AND actor = ?", path, rest[0])
        return len(found)

    def events_after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        rows = self._sql.all(
            "SELECT sequence, body FROM event WHERE sequence > ? ORDER BY sequence LIMIT ?",
            sequence,
            limit,
        )
        return [self._event(number, body) for number, body in rows]

    def _event(self, number: int, body: bytes) -> EventRow:
        restored = restored_at(bytes(body))
        if restored is not None:
            return EventRow(number, restored, "", RESTORED, 0, "")
        try:
            opened = self._barrier.open("event", "", 0, body)
        except Tampered:
            said = f"the row {number} of event does not open under its key and place"
            return EventRow(number, 0.0, "", "", 0, "", damage=said)
        row = _DECODER.decode(opened)
        told = (row.operation, row.version, row.mount)
        return EventRow(number, row.time, row.path, *told, versions=row.versions)

    def last_event(self) -> int:
        return int(self._sql.one("SELECT COALESCE(MAX(sequence), 0) FROM event")[0])

    def append_event(self, event: EventRow) -> None:
        self._sql.run(
            "INSERT INTO event (body) VALUES (?)", sealed_event(self._barrier.seal, event)
        )

    def forget_events(self, kept: int, limit: int) -> bool:
        first, last = self._sql.one(
            "SELECT COALESCE(MIN(sequence), 0), COALESCE(MAX(sequence), 0) FROM event"
        )
        end = min(last - kept, first + limit - 1)
        if end < first:
            return False
        self._sql.run("DELETE FROM event WHERE sequence <= ?", end)
        return bool(end < last - kept)
