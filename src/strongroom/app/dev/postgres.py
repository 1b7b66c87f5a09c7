"""A PostgreSQL of its own in a folder: for tests, benchmarks and drills, never for keeping.

Runs the machine's binaries (Debian's `postgresql`) as an unprivileged user on a unix socket,
without a system cluster. It can be paused, killed and restarted, to see what the store does then.
`STRONGROOM_POSTGRES_BIN` names the folder of another release's `initdb` and `postgres`.
"""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from strongroom.app.dev.processes import die_with_parent
from strongroom.model.errors import Unavailable

PROGRAMS: Final = Path("/usr/lib/postgresql")
OTHER_PROGRAMS: Final = "STRONGROOM_POSTGRES_BIN"
USER: Final = "postgres"
START_SECONDS: Final = 120.0
SETTINGS: Final = ("max_connections=300", "shared_buffers=128MB", "max_wal_size=2GB")


class ThrowawayPostgres:
    """One server; `folder` should be short, it holds the socket too.

    `settings` are more of `name=value`, beside or instead of its own.
    """

    def __init__(self, folder: Path, *, durable: bool = True, settings: Sequence[str] = ()) -> None:
        self._folder = folder
        self._settings = tuple(settings)
        self._data = folder / "data"
        self._programs = program_folders(os.environ.get(OTHER_PROGRAMS, ""), PROGRAMS)
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        # initdb and postgres refuse to run as root.
        self._user = USER if os.geteuid() == 0 and _has_user(USER) else None

    def url(self, database: str = "postgres") -> str:
        """Where a database of it is reached."""
        return f"postgresql://{USER}@/{database}?host={self._folder}"

    def start(self) -> None:
        """Make the folder a cluster if it is none, and run it; returns once it accepts queries."""
        if not self._data.exists():
            self._create()
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program("postgres"),
                    *("-D", str(self._data)),
                    *(word for each in self._all_settings() for word in ("-c", each)),
                ],
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no locks
                start_new_session=True,
            )
        self._wait_until_it_answers()

    def _all_settings(self) -> tuple[str, ...]:
        fsync = () if self._durable else ("fsync=off", "synchronous_commit=on")
        sockets = ("listen_addresses=", f"unix_socket_directories={self._folder}")
        return (*SETTINGS, *fsync, *sockets, *self._settings)

    @property
    def runs(self) -> bool:
        """Whether its first process is there."""
        return self._process is not None and self._process.poll() is None

    def copy_to(self, folder: Path, *settings: str) -> "ThrowawayPostgres":
        """A standby that streams from this one, not yet started; see `promote`."""
        source = f"host={self._folder} user={USER} application_name={folder.name}"
        # Said here, since a pg_basebackup newer than the server writes words that it lacks.
        settings = (f"primary_conninfo={source}", *settings)
        copied = ThrowawayPostgres(folder, durable=self._durable, settings=settings)
        copied.make_folder()
        self._run(
            "pg_basebackup", "-R", "-X", "stream", "-c", "fast", "-D", str(folder / "data"),
            "-d", source,
        )  # fmt: skip
        return copied

    def promote(self) -> None:
        """Make a standby the server that takes writes; returns once it does."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self._data))

    def query(self, statement: str, database: str = USER) -> str:
        """What psql prints, without a header; raises Unavailable."""
        words = ("-h", str(self._folder), "-U", USER, "-XAtq", "-v", "ON_ERROR_STOP=1")
        return self._run("psql", *words, "-d", database, "-c", statement).strip()

    def stop(self) -> None:
        """End it as an administrator does: sessions are cut, nothing is lost."""
        self._signal(signal.SIGINT)
        self._ended()

    def kill(self) -> None:
        """End it and all its backends with SIGKILL."""
        for process in self._family():
            _send(process, signal.SIGKILL)
        self._ended()

    def pause(self) -> None:
        """Stop all its processes where they are."""
        for process in self._family():
            _send(process, signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        for process in self._family():
            _send(process, signal.SIGCONT)

    def create_database(self, name: str) -> str:
        """Make an empty database; returns its URL."""
        self._run("createdb", "-h", str(self._folder), "-U", USER, name)
        return self.url(name)

    def drop_databases(self, names: Sequence[str]) -> None:
        """Remove those of these databases that can be removed, whoever is connected to them.

        Raises Unavailable when the last of them stays: whoever is connected did not end in time.
        """
        drops = [f"DROP DATABASE {name} WITH (FORCE)" for name in names]
        words = ("-h", str(self._folder), "-U", USER, "-Xq", "-d", USER)
        self._run("psql", *words, *(word for each in drops for word in ("-c", each)))

    def make_folder(self) -> None:
        """The folder, its user's."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._user:
            shutil.chown(self._folder, self._user, self._user)

    def _create(self) -> None:
        self.make_folder()
        self._run(
            "initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync",
            "--locale=C.UTF-8",
        )  # fmt: skip

    def _program(self, name: str) -> str:
        paths = [folder / name for folder in self._programs]
        return str(next((path for path in paths if path.exists()), paths[0]))

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._program(program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
        )
        if done.returncode:
            raise Unavailable("postgres-failed", f"{program}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                tail = (self._folder / "postgres.log").read_text()[-500:]
                raise Unavailable("postgres-failed", f"PostgreSQL ended: {tail}")
            try:
                self._run("pg_isready", "-q", "-h", str(self._folder))
            except Unavailable:
                time.sleep(0.05)
            else:
                return
        raise Unavailable("postgres-failed", f"no answer in {START_SECONDS:g} s")

    def _family(self) -> list[int]:
        if self._process is None:
            return []
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _ended(self) -> None:
        if self._process is not None:
            self._process.wait(START_SECONDS)
            self._process = None


def program_folders(named: str, installed: Path) -> tuple[Path, ...]:
    """Where PostgreSQL's programs are: in the folder that was named, then in the newest installed.

    Builds for embedding bring the server alone; `psql` and its like speak to every release.
    Raises Unavailable(`no-postgres`) where there is no server.
    """
    newest = sorted(installed.glob("*/bin/postgres"), key=lambda each: int(each.parts[-3]))[-1:]
    if named and not (Path(named) / "postgres").exists():
        raise Unavailable(
            "no-postgres",
            f"there is no `postgres` in {named}",
            hint=f"set {OTHER_PROGRAMS} to the folder that has it, or to nothing",
        )
    folders = ([Path(named)] if named else []) + [path.parent for path in newest]
    if not folders:
        raise Unavailable(
            "no-postgres",
            f"there is no PostgreSQL under {installed}",
            hint="apt-get install postgresql",
        )
    return tuple(folders)


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _send(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
