"""`identity/entity` and `identity/entity-alias`.

API: https://developer.hashicorp.com/vault/api-docs/secret/identity/entity.
"""

import dataclasses
import uuid
from collections.abc import Callable, Sequence

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import MountRow, Transaction, View
from strongroom.store.engine.identity_contract import AliasRow, EntityRow, GroupRow
from strongroom.store.envelope import listed, present
from strongroom.store.identity.at_login import canonical_alias
from strongroom.store.identity.merge import merge
from strongroom.store.identity.named import Named
from strongroom.store.identity.values import (
    checked_name,
    metadata_of,
    mounts_by_accessor,
    policies_of,
    show_alias,
    show_entity,
)
from strongroom.store.parameters import Fields, fields

ENTITY: Fields = fields(text="id name", object="metadata", texts="policies", flag="disabled")
ALIAS: Fields = fields(
    text="id name mount_accessor canonical_id entity_id", object="custom_metadata"
)


class Entities:
    """Entities by id and by name."""

    def __init__(self, context: Context, new_id: Callable[[], uuid.UUID]) -> None:
        self._context = context
        self._new_id = new_id
        self._named = Named(
            context,
            "entity",
            ENTITY,
            by_id=lambda view, row_id: view.entity(row_id),
            by_name=lambda view, name: view.entity_by_name(name),
            every=lambda view: view.entities(),
            show=show_entity,
            remove=lambda transaction, row_id: transaction.delete_entity(row_id),
        )

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "entity/merge",
                {"update": self._merge},
                takes=fields(
                    text="to_entity_id",
                    texts="from_entity_ids conflicting_alias_ids_to_keep",
                    flag="force",
                ),
            ),
            Endpoint(
                "entity/batch-delete",
                {"update": self._delete_many},
                takes=fields(texts="entity_ids"),
            ),
            *self._named.endpoints(self._write, self._list_ids),
        )

    async def _write(self, call: Call) -> Result | None:
        now = self._context.clock.now()
        by_id = call.args.get("id") or call.text("id")

        def write(transaction: Transaction) -> tuple[EntityRow, bool]:
            old = self._named.found(call, transaction)
            if old is None and by_id:
                raise Invalid("no-entity", f'entity with identifier "{by_id}" not found')
            base = old or EntityRow(str(self._new_id()), f"entity_{self._new_id().hex[:8]}")
            name = call.args.get("name") or call.text("name") or base.name
            row = dataclasses.replace(
                base,
                name=checked_name(name),
                metadata=metadata_of(call, "metadata", base.metadata),
                policies=policies_of(call, base.policies),
                disabled=call.flag("disabled", default=base.disabled),
                created=base.created or now,
                updated=now,
            )
            other = transaction.entity_by_name(row.name)
            if other is not None and other.id != row.id:
                raise Invalid("name-in-use", "entity name is already in use")
            transaction.put_entity(row)
            return row, old is None

        row, fresh = await self._context.engine.transact(write)
        if not fresh:
            return None
        return Result({"aliases": None, "id": row.id, "name": row.name})

    async def _delete_many(self, call: Call) -> None:
        ids = call.texts("entity_ids")
        if not ids:
            raise Invalid("no-entities", "missing entity ids to delete")

        def write(transaction: Transaction) -> None:
            for each in ids:
                transaction.delete_entity(each)

        await self._context.engine.transact(write)

    async def _merge(self, call: Call) -> None:
        now = self._context.clock.now()
        await self._context.engine.transact(lambda each: merge(call, each, now))

    async def _list_ids(self, call: Call) -> Result:  # noqa: ARG002
        view = self._context.view
        mounts = mounts_by_accessor(view)
        aliases: dict[str, list[dict[str, str]]] = {}
        entities, every = view.entities(), view.aliases()
        for each in every:
            mount = mounts.get(each.mount)
            aliases.setdefault(each.owner, []).append(
                {
                    "id": each.id,
                    "mount_accessor": each.mount,
                    "mount_path": f"auth/{mount.path}" if mount else "",
                    "mount_type": mount.type if mount else "",
                    "name": each.name,
                }
            )
        info = {row.id: {"name": row.name, "aliases": aliases.get(row.id, [])} for row in entities}
        warnings = self._context.left_out(entities, every)
        return listed(list(info), info=info, warnings=warnings, long=True)


class Aliases:
    """Aliases of entities, or with `group` of outside groups."""

    def __init__(
        self, context: Context, new_id: Callable[[], uuid.UUID], *, group: bool = False
    ) -> None:
        self._context = context
        self._new_id = new_id
        self._group = group
        self._word = "group-alias" if group else "entity-alias"

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(self._word, {"update": self._write}, takes=ALIAS),
            Endpoint(f"{self._word}/id", {"list": self._list}),
            Endpoint(
                f"{self._word}/id/{{id}}",
                {"read": self._read, "update": self._write, "delete": self._delete},
                takes=ALIAS,
            ),
        )

    def _found(self, alias_id: str, view: View) -> AliasRow | None:
        row = view.alias(alias_id)
        return row if row is not None and row.group == self._group else None

    def _mount(self, call: Call, old: AliasRow | None, view: View) -> MountRow:
        accessor = call.text("mount_accessor") or (old.mount if old else "")
        if not accessor:
            raise Invalid("no-accessor", "missing mount_accessor")
        mount = mounts_by_accessor(view).get(accessor)
        if mount is None:
            raise Invalid("no-accessor", f'invalid mount accessor "{accessor}"')
        return mount

    async def _write(self, call: Call) -> Result:
        now = self._context.clock.now()

        def write(transaction: Transaction) -> AliasRow:
            alias_id = call.args.get("id") or call.text("id")
            old = self._found(alias_id, transaction) if alias_id else None
            if alias_id and old is None:
                raise Invalid("no-alias", "invalid alias ID")
            mount = self._mount(call, old, transaction)
            given = call.text("name") or (old.name if old else "")
            if not given:
                raise Invalid("no-name", "missing alias name")
            name = given if self._group else canonical_alias(mount.type, given)
            taken = transaction.alias_by_name(mount.accessor, name, group=self._group)
            if old is None:
                old = taken
            elif taken is not None and taken.id != old.id:
                raise Invalid("alias-in-use", "alias name is already in use on this auth method")
            owner = self._owner(call, old, transaction, now)
            if not self._group:
                self._check_one(transaction, owner, mount, old)
            base = old or AliasRow(str(self._new_id()), owner, mount.accessor, name, created=now)
            row = dataclasses.replace(
                base,
                owner=owner,
                mount=mount.accessor,
                name=checked_name(name),
                custom_metadata=metadata_of(call, "custom_metadata", base.custom_metadata),
                updated=now,
                group=self._group,
            )
            transaction.put_alias(row)
            if self._group:
                # A group from outside has one name there: the name before lets nobody in any more.
                for each in transaction.aliases_of(owner):
                    if each.id != row.id:
                        transaction.delete_alias(each.id)
            return row

        row = await self._context.engine.transact(write)
        return Result({"id": row.id, "canonical_id": row.owner})

    def _owner(self, call: Call, old: AliasRow | None, transaction: Transaction, now: float) -> str:
        wanted = call.text("canonical_id") or call.text("entity_id")
        if self._group:
            if not wanted and old is None:
                # Who the members are comes from outside, so the group may begin with its alias.
                group_id = str(self._new_id())
                name = f"group_{self._new_id().hex[:8]}"
                transaction.put_group(
                    GroupRow(group_id, name, "external", created=now, updated=now)
                )
                return group_id
            group = transaction.group(wanted or (old.owner if old else ""))
            if group is None:
                raise Invalid("no-group", "invalid group ID given in 'canonical_id'")
            if group.type != "external":
                raise Invalid("internal-group", "alias can be set only for external groups")
            return group.id
        if wanted:
            if transaction.entity(wanted) is None:
                raise Invalid("no-entity", "invalid canonical ID")
            return wanted
        if old is not None:
            return old.owner
        row = EntityRow(
            str(self._new_id()), f"entity_{self._new_id().hex[:8]}", created=now, updated=now
        )
        transaction.put_entity(row)
        return row.id

    @staticmethod
    def _check_one(view: View, owner: str, mount: MountRow, old: AliasRow | None) -> None:
        """One alias for a method: templates must never have to choose."""
        for each in view.aliases_of(owner):
            if each.mount == mount.accessor and (old is None or each.id != old.id):
                raise Invalid(
                    "second-alias", "an alias of this auth method is there already; delete it first"
                )

    def _read(self, call: Call) -> Result:
        row = present(self._found(call.args["id"], self._context.view))
        return Result(show_alias(row, mounts_by_accessor(self._context.view)))

    async def _delete(self, call: Call) -> None:
        def write(transaction: Transaction) -> None:
            if self._found(call.args["id"], transaction) is not None:
                transaction.delete_alias(call.args["id"])

        await self._context.engine.transact(write)

    def _list(self, call: Call) -> Result:  # noqa: ARG002
        view = self._context.view
        mounts = mounts_by_accessor(view)
        rows = view.aliases(group=self._group)
        shown = (show_alias(row, mounts) for row in rows)
        names = (
            "canonical_id", "custom_metadata", "local", "mount_accessor", "mount_path",
            "mount_type", "name",
        )  # fmt: skip
        info = {each["id"]: {name: each[name] for name in names} for each in shown}
        return listed(list(info), info=info, warnings=self._context.left_out(rows), long=True)
