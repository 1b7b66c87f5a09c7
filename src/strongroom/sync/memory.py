"""What the controller remembers of one ExternalSecret from one look to the next."""

from dataclasses import dataclass, field
from typing import Final

from strongroom.kube.resource import Object
from strongroom.model.errors import Denied
from strongroom.sync.desired import synced_version
from strongroom.sync.drift import Contest, truce_left
from strongroom.sync.due import Known
from strongroom.sync.status import CONTENDED, find, is_ready
from strongroom.sync.target import Outcome

# For so long an API server that has just started may forbid everything: it reads its roles first.
STARTING_SECONDS: Final = 30.0


@dataclass(slots=True)
class Forbidden:
    """Since when (monotonic) the cluster has forbidden each try."""

    since: float | None = None

    def may_pass(self, item: Object, error: Exception, monotonic: float) -> bool:
        """Whether a failure shows nothing yet of an object that was in order. It is noted."""
        if not (isinstance(error, Denied) and error.code == "kube-forbidden"):
            self.since = None
            return False
        if self.since is None:
            self.since = monotonic
        lasts = monotonic - self.since >= STARTING_SECONDS
        return not lasts and is_ready(item.get("status") or {})


@dataclass(slots=True)
class Memory:
    """All of it is of one object; one that is made anew under its name is another."""

    uid: str = ""
    # As it was synced last.
    known: Known | None = None
    # Something it reads has changed: it has to be read again, due or not.
    stale: bool = False
    # Never read so far, for its store did not answer.
    failed_first: bool = False
    # Read, and perhaps written.
    pending: Known | None = field(default=None, repr=False)
    # Written, and not told.
    unsaid: Outcome | None = field(default=None, repr=False)
    # The repairs of late.
    contest: Contest | None = None
    forbidden: Forbidden = field(default_factory=Forbidden)

    def begin_anew(self) -> None:
        """Another replica may have written since: what is known is only what has to be read.

        What was read and could not be written is asked for again, for nothing else shows it.
        """
        self.stale = self.stale or self.pending is not None
        self.known = self.pending = self.unsaid = self.contest = None

    def wrote(self, version: str) -> bool:
        """Whether a version of the target is what was written last, and said."""
        known = self.known
        ours = known is not None and known.written and known.target_version == version
        return ours and self.unsaid is None

    def fought(self) -> Contest:
        """The repairs, to add one."""
        if self.contest is None:
            self.contest = Contest()
        return self.contest

    def truce(self, item: Object, now: tuple[float, float]) -> float:
        """Seconds for which nothing is repaired. One that another process called holds as well.

        An edit ends it: somebody may have settled what was fought about. `now` is wall and
        monotonic.
        """
        wall, monotonic = now
        status = item.get("status") or {}
        before = status.get("syncedResourceVersion") if self.known is None else self.known.version
        if before != synced_version(item):
            self.contest = None
        elif self.contest is None:
            left = truce_left(find(status, CONTENDED).get("lastTransitionTime"), wall)
            if left:
                self.contest = Contest(until=monotonic + left)
        return self.truce_left(monotonic)

    def truce_left(self, monotonic: float) -> float:
        """The same, as it was when it was last looked at."""
        return 0.0 if self.contest is None else self.contest.truce(monotonic)
