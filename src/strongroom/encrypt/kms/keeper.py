"""Keeps the plugin's keys: opens them through backends, confirms them, and knows its standing.

Calls of the API server are answered from `snapshot` and never wait for a backend; this is where
backends are asked, once a minute, and after a failure every ten seconds.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from strongroom.encrypt.kms import high_water
from strongroom.encrypt.kms.keys import (
    Backends,
    Keks,
    Opened,
    Place,
    completed,
    identities,
    open_key,
)
from strongroom.encrypt.kms.offline import Cached, OfflineCache
from strongroom.encrypt.kms.standing import Health, Policy, Standing, standing
from strongroom.encrypt.kms.state import KmsState, check_successor, load, save_over, with_key
from strongroom.model.clock import Clock
from strongroom.model.errors import NotFound, Refusal, Unavailable

PROBE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What every call is answered from; replaced as a whole."""

    keks: Keks | None
    standing: Standing
    reason: str = ""


@dataclass(slots=True)
class Report:
    """What metrics and `/readyz` show."""

    backends: dict[str, bool] = field(default_factory=dict)
    drifted: tuple[str, ...] = ()
    offline_seconds: float = 0.0
    epoch: int = 0
    pending: str = ""
    problem: str = ""


class Keeper:
    """One plugin's keys."""

    def __init__(
        self,
        state_file: Path,
        backends: Backends,
        place: Place,
        policy: Policy,
        clock: Clock,
        cache: OfflineCache | None = None,
    ) -> None:
        self._state_file = state_file
        self._backends = backends
        self._place = place
        self._policy = policy
        self._clock = clock
        self._cache = cache
        self._state: KmsState | None = None
        self._keys: dict[str, bytes] = {}
        self._confirmed: float | None = None
        self._finding: asyncio.Task[None] | None = None
        self._problems: list[str] = []
        self._turn = asyncio.Lock()
        self.snapshot = Snapshot(None, Standing.STARTING, "no key was opened yet")
        self.report = Report()

    # the loop

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            await self.probe()
            good = self.snapshot.standing is Standing.READY
            await self._clock.sleep(PROBE_SECONDS if good else RETRY_SECONDS)

    async def probe(self) -> None:
        """Read the state, open what is new, confirm the current key; never raises a Refusal.

        One after another: a search or a reload during a probe waits for it.
        """
        async with self._turn:
            await self._probe()

    async def _probe(self) -> None:
        self._problems = []
        try:
            self._take(load(self._state_file))
        except Refusal as refusal:
            self._tell(refusal)
        reachable = False
        if self._state is not None:
            try:
                reachable = await self._open_all(self._state)
            except Refusal as refusal:
                self._tell(refusal)
        if reachable:
            self._confirmed = self._clock.now()
            await self._make_up()
            self._write_cache()
        elif not self._keys:
            self._start_offline()
        self._settle(reachable=reachable)

    async def reload(self) -> None:
        """Probe now, because a person said so: backends that stopped asking are asked once more."""
        await self._backends.ask_again()
        await self.probe()

    def _tell(self, refusal: Refusal) -> None:
        if refusal.message not in self.report.problem:
            _log.warning("%s", refusal)
        self._problems.append(refusal.message)

    def _take(self, read: KmsState) -> None:
        if self._state is not None:
            check_successor(self._state, read)
        seen = high_water.read_mark(self._state_file)
        high_water.check_mark(seen, read, self._state_file)
        self._state = read
        self._forget_retired(read)
        if seen != high_water.of_state(read):
            try:
                high_water.write_mark(self._state_file, high_water.of_state(read))
            except Unavailable as refusal:
                self._tell(refusal)  # A full disk is no reason to leave the API server without.

    def _forget_retired(self, state: KmsState) -> None:
        """At once: a key that is still needed is missed while the file before it is at hand."""
        kept = {each.id for each in state.keys}
        for key_id in [each for each in self._keys if each not in kept]:
            del self._keys[key_id]
            _log.warning("key %s was retired; what it sealed does not open any more", key_id)

    async def _open_all(self, state: KmsState) -> bool:
        """Confirm the current key and open what is not open; False when no quorum answers."""
        opened: Opened | None = None
        wrappers = self._backends.wrappers
        for entry in sorted(state.keys, key=lambda each: each.id != state.current):
            if entry.id in self._keys and entry.id != state.current:
                continue
            try:
                one = await open_key(entry, wrappers, self._place)
            except Refusal:
                if entry.id == state.current:
                    self._note_backends(opened)
                    raise
                continue  # An old key that does not open keeps nobody from using the current one.
            self._keys[entry.id] = one.key
            if entry.id == state.current:
                opened = one
        self._note_backends(opened)
        return opened is not None

    def _note_backends(self, opened: Opened | None) -> None:
        answered = opened.answered if opened else ()
        names = [each.name for each in self._backends.wrappers]
        self.report.backends = {name: name in answered for name in names}

    async def _make_up(self) -> None:
        """Wraps that a backend could not make while it was away; and backends that rotated."""
        state = self._state
        assert state is not None  # noqa: S101 - reachable means it was read
        entry = state.key(state.current)
        try:
            better = await completed(entry, self._keys[entry.id], self._backends, self._place)
            if better is not None:
                save_over(self._state_file, state, with_key(state, better))
                self._state = with_key(state, better)
                _log.info("key %s is now wrapped by every backend that answers", entry.id)
        except Refusal as refusal:
            self._tell(refusal)
        now = await identities(self._backends.wrappers)
        wraps = {each.by: each.identity for each in entry.wraps}
        self.report.drifted = tuple(
            name for name, identity in now.items() if wraps.get(name, identity) != identity
        )

    # offline

    def _write_cache(self) -> None:
        if self._cache is None or self._state is None or self._confirmed is None:
            return
        keks = Keks(self._state.current, dict(self._keys), self._place)
        try:
            self._cache.write(Cached(keks, self._confirmed, self._state.epoch))
        except Refusal as refusal:
            self._tell(refusal)

    def _start_offline(self) -> None:
        if self._cache is None:
            return
        try:
            cached = self._cache.read(self._clock.now(), self._policy.max_offline_age)
            if self._state is not None and cached.epoch > self._state.epoch:
                raise NotFound("rolled-back", "the state file is older than the offline cache")
        except Refusal as refusal:
            self._tell(refusal)
            return
        self._keys = dict(cached.keks.keys)
        if self._state is not None:
            self._forget_retired(self._state)
        self._confirmed = cached.confirmed
        _log.warning("started from the offline cache: no backend answers")

    # answers

    def _settle(self, *, reachable: bool) -> None:
        state, now = self._state, self._clock.now()
        current = state.current if state else ""
        offline = 0.0 if reachable or self._confirmed is None else abs(now - self._confirmed)
        health = Health(current in self._keys, reachable, offline)
        self.report.offline_seconds = offline
        self.report.epoch = state.epoch if state else 0
        self.report.pending = state.pending if state else ""
        now_standing = standing(self._policy, health)
        if now_standing is not self.snapshot.standing:
            _log.warning("%s -> %s", self.snapshot.standing, now_standing)
        # While the key in use does not open, what the others sealed is read all the same.
        keks = Keks(current, dict(self._keys), self._place) if self._keys else None
        self.report.problem = "; ".join(self._problems)
        self.snapshot = Snapshot(keks, now_standing, self.report.problem)

    async def find(self, key_id: str) -> None:
        """Look for a key that is not open: one search for all that ask at once."""
        if self._finding is None or self._finding.done():
            self._finding = asyncio.get_running_loop().create_task(self.probe())
        await asyncio.shield(self._finding)
        _log.info("looked for key %s", key_id)
