"""Identity rows from parameters, and how the API shows them. Pure but for the reads it shows.

Fields: https://developer.hashicorp.com/vault/api-docs/secret/identity/entity.
"""

from collections.abc import Mapping
from typing import Any, Final

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Invalid
from strongroom.store.call import Call, parse_pairs
from strongroom.store.engine.contract import MountRow, View
from strongroom.store.engine.identity_contract import AliasRow, EntityRow, GroupRow
from strongroom.store.identity.resolve import ancestors
from strongroom.store.tokens import ROOT, clean_policies

METADATA_PAIRS: Final = 64
KEY_BYTES: Final = 128
VALUE_BYTES: Final = 512
MAX_NAME: Final = 512


def metadata_of(call: Call, name: str, old: Mapping[str, str]) -> dict[str, str]:
    """A map of strings within Vault's limits, also as `key=value` words; raises Invalid."""
    if name not in call.data or call.data[name] is None:
        return dict(old)
    value = parse_pairs(call.data[name], name)
    if len(value) > METADATA_PAIRS:
        raise Invalid("too-much-metadata", f"{name} has more than {METADATA_PAIRS} pairs")
    for key, each in value.items():
        if len(key.encode()) > KEY_BYTES or len(each.encode()) > VALUE_BYTES:
            raise Invalid("too-much-metadata", f"a key or value of {name} is too long")
    return value


def policies_of(call: Call, old: tuple[str, ...]) -> tuple[str, ...]:
    """Policies to attach; root never is, however it is spelled; raises Invalid."""
    if "policies" not in call.data:
        return old
    names = clean_policies(call.texts("policies"), with_default=False)
    if ROOT in names:
        raise Invalid("root-by-identity", "policies cannot contain root")
    return names


def checked_name(name: str) -> str:
    """The same name; raises Invalid for one that cannot be told apart in paths."""
    if not name or name != name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise Invalid(
            "bad-name",
            "a name is printable text of at most 512 characters, without spaces at its ends",
        )
    return name


def show_alias(row: AliasRow, mounts: Mapping[str, MountRow]) -> dict[str, Any]:
    """An alias; `mounts` by accessor."""
    mount = mounts.get(row.mount)
    return {
        "canonical_id": row.owner,
        "creation_time": rfc3339(row.created),
        "custom_metadata": row.custom_metadata or None,
        "id": row.id,
        "last_update_time": rfc3339(row.updated),
        "local": False,
        "merged_from_canonical_ids": list(row.merged_from) or None,
        "metadata": row.metadata or None,
        "mount_accessor": row.mount,
        "mount_path": f"auth/{mount.path}" if mount else "",
        "mount_type": mount.type if mount else "",
        "name": row.name,
        "namespace_id": "root",
    }


def show_entity(row: EntityRow, view: View) -> dict[str, Any]:
    """An entity with its aliases and groups."""
    mounts = mounts_by_accessor(view)
    direct = frozenset(view.groups_of(row.id))
    every = ancestors(view, direct)
    return {
        "aliases": [show_alias(each, mounts) for each in view.aliases_of(row.id)],
        "creation_time": rfc3339(row.created),
        "direct_group_ids": sorted(direct),
        "disabled": row.disabled,
        "group_ids": every,
        "id": row.id,
        "inherited_group_ids": [each for each in every if each not in direct],
        "last_update_time": rfc3339(row.updated),
        "merged_entity_ids": list(row.merged) or None,
        "metadata": row.metadata or None,
        "mfa_secrets": {},
        "name": row.name,
        "namespace_id": "root",
        "policies": list(row.policies),
    }


def show_group(row: GroupRow, view: View) -> dict[str, Any]:
    """A group with its members."""
    mounts = mounts_by_accessor(view)
    aliases = view.aliases_of(row.id)
    return {
        "alias": show_alias(aliases[0], mounts) if aliases else {},
        "creation_time": rfc3339(row.created),
        "id": row.id,
        "last_update_time": rfc3339(row.updated),
        "member_entity_ids": list(view.members(row.id, "entity")) or None,
        "member_group_ids": list(view.members(row.id, "group")) or None,
        "metadata": row.metadata or None,
        "modify_index": row.modify_index,
        "name": row.name,
        "namespace_id": "root",
        "parent_group_ids": list(view.groups_of(row.id)) or None,
        "policies": list(row.policies) or None,
        "type": row.type,
    }


def mounts_by_accessor(view: View) -> dict[str, MountRow]:
    """Auth methods by accessor."""
    return {row.accessor: row for row in view.mounts() if row.kind == "auth"}
