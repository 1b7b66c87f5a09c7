"""Checks that compare the configuration with what etcd holds. Pure."""

from collections.abc import Iterator, Mapping

from strongroom.encrypt.check.chain import chain_of
from strongroom.encrypt.check.configuration import Provider
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


def _reads(provider: Provider, stored: Stored) -> bool:
    """Whether a provider of the list reads a value. The name alone does not tell: keys of two
    kinds may have the same, as `key1` in many examples."""
    if provider.kind == "kms":
        return (stored.form, stored.provider) == (f"kms-{provider.version}", provider.name)
    return stored.form == provider.kind and stored.provider in provider.key_names


def _written_by(writer: Provider, stored: Stored, facts: Facts) -> bool:
    """Whether a value is as it would be written now: of several local keys the first writes, and
    a plugin that was asked has said which key it uses."""
    if not _reads(writer, stored):
        return False
    if writer.kind != "kms":
        return stored.provider == writer.key_names[0]
    current = {each.key_id for each in facts.plugins or () if each.provider == writer.name}
    return not any(current) or stored.key_id in current


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
                if stored.encrypted and not _written_by(chain.writer, stored, facts)
            )
            plain = _plaintext(facts, resource) or 0
            if stale or plain:
                yield Finding(
                    "E09", "error", server.name,
                    f"{resource}: {plain:,} in plain text, {stale:,} under another provider or"
                    f" key than {chain.writer.label}'s, which writes now",
                    "strongroom encrypt migrate",
                )  # fmt: skip


def e14_unreadable(facts: Facts) -> Iterator[Finding]:
    """Values under a provider that the configuration does not have any more."""
    for server in _servers(facts):
        for resource, counts in sorted((facts.stored or {}).items()):
            chain = chain_of(server.config.parsed, resource)  # type: ignore[union-attr, arg-type]
            lost = sorted(
                {
                    stored.provider or stored.form
                    for stored in counts
                    if stored.encrypted and not any(_reads(e, stored) for e in chain.providers)
                }
            )
            if lost:
                yield Finding(
                    "E14", "error", server.name,
                    f"{resource}: values under {', '.join(lost)}, which is not in the"
                    " configuration: they cannot be read",
                    "put the provider back as the last one, then migrate",
                )  # fmt: skip
