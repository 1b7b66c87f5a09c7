"""Checks of one server's configuration: what it covers, who writes, what is weak. Pure."""

from collections.abc import Iterator
from typing import Final

from strongroom.encrypt.check.api_metrics import loaded, plaintext_writes
from strongroom.encrypt.check.chain import Chain, chain_of, start_errors
from strongroom.encrypt.check.configuration import Configuration
from strongroom.encrypt.check.facts import SENSITIVE, Facts, Server
from strongroom.encrypt.check.manifest import CONFIG_FLAG
from strongroom.model.decision import Finding
from strongroom.model.spelling import nearest

# What an administrator without discovery most likely meant.
COMMON: Final = ("secrets", "configmaps", "pods", "events", "serviceaccounts")
CREDENTIAL_HOLDERS: Final = ("configmaps",)


def _configured(facts: Facts) -> Iterator[tuple[Server, Configuration]]:
    for server in facts.servers:
        if server.config and server.config.parsed:
            yield server, server.config.parsed


def e00_not_accepted(facts: Facts) -> Iterator[Finding]:
    """The file itself: what the API server would not start with."""
    for server in facts.servers:
        if server.config and server.config.error:
            yield Finding("E00", "error", server.name, server.config.error)
        if server.config and server.config.parsed:
            for text in start_errors(server.config.parsed):
                yield Finding("E00", "error", server.name, f"the API server does not start: {text}")
        if server.config and server.config.parsed and server.config.parsed.more:
            yield Finding(
                "E00", "warning", server.name,
                "the API server reads the first document of the file alone, and not those after it",
                "one document, with all entries in resources",
            )  # fmt: skip


def e01_no_configuration(facts: Facts) -> Iterator[Finding]:
    """No encryption is configured on a server."""
    for server in facts.servers:
        if server.manifest is not None and CONFIG_FLAG not in server.manifest.flags:
            yield Finding(
                "E01", "error", server.name,
                f"--{CONFIG_FLAG} is not set: every Secret lies in etcd in plain text",
                "strongroom encrypt init",
            )  # fmt: skip


def e02_identity_writes(facts: Facts) -> Iterator[Finding]:
    """identity is what writes Secrets."""
    for server, configuration in _configured(facts):
        for resource in SENSITIVE:
            chain = chain_of(configuration, resource)
            if chain.providers and not chain.encrypts:
                yield Finding(
                    "E02", "error", server.name,
                    f"{resource} are written in plain text: identity stands first"
                    f" ({chain.reasons[0]})",
                    "put the encrypting provider first, then strongroom encrypt migrate",
                )  # fmt: skip
            elif not chain.providers:
                yield Finding(
                    "E02", "error", server.name,
                    f"{resource} are written in plain text: no entry covers them",
                    f"name {resource} in resources",
                )  # fmt: skip
    for server in facts.servers:
        for resource in SENSITIVE:
            writes = plaintext_writes(server.metrics or (), resource)
            if writes:
                # The counter is as old as the process, which may have reloaded its file since.
                past = _encrypts_now(server, resource)
                yield Finding(
                    "E02", "warning" if past else "error", server.name,
                    f"the server's metrics count {writes:g} writes by identity"
                    + (", from before it loaded the file that it has now" if past else ""),
                    "strongroom encrypt prove",
                )  # fmt: skip


def _encrypts_now(server: Server, resource: str) -> bool:
    """Whether the server says that it has loaded its file, and that encrypts."""
    parsed = server.config.parsed if server.config else None
    if parsed is None or loaded(server.metrics or ()) != parsed.digest:
        return False
    return chain_of(parsed, resource).encrypts


def e05_matches_nothing(facts: Facts) -> Iterator[Finding]:
    """A name that matches no resource is accepted and does nothing."""
    for server, configuration in _configured(facts):
        for rule in configuration.rules:
            for name in rule.resources:
                text = _unknown(name, facts.served)
                if text:
                    yield Finding(
                        "E05", "error", server.name,
                        f"entry {rule.number}: {name!r} {text}; the API server accepts that and"
                        " encrypts nothing by it",
                        "kubectl api-resources shows the names",
                    )  # fmt: skip


def _unknown(name: str, served: frozenset[str] | None) -> str:
    if name.startswith("*."):
        groups = {each.partition(".")[2] for each in served or ()} | {"", "*"}
        if served is None or name[2:] in groups:
            return ""
        near = nearest(name[2:], sorted(groups - {"", "*"}))
        meant = f" (meant '*.{near}'?)" if near else ""
        return f"names a group that this cluster does not have{meant}"
    if served is not None:
        if name in served:
            return ""
        near = nearest(name, sorted(served))
        return "is no resource of this cluster" + (f" (meant {near!r}?)" if near else "")
    plain, _, group = name.partition(".")
    if name in COMMON or (group and plain not in COMMON):
        return ""
    near = nearest(plain, COMMON)
    return f"looks like {near!r}" if near else ""


def e06_not_covered(facts: Facts) -> Iterator[Finding]:
    """Other resources that hold credentials and are not covered."""
    for server, configuration in _configured(facts):
        holders = [*CREDENTIAL_HOLDERS]
        if facts.served:
            holders += sorted(
                name for name in facts.served if name.partition(".")[0].endswith("secrets")
                and "." in name
            )  # fmt: skip
        open_ones = [name for name in holders if not chain_of(configuration, name).encrypts]
        if open_ones:
            yield Finding(
                "E06", "note", server.name,
                f"not encrypted, and often holding credentials: {', '.join(open_ones)}",
                "add them to resources if they do",
            )  # fmt: skip


def e07_twice(facts: Facts) -> Iterator[Finding]:
    """The same resource in two entries: the first entry's writer stays."""
    for server, configuration in _configured(facts):
        names = {name for rule in configuration.rules for name in rule.resources}
        for name in sorted(names):
            chain = chain_of(configuration, name)
            if len(chain.rules) < 2:
                continue
            shown = " -> ".join(each.label for each in chain.providers)
            severity = "warning" if chain.encrypts else "error"
            yield Finding(
                "E07", severity, server.name,
                f"{name} stands in entries {' and '.join(map(str, chain.rules))}, which are joined:"
                f" {shown}; {chain.writer.label} writes",
                "keep one entry for each resource",
            )  # fmt: skip


def e08_opted_out(facts: Facts) -> Iterator[Finding]:
    """A wildcard that looks like everything, and an entry before it that opts out."""
    for server, configuration in _configured(facts):
        wildcards = [
            rule for rule in configuration.rules
            if any(name.startswith("*.") for name in rule.resources)
            and rule.providers[0].kind != "identity"
        ]  # fmt: skip
        for rule in configuration.rules:
            for name in rule.resources:
                chain = chain_of(configuration, name)
                hidden = [each for each in wildcards if each.number > rule.number]
                if hidden and not chain.encrypts and not name.startswith("*."):
                    severity = "error" if name in SENSITIVE else "warning"
                    yield Finding(
                        "E08", severity, server.name,
                        f"{name} is opted out by entry {rule.number}, though entry"
                        f" {hidden[0].number} ({', '.join(hidden[0].resources)}) looks as if"
                        " everything were encrypted",
                        "remove the entry, or write down why",
                    )  # fmt: skip


def e16_weak(facts: Facts) -> Iterator[Finding]:
    """Local keys that are weak, never rotate, or let values be moved."""
    texts = {
        "aescbc": "aescbc has no integrity: values can be changed and moved between names",
        "aesgcm": "aesgcm with a static key must be rotated before 200,000 writes",
        "secretbox": "secretbox does not bind a value to its name: it can be moved to another",
    }
    for server, chain in _secret_chains(facts):
        text = texts.get(chain.writer.kind)
        if text:
            short = " and a key shorter than 32 bytes" if min(chain.writer.key_bytes) < 32 else ""
            yield Finding(
                "E16", "warning", server.name, f"Secrets are written with {text}{short}",
                "a kms provider, v2",
            )  # fmt: skip


def e17_kms_v1(facts: Facts) -> Iterator[Finding]:
    """KMS v1, named or meant by a missing apiVersion."""
    for server, configuration in _configured(facts):
        for provider in configuration.kms:
            if provider.version == "v1":
                yield Finding(
                    "E17", "error", server.name,
                    f"the provider {provider.name!r} is KMS v1 (a missing apiVersion means v1),"
                    " which is off from Kubernetes 1.29 on",
                    "apiVersion: v2",
                )  # fmt: skip


def _secret_chains(facts: Facts) -> Iterator[tuple[Server, Chain]]:
    for server, configuration in _configured(facts):
        chain = chain_of(configuration, "secrets")
        if chain.providers:
            yield server, chain
