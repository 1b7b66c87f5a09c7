"""Rewrites objects by patches that change nothing: what is stale is written anew, the rest is not.

An empty merge patch asks the API server to write the object back. A value under the current key
keeps its resourceVersion; a stale one gets a new one. No value ever comes to the client.
Source: kubernetes/apiserver pkg/storage/etcd3/store.go (GuaranteedUpdate, stale data).
"""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from strongroom.kube.api import Busy, Gone, Listing, Scope
from strongroom.kube.refusals import NO_ROUTE
from strongroom.kube.resource import Object, Resource, key_of
from strongroom.model.clock import Clock
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound, Refusal, Unavailable

START_RATE: Final = 50.0
SLOWEST, FASTEST = 1.0, 400.0
KEEP_EVERY: Final = 100
FAILURES_LISTED: Final = 100
TRIES: Final = 20
PATIENCE_SECONDS: Final = 600.0
SETTLE_TRIES: Final = 3
GONE: Final = ""
_NAMED: Final = re.compile(
    r'admission webhook "[a-z0-9.-]{1,253}" denied the request'
    r"|ValidatingAdmissionPolicy '[a-z0-9.-]{1,253}'"
)


class Touchable(Protocol):
    """The part of the Kubernetes API that is needed."""

    def pages(self, resource: Resource, scope: Scope) -> AsyncIterator[Listing]:
        """Metadata of all objects in the order of their names; raises Gone."""

    async def touch(self, resource: Resource, name: str, namespace: str) -> str:
        """An empty patch; returns the resourceVersion after it. Raises Busy with 429."""


@dataclass(slots=True)
class Pace:
    """Requests a second: more while the server takes them, half when it says that it is busy."""

    rate: float = START_RATE
    most: float = FASTEST

    def taken(self) -> None:
        """A request went through."""
        self.rate = min(self.most, self.rate * 1.01)

    def refused(self) -> None:
        """The server asked for patience."""
        self.rate = max(SLOWEST, self.rate / 2)


@dataclass(slots=True)
class Progress:
    """How far a pass is; kept in a file so that it can go on where it stopped.

    `total` is what is known of the number of objects, `rewritten` how many changed, whoever changed
    them, `unsettled` how many of those changed again at every further touch, which only servers
    that do not agree on the key bring about; `waited` how often the server was busy. `aim` is the
    key and the resources: what was done for others counts for nothing. `touched` counts by resource
    what was there and took the touch; it is of this run alone.
    """

    number: int = 1
    resource: str = ""
    after: str = ""
    done: int = 0
    total: int = 0
    rewritten: int = 0
    unsettled: int = 0
    waited: int = 0
    failed: list[str] = field(default_factory=list)
    aim: str = ""
    touched: Counter[str] = field(default_factory=Counter)

    def as_data(self) -> dict[str, Any]:
        """For the file."""
        return {
            "pass": self.number,
            "resource": self.resource,
            "after": self.after,
            "done": self.done,
            "rewritten": self.rewritten,
            "unsettled": self.unsettled,
            "failed": self.failed,
            "aim": self.aim,
        }


# Hears the progress, and how many objects a second were touched.
Tell = Callable[[Progress, float], None]
# Hears what was touched and whether that has changed something, and raises to end the pass.
Look = Callable[[str, bool], Awaitable[None]]


def _silent(_progress: Progress, _rate: float) -> None:
    """Nobody watches."""


async def _blind(_resource: str, _changed: bool) -> None:  # noqa: FBT001 - as Look has it
    """Nobody looks."""


def load_progress(path: Path | None, aim: str = "") -> Progress:
    """The progress of a file, a fresh one when there is none or it had another aim.

    Raises Invalid(`bad-progress`).
    """
    if path is None or not path.exists():
        return Progress(aim=aim)
    try:
        read = json.loads(path.read_text())
        if read.get("aim", "") != aim:
            return Progress(aim=aim)
        return Progress(
            aim=aim,
            number=int(read["pass"]),
            resource=str(read["resource"]),
            after=str(read["after"]),
            done=int(read["done"]),
            rewritten=int(read["rewritten"]),
            unsettled=int(read["unsettled"]),
            failed=[str(each) for each in read["failed"]],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Invalid(
            "bad-progress", f"{path} is not the progress of a migration", hint="remove it"
        ) from None


class Rewriter:
    """Passes over resources, one object after another."""

    def __init__(
        self, api: Touchable, clock: Clock, keep: Path | None = None, pace: Pace | None = None
    ) -> None:
        self._api = api
        self._clock = clock
        self._keep = keep
        self.pace = pace or Pace()
        self.tell: Tell = _silent
        self.look: Look = _blind

    async def run_pass(self, resources: list[Resource], progress: Progress) -> Progress:
        """Touch everything once; goes on behind `progress.after` when it names a place."""
        names = [name_of(each) for each in resources]
        if progress.resource and progress.resource not in names:
            raise Invalid("bad-progress", f"the progress is of {progress.resource}")
        begin = names.index(progress.resource) if progress.resource else 0
        for resource in resources[begin:]:
            progress.resource = name_of(resource)
            await self._whole(resource, progress)
            progress.after = ""
        self._save(progress)
        return progress

    async def _whole(self, resource: Resource, progress: Progress) -> None:
        """One resource; a list that breaks off is begun again, and what is done is skipped."""
        patience = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            done = progress.done
            try:
                return await self._pages(resource, progress)
            except Gone:
                pass
            except Busy as busy:
                progress.waited += 1
                await self._slow_down(busy.retry_after)
            if progress.done > done:
                patience = self._clock.monotonic() + PATIENCE_SECONDS
            elif self._clock.monotonic() > patience:
                raise Unavailable("busy", f"the server does not list {name_of(resource)}")

    async def _pages(self, resource: Resource, progress: Progress) -> None:
        started, before = self._clock.monotonic(), progress.done
        async for page in self._api.pages(resource, Scope(metadata_only=True)):
            for item in page.items:
                if _place(item) <= progress.after:
                    continue
                changed = await self._one(resource, item, progress)
                if changed is not None:
                    progress.touched[progress.resource] += 1
                    await self.look(progress.resource, changed)
                progress.after = _place(item)
                progress.done += 1
                if progress.done % KEEP_EVERY == 0:
                    self._save(progress)
                seconds = self._clock.monotonic() - started
                self.tell(progress, (progress.done - before) / max(seconds, 0.001))
                await self._clock.sleep(1.0 / self.pace.rate)

    async def _one(self, resource: Resource, item: Object, progress: Progress) -> bool | None:
        """Whether it changed, None when it is gone or could not be touched."""
        before = item["metadata"]["resourceVersion"]
        try:
            after = await self._touched(resource, item, progress)
            if after in (before, GONE):
                return None if after == GONE else False
            progress.rewritten += 1
            # From the second pass on a change is another writer's, or the sign of two keys. Whoever
            # wrote it, under one key a further touch changes nothing.
            tries = SETTLE_TRIES if progress.number > 1 else 0
            while tries:
                tries, before = tries - 1, after
                after = await self._touched(resource, item, progress)
                if after in (before, GONE):
                    return True
            progress.unsettled += progress.number > 1
        except (Denied, Invalid, Unavailable) as refusal:
            if len(progress.failed) < FAILURES_LISTED:
                progress.failed.append(f"{_place(item)}: {_reason(refusal)}")
            return None
        return True

    async def _touched(self, resource: Resource, item: Object, progress: Progress) -> str:
        """The resourceVersion after a touch, GONE for what was deleted meanwhile.

        Raises Denied, Invalid, or Unavailable for a server that stays busy.
        """
        namespace, name = key_of(item)
        tries, patience = TRIES, self._clock.monotonic() + PATIENCE_SECONDS
        while tries and self._clock.monotonic() < patience:
            try:
                after = await self._api.touch(resource, name, namespace)
            except NotFound as missing:
                if missing.code == NO_ROUTE:  # Which says nothing of the object.
                    raise Unavailable("no-route", "the server does not serve them now") from None
                return GONE
            except Conflict:
                tries -= 1  # Written meanwhile; once more, because by whom is not known.
            except Busy as busy:
                progress.waited += 1
                await self._slow_down(busy.retry_after)
            except Unavailable:
                tries -= 1
                await self._slow_down(0.0)
            else:
                self.pace.taken()
                return after
        raise Unavailable("busy", "the server stayed busy")

    async def _slow_down(self, asked: float) -> None:
        self.pace.refused()
        await self._clock.sleep(max(asked, 1.0 / self.pace.rate))

    def _save(self, progress: Progress) -> None:
        if self._keep is not None:
            scratch = self._keep.with_name(self._keep.name + ".new")
            scratch.write_text(json.dumps(progress.as_data()))
            scratch.rename(self._keep)


def _reason(refusal: Refusal) -> str:
    """Why; of a server's text only a webhook's or policy's name, as it may quote the object."""
    if not refusal.code.startswith("kube-"):
        return refusal.message
    named = _NAMED.search(refusal.message)
    return f"{named.group()} [{refusal.code}]" if named else f"refused [{refusal.code}]"


def _place(item: Object) -> str:
    namespace, name = key_of(item)
    return f"{namespace}/{name}"


def name_of(resource: Resource) -> str:
    """`secrets`, or `things.example.com`."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural
