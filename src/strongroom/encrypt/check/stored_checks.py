"""Checks that compare the configuration with what etcd holds. Pure."""

from collections.abc import Iterator, Mapping

from strongroom.encrypt.check.chain import chain_of
from strongroom.encrypt.check.facts import Facts, Server
from strongroom.encrypt.stored import Stored
from strongroom.model.decision import Finding


def _servers(facts: Facts) -> Iterator[Server]:
    for server in facts.servers:
        if server.config and server.config.parsed:
            yield server


def _plaintext(facts: Facts, resource: str) -> int | None:
    if facts.stored is None:
        return None
    counts: Mapping[Stored, int] = facts.stored.get(resource, {})
    return sum(count for stored, count in counts.items() if stored.form == "plaintext")


def e03_identity_kept(facts: Facts) -> Iterator[Finding]:
    """identity stays readable after everything is encrypted."""
    for server in _servers(facts):
        chain = chain_of(server.config.parsed, "secrets")  # type: ignore[union-attr, arg-type]
        if not chain.encrypts or not any(each.kind == "identity" for each in chain.providers):
            continue
        plain = _plaintext(facts, "secrets")
        if plain == 0:
            yield Finding(
                "E03", "warning", server.name,
                "identity is still readable though no Secret is in plain text: a value that"
                " somebody writes into etcd is served as genuine",
                "remove identity from the providers of secrets",
            )  # fmt: skip
        elif plain is None:
            yield Finding(
                "E03", "note", server.name,
                "identity is readable: whether it may go depends on what etcd holds",
                "strongroom encrypt prove, then remove it when nothing needs it",
            )  # fmt: skip


def e04_identity_missing(facts: Facts) -> Iterator[Finding]:
    """identity was removed while values in plain text remain."""
    for server in _servers(facts):
        chain = chain_of(server.config.parsed, "secrets")  # type: ignore[union-attr, arg-type]
        plain = _plaintext(facts, "secrets")
        if plain and chain.providers and not any(e.kind == "identity" for e in chain.providers):
            yield Finding(
                "E04", "error", server.name,
                f"{plain} Secrets are in plain text and identity is not in the list: listing"
                " Secrets fails as a whole",
                "add identity at the end, strongroom encrypt migrate, then remove it",
            )  # fmt: skip


def e09_stale(facts: Facts) -> Iterator[Finding]:
    """Values that are not under what writes now."""
    for server in _servers(facts):
        for resource, counts in sorted((facts.stored or {}).items()):
            chain = chain_of(server.config.parsed, resource)  # type: ignore[union-attr, arg-type]
            if not chain.encrypts:
                continue
            stale = sum(
                count
                for stored, count in counts.items()
                if stored.encrypted
                and stored.provider not in (chain.writer.name, *chain.writer.key_names)
            )
            plain = _plaintext(facts, resource) or 0
            if stale or plain:
                yield Finding(
                    "E09", "error", server.name,
                    f"{resource}: {plain:,} in plain text, {stale:,} under another provider than"
                    f" {chain.writer.label}, which writes now",
                    "strongroom encrypt migrate",
                )  # fmt: skip


def e14_unreadable(facts: Facts) -> Iterator[Finding]:
    """Values under a provider that the configuration does not have any more."""
    for server in _servers(facts):
        for resource, counts in sorted((facts.stored or {}).items()):
            chain = chain_of(server.config.parsed, resource)  # type: ignore[union-attr, arg-type]
            names = {each.name for each in chain.providers if each.name}
            names |= {name for each in chain.providers for name in each.key_names}
            lost = sorted(
                {
                    stored.provider or stored.form
                    for stored in counts
                    if stored.encrypted and stored.provider not in names
                }
            )
            if lost:
                yield Finding(
                    "E14", "error", server.name,
                    f"{resource}: values under {', '.join(lost)}, which is not in the"
                    " configuration: they cannot be read",
                    "put the provider back as the last one, then migrate",
                )  # fmt: skip
