"""What an entity adds to a token: its and its groups' policies, and the values of templates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.store.engine.contract import View
from strongroom.store.engine.identity_contract import AliasRow, EntityRow, GroupRow

MAX_GROUPS: Final = 1000
MAX_MERGES: Final = 20
# Documents that say into which entity one was merged, for the tokens that still name it.
MERGED: Final = "identity-merged"
ROOT: Final = "root"


@dataclass(frozen=True, slots=True)
class Identity:
    """An entity with its aliases and every group it is in, directly or by way of another."""

    entity: EntityRow
    aliases: tuple[AliasRow, ...]
    groups: tuple[GroupRow, ...]
    direct: frozenset[str]

    @property
    def policies(self) -> tuple[str, ...]:
        """Sorted; root is never given by way of an entity or a group."""
        names = set(self.entity.policies)
        for group in self.groups:
            names.update(group.policies)
        return tuple(sorted(names - {ROOT}))

    @property
    def values(self) -> Mapping[str, str]:
        """What the templates of policies may name."""
        entity = "identity.entity"
        said = {f"{entity}.id": self.entity.id, f"{entity}.name": self.entity.name}
        said |= {f"{entity}.metadata.{key}": each for key, each in self.entity.metadata.items()}
        for alias in self.aliases:
            prefix = f"{entity}.aliases.{alias.mount}"
            said |= {f"{prefix}.id": alias.id, f"{prefix}.name": alias.name}
            for word, values in (
                ("metadata", alias.metadata),
                ("custom_metadata", alias.custom_metadata),
            ):
                said |= {f"{prefix}.{word}.{key}": each for key, each in values.items()}
        for group in self.groups:
            for prefix in (
                f"identity.groups.ids.{group.id}",
                f"identity.groups.names.{group.name}",
            ):
                said |= {f"{prefix}.id": group.id, f"{prefix}.name": group.name}
                said |= {f"{prefix}.metadata.{key}": each for key, each in group.metadata.items()}
        return said


def identity_of(view: View, entity_id: str) -> Identity | None:
    """Everything about an entity, or the one it was merged into; None when there is neither."""
    entity = view.entity(entity_id)
    for _ in range(MAX_MERGES):
        if entity is not None:
            break
        merged = view.document(MERGED, MERGED, entity_id)
        if merged is None:
            return None
        entity_id = str(merged["into"])
        entity = view.entity(entity_id)
    if entity is None:
        return None
    direct = frozenset(view.groups_of(entity_id))
    groups = (view.group(each) for each in ancestors(view, direct))
    aliases = tuple(view.aliases_of(entity_id))
    return Identity(entity, aliases, tuple(each for each in groups if each), direct)


def ancestors(view: View, groups: frozenset[str]) -> list[str]:
    """The groups and all that contain them, sorted."""
    found, waiting = set(groups), list(groups)
    while waiting and len(found) < MAX_GROUPS:
        for parent in view.groups_of(waiting.pop()):
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return sorted(found)
