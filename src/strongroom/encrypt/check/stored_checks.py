"""Checks that compare the configuration with what etcd holds. Pure."""

from collections.abc import Iterator, Mapping

from strongroom.encrypt.check.chain import Chain, chain_of
from strongroom.encrypt.check.configuration import Configuration, Provider
from strongroom.encrypt.check.facts import Facts, Server
from strongroom.encrypt.stored import Stored
from strongroom.model.decision import Finding


def _servers(facts: Facts) -> Iterator[Server]:
    for server in facts.servers:
        if server.config and server.config.parsed:
            yield server


def _plaintext(facts: Facts, resource: str) -> int | None:
    """How many values are in plain text; None where none was seen, in plain text or not."""
    counts: Mapping[Stored, int] = (facts.stored or {}).get(resource, {})
    plain = sum(count for stored, count in counts.items() if stored.form == "plaintext")
    return plain if counts else None


def _beside(facts: Facts, chain: Chain, configuration: Configuration) -> list[str]:
    """Resources of the same entries that are read by identity: what goes for one goes for all."""
    return [
        resource
        for resource in sorted(facts.stored or {})
        if _plaintext(facts, resource)
        and set(chain_of(configuration, resource).rules) & set(chain.rules)
    ]


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
        configuration: Configuration = server.config.parsed  # type: ignore[union-attr, assignment]
        chain = chain_of(configuration, "secrets")
        if not chain.encrypts or not any(each.kind == "identity" for each in chain.providers):
            continue
        plain, beside = _plaintext(facts, "secrets"), _beside(facts, chain, configuration)
        if plain == 0 and not beside:
            yield Finding(
                "E03", "warning", server.name,
                "identity is still readable though no Secret is in plain text: a value that"
                " somebody writes into etcd is served as genuine",
                "remove identity from the providers of secrets",
            )  # fmt: skip
        elif plain == 0:
            yield Finding(
                "E03", "note", server.name,
                "identity is readable, and no Secret needs it, but in the same entry"
                f" {', '.join(beside)} do",
                "strongroom encrypt migrate --covered-by F, then remove it",
            )  # fmt: skip
        elif plain is None:
            yield Finding(
                "E03", "note", server.name,
                "identity is readable: whether it may go depends on what etcd holds"
                + (", where no Secret was found" if facts.stored is not None else ""),
                "strongroom encrypt prove, then remove it when nothing needs it",
            )  # fmt: skip


def e04_identity_missing(facts: Facts) -> Iterator[Finding]:
    """identity was removed while values in plain text remain."""
    for server in _servers(facts):
        for resource in sorted(facts.stored or {}):
            chain = chain_of(server.config.parsed, resource)  # type: ignore[union-attr, arg-type]
            plain = _plaintext(facts, resource)
            if plain and chain.providers and not any(e.kind == "identity" for e in chain.providers):
                yield Finding(
                    "E04", "error", server.name,
                    f"{plain:,} {resource} are in plain text and identity is not in the list:"
                    " listing them fails as a whole",
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
