"""The agent's life: log in, fetch, swap, acknowledge, wait for a change; never leave a gap.

A refusal keeps the last good files, is printed with its code, and is tried again.
"""

import json
import signal
import sys
from collections.abc import Mapping
from typing import Final

from strongroom.deliver.agent.config import AgentConfig, SecretFiles
from strongroom.deliver.agent.feed import Feed
from strongroom.deliver.agent.files import is_file_name, swap
from strongroom.deliver.agent.store import Read, StoreClient
from strongroom.model.clock import Clock, rfc3339
from strongroom.model.errors import Denied, Invalid, Refusal, Unavailable
from strongroom.model.secret import Secret

RENEW_AT: Final = 0.66
RETRY_SECONDS: Final = 1.0
LONGEST_RETRY: Final = 30.0


class Stop(Exception):
    """The agent was told to end."""


def _told_to_stop(_number: int, _frame: object) -> None:
    raise Stop


def run(config: AgentConfig, clock: Clock, *, once: bool = False) -> None:
    """Run until SIGTERM, or until the files are there; raises Refusal when `once` fails."""
    signal.signal(signal.SIGTERM, _told_to_stop)
    agent = Agent(config, clock)
    try:
        if once:
            agent.refresh()
        else:
            agent.live()
    except Stop:
        return
    finally:
        agent.close()


class Agent:
    """One configuration at work."""

    def __init__(self, config: AgentConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._store = StoreClient(config.address, config.ca_file)
        self._login_after = 0.0
        self._feed: Feed | None = None
        self._acknowledged: dict[str, int] = {}
        self._told_of_silence = False

    def close(self) -> None:
        """Let go of the feed."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def live(self) -> None:
        """Refresh for ever."""
        retry = RETRY_SECONDS
        while True:
            try:
                self.refresh()
                retry = RETRY_SECONDS
                self._wait()
            except Refusal as refusal:
                _say(f"{refusal}; the last files stay, again in {retry:g} s")
                self.close()
                if isinstance(refusal, Denied):
                    self._login_after = 0.0
                _pause(retry)
                retry = min(LONGEST_RETRY, retry * 2)

    def refresh(self) -> None:
        """Bring the files to what the store has now, and acknowledge it."""
        self._log_in()
        reads = {each.path: self._store.read(each.path) for each in self._config.secrets}
        files = collect(self._config.secrets, reads)
        versions = {path: read.version for path, read in reads.items()}
        stamp = rfc3339(self._clock.now()).replace(":", "_").replace(".", "_")
        if swap(self._config.output, files, versions, self._config.file_mode, stamp):
            said = ", ".join(f"{path} version {number}" for path, number in versions.items())
            count = "1 file" if len(files) == 1 else f"{len(files)} files"
            _say(f"wrote {count}: {said}")
        for path, number in versions.items():
            if self._acknowledged.get(path) != number:
                taken = self._store.acknowledge(path, number)
                self._acknowledged[path] = number
                if not taken and not self._told_of_silence:
                    self._told_of_silence = True
                    _say("the store takes no acknowledgements: `rotate` does not see this agent")

    def _log_in(self) -> None:
        if self._store.token is not None and self._clock.monotonic() < self._login_after:
            return
        try:
            jwt = Secret(self._config.token_file.read_text().strip())
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not text"
            raise Unavailable("no-token", f"cannot read the token: {why}") from None
        life = self._store.login(self._config.mount, self._config.role, jwt)
        # The old token stays good until its end; its acknowledgement moves to the new one.
        self._acknowledged.clear()
        self._login_after = self._clock.monotonic() + (life * RENEW_AT if life else float("inf"))

    def _wait(self) -> None:
        """Until one of our secrets changed, the login is due or the poll interval has passed."""
        end = self._clock.monotonic() + self._config.poll_seconds
        end = min(end, self._login_after)
        if self._feed is None:
            try:
                self._feed = Feed(self._store)
                return  # What changed before the feed was open is fetched now.
            except Unavailable:
                _pause(max(0.0, end - self._clock.monotonic()))
                return
        ours = {each.path for each in self._config.secrets}
        while (left := end - self._clock.monotonic()) > 0:
            if self._feed.wait(left) in ours:
                return


def collect(secrets: tuple[SecretFiles, ...], reads: Mapping[str, Read]) -> dict[str, bytes]:
    """File names to contents. Pure.

    Raises Invalid for a field that is not there (`no-field`), and for names of fields that cannot
    be files (`bad-file-name`) or that another secret has as well (`same-file`).
    """
    files: dict[str, bytes] = {}
    for each in secrets:
        data = reads[each.path].data
        for name, field in (each.files or {key: key for key in data}).items():
            if field not in data:
                raise Invalid("no-field", f"{each.path} has no field {field!r}")
            # Whoever writes the secret chose this name, and must not choose a path by it.
            if not is_file_name(name):
                raise Invalid(
                    "bad-file-name",
                    f"{each.path} has a field whose name cannot be a file: {name[:80]!r}",
                    hint="name the files and their fields in the configuration",
                )
            if name in files:
                raise Invalid(
                    "same-file",
                    f"the file {name!r} would come from {each.path} and another secret",
                    hint="name the files and their fields in the configuration",
                )
            value = data[field]
            files[name] = value.encode() if isinstance(value, str) else _json(value)
    return files


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _pause(seconds: float) -> None:
    # A signal ends the wait at once by raising Stop from its handler.
    signal.sigtimedwait([], seconds)


def _say(line: str) -> None:
    sys.stderr.write(f"strongroom agent: {line}\n")
    sys.stderr.flush()
