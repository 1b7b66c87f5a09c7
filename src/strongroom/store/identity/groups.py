"""`identity/group`: internal groups have members, external ones get them at each login.

API: https://developer.hashicorp.com/vault/api-docs/secret/identity/group.
"""

import dataclasses
import uuid
from collections.abc import Callable, Sequence

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.engine.identity_contract import GroupRow
from strongroom.store.envelope import listed
from strongroom.store.identity.named import Named
from strongroom.store.identity.resolve import ancestors
from strongroom.store.identity.values import checked_name, metadata_of, policies_of, show_group
from strongroom.store.parameters import Fields, fields

GROUP: Fields = fields(
    text="id name type",
    object="metadata",
    texts="policies member_entity_ids member_group_ids",
)


class Groups:
    """Groups by id and by name."""

    def __init__(self, context: Context, new_id: Callable[[], uuid.UUID]) -> None:
        self._context = context
        self._new_id = new_id
        self._named = Named(
            context,
            "group",
            GROUP,
            by_id=lambda view, row_id: view.group(row_id),
            by_name=lambda view, name: view.group_by_name(name),
            every=lambda view: view.groups(),
            show=show_group,
            remove=lambda transaction, row_id: transaction.delete_group(row_id),
        )

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self._named.endpoints(self._write, self._list_ids)

    async def _write(self, call: Call) -> Result | None:
        now = self._context.clock.now()
        by_id = call.args.get("id") or call.text("id")

        def write(transaction: Transaction) -> tuple[GroupRow, bool]:
            old = self._named.found(call, transaction)
            if old is None and by_id:
                raise Invalid("no-group", "invalid group ID")
            base = old or GroupRow(
                str(self._new_id()), f"group_{self._new_id().hex[:8]}", _type(call), created=now
            )
            if "type" in call.data and _type(call) != base.type:
                raise Invalid("fixed-type", "group type cannot be changed")
            row = dataclasses.replace(
                base,
                name=checked_name(call.args.get("name") or call.text("name") or base.name),
                metadata=metadata_of(call, "metadata", base.metadata),
                policies=policies_of(call, base.policies),
                updated=now,
                modify_index=old.modify_index + 1 if old else base.modify_index,
            )
            other = transaction.group_by_name(row.name)
            if other is not None and other.id != row.id:
                raise Invalid("name-in-use", "group name is already in use")
            transaction.put_group(row)
            _set_members(call, transaction, row)
            return row, old is None

        row, fresh = await self._context.engine.transact(write)
        return Result({"id": row.id, "name": row.name}) if fresh else None

    async def _list_ids(self, call: Call) -> Result:  # noqa: ARG002
        view = self._context.view
        groups = view.groups()
        info = {
            row.id: {
                "name": row.name,
                "num_member_entities": len(view.members(row.id, "entity")),
                "num_parent_groups": len(view.groups_of(row.id)),
            }
            for row in groups
        }
        return listed(list(info), info=info, warnings=self._context.left_out(groups), long=True)


def _type(call: Call) -> str:
    kind = call.text("type", "internal") or "internal"
    if kind not in ("internal", "external"):
        raise Invalid("bad-parameter", f'invalid group type "{kind}"')
    return kind


def _set_members(call: Call, transaction: Transaction, row: GroupRow) -> None:
    for kind in ("entity", "group"):
        name = f"member_{kind}_ids"
        if name not in call.data or call.data[name] is None:
            continue
        wanted = set(call.texts(name))
        if wanted and row.type == "external":
            raise Invalid(
                "external-group", "member entities can't be set manually for external groups"
            )
        current = set(transaction.members(row.id, kind))
        for each in sorted(wanted - current):
            _check_member(transaction, row, each, kind)
            transaction.add_member(row.id, each, kind)
        for each in sorted(current - wanted):
            transaction.remove_member(row.id, each)


def _check_member(transaction: Transaction, row: GroupRow, member: str, kind: str) -> None:
    found = transaction.entity(member) if kind == "entity" else transaction.group(member)
    if found is None:
        raise Invalid("no-member", f'invalid {kind} ID "{member}"')
    if kind == "group" and member in {row.id, *ancestors(transaction, frozenset({row.id}))}:
        raise Invalid("group-cycle", "a cycle was detected in the group's members")
