"""Checks of servers and plugins as they run: files, reloads, sockets, probes, circles. Pure."""

import ipaddress
import stat
import urllib.parse
from collections.abc import Iterator
from typing import Final

from strongroom.encrypt.check.api_metrics import RELOAD_TIME, RELOADS, loaded, of
from strongroom.encrypt.check.chain import chain_of
from strongroom.encrypt.check.configuration import LOCAL
from strongroom.encrypt.check.facts import Facts
from strongroom.encrypt.check.manifest import CONFIG_FLAG, RELOAD_FLAG, SERVICES_FLAG
from strongroom.model.decision import Finding

SERVICE_ACCOUNTS: Final = ("/var/run/secrets/kubernetes.io/", "/run/secrets/kubernetes.io/")


def e10_not_loaded(facts: Facts) -> Iterator[Finding]:
    """The file was edited, and the server still has the old one."""
    for server in facts.servers:
        config = server.config
        if config is None or config.parsed is None:
            continue
        has = loaded(server.metrics or ())
        if has and has != config.parsed.digest:
            yield Finding(
                "E10", "error", server.name, f"{config.path} is not what the server has loaded",
                "restart the server, or find out why it does not reload (E11, E12)",
            )  # fmt: skip
        reloads = (
            bool(server.manifest)
            and server.manifest is not None
            and (server.manifest.flags.get(RELOAD_FLAG, "false") == "true")
        )
        late = (
            server.started is not None
            and config.changed is not None
            and config.changed > server.started
        )
        if not has and late and not reloads:
            yield Finding(
                "E10", "error", server.name,
                f"{config.path} was changed after the server started, and it does not reload",
                f"restart it, or set --{RELOAD_FLAG}",
            )  # fmt: skip


def e11_reload_fails(facts: Facts) -> Iterator[Finding]:
    """Reloads fail and the old configuration stays in force."""
    for server in facts.servers:
        samples = server.metrics or ()
        failures = sum(each.value for each in of(samples, RELOADS, status="failure"))
        if not failures:
            continue
        last = {
            status: max(
                (each.value for each in of(samples, RELOAD_TIME, status=status)), default=0.0
            )
            for status in ("failure", "success")
        }
        if last["failure"] >= last["success"]:
            yield Finding(
                "E11", "error", server.name,
                f"reloading the configuration failed {failures:g} times, the last attempt too",
                "the server's log says why; the old configuration is in force",
            )  # fmt: skip


def e12_mounted_as_file(facts: Facts) -> Iterator[Finding]:
    """A file mounted as a file keeps its old inode after an atomic rename."""
    for server in facts.servers:
        if server.manifest is None or server.manifest.flags.get(RELOAD_FLAG) != "true":
            continue
        path = server.manifest.flags.get(CONFIG_FLAG, "")
        _, mount = server.manifest.host_path(path)
        # Where a hostPath has no type, the mount at the file's own path tells.
        if mount is not None and (mount.path == path or mount.kind in ("File", "FileOrCreate")):
            yield Finding(
                "E12", "warning", server.name,
                f"{path} is mounted as a single file: a renamed replacement is never seen",
                "mount its directory",
            )  # fmt: skip


def e13_differ(facts: Facts) -> Iterator[Finding]:
    """Servers that do not have the same configuration."""
    have = {
        server.name: loaded(server.metrics or ())
        or (server.config.parsed.digest if server.config and server.config.parsed else "")
        for server in facts.servers
    }
    known = {name: digest for name, digest in have.items() if digest}
    if len(set(known.values())) > 1:
        groups: dict[str, list[str]] = {}
        for name, digest in known.items():
            groups.setdefault(digest[7:19], []).append(name)
        said = "; ".join(f"{digest}: {', '.join(names)}" for digest, names in groups.items())
        yield Finding(
            "E13", "error", "all servers",
            f"the servers have different configurations ({said}): what one writes another may not"
            " read, or may write in plain text",
            "give every server the same file",
        )  # fmt: skip


def e15_dead_provider(facts: Facts) -> Iterator[Finding]:
    """A KMS provider in the list that does not answer."""
    for plugin in facts.plugins or ():
        if plugin.error:
            yield Finding(
                "E15", "error", plugin.provider,
                f"the plugin does not answer: {plugin.error}; the server is not ready, and a new"
                " configuration is not loaded while it stays in the list",
                "start it, or remove it once nothing is under its key",
            )  # fmt: skip


def e18_key_ids(facts: Facts) -> Iterator[Finding]:
    """Key ids that will come back."""
    for plugin in facts.plugins or ():
        plain = plugin.key_id.lower().removeprefix("v")
        if plugin.key_id and plain.isdigit():
            yield Finding(
                "E18", "warning", plugin.provider,
                f"the key id {plugin.key_id!r} is a version number: a key that is made again"
                " has the same, and stale data is taken for current",
                "a plugin with opaque ids",
            )  # fmt: skip
    by_id: dict[str, set[str]] = {}
    for plugin in facts.plugins or ():
        if plugin.key_id:
            by_id.setdefault(plugin.key_id, set()).add(plugin.provider)
    for key_id, providers in by_id.items():
        if len(providers) > 1:
            yield Finding(
                "E18", "error", ", ".join(sorted(providers)), f"they share the key id {key_id!r}"
            )


def e19_readable(facts: Facts) -> Iterator[Finding]:
    """A configuration file that others can read."""
    for server in facts.servers:
        config = server.config
        if config is None or config.mode is None or not config.mode & (stat.S_IRWXG | stat.S_IRWXO):
            continue
        keys = (
            bool(config.parsed)
            and config.parsed is not None
            and any(
                provider.kind in LOCAL
                for rule in config.parsed.rules
                for provider in rule.providers
            )
        )
        yield Finding(
            "E19", "error" if keys else "warning", server.name,
            f"{config.path} can be read by others (mode {stat.S_IMODE(config.mode):04o})"
            + (", and holds keys" if keys else ""),
            f"chmod 600 {config.path}",
        )  # fmt: skip


def e20_socket(facts: Facts) -> Iterator[Finding]:
    """A plugin's socket that others can use."""
    for server in facts.servers:
        configuration = server.config.parsed if server.config else None
        for provider in configuration.kms if configuration else ():
            if provider.endpoint.startswith(("unix:@", "unix:///@")):
                yield Finding(
                    "E20", "error", server.name,
                    f"the provider {provider.name!r} listens on an abstract socket: every process"
                    " of the network namespace can use it",
                    "a socket in a folder of its own, mode 0600",
                )  # fmt: skip
    for plugin in facts.plugins or ():
        if plugin.mode is not None and plugin.mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield Finding(
                "E20", "error", plugin.provider,
                f"its socket can be used by others (mode {stat.S_IMODE(plugin.mode):04o})",
                "chmod 600",
            )  # fmt: skip


def e21_circular(facts: Facts) -> Iterator[Finding]:
    """A plugin that needs the cluster it protects."""
    for setup in facts.setups:
        for address in setup.addresses:
            host = urllib.parse.urlsplit(address).hostname or ""
            if _of_a_service(host, facts):
                yield Finding(
                    "E21", "error", setup.name,
                    f"its backend {host} is a Service of a cluster: without the API server it is"
                    " not found, and without it the API server does not start",
                    "an address outside the cluster, or a local backend beside it",
                )  # fmt: skip
        for path in setup.credentials:
            if path.startswith(SERVICE_ACCOUNTS):
                yield Finding(
                    "E21", "error", setup.name,
                    f"it logs in with {path}, a token that the API server it protects must renew",
                    "a certificate, an AppRole or a token of another issuer, as a file of the host",
                )  # fmt: skip
        manifest = setup.manifest
        if manifest is None:
            continue
        for reference in manifest.references:
            yield Finding(
                "E21", "error", setup.name,
                f"its manifest needs the API server: {reference}", "files of the host",
            )  # fmt: skip
        if not manifest.static:
            yield Finding(
                "E21", "error", setup.name, "it is a workload of the cluster it protects",
                "a systemd unit or a static pod (strongroom encrypt init)",
            )  # fmt: skip
        elif not manifest.host_network:
            yield Finding(
                "E21", "warning", setup.name, "it waits for the pod network", "hostNetwork: true"
            )


def _of_a_service(host: str, facts: Facts) -> bool:
    """Whether a backend's host is a Service: by its name, its address, or its range."""
    if any(host.endswith(domain) or f"{domain}." in host for domain in facts.service_domains):
        return True
    if host in facts.service_addresses:
        return True
    ranges = [
        part
        for server in facts.servers
        if server.manifest
        for part in server.manifest.flags.get(SERVICES_FLAG, "").split(",")
    ]
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(each, strict=False) for each in ranges if each)
    except ValueError:
        return False


def e22_probes(facts: Facts) -> Iterator[Finding]:
    """Probes that turn an outage of the KMS into one of the API."""
    for server in facts.servers:
        configuration = server.config.parsed if server.config else None
        if server.manifest is None or configuration is None:
            continue
        if not any(each.kind == "kms" for each in chain_of(configuration, "secrets").providers):
            continue
        path = server.manifest.liveness_path
        if path.startswith(("/healthz", "/readyz")) and "exclude=kms-providers" not in path:
            yield Finding(
                "E22", "error", server.name,
                f"its liveness probe asks {path}, which fails with the KMS: the server is then"
                " restarted, and loses the seeds it had",
                "/livez",
            )  # fmt: skip
        elif server.manifest.readiness_path.startswith(("/healthz", "/readyz")):
            yield Finding(
                "E22", "note", server.name,
                "its readiness includes the KMS: behind one balancer a KMS outage takes the whole"
                " API away though cached reads still work",
                "readyz?exclude=kms-providers on the balancer",
            )  # fmt: skip


def e23_unsafe_delete(facts: Facts) -> Iterator[Finding]:
    """Who may delete what cannot be read: during an outage that is everything."""
    holders = facts.unsafe_deleters or ()
    if holders:
        yield Finding(
            "E23", "warning", "RBAC",
            f"{', '.join(holders)} may delete objects that cannot be decrypted; while a KMS is"
            " away good Secrets count as such",
            "grant unsafe-delete-ignore-read-errors to nobody until it is needed",
        )  # fmt: skip


def e24_backups(facts: Facts) -> Iterator[Finding]:
    """Backups from before the last rotation was completed."""
    if facts.rotated is None:
        return
    for name, taken in sorted((facts.backups or {}).items()):
        if taken < facts.rotated:
            yield Finding(
                "E24", "warning", name,
                "was taken before the last rotation was complete: it needs the old key, or holds"
                " plain text",
                "keep the old key until it is gone, or take a new one",
            )  # fmt: skip
