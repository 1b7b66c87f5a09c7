"""Which providers a resource really has, and why. Pure.

Lookup, as the API server does it: the resource by name, then `*.GROUP`, then `*.*`, then none.
Entries that name the same resource are joined, so the first of them keeps writing.
"""

from dataclasses import dataclass
from typing import Final

from strongroom.encrypt.check.configuration import Configuration, Provider

NOT_ENCRYPTABLE: Final = ("serviceipallocations", "servicenodeportallocations", "apiserveripinfo")


@dataclass(frozen=True, slots=True)
class Chain:
    """The effective chain of a resource; `reasons` say for each provider where it comes from."""

    resource: str
    providers: tuple[Provider, ...]
    reasons: tuple[str, ...]
    rules: tuple[int, ...]

    @property
    def writer(self) -> Provider:
        """What new values are written with; identity when nothing covers the resource."""
        return self.providers[0] if self.providers else Provider("identity")

    @property
    def encrypts(self) -> bool:
        """Whether new values are encrypted."""
        return self.writer.kind != "identity"


def wildcard_of(resource: str) -> str:
    """`*.` and the group: `*.` alone is the core group."""
    return f"*.{resource.partition('.')[2]}"


def chain_of(configuration: Configuration, resource: str) -> Chain:
    """The chain of `secrets`, or of `things.example.com`."""
    for pattern in (resource, wildcard_of(resource), "*.*"):
        rules = [rule for rule in configuration.rules if pattern in rule.resources]
        if not rules:
            continue
        # A wildcard stands in one entry only; an exact name may stand in several.
        used = rules if pattern == resource else rules[:1]
        providers, reasons = [], []
        for rule in used:
            for place, provider in enumerate(rule.providers, 1):
                providers.append(provider)
                reasons.append(f"entry {rule.number} ({pattern}), provider {place}")
        numbers = tuple(rule.number for rule in used)
        return Chain(resource, tuple(providers), tuple(reasons), numbers)
    return Chain(resource, (), ("no entry covers it: identity, built in",), ())


def start_errors(configuration: Configuration) -> list[str]:
    """Why the API server would refuse the rules as a whole."""
    found = []
    seen_wildcards: list[str] = []
    for rule in configuration.rules:
        found += _overlaps(rule.number, rule.resources)
        for name in rule.resources:
            covers = [
                each
                for each in seen_wildcards
                if each != name and each in (wildcard_of(name), "*.*")
            ]
            if covers:
                found.append(
                    f"entry {rule.number}: {name!r} comes after {covers[0]!r}, which covers it"
                )
            if name in seen_wildcards:
                found.append(f"entry {rule.number}: {name!r} is there twice")
            if name.partition(".")[0] in NOT_ENCRYPTABLE:
                found.append(f"entry {rule.number}: {name!r} cannot be encrypted")
        seen_wildcards += [name for name in rule.resources if name.startswith("*.")]
    taken: set[str] = set()
    for provider in (p for rule in configuration.rules for p in rule.providers if p.kind == "kms"):
        # Names of v1 alone may be the same, unless the configuration is reloaded.
        if provider.version == "v2" and provider.name in taken:
            found.append(f"the KMS name {provider.name!r} is used twice")
        taken.add(provider.name)
    return found


def _overlaps(number: int, resources: tuple[str, ...]) -> list[str]:
    found = []
    if len(set(resources)) != len(resources):
        found.append(f"entry {number}: a resource is there twice")
    if "*.*" in resources and len(resources) > 1:
        found.append(f"entry {number}: '*.*' stands beside others that it covers")
    for name in resources:
        if not name.startswith("*") and wildcard_of(name) in resources:
            found.append(f"entry {number}: {name!r} stands beside {wildcard_of(name)!r}")
    return found
