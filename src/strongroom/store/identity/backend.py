"""The `identity/` mount: entities, aliases, groups, lookup and identity tokens.

API: https://developer.hashicorp.com/vault/api-docs/secret/identity.
"""

import uuid
from collections.abc import Callable, Sequence

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.identity_contract import AliasRow
from strongroom.store.identity.at_login import canonical_alias
from strongroom.store.identity.entities import Aliases, Entities
from strongroom.store.identity.groups import Groups
from strongroom.store.identity.issuing import IdentityTokens
from strongroom.store.identity.values import mounts_by_accessor, show_entity, show_group
from strongroom.store.parameters import Fields, fields

LOOKUP: Fields = fields(text="id name alias_id alias_name alias_mount_accessor")


class IdentityBackend:
    """Every part in one table."""

    def __init__(
        self, context: Context, address: str = "", new_id: Callable[[], uuid.UUID] = uuid.uuid4
    ) -> None:
        """`address` is where clients find the store, "" where it does not know."""
        self._context = context
        self._parts = (
            Entities(context, new_id),
            Aliases(context, new_id),
            Groups(context, new_id),
            Aliases(context, new_id, group=True),
            IdentityTokens(context, new_id, address),
        )

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            *(each for part in self._parts for each in part.endpoints),
            Endpoint("lookup/entity", {"update": self._lookup_entity}, takes=LOOKUP),
            Endpoint("lookup/group", {"update": self._lookup_group}, takes=LOOKUP),
        )

    def exists(self, call: Call) -> bool:  # noqa: ARG002 - every write here is an update
        return True

    def _alias(self, call: Call, *, group: bool) -> AliasRow | None:
        view = self._context.view
        if alias_id := call.text("alias_id"):
            row = view.alias(alias_id)
            return row if row is not None and row.group == group else None
        accessor, name = call.text("alias_mount_accessor"), call.text("alias_name")
        if not accessor or not name:
            raise Invalid(
                "no-criterion",
                "both 'alias_name' and 'alias_mount_accessor' are needed, or an id or a name",
            )
        mount = mounts_by_accessor(view).get(accessor)
        if mount is not None and not group:
            name = canonical_alias(mount.type, name)
        return view.alias_by_name(accessor, name, group=group)

    def _lookup_entity(self, call: Call) -> Result | None:
        _check_criterion(call)
        view = self._context.view
        if entity_id := call.text("id"):
            row = view.entity(entity_id)
        elif name := call.text("name"):
            row = view.entity_by_name(name)
        else:
            alias = self._alias(call, group=False)
            row = view.entity(alias.owner) if alias else None
        return Result(show_entity(row, view)) if row else None

    def _lookup_group(self, call: Call) -> Result | None:
        _check_criterion(call)
        view = self._context.view
        if group_id := call.text("id"):
            row = view.group(group_id)
        elif name := call.text("name"):
            row = view.group_by_name(name)
        else:
            alias = self._alias(call, group=True)
            row = view.group(alias.owner) if alias else None
        return Result(show_group(row, view)) if row else None


def _check_criterion(call: Call) -> None:
    """Raises Invalid(`bad-criterion`) for more than one way to say who is looked up, as in Vault.

    By one alone of them it would be found, though the others say that it is somebody else.
    """
    given = {name for name in LOOKUP if name in call.data}
    if len(given) > 1 and given != {"alias_name", "alias_mount_accessor"}:
        raise Invalid(
            "bad-criterion",
            "query parameter conflict; please supply distinct set of query parameters",
        )
