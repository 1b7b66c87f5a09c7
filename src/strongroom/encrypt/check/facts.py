"""What the checks look at, as values; what is None was not looked at, and is said so."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from strongroom.encrypt.check.api_metrics import Sample
from strongroom.encrypt.check.configuration import Configuration
from strongroom.encrypt.check.manifest import Manifest
from strongroom.encrypt.stored import Stored

SENSITIVE = ("secrets",)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file: what it means, or why the API server would not take it."""

    path: str
    parsed: Configuration | None
    error: str = ""
    mode: int | None = None
    changed: float | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """One API server."""

    name: str
    manifest: Manifest | None = None
    config: ConfigFile | None = None
    metrics: tuple[Sample, ...] | None = None
    started: float | None = None


@dataclass(frozen=True, slots=True)
class PluginFact:
    """What a KMS provider's socket said, and who may use it. `mode` None: not looked at."""

    provider: str
    key_id: str = ""
    error: str = ""
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class PluginSetup:
    """How a plugin is run: where its backends are, what it logs in with, its own manifest."""

    name: str
    addresses: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything known."""

    servers: tuple[Server, ...] = ()
    served: frozenset[str] | None = None
    stored: Mapping[str, Counter[Stored]] | None = None
    plugins: tuple[PluginFact, ...] | None = None
    setups: tuple[PluginSetup, ...] = ()
    unsafe_deleters: tuple[str, ...] | None = None
    backups: Mapping[str, float] | None = None
    rotated: float | None = None
    service_domains: tuple[str, ...] = field(default=(".svc", ".cluster.local"))
    service_addresses: frozenset[str] = frozenset()
    # By check, what it would have looked at too, had the cluster let this user.
    refused: Mapping[str, str] = field(default_factory=dict)
