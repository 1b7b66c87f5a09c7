"""Settings without a file: the flags of `strongroom server --data DIR`, and of `server -dev`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from strongroom.app.store_config.settings import (
    INMEM,
    OPENABLE,
    POSTGRESQL,
    SQLITE,
    AuditSetting,
    ListenerSetting,
    ServerSettings,
    StorageSetting,
    TlsSetting,
    check_apart,
    settings_of,
)
from strongroom.app.store_config.sources import Configuration, Stanza


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the command line says. `tls` is certificate and key, None for plain HTTP.

    `database` is the URL of a PostgreSQL; without one the database is a file in `data`.
    """

    data: Path
    host: str
    port: int
    seal_key_file: Path
    audit_file: Path
    tls: tuple[Path, Path] | None
    workers: int = 1
    database: str = field(default="", repr=False)

    @property
    def settings(self) -> ServerSettings:
        """The same as a configuration: a static seal, one file device, one listener."""
        storage = StorageSetting(SQLITE, self.data, named="sqlite")
        if self.database:
            storage = StorageSetting(POSTGRESQL, self.data, self.database, "postgresql")
        listener = ListenerSetting(
            self.host, self.port, TlsSetting(*self.tls) if self.tls else None
        )
        return ServerSettings(
            storage=storage,
            listeners=(listener,),
            seal=Stanza("seal", ("static",), {"key_file": str(self.seal_key_file)}, "flags"),
            audit=(AuditSetting("file", "file/", {"file_path": str(self.audit_file)}),),
            workers=self.workers,
        )


def dev_settings(
    host: str, port: int, tls: tuple[Path, Path] | None, found: Configuration | None = None
) -> ServerSettings:
    """A server to try things with: in memory, unsealed, nothing recorded, nothing kept.

    `found` is a configuration beside it: all of it holds but where rows lie, and how they are
    sealed.
    """
    usual = ServerSettings(
        storage=StorageSetting(INMEM, named="inmem"),
        listeners=(ListenerSetting(host, port, TlsSetting(*tls) if tls else None, opens=OPENABLE),),
        workers=1,
        api_audit=True,
    )
    if found is None:
        return usual
    own = settings_of(_with_dev(found))
    left = [
        f"{each.place}: {each.kind} has no effect beside -dev" for each in found.of(*_NOT_BESIDE)
    ]
    listeners = (*usual.listeners, *own.listeners[1:])
    check_apart(listeners)
    notes = (*left, *(each for each in own.notes if not each.startswith(f"{_DEV}: ")))
    return replace(own, listeners=listeners, workers=1, api_audit=True, notes=notes)


_NOT_BESIDE: Final = ("storage", "backend", "seal")
# The place of what -dev itself decides.
_DEV: Final = "-dev"


def _with_dev(found: Configuration) -> Configuration:
    """With what every configuration has, in the place of what -dev decides."""
    storage = Stanza("storage", ("inmem",), {}, _DEV)
    listener = Stanza("listener", ("tcp",), {"tls_disable": True}, _DEV)
    kept = [each for each in found.stanzas if each.kind not in _NOT_BESIDE]
    return Configuration(found.values, (storage, listener, *kept))
