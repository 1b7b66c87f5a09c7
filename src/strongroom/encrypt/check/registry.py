"""All checks, in order, what each is about, and what it could not look at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.encrypt.check import config_checks as config
from strongroom.encrypt.check import server_checks as server
from strongroom.encrypt.check import stored_checks as stored
from strongroom.encrypt.check.facts import Facts
from strongroom.model.decision import Finding

Run = Callable[[Facts], Iterator[Finding]]
Missing = Callable[[Facts], str]
# By it some resources lie in an etcd of their own.
OVERRIDES: Final = "etcd-servers-overrides"


@dataclass(frozen=True, slots=True)
class Check:
    """`lacks` says which fact a check was not given, "" when it had what it needs."""

    id: str
    title: str
    run: Run
    lacks: Missing


def _configs(facts: Facts) -> str:
    return "" if any(each.config for each in facts.servers) else "a configuration (--config)"


def _manifests(facts: Facts) -> str:
    return "" if any(each.manifest for each in facts.servers) else "the server's flags (--manifest)"


def _metrics(facts: Facts) -> str:
    return "" if any(each.metrics for each in facts.servers) else "the server's metrics (--metrics)"


def _scan(facts: Facts) -> str:
    missing = _configs(facts) or ("" if facts.stored is not None else "what etcd holds (--etcd)")
    if missing:
        return missing
    if not facts.stored:
        return "values: etcd has none of these resources there (--prefix)"
    others = any(each.manifest and OVERRIDES in each.manifest.flags for each in facts.servers)
    return f"what the other etcds hold that --{OVERRIDES} names" if others else ""


def _plugins(facts: Facts) -> str:
    return "" if facts.plugins is not None else "the plugins' sockets (--live)"


def _setups(facts: Facts) -> str:
    return "" if facts.setups else "how the plugin is run (--plugin-config, --plugin-manifest)"


def _rbac(facts: Facts) -> str:
    return "" if facts.unsafe_deleters is not None else "roles and bindings (--live)"


def _backups(facts: Facts) -> str:
    return "" if facts.backups is not None else "the backups (--backups and --rotated)"


CHECKS: Final = (
    Check(
        "E00", "the configuration is one the API server takes", config.e00_not_accepted, _configs
    ),
    Check(
        "E01", "encryption is configured on every server", config.e01_no_configuration, _manifests
    ),
    Check("E02", "identity does not write Secrets", config.e02_identity_writes, _configs),
    Check("E03", "identity is gone once nothing needs it", stored.e03_identity_kept, _configs),
    Check("E04", "identity stays while something needs it", stored.e04_identity_missing, _scan),
    Check("E05", "every resource named is one", config.e05_matches_nothing, _configs),
    Check("E06", "other holders of credentials are covered", config.e06_not_covered, _configs),
    Check("E07", "no resource stands in two entries", config.e07_twice, _configs),
    Check("E08", "no opt-out hides under a wildcard", config.e08_opted_out, _configs),
    Check("E09", "every value is under what writes now", stored.e09_stale, _scan),
    Check("E10", "the server has loaded the file", server.e10_not_loaded, _configs),
    Check("E11", "reloads succeed", server.e11_reload_fails, _metrics),
    Check("E12", "the file is mounted by its directory", server.e12_mounted_as_file, _manifests),
    Check("E13", "all servers have the same configuration", server.e13_differ, _configs),
    Check("E14", "every value has a provider that reads it", stored.e14_unreadable, _scan),
    Check("E15", "every KMS provider answers", server.e15_dead_provider, _plugins),
    Check("E16", "no weak provider writes", config.e16_weak, _configs),
    Check("E17", "no KMS v1", config.e17_kms_v1, _configs),
    Check("E18", "key ids do not come back", server.e18_key_ids, _plugins),
    Check("E19", "the file is private", server.e19_readable, _configs),
    Check("E20", "the plugin's socket is private", server.e20_socket, _configs),
    Check("E21", "the plugin does not need the cluster it protects", server.e21_circular, _setups),
    Check(
        "E22", "probes do not turn a KMS outage into an API outage", server.e22_probes, _manifests
    ),
    Check("E23", "nobody may delete what cannot be read", server.e23_unsafe_delete, _rbac),
    Check("E24", "backups are younger than the last rotation", server.e24_backups, _backups),
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, and what was not looked at, or not wholly (check id to what it needs)."""

    findings: tuple[Finding, ...]
    unchecked: dict[str, str]


def check(facts: Facts) -> Report:
    """Run every check."""
    findings = [finding for each in CHECKS for finding in each.run(facts)]
    lacking = {each.id: each.lacks(facts) or facts.refused.get(each.id, "") for each in CHECKS}
    return Report(tuple(findings), {name: text for name, text in lacking.items() if text})
