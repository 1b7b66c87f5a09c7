"""Settings without a file: the flags of `strongroom server --data DIR`, and of `server -dev`."""

from dataclasses import dataclass, field
from pathlib import Path

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
)
from strongroom.app.store_config.sources import Stanza


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


def dev_settings(host: str, port: int, tls: tuple[Path, Path] | None) -> ServerSettings:
    """A server to try things with: in memory, unsealed, nothing recorded, nothing kept."""
    return ServerSettings(
        storage=StorageSetting(INMEM, named="inmem"),
        listeners=(ListenerSetting(host, port, TlsSetting(*tls) if tls else None, opens=OPENABLE),),
        workers=1,
        api_audit=True,
    )
