"""What a configuration means: settings as values, and a note for each key that means nothing here.

Vault's storage names become the engines there are; the notes say so. Nothing is opened here.
Keys: https://developer.hashicorp.com/vault/docs/configuration.
"""

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from strongroom.app.logs import format_named, level_named
from strongroom.app.store_config.flag_fields import flag_of
from strongroom.app.store_config.forwarded import FIELDS as FORWARDED_FIELDS
from strongroom.app.store_config.forwarded import forwarded_for
from strongroom.app.store_config.socket_rights import SocketRights, socket_rights
from strongroom.app.store_config.sources import Configuration, Stanza
from strongroom.app.store_config.user_lockout import user_lockout
from strongroom.model.digits import port_number, whole_number
from strongroom.model.errors import Invalid
from strongroom.store.call import parse_seconds
from strongroom.store.context import REQUEST_SECONDS
from strongroom.wire.forwarded import ForwardedFor

DATABASE: Final = "strongroom.db"
INMEM, SQLITE, POSTGRESQL = "inmem", "sqlite", "postgresql"
# Vault's keys that change nothing here, each with the reason that is shown.
_NO_EFFECT: Final = {
    "disable_mlock": "",
    "cluster_name": "it is made from the cluster's id",
    "disable_clustering": "",
    "disable_cache": "caches hold for one revision of the database alone",
    "cache_size": "",
    "disable_printable_check": "control characters in paths are always refused",
    "plugin_directory": "there are no external plugins",
    "plugin_file_uid": "",
    "plugin_file_permissions": "",
    "raw_storage_endpoint": "sys/raw does not exist: it would go round every policy",
    "introspection_endpoint": "sys/internal/inspect does not exist",
    "enable_response_header_hostname": "no reply names its node",
    "enable_response_header_raft_node_id": "no reply names its node",
    "log_requests_level": "requests are recorded by audit devices",
    "log_file": "the log goes to standard error",
    "license_path": "there is no licence",
    "disable_performance_standby": "every node is active",
    "disable_sealwrap": "",
    "disable_sentinel_trace": "",
    "detect_deadlocks": "",
    "imprecise_lease_role_tracking": "",
}
_LISTENER_NO_EFFECT: Final = {
    "cluster_address", "proxy_protocol_behavior", "proxy_protocol_authorized_addrs",
    "inflight_requests_logging", "custom_response_headers", "agent_api", "tls_cipher_suites",
    "tls_max_version", "role",
    "chroot_namespace", "redact_addresses", "redact_cluster_name", "redact_version",
    "tls_prefer_server_cipher_suites", "http_write_timeout", "max_request_json_memory",
    "disable_request_limiter", "require_request_header",
}  # fmt: skip
_LISTENER: Final = {
    "address", "tls_disable", "tls_cert_file", "tls_key_file", "tls_min_version",
    "tls_client_ca_file", "tls_require_and_verify_client_cert", "tls_disable_client_certs",
    "telemetry", "max_request_size", "http_read_header_timeout",
    "http_read_timeout", "http_idle_timeout", "unauthed_rekey", "socket_mode", "socket_user",
    "disable_unauthed_rekey_endpoints", "disable_unauthed_generate_root_endpoints",
    "socket_group", "profiling", "max_snapshot_size", "max_request_duration", *FORWARDED_FIELDS,
}  # fmt: skip
_TOP: Final = {
    "api_addr", "cluster_addr", "ui", "log_level", "log_format", "default_lease_ttl",
    "max_lease_ttl", "workers", "join_key_file", "unsafe_allow_api_audit_creation",
    "allow_audit_log_prefixing", "default_max_request_duration", "api_version", "redirect_addr",
    "pid_file",
}  # fmt: skip
_STANZAS: Final = {"storage", "backend", "listener", "seal", "audit", "telemetry", "user_lockout"}
# Of telemetry: without effect, and without harm.
_TELEMETRY_QUIET: Final = {
    "prometheus_retention_time", "disable_hostname", "enable_hostname_label", "metrics_prefix",
    "usage_gauge_period", "maximum_gauge_cardinality", "lease_metrics_epsilon", "filter_default",
    "num_lease_metrics_buckets", "add_lease_metrics_namespace_labels", "prefix_filter",
}  # fmt: skip
# What a listener may open: paths that want a token, and none where its stanza says so.
OPENABLE: Final = frozenset({"metrics", "in-flight", "rekey", "generate-root"})
DEFAULT_TTL: Final = 2764800
# `sun_path` of unix(7), with a byte for its end.
LONGEST_SOCKET: Final = 107
BODY_BYTES: Final = 32 * 1024 * 1024
SNAPSHOT_BYTES: Final = 64 * 1024**3


@dataclass(frozen=True, slots=True)
class StorageSetting:
    """Which engine, and where; `named` is the name the file gave it."""

    engine: str
    path: Path | None = None
    url: str = field(default="", repr=False)
    named: str = ""


@dataclass(frozen=True, slots=True)
class TlsSetting:
    """Certificate and key, and what is asked of clients."""

    certificate: Path
    key: Path
    minimum: str = "tls12"
    client_ca: Path | None = None
    client_required: bool = False
    ask_client: bool = True


@dataclass(frozen=True, slots=True)
class ListenerSetting:
    """One address. `host` "" with `socket` is a unix socket. Sizes in bytes, times in seconds."""

    host: str
    port: int
    tls: TlsSetting | None = None
    socket: Path | None = None
    rights: SocketRights = field(default_factory=SocketRights)
    # What needs a token elsewhere, and none here; of OPENABLE.
    opens: frozenset[str] = frozenset()
    body_bytes: int = BODY_BYTES
    # Of a snapshot that is restored; it waits on disk.
    snapshot_bytes: int = SNAPSHOT_BYTES
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    idle_seconds: float = 300.0
    # None where no proxy is trusted to say who its client is.
    forwarded: ForwardedFor | None = None

    @property
    def url(self) -> str:
        """The address as clients write it."""
        if self.socket:
            return f"unix://{self.socket}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def is_plain_abroad(self) -> bool:
        """Whether secrets would leave the machine in the clear."""
        if self.tls is not None or self.socket is not None:
            return False
        try:
            return self.host != "localhost" and not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True


@dataclass(frozen=True, slots=True)
class AuditSetting:
    """A device from the configuration; the API cannot remove it."""

    type: str
    path: str
    options: Mapping[str, str]
    description: str = ""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything a server process needs to know."""

    storage: StorageSetting
    listeners: tuple[ListenerSetting, ...]
    seal: Stanza | None = None
    old_seal: Stanza | None = None
    audit: tuple[AuditSetting, ...] = ()
    api_addr: str = ""
    cluster_addr: str = ""
    ui: bool = False
    log_level: str = "info"
    log_format: str = "standard"
    default_ttl: int = DEFAULT_TTL
    max_ttl: int = DEFAULT_TTL
    # How long a call may take.
    request_seconds: int = int(REQUEST_SECONDS)
    workers: int = 0
    join_key_file: Path | None = None
    # Where the number of the process that takes signals is written.
    pid_file: Path | None = None
    api_audit: bool = False
    api_version: str = ""
    # When users are locked, by login method or "all".
    user_lockout: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def settings_of(found: Configuration) -> ServerSettings:
    """The settings of a configuration; raises Invalid(`bad-config`)."""
    notes = list(_unknown(found))
    storage = _storage(found, notes)
    listeners = tuple(_listener(each, notes) for each in found.of("listener"))
    if not listeners:
        raise _bad("there is no listener stanza", 'listener "tcp" { address = "127.0.0.1:8200" }')
    check_apart(listeners)
    seals = found.of("seal")
    active = [each for each in seals if not flag_of(each.fields, "disabled", each.place)]
    disabled = [each for each in seals if each not in active]
    if len(active) > 1 or len(disabled) > 1:
        raise _bad("more than one seal", 'mark the one to leave with disabled = "true"')
    text = _Values(found)
    default_ttl = text.seconds("default_lease_ttl", DEFAULT_TTL)
    max_ttl = text.seconds("max_lease_ttl", DEFAULT_TTL)
    if default_ttl > max_ttl:
        # Vault does not start. Where it says nothing of the first, the second is all that is meant.
        if "default_lease_ttl" in found.values:
            notes.append("default_lease_ttl is longer than max_lease_ttl, which holds")
        default_ttl = max_ttl
    return ServerSettings(
        storage=storage,
        listeners=listeners,
        seal=next((each for each in active if _label(each) != "shamir"), None),
        old_seal=disabled[0] if disabled else None,
        audit=_audit_devices(found, storage, notes),
        api_addr=text.text("api_addr") or text.text("redirect_addr"),
        cluster_addr=text.text("cluster_addr"),
        ui=text.flag("ui"),
        log_level=level_named(text.text("log_level") or "info"),
        log_format=format_named(text.text("log_format") or "standard"),
        default_ttl=default_ttl,
        max_ttl=max_ttl,
        request_seconds=_request_seconds(found, text, notes),
        workers=text.whole("workers"),
        join_key_file=Path(text.text("join_key_file")) if text.text("join_key_file") else None,
        pid_file=Path(text.text("pid_file")) if text.text("pid_file") else None,
        api_audit=text.flag("unsafe_allow_api_audit_creation"),
        api_version=text.text("api_version"),
        user_lockout=user_lockout(found, notes),
        notes=tuple(notes),
    )


def check_apart(listeners: Sequence[ListenerSetting]) -> None:
    """Raises Invalid(`bad-config`) for two at one address."""
    addresses = [str(each.socket or f"{each.host}:{each.port}") for each in listeners]
    twice = next((each for each in addresses if addresses.count(each) > 1), None)
    if twice and not twice.endswith(":0"):
        raise _bad(f"two listeners are at {twice}")


class _Values:
    """The plain values at the top."""

    def __init__(self, found: Configuration) -> None:
        self._found = found

    def value(self, name: str, default: Any = "") -> Any:  # noqa: ANN401 - as parsed
        return self._found.values.get(name, (default, ""))[0]

    def text(self, name: str, default: str = "") -> str:
        return str(self.value(name, default))

    def flag(self, name: str) -> bool:
        value, place = self._found.values.get(name, (False, ""))
        return flag_of({name: value}, name, place)

    def whole(self, name: str) -> int:
        value, place = self._found.values.get(name, (0, ""))
        number = whole_number(str(value))
        if number is None:
            raise _bad(f"{place}: {name} is a whole number")
        return number

    def seconds(self, name: str, default: int) -> int:
        value, place = self._found.values.get(name, (default, ""))
        return int(_seconds(Stanza("", (), {name: value}, place), name, default))


def _request_seconds(found: Configuration, text: _Values, notes: list[str]) -> int:
    """How long a call may take: one time for the process, as one timer watches all calls."""
    usual = text.seconds("default_max_request_duration", int(REQUEST_SECONDS))
    name = "max_request_duration"
    times = {int(_seconds(each, name, usual)) for each in found.of("listener")}
    longest = max(times)
    if len(times) > 1:
        notes.append(f"{name} is one time for all listeners: {longest} s")
    return longest


def _unknown(found: Configuration) -> list[str]:
    notes = []
    for name, (_, place) in found.values.items():
        if name in _NO_EFFECT:
            reason = _NO_EFFECT[name]
            if reason:
                notes.append(f"{place}: {name} has no effect: {reason}")
        elif name not in _TOP:
            notes.append(f"{place}: unknown or unsupported field {name!r}")
    notes += [
        f"{each.place}: unknown or unsupported stanza {each.kind!r}"
        for each in found.stanzas
        if each.kind not in _STANZAS
    ]
    return notes + [note for each in found.of("telemetry") for note in _telemetry(each)]


def _telemetry(stanza: Stanza) -> list[str]:
    notes = []
    for name in stanza.fields:
        if name == "unauthenticated_metrics_access":
            reason = "it belongs into the telemetry of a listener"
        elif name in _TELEMETRY_QUIET:
            continue
        else:
            reason = "metrics are fetched from sys/metrics, and sent nowhere"
        notes.append(f"{stanza.place}: telemetry field {name!r} has no effect: {reason}")
    return notes


def _storage(found: Configuration, notes: list[str]) -> StorageSetting:
    stanzas = found.of("storage", "backend")
    if len(stanzas) != 1:
        raise _bad(
            "exactly one storage stanza is needed",
            'storage "raft" { path = "/var/lib/strongroom" }',
        )
    stanza, kind = stanzas[0], _label(stanzas[0])
    if unused := sorted({*stanza.fields} - {"path", "connection_url", "type", "node_id"}):
        notes.append(f"{stanza.place}: of storage {kind!r} these have no effect: "
                     f"{', '.join(unused)}")  # fmt: skip
    if kind in ("file", "raft", "sqlite"):
        path = Path(str(stanza.fields.get("path", "")))
        if not str(stanza.fields.get("path", "")):
            raise _bad(f"{stanza.place}: storage {kind!r} needs a path")
        if kind != "sqlite":
            notes.append(
                f"{stanza.place}: storage {kind!r} is served by SQLite in {path / DATABASE}; "
                'for more than one node use storage "postgresql"'
            )
        return StorageSetting(SQLITE, path, named=kind)
    if kind == "postgresql":
        url = str(stanza.fields.get("connection_url", ""))
        return StorageSetting(POSTGRESQL, url=url or "postgresql://", named=kind)
    if kind in ("inmem", "inmem_ha", "inmem_transactional", "inmem_transactional_ha"):
        notes.append(f"{stanza.place}: storage {kind!r} is lost when the process ends")
        return StorageSetting(INMEM, named="inmem")
    raise _bad(
        f"{stanza.place}: storage {kind!r} is not supported",
        "use file, raft (one node), postgresql or inmem",
    )


def _listener(stanza: Stanza, notes: list[str]) -> ListenerSetting:
    fields, kind = stanza.fields, _label(stanza)
    for name in fields:
        if name in _LISTENER_NO_EFFECT:
            notes.append(f"{stanza.place}: listener field {name!r} has no effect")
        elif name not in _LISTENER:
            notes.append(f"{stanza.place}: unknown or unsupported listener field {name!r}")
    sizes: dict[str, Any] = {
        "body_bytes": _whole(stanza, "max_request_size", BODY_BYTES),
        "snapshot_bytes": _whole(stanza, "max_snapshot_size", SNAPSHOT_BYTES),
        "header_seconds": _seconds(stanza, "http_read_header_timeout", 10),
        "body_seconds": _seconds(stanza, "http_read_timeout", 60),
        "idle_seconds": _seconds(stanza, "http_idle_timeout", 300),
        "opens": _opens(stanza, notes),
        "forwarded": forwarded_for(fields, stanza.place),
    }
    if kind == "unix":
        if not fields.get("address"):
            raise _bad(f"{stanza.place}: listener 'unix' needs an address", "the socket's path")
        if len(os.fsencode(str(fields["address"]))) > LONGEST_SOCKET:
            raise _bad(
                f"{stanza.place}: the path of a unix socket has at most {LONGEST_SOCKET} bytes",
                "put it into a folder with a shorter name, such as /run/strongroom",
            )
        rights = socket_rights(fields, stanza.place)
        return ListenerSetting("", 0, socket=Path(str(fields["address"])), rights=rights, **sizes)
    if kind != "tcp":
        raise _bad(f"{stanza.place}: listener {kind!r} is not supported", "use tcp or unix")
    host, port = parse_address(str(fields.get("address", "127.0.0.1:8200")), stanza.place)
    return ListenerSetting(host, port, _tls(stanza, notes), **sizes)


def _tls(stanza: Stanza, notes: list[str]) -> TlsSetting | None:
    fields = stanza.fields
    if flag_of(fields, "tls_disable", stanza.place):
        return None
    certificate, key = fields.get("tls_cert_file"), fields.get("tls_key_file")
    if not certificate or not key:
        raise _bad(
            f"{stanza.place}: the listener needs tls_cert_file and tls_key_file",
            "tls_disable = true serves plain HTTP, for loopback or behind a proxy",
        )
    minimum = str(fields.get("tls_min_version", "tls12"))
    if minimum not in ("tls12", "tls13"):
        raise _bad(f"{stanza.place}: tls_min_version is tls12 or tls13")
    client_ca = fields.get("tls_client_ca_file")
    required = flag_of(fields, "tls_require_and_verify_client_cert", stanza.place)
    unwanted = flag_of(fields, "tls_disable_client_certs", stanza.place)
    if required and unwanted:
        raise _bad(
            f"{stanza.place}: tls_disable_client_certs and tls_require_and_verify_client_cert "
            "are mutually exclusive"
        )
    if required and not client_ca:
        raise _bad(
            f"{stanza.place}: tls_require_and_verify_client_cert needs tls_client_ca_file",
            "name the authority of your clients; the public ones would let anybody in",
        )
    if client_ca and not required:
        notes.append(
            f"{stanza.place}: tls_client_ca_file has no effect without "
            "tls_require_and_verify_client_cert"
        )
    return TlsSetting(
        Path(str(certificate)),
        Path(str(key)),
        minimum,
        Path(str(client_ca)) if client_ca else None,
        client_required=required,
        ask_client=not unwanted,
    )


def parse_address(text: str, place: str = "") -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `:PORT` or `HOST`; raises Invalid(`bad-address`)."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, "8200"
    number = port_number(port)
    if number is None:
        where = f"{place}: " if place else ""
        raise Invalid("bad-address", f"{where}not HOST:PORT: {text}", hint="127.0.0.1:8200")
    return host.strip("[]") or "0.0.0.0", number  # noqa: S104 - Go's meaning of ":8200"


def _audit_devices(
    found: Configuration, storage: StorageSetting, notes: list[str]
) -> tuple[AuditSetting, ...]:
    """The stanzas; without any, a file beside the database, because nothing is done unrecorded."""
    stanzas = found.of("audit")
    if stanzas:
        return tuple(_audit(each) for each in stanzas if _label(each) != "none")
    if storage.path is not None:
        path = storage.path / "audit.log"
        notes.append(f'no audit stanza: recording to {path} (audit "none" {{}} turns it off)')
        return (AuditSetting("file", "default/", {"file_path": str(path)}),)
    notes.append("no audit stanza: requests are not recorded until a device is enabled")
    return ()


def _audit(stanza: Stanza) -> AuditSetting:
    kind = _label(stanza)
    path = stanza.labels[1] if len(stanza.labels) > 1 else str(stanza.fields.get("path", kind))
    options = stanza.fields.get("options")
    if not isinstance(options, dict):
        known = ("path", "description", "local", "type")
        options = {name: value for name, value in stanza.fields.items() if name not in known}
    texts = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
    }
    description = str(stanza.fields.get("description", ""))
    return AuditSetting(kind, path.strip("/") + "/", texts, description)


def _opens(stanza: Stanza, notes: list[str]) -> frozenset[str]:
    """What a listener opens: nothing unless it says so. The names are Vault's and OpenBao's."""
    telemetry, profiling = (_inner(stanza, name) for name in ("telemetry", "profiling"))
    place = stanza.place
    asked = {
        "metrics": flag_of(telemetry, "unauthenticated_metrics_access", place),
        "in-flight": flag_of(profiling, "unauthenticated_in_flight_request_access", place),
        **{
            word: not flag_of(
                stanza.fields, f"disable_unauthed_{name}_endpoints", place, default=True
            )
            for word, name in (("rekey", "rekey"), ("generate-root", "generate_root"))
        },
    }
    if "unauthenticated_pprof_access" in profiling:
        notes.append(
            f"{stanza.place}: profiling field 'unauthenticated_pprof_access' has no effect:"
            " sys/pprof does not exist"
        )
    return frozenset(name for name, opened in asked.items() if opened)


def _inner(stanza: Stanza, name: str) -> Mapping[str, Any]:
    found = stanza.fields.get(name) or {}
    if not isinstance(found, Mapping):
        raise _bad(f"{stanza.place}: {name} is a stanza", f"{name} {{ ... }}")
    return found


def _label(stanza: Stanza) -> str:
    return stanza.labels[0] if stanza.labels else str(stanza.fields.get("type", ""))


def _whole(stanza: Stanza, name: str, default: int) -> int:
    try:
        return int(stanza.fields.get(name) or default)
    except (TypeError, ValueError):
        raise _bad(f"{stanza.place}: {name} is a whole number") from None


def _seconds(stanza: Stanza, name: str, default: float) -> float:
    try:
        found = parse_seconds(stanza.fields.get(name), name) or default
    except Invalid as refusal:
        raise _bad(f"{stanza.place}: {refusal.message}") from None
    if found < 0:
        raise _bad(f"{stanza.place}: {name} must not be negative")
    return float(found)


def _bad(what: str, hint: str = "") -> Invalid:
    return Invalid("bad-config", what, hint=hint)
