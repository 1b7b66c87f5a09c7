"""The change feed: every committed KV change to every websocket that may read its path.

Events come from the database, so a change made through one process reaches subscribers of all.
Form: CloudEvents 1.0 as Vault sends them, https://developer.hashicorp.com/vault/docs/concepts/events.
"""

import asyncio
import fnmatch
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from strongroom.model.clock import Clock, rfc3339
from strongroom.model.errors import Invalid, Refusal, Unavailable
from strongroom.store.engine.contract import RESTORED, Engine, EventRow
from strongroom.store.notices import Notices, reason_of
from strongroom.store.sessions import Session, Sessions
from strongroom.wire.websocket import WebSocket

POLL_SECONDS: Final = 0.1
# Of the types that a subscription names: those there are have 21 at most, and a longer pattern may
# take minutes to be read, in which nobody is served.
MOST_CHARACTERS: Final = 256
NOT_ALLOWED: Final = 1008  # RFC 6455: a policy is violated
TRY_AGAIN: Final = 1013  # RFC 6455's registry: come back later
PAGE: Final = 500
# Messages that are sent before others are served.
PER_TURN: Final = 200


@dataclass(slots=True, eq=False)
class Subscriber:
    """One websocket and whose it is."""

    socket: WebSocket
    # Of the types it hears of. Read once: of a thousand who listen each may have another.
    pattern: re.Pattern[str]
    token: str
    peer: str
    # The last entry that it was told of, or was not to be told of: the newest when it came.
    told: int = 0
    # The mark of the entry that it goes on after, where it knows that.
    mark: str = ""


class ChangeFeed:
    """Follows the event table while anybody listens."""

    def __init__(
        self, engine: Engine, sessions: Sessions, clock: Clock, notices: Notices | None = None
    ) -> None:
        self._notices = notices or Notices()
        self._engine = engine
        self._sessions = sessions
        self._clock = clock
        self._subscribers: set[Subscriber] = set()
        self._follower: asyncio.Task[None] | None = None
        # Those who are told first what was committed before they came.
        self._behind: dict[Subscriber, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._sequence = 0

    def wake(self) -> None:
        """This process has committed something: look now."""
        self._woken.set()

    def subscribe(self, subscriber: Subscriber, after: int | None = None) -> None:
        """Send what is committed after `subscriber.told`, or all since an entry of a number.

        With `after`, entries that are kept come first, in pages of the type `strongroom/history`
        that say whether any are missing, and behind them a `strongroom/present`.
        """
        if after is None:
            try:
                self._follow_for(subscriber)
            except Unavailable:
                # It is connected already, and would wait for ever.
                subscriber.socket.close(TRY_AGAIN)
            return
        telling = self._engine.waiting(self._tell(subscriber, after))
        self._behind[subscriber] = asyncio.get_running_loop().create_task(telling)

    def _follow_for(self, subscriber: Subscriber) -> None:
        # Where reads wait, the others may have been told of more while this one asked.
        while self._subscribers and subscriber.told < self._sequence:
            missed = self._engine.view.events_after(subscriber.told, PAGE)
            if not missed:
                break
            for event in missed:
                self._send_to((subscriber,), event)
        if not self._subscribers:
            self._sequence = subscriber.told
        self._subscribers.add(subscriber)
        if self._follower is None:
            self._follower = asyncio.get_running_loop().create_task(
                self._engine.waiting(self._follow())
            )

    async def _tell(self, subscriber: Subscriber, after: int) -> None:
        """Send what was, a page at a time, and go on with what comes."""
        try:
            await self._tell_history(subscriber, after)
        except Unavailable:
            subscriber.socket.close(TRY_AGAIN)
        except Exception as error:  # noqa: BLE001 - the subscriber looks again when it comes anew
            self._notices.say("change feed", reason_of(error))
            subscriber.socket.close(TRY_AGAIN)
        finally:
            del self._behind[subscriber]

    async def _tell_history(self, subscriber: Subscriber, after: int) -> None:
        view, socket = self._engine.view, subscriber.socket
        newest, oldest = view.last_event(), view.events_after(0, 1)
        first = oldest[0].sequence if oldest else newest + 1
        # A number beyond the newest is of another database, so nothing is known of what it missed;
        # so is one with another mark, as when the database's files were put back.
        whole = first - 1 <= after <= newest
        whole = whole and subscriber.mark in ("", self._mark(after))
        subscriber.told = min(after, newest)
        socket.send_text(_history(subscriber.told, (), whole=whole))
        while not socket.closed.is_set():
            if socket.is_behind():
                await self._clock.sleep(POLL_SECONDS)
                continue
            events = view.events_after(subscriber.told, PAGE)
            if not events:
                present = _of_feed("present", subscriber.told)
                present["position"] = _position(subscriber.told, self._mark(subscriber.told))
                socket.send_text(orjson.dumps(present).decode())
                self._follow_for(subscriber)
                return
            self._tell_page(subscriber, events)
            # A page at a time, for others are served meanwhile.
            await asyncio.sleep(0)

    def _mark(self, sequence: int) -> str:
        """The mark of an entry that is kept."""
        found = self._engine.view.events_after(sequence - 1, 1)
        return mark_of(found[0]) if found and found[0].sequence == sequence else ""

    def _tell_page(self, subscriber: Subscriber, events: Sequence[EventRow]) -> None:
        session = self._session_of(subscriber)
        if session is None:
            return
        subscriber.told = events[-1].sequence
        told = [each for each in events if not each.breaks]
        heard = [each for each in told if _hears(subscriber, session, each)]
        restored = max((each.time for each in events if each.operation == RESTORED), default=0.0)
        whole = len(told) == len(events)
        page = _history(subscriber.told, heard, whole=whole, restored=restored)
        subscriber.socket.send_text(page)

    def _session_of(self, subscriber: Subscriber) -> Session | None:
        """None, and the end of the subscription, when the token is not known to be good."""
        try:
            return self._sessions.open(subscriber.token, self._clock.now(), subscriber.peer)
        except Refusal as refusal:
            # Its token is no good, or nobody knows while the database is away.
            away = isinstance(refusal, Unavailable)
            subscriber.socket.close(TRY_AGAIN if away else NOT_ALLOWED)
            self._subscribers.discard(subscriber)
            return None

    def cut(self) -> None:
        """Send nobody anything any more: the cluster was sealed."""
        for each in (*self._subscribers, *self._behind):
            each.socket.close(1012)
        self._subscribers = set()
        self._woken.set()

    async def _follow(self) -> None:
        while self._subscribers:
            # While the database is away there is nothing new to tell; it goes on where it was.
            try:
                await self._send_new()
            except Unavailable:
                pass
            except Exception as error:  # noqa: BLE001 - the feed outlives it, and says it
                self._notices.say("change feed", reason_of(error))
            self._woken.clear()
            waiting = asyncio.ensure_future(self._woken.wait())
            pause = asyncio.ensure_future(self._clock.sleep(POLL_SECONDS))
            _, left = await asyncio.wait((waiting, pause), return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
            self._subscribers = {
                each for each in self._subscribers if not each.socket.closed.is_set()
            }
        self._follower = None

    async def _send_new(self) -> None:
        sent = 0
        while self._subscribers and (
            events := self._engine.view.events_after(self._sequence, PAGE)
        ):
            for event in events:
                self._sequence = max(self._sequence, event.sequence)
                listening = tuple(self._subscribers)
                self._send_to(listening, event)
                sent += len(listening)
                if sent >= PER_TURN:
                    # With a thousand who listen, a page of events would take seconds.
                    sent = 0
                    await asyncio.sleep(0)

    def _send_to(self, subscribers: Sequence[Subscriber], event: EventRow) -> None:
        if event.breaks:
            self._gap(subscribers, event)
            return
        position = _position(event.sequence, mark_of(event))
        text = orjson.dumps({**as_cloud_event(event), "position": position}).decode()
        for each in subscribers:
            self._send(each, event, text)

    def _gap(self, subscribers: Sequence[Subscriber], event: EventRow) -> None:
        """Nobody knows what has changed: whoever listens is told, and has to look for itself."""
        if event.damage:
            self._notices.say("event row", event.damage)
        for each in subscribers:
            each.told = max(each.told, event.sequence)
            each.socket.send_text(orjson.dumps(as_gap(event)).decode())
            # Clients of other makers know no gap; they look again when they connect anew.
            each.socket.close(TRY_AGAIN)
        self._subscribers.difference_update(subscribers)

    def _send(self, subscriber: Subscriber, event: EventRow, text: str) -> None:
        if event.sequence <= subscriber.told:
            return
        subscriber.told = event.sequence
        session = self._session_of(subscriber)
        if (
            session is not None
            and _hears(subscriber, session, event)
            and not subscriber.socket.send_text(text)
        ):
            self._subscribers.discard(subscriber)


def no_event_type() -> Invalid:
    """The answer to a subscription to nothing."""
    return Invalid("no-event-type", "missing event type", hint="sys/events/subscribe/kv*")


def pattern_of(types: str, data: Mapping[str, Any]) -> re.Pattern[str]:
    """The types of events that a subscription is to; raises Invalid for what it would not do."""
    if not types:
        raise no_event_type()
    if len(types) > MOST_CHARACTERS:
        raise Invalid("bad-event-type", f"an event type has at most {MOST_CHARACTERS} characters")
    if data.get("filter"):
        # Who would be told more than it asked for might act on all of it.
        raise Invalid(
            "no-event-filter",
            "events are not filtered by an expression",
            hint="leave filter out; the path has the types, and policies the secrets",
        )
    return re.compile(fnmatch.translate(types))


def _hears(subscriber: Subscriber, session: Session, event: EventRow) -> bool:
    """Whoever may read a value may hear of its change; others need the capability of that name."""
    return subscriber.pattern.match(event_type(event)) is not None and any(
        session.decide(event.path, each).allowed for each in ("read", "subscribe")
    )


def mark_of(event: EventRow) -> str:
    """What tells an entry from one of the same number in another history. Pure."""
    return f"{zlib.crc32(f'{event.sequence} {event.time!r}'.encode()):08x}"


def _position(sequence: int, mark: str) -> str:
    """What a follower comes back with."""
    return f"{sequence:020d}-{mark}" if mark else f"{sequence:020d}"


def event_type(event: EventRow) -> str:
    """`kv-v2/data-write`, `kv-v2/data-delete`, `kv-v2/metadata-write`, `kv-v1/write`, ..."""
    if event.operation.startswith("v1-"):
        return f"kv-v1/{event.operation.removeprefix('v1-')}"
    if _versions(event):
        return f"kv-v2/{event.operation}"
    kind = event.operation if event.operation.startswith("metadata") else f"data-{event.operation}"
    return f"kv-v2/{kind}"


def _versions(event: EventRow) -> tuple[int, ...]:
    """Those that `delete/`, `undelete/` or `destroy/` was called for."""
    if event.versions or event.operation not in ("undelete", "destroy"):
        return event.versions
    return (event.version,)  # An earlier program wrote an entry for each.


def _of_call(event: EventRow) -> dict[str, str]:
    """The path that was called, and for which versions, as Vault Proxy reads it for its cache."""
    numbers, operation = _versions(event), event.operation
    if not numbers:
        return {"path": event.path}
    name = event.path.removeprefix(f"{event.mount}data/")
    told = {"delete": "deleted_versions", "undelete": "undeleted_versions"}
    return {
        "path": f"{event.mount}{operation}/{name}",
        told.get(operation, "destroyed_versions"): orjson.dumps(numbers).decode(),
    }


def as_gap(event: EventRow) -> dict[str, object]:
    """The message before a subscriber is cut off: an entry that cannot be told, or a restore."""
    return _of_feed(RESTORED if event.operation == RESTORED else "gap", event.sequence)


def _history(
    sequence: int, events: Sequence[EventRow], *, whole: bool, restored: float = 0.0
) -> str:
    """A page of what was, up to an entry: of each change what a follower needs and no more.

    `restored` is when a snapshot was restored among them, in epoch seconds, 0 if none was.
    """
    changes = [
        {"path": each.path, "event_type": event_type(each), "version": each.version,
         "mount_path": each.mount}
        for each in events
    ]  # fmt: skip
    said = {**_of_feed("history", sequence), "whole": whole, "changes": changes}
    if restored:
        said["restored"] = rfc3339(restored)
    return orjson.dumps(said).decode()


def _of_feed(kind: str, sequence: int) -> dict[str, object]:
    """What the feed says of itself: of the types `strongroom/...`, without a path."""
    message = as_cloud_event(EventRow(sequence, 0.0, "", kind, 0, ""))
    message["data"] = {**message["data"], "event_type": f"strongroom/{kind}"}  # type: ignore[dict-item]
    return message


def as_cloud_event(event: EventRow) -> dict[str, object]:
    """The message of an event; names of paths, never a value."""
    return {
        "id": f"{event.sequence:020d}",
        "source": "strongroom",
        "specversion": "1.0",
        "type": "*",
        "datacontentype": "application/cloudevents",
        "time": rfc3339(event.time),
        "data": {
            "event": {
                "id": f"{event.sequence:020d}",
                "metadata": {
                    "current_version": str(event.version),
                    "data_path": event.path,
                    "modified": "true",
                    "operation": event_type(event).partition("/")[2],
                    **_of_call(event),
                },
            },
            "event_type": event_type(event),
            "plugin_info": {
                "mount_class": "secret",
                "mount_path": event.mount,
                "plugin": "kv",
                "version": event_type(event)[4],
            },
        },
    }
