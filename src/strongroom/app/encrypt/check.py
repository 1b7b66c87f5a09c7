"""`strongroom encrypt check`: what a configuration means, and what is wrong; offline or live."""

import argparse
import asyncio
import json
import sys
import urllib.parse
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from strongroom.app.encrypt.etcd_source import add_etcd_arguments, prove_stored
from strongroom.model.errors import Denied, Invalid, Refusal

if TYPE_CHECKING:
    from strongroom.encrypt.check.facts import ConfigFile, Facts, PluginFact, PluginSetup, Server
    from strongroom.encrypt.check.registry import Report
    from strongroom.kube.client import KubeClient
    from strongroom.kube.resource import Resource

T = TypeVar("T")
SEVERITIES: Final = ("error", "warning", "note")
FOUND: Final = 1
# The checks that look at a server's metrics.
MEASURED: Final = ("E02", "E10", "E11")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    from strongroom.app.commands.operator import add_cluster_arguments

    files = parser.add_argument_group("files; each may be given once for each API server, in order")
    files.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="F",
        help="its EncryptionConfiguration",
    )
    files.add_argument(
        "--manifest", type=Path, action="append", default=[], metavar="F",
        help="static pod manifest, or the server's command line",
    )  # fmt: skip
    files.add_argument(
        "--metrics", type=Path, action="append", default=[], metavar="F", help="its /metrics, saved"
    )
    files.add_argument("--root", type=Path, default=Path("/"), help="where host paths lie")
    files.add_argument(
        "--plugin-config",
        type=Path,
        action="append",
        default=[],
        metavar="F",
        help="of strongroom kms",
    )
    files.add_argument(
        "--plugin-manifest",
        type=Path,
        action="append",
        default=[],
        metavar="F",
        help="of what runs the plugin",
    )
    files.add_argument("--backups", type=Path, metavar="DIR", help="where snapshots of etcd lie")
    files.add_argument("--rotated", metavar="TIME", help="when the last rotation was complete")
    parser.add_argument(
        "--live", action="store_true",
        help="ask the cluster too: resources, RBAC, metrics; and the plugins' sockets",
    )  # fmt: skip
    parser.add_argument(
        "--api-server", action="append", default=[], metavar="URL",
        help="each API server, in the order of the files (default: the one of the kubeconfig)",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=("text", "json", "sarif"), default="text", help="how findings are shown"
    )
    parser.add_argument(
        "--fail-on", choices=SEVERITIES, default="error", help="status 1 from this severity on"
    )
    add_cluster_arguments(parser)
    add_etcd_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Gather, check, print."""
    from strongroom.encrypt.check.registry import check

    files = (args.config, args.manifest, args.metrics, args.plugin_config, args.plugin_manifest)
    if not any(files) and not args.live:
        raise Invalid(
            "nothing-to-check", "no file was given", hint="--config FILE, --manifest F, or --live"
        )
    facts = asyncio.run(_facts(args))
    report = check(facts)
    if args.format == "json":
        print(json.dumps(as_data(report, facts), indent=2))
    elif args.format == "sarif":
        print(json.dumps(_sarif(report, facts), indent=2))
    else:
        print_report(report, facts)
    limit = SEVERITIES.index(args.fail_on)
    bad = any(SEVERITIES.index(each.severity) <= limit for each in report.findings)
    return FOUND if bad else 0


async def _facts(args: argparse.Namespace) -> "Facts":
    from strongroom.encrypt.check.facts import Facts

    servers = _servers(args)
    facts = Facts(servers=tuple(servers), setups=tuple(_setups(args)))
    if args.backups:
        facts = replace(facts, backups=_backups(args.backups), rotated=_time(args.rotated))
    if args.live:
        facts = await _live(facts, args)
    if args.etcd or args.snapshot:
        facts = replace(facts, stored=await _stored(facts, args))
    return facts


def _servers(args: argparse.Namespace) -> "list[Server]":
    from strongroom.encrypt.check.api_metrics import parse as parse_metrics
    from strongroom.encrypt.check.api_metrics import started
    from strongroom.encrypt.check.facts import Server
    from strongroom.encrypt.check.manifest import (
        CONFIG_FLAG,
        parse_command_line,
        parse_manifest,
    )

    found = []
    for index in range(max(len(args.config), len(args.manifest), len(args.metrics))):
        manifest, config, metrics = None, None, None
        name = f"server {index + 1}"
        if index < len(args.manifest):
            path = args.manifest[index]
            content, name = _read(path), str(path)
            plain = b"apiVersion" not in content
            manifest = (
                parse_command_line(content.decode(errors="replace"))
                if plain
                else parse_manifest(content)
            )
            if not manifest.of_server and CONFIG_FLAG not in manifest.flags:
                raise _no_server(path)
        if index < len(args.config):
            config, name = _config(args.config[index]), str(args.config[index])
        elif manifest is not None and CONFIG_FLAG in manifest.flags:
            host, _ = manifest.host_path(manifest.flags[CONFIG_FLAG])
            config = _named(args.root / host.lstrip("/"))
        if index < len(args.metrics):
            metrics = parse_metrics(_read(args.metrics[index]).decode(errors="replace"))
        found.append(Server(name, manifest, config, metrics, started(metrics or ())))
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid("no-file", f"cannot read {path}: {error.strerror}") from None


def _config(path: Path) -> "ConfigFile":
    from strongroom.encrypt.check.configuration import parse
    from strongroom.encrypt.check.facts import ConfigFile

    content = _read(path)
    found = path.stat()
    try:
        return ConfigFile(str(path), parse(content), "", found.st_mode, found.st_mtime)
    except Refusal as refusal:
        return ConfigFile(str(path), None, refusal.message, found.st_mode, found.st_mtime)


def _named(path: Path) -> "ConfigFile":
    """The file a flag names; that it is not there is a finding, and the rest is looked at."""
    from strongroom.encrypt.check.facts import ConfigFile

    try:
        return _config(path)
    except Invalid as refusal:
        error = f"the API server does not start without its file: {refusal.message}"
        return ConfigFile(str(path), None, f"{error}; --root or --config says where it is")


def _no_server(path: Path) -> Invalid:
    return Invalid(
        "no-api-server", f"{path} runs no kube-apiserver, so its flags say nothing of one",
        hint="k3s and RKE2 run it within: --config with the file that kube-apiserver-arg names, or"
        " with /var/lib/rancher/k3s/server/cred/encryption-config.json (rke2) of their own",
    )  # fmt: skip


def _setups(args: argparse.Namespace) -> "list[PluginSetup]":
    from strongroom.encrypt.check.facts import PluginSetup
    from strongroom.encrypt.check.manifest import parse_manifest
    from strongroom.encrypt.kms.config import load_config

    found = []
    for path in args.plugin_config:
        backends = load_config(path).backends
        addresses = [
            backend[field]
            for backend in backends
            for field in ("address", "endpoint", "vault")
            if backend.get(field)
        ]
        files = [
            value
            for backend in backends
            for field, value in backend.items()
            if field.endswith("_file")
        ]
        found.append(PluginSetup(str(path), tuple(addresses), tuple(files)))
    for path in args.plugin_manifest:
        found.append(PluginSetup(str(path), manifest=parse_manifest(_read(path))))
    return found


def _backups(folder: Path) -> dict[str, float]:
    try:
        return {path.name: path.stat().st_mtime for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise Invalid("no-file", f"cannot read {folder}: {error.strerror}") from None


def _time(text: str | None) -> float | None:
    from strongroom.model.clock import parse_rfc3339

    if not text:
        return None
    try:
        return parse_rfc3339(text)
    except ValueError:
        raise Invalid("bad-time", f"{text!r} is no RFC 3339 time") from None


async def _live(facts: "Facts", args: argparse.Namespace) -> "Facts":
    from strongroom.app.commands.operator import cluster_config
    from strongroom.kube.client import KubeClient
    from strongroom.kube.discovery import discover
    from strongroom.model.clock import SystemClock

    clock, config = SystemClock(), cluster_config(args)
    async with KubeClient(config, clock) as api:
        resources = await discover(api)
        services = await _if_allowed("services", api.list(resources["services"]))
        deleters = await _if_allowed("roles and bindings", _deleters(api, resources))
    refused = {}
    if services is None:
        refused["E21"] = "the addresses of services, which were refused"
    metrics = []
    for url in args.api_server or [config.server]:
        async with KubeClient(config.at(url.rstrip("/")), clock) as api:
            what = f"the metrics of {url}"
            metrics.append((url, await _if_allowed(what, api.raw("/metrics"))))
    servers = _measured(facts.servers, metrics)
    unmeasured = [url for url, text in metrics if text is None]
    if unmeasured:
        said = f"the metrics of {', '.join(unmeasured)}, which were refused"
        refused |= dict.fromkeys(MEASURED, said)
    addresses = {
        address
        for each in (services.items if services else ())
        for address in each.get("spec", {}).get("clusterIPs") or []
    }
    return replace(
        facts,
        servers=servers,
        served=frozenset(resources),
        service_addresses=frozenset(addresses),
        unsafe_deleters=deleters,
        plugins=await _plugins(servers),
        refused=refused,
    )


async def _if_allowed(what: str, asked: Awaitable[T]) -> T | None:
    """What the cluster answers; None, and said, where this user may not ask for it."""
    try:
        return await asked
    except Denied as error:
        if error.code != "kube-forbidden":
            raise
        print(f"strongroom: not looked at: {what}: {error.message}", file=sys.stderr)
        return None


def _measured(
    servers: "tuple[Server, ...]", metrics: "list[tuple[str, bytes | None]]"
) -> "tuple[Server, ...]":
    """The servers with what their metrics say; one that no file was given for by its address."""
    from strongroom.encrypt.check.api_metrics import parse, started
    from strongroom.encrypt.check.facts import Server

    found = list(servers)
    for index, (url, text) in enumerate(metrics):
        if text is None:
            continue
        samples = parse(text.decode(errors="replace"))
        if index >= len(found):
            found.append(Server(url, metrics=samples, started=started(samples)))
        elif found[index].metrics is None:
            found[index] = replace(found[index], metrics=samples, started=started(samples))
    return tuple(found)


async def _deleters(api: "KubeClient", resources: "Mapping[str, Resource]") -> tuple[str, ...]:
    """Who may delete what cannot be read, besides those who may do everything anyway."""
    from strongroom.access.rbac import RbacObjects, who_holds

    group = "rbac.authorization.k8s.io"
    lists = [
        tuple((await api.list(resources[f"{name}.{group}"])).items)
        for name in ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
    ]
    rbac = RbacObjects(
        cluster_roles=lists[0], cluster_role_bindings=lists[1], roles=lists[2],
        role_bindings=lists[3],
    )  # fmt: skip
    wanted = ("", "secrets", "unsafe-delete-ignore-read-errors")
    everywhere = {each for each in who_holds(rbac, *wanted) if each != "Group system:masters"}
    found = sorted(everywhere)
    for namespace in sorted({each["metadata"]["namespace"] for each in lists[3]}):
        held = set(who_holds(rbac, *wanted, namespace)) - everywhere - {"Group system:masters"}
        found += [f"{each} in {namespace}" for each in sorted(held)]
    return tuple(found)


async def _plugins(servers: "Sequence[Server]") -> "tuple[PluginFact, ...] | None":
    """What plugins answer on their sockets, None when this user may ask none of them."""
    from strongroom.encrypt.check.facts import PluginFact
    from strongroom.encrypt.kms.plugin import ask_status

    endpoints = {
        provider.name: urllib.parse.urlsplit(provider.endpoint).path
        for server in servers
        if server.config and server.config.parsed
        for provider in server.config.parsed.kms
        if provider.version == "v2"
    }
    found: list[PluginFact] = []
    for name, text in endpoints.items():
        path = Path(text)
        try:
            mode = path.stat().st_mode if path.exists() else None
        except OSError as closed:
            print(
                f"the plugin {name!r} was not asked: {path}: {closed.strerror}; its owner may",
                file=sys.stderr,
            )
            continue
        try:
            status = await ask_status(path)
            error = "" if status.healthz == "ok" else status.healthz
            found.append(PluginFact(name, status.key_id, error, mode))
        except Refusal as refusal:
            found.append(PluginFact(name, error=refusal.message, mode=mode))
    return tuple(found) if found or not endpoints else None


async def _stored(facts: "Facts", args: argparse.Namespace) -> dict[str, Any]:
    from strongroom.encrypt.coverage import Coverage, hidden_names, wild

    parsed = [
        server.config.parsed for server in facts.servers if server.config and server.config.parsed
    ]
    names = {
        name
        for configuration in parsed
        for rule in configuration.rules
        for name in rule.resources
        if not name.startswith("*.") and (facts.served is None or name in facts.served)
    }
    everything = any(wild(each) for each in parsed)
    coverage = Coverage(
        tuple(sorted(names | {"secrets"})), everything=everything, names=hidden_names(*parsed)
    )
    return (await prove_stored(args, coverage, coverage.resources)).stored


def as_data(report: "Report", facts: "Facts") -> dict[str, Any]:
    """The stable form for machines."""
    return {
        "findings": [
            {
                "check": each.check,
                "severity": each.severity,
                "subject": each.subject,
                "message": each.message,
                "hint": each.hint,
            }
            for each in report.findings
        ],
        "effective": _effective(facts),
        "not_checked": report.unchecked,
    }


def _effective(facts: "Facts") -> list[dict[str, Any]]:
    from strongroom.encrypt.check.chain import chain_of

    shown = []
    for server in facts.servers:
        if server.config is None or server.config.parsed is None:
            continue
        names = [name for rule in server.config.parsed.rules for name in rule.resources]
        for name in dict.fromkeys(["secrets", *(each for each in names if "*" not in each)]):
            chain = chain_of(server.config.parsed, name)
            shown.append(
                {
                    "server": server.name,
                    "resource": name,
                    "writer": chain.writer.label,
                    "encrypts": chain.encrypts,
                    "chain": [
                        {"provider": provider.label, "reason": reason}
                        for provider, reason in zip(chain.providers, chain.reasons, strict=False)
                    ],
                }
            )
    return shown


def _sarif(report: "Report", facts: "Facts") -> dict[str, Any]:
    from strongroom.app.main import program_version
    from strongroom.encrypt.check.registry import CHECKS
    from strongroom.encrypt.check.sarif import sarif

    rules = {each.id: each.title for each in CHECKS}
    files = {each.name: each.config.path for each in facts.servers if each.config}
    return sarif(report.findings, rules, program_version(), files)


def print_report(report: "Report", facts: "Facts") -> None:
    """What each resource comes to, the findings, and what was not looked at."""
    effective = _effective(facts)
    if not effective and "E01" in report.unchecked:
        print(
            "Whether anything is encrypted was not looked at: it takes --config or --manifest;"
            " strongroom encrypt prove reads etcd"
        )
    for row in effective:
        verb = "encrypted" if row["encrypts"] else "PLAIN TEXT"
        print(f"{row['server']}: {row['resource']} -> {verb}, written by {row['writer']}")
        for step in row["chain"]:
            print(f"    {step['provider']:30} {step['reason']}")
    for each in report.findings:
        print(f"{each.severity.upper():8} {each.check} {each.subject}: {each.message}")
        if each.hint:
            print(f"         -> {each.hint}")
    counts = {name: sum(e.severity == name for e in report.findings) for name in SEVERITIES}
    print(", ".join(f"{count} {name}{'s'[: count != 1]}" for name, count in counts.items()))
    groups: dict[str, list[str]] = {}
    for name, text in report.unchecked.items():
        groups.setdefault(text, []).append(name)
    for text, names in groups.items():
        print(f"not checked: {' '.join(names)}; needs {text}")
