"""Which resources a proof reads, and what each value of them should be under. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.encrypt.check.chain import chain_of
from strongroom.encrypt.check.configuration import Configuration, Provider
from strongroom.encrypt.keyspace import DEFAULT_PREFIX, built_in, folder_of
from strongroom.encrypt.stored import SHOWN_BYTES

# A key id that nobody has seen.
UNKNOWN: Final = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a value should be under; "" leaves a point open. `form` as `stored.Stored` has it."""

    provider: str = ""
    key_id: str = ""
    form: str = "kms-v2"

    def as_data(self) -> dict[str, str]:
        """For machines."""
        return {"form": self.form, "provider": self.provider, "key_id": self.key_id}


@dataclass(frozen=True, slots=True)
class Coverage:
    """The resources by name, or `everything` there is, for wildcards.

    With a configuration each value should be under its writer, and what it does not encrypt is
    left out; `plain` are those of them that it names. `key_ids` are the ids of KMS providers by
    name, `names` those of keys and providers that a value does not show without them.
    """

    resources: tuple[str, ...] = ("secrets",)
    given: Expected = Expected()
    configuration: Configuration | None = None
    key_ids: Mapping[str, str] | None = None
    everything: bool = False
    plain: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def folders(self, prefix: str = DEFAULT_PREFIX) -> list[str]:
        """The key prefixes to read."""
        if self.everything:
            return [prefix.rstrip("/") + "/"]
        return [folder_of(name, prefix) for name in (*self.resources, *self.plain)]

    def expected(self, resource: str) -> Expected | None:
        """What a value of the resource should be under, None when it need not be encrypted."""
        if not resource:
            return None
        if self.configuration is None:
            return self.given
        chain = chain_of(self.configuration, resource)
        return self._under(chain.writer) if chain.encrypts else None

    def counted(self, resource: str) -> bool:
        """Whether the API server counts its reads if it is encrypted. By a wildcard there may be
        what an aggregated server stores.
        """
        return resource in self.resources or built_in(resource)

    def may_be_sealed(self, resource: str) -> bool:
        """Whether it is written in plain text, and what was sealed before is read by KMS v2."""
        if self.configuration is None:
            return False
        chain = chain_of(self.configuration, resource)
        return not chain.encrypts and any(each.version == "v2" for each in chain.providers)

    def _under(self, writer: Provider) -> Expected:
        if writer.kind == "kms":
            key_id = (self.key_ids or {}).get(writer.name, "")
            return Expected(writer.name, key_id, f"kms-{writer.version}")
        return Expected(writer.key_names[0], "", writer.kind)


def wild(configuration: Configuration) -> bool:
    """Whether it has wildcards, so that names alone do not say what to read."""
    return any(name.startswith("*.") for rule in configuration.rules for name in rule.resources)


def hidden_names(*configurations: Configuration) -> tuple[str, ...]:
    """The names with a colon, and the long ones; of two that fit a value the longer comes first."""
    names = {
        name
        for configuration in configurations
        for rule in configuration.rules
        for provider in rule.providers
        for name in (provider.name, *provider.key_names)
    }
    hidden = [name for name in names if ":" in name or len(name.encode()) > SHOWN_BYTES]
    return tuple(sorted(hidden, key=lambda name: (-len(name), name)))


def of_configuration(
    configuration: Configuration, key_ids: Mapping[str, str] | None = None
) -> Coverage:
    """Whatever the configuration encrypts, each under its writer."""
    named = dict.fromkeys(
        name for rule in configuration.rules for name in rule.resources if not name.startswith("*.")
    )
    encrypted = {name: chain_of(configuration, name).encrypts for name in named}
    return Coverage(
        tuple(name for name in named if encrypted[name]),
        configuration=configuration,
        key_ids=key_ids,
        everything=wild(configuration),
        plain=tuple(name for name in named if not encrypted[name]),
        names=hidden_names(configuration),
    )
