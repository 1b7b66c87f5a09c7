"""Merging entities: aliases, memberships and policies move to one, the others go."""

import dataclasses

from strongroom.model.errors import Invalid
from strongroom.store.call import Call
from strongroom.store.engine.contract import Transaction
from strongroom.store.engine.identity_contract import EntityRow
from strongroom.store.identity.resolve import MERGED


def merge(call: Call, transaction: Transaction, now: float) -> None:
    """Carry out `entity/merge`.

    Where both entities have an alias of one auth method, the request names the one to keep.
    Raises Invalid when it does not, or for an entity that is not there.
    """
    # One that is named twice is merged once, as in Vault.
    sources = tuple(dict.fromkeys(call.texts("from_entity_ids")))
    target_id = call.text("to_entity_id")
    if not sources:
        raise Invalid("no-sources", "missing entity ids to merge from")
    target = transaction.entity(target_id)
    if target is None:
        raise Invalid("no-entity", "entity id to merge to is invalid")
    keep = set(call.texts("conflicting_alias_ids_to_keep"))
    for source_id in sources:
        if source_id == target_id:
            raise Invalid("same-entity", "to_entity_id should not be present in from_entity_ids")
        source = transaction.entity(source_id)
        if source is None:
            raise Invalid("no-entity", "entity id to merge from is invalid")
        _move_aliases(transaction, source, target, keep, now)
        for group in transaction.groups_of(source_id):
            transaction.add_member(group, target_id, "entity")
        target = dataclasses.replace(
            target,
            policies=tuple(sorted({*target.policies, *source.policies})),
            merged=(*target.merged, source_id),
            updated=now,
        )
        transaction.put_entity(target)
        transaction.delete_entity(source_id)
        transaction.put_document(MERGED, MERGED, source_id, {"into": target_id})


def _move_aliases(
    transaction: Transaction, source: EntityRow, target: EntityRow, keep: set[str], now: float
) -> None:
    there = {each.mount: each for each in transaction.aliases_of(target.id)}
    for alias in transaction.aliases_of(source.id):
        other = there.get(alias.mount)
        if other is not None:
            if (alias.id in keep) == (other.id in keep):
                raise Invalid(
                    "alias-conflict",
                    "toEntity and at least one fromEntity have aliases with the same mount"
                    " accessor; name one of them in conflicting_alias_ids_to_keep",
                    hint=f"{alias.id} or {other.id}",
                )
            if other.id in keep:
                continue
            transaction.delete_alias(other.id)
        moved = dataclasses.replace(
            alias, owner=target.id, merged_from=(*alias.merged_from, source.id), updated=now
        )
        transaction.put_alias(moved)
