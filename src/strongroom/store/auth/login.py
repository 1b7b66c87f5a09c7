"""The end of every login: entity, token and reply, in one transaction."""

import dataclasses
from collections.abc import Callable

from strongroom.model.errors import Denied, Invalid
from strongroom.store.auth.role_fields import within
from strongroom.store.call import Call, Result
from strongroom.store.context import Context, Issued
from strongroom.store.engine.contract import Transaction
from strongroom.store.identity.at_login import LoginAlias, entity_for
from strongroom.store.tokens import ROOT, Grant, auth_object


async def log_in(
    context: Context,
    call: Call,
    grant: Grant,
    alias: LoginAlias,
    still: Callable[[Transaction], None] = lambda _: None,
) -> Result:
    """Give the caller a token.

    `still` looks, in the same transaction, whether what was decided by is still so, and counts
    what is used up; it raises a Refusal. Raises Denied outside the bound networks or for a
    disabled entity, Invalid for a role with the root policy.
    """
    if ROOT in grant.policies:
        # Whoever may write a role would else be root for good, by one login.
        raise Invalid(
            "root-login",
            "auth methods cannot create root tokens",
            hint="give the role a policy of its own; a root token comes from a root token, or from"
            " operator generate-root",
        )
    if not within(call.peer, grant.bound_cidrs):
        raise Denied("outside-networks", "permission denied")
    now = context.clock.now()

    def write(transaction: Transaction) -> Issued:
        still(transaction)
        entity = entity_for(transaction, call.mount, alias, now)
        # As Vault has it: the path that was called, with the user's name where it has one.
        mine = dataclasses.replace(grant, entity_id=entity, path=call.path)
        return context.grant(transaction, mine, context.bounds(call.mount))

    issued = await context.engine.transact(write)
    # The login itself may have joined groups of the method's, or left some.
    identity = context.sessions.identity_policies(issued.row, anew=alias.groups is not None)
    # Looked at after the write: an instant earlier a second more would seem to be left.
    auth = auth_object(issued.row, issued.text, context.clock.now(), identity)
    return Result(auth=auth, display_name=issued.row.display_name, warnings=issued.warnings)
