"""`sys/in-flight-req`: requests of this process that have begun and are not answered.

API: https://developer.hashicorp.com/vault/api-docs/system/in-flight-req. What is answered from
memory in the same turn never stands here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.model.clock import Clock, rfc3339
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.recording import shown_path
from strongroom.store.system.status import raw

PREFIX: Final = "/v1/"


@dataclass(slots=True)
class Begun:
    """One request; `since` is monotonic, `at` is the time of day."""

    method: str
    path: str
    peer: str
    entity: str
    at: float
    since: float


class InFlight:
    """The requests, and how many seconds those that ended have taken together."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun: dict[str, Begun] = {}
        self.ended = 0
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self._begun)

    def begin(self, call: Call, method: str, now: float) -> None:
        """A call goes its way; `now` is the time of day."""
        entity = call.session.row.entity_id if call.session else ""
        since = self._clock.monotonic()
        path = shown_path(call, lambda _: "TOKEN")
        self._begun[call.request_id] = Begun(method, path, call.peer, entity, now, since)

    def end(self, call: Call) -> None:
        """It is answered, or given up."""
        begun = self._begun.pop(call.request_id, None)
        if begun is not None:
            self.ended += 1
            self.seconds += self._clock.monotonic() - begun.since

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (Endpoint("in-flight-req", {"read": self._read}, opened_by="in-flight"),)

    def _read(self, call: Call) -> Result:  # noqa: ARG002 - the handler's shape
        return raw(
            {
                request_id: {
                    "start_time": rfc3339(each.at),
                    "client_remote_address": each.peer,
                    "request_path": PREFIX + each.path,
                    "request_method": each.method,
                    "client_id": each.entity,
                }
                for request_id, each in self._begun.items()
            }
        )
