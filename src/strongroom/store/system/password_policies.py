"""`sys/policies/password`: policies by name, and passwords made after them.

API: https://developer.hashicorp.com/vault/api-docs/system/policies-password.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from strongroom.crypto.tokens import random_text
from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import View
from strongroom.store.envelope import listed, nothing_here, present
from strongroom.store.parameters import fields
from strongroom.store.password_policy import PasswordPolicy, parse_password_policy
from strongroom.store.system.policies import policy_text

MOUNT, KIND = "system", "password-policy"
MAX_BYTES: Final = 64 * 1024


def password_policy(view: View, name: str) -> PasswordPolicy:
    """A policy by its name, for whoever makes passwords; raises Invalid(`no-policy`)."""
    document = view.document(MOUNT, KIND, name)
    if document is None:
        raise Invalid("no-policy", f"no password policy {name!r}")
    return parse_password_policy(document["policy"])


class PasswordPolicies:
    """The endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("policies/password", {"list": self._list}),
            Endpoint(
                "policies/password/{name}",
                {"read": self._read, "update": self._write, "delete": self._delete},
                takes=fields(text="policy"),
            ),
            Endpoint("policies/password/{name}/generate", {"read": self._generate}),
        )

    def _list(self, call: Call) -> Result:  # noqa: ARG002 - the shape of a handler
        return listed(self._context.view.document_names(MOUNT, KIND))

    def _read(self, call: Call) -> Result:
        document = present(self._context.view.document(MOUNT, KIND, call.args["name"]))
        return Result({"policy": document["policy"]}, top_level=True)

    async def _write(self, call: Call) -> None:
        name, text = call.args["name"], policy_text(call.text("policy"))
        if not text:
            raise Invalid("no-policy", "missing policy")
        if len(text) > MAX_BYTES:
            raise Invalid("policy-too-large", f"a password policy has at most {MAX_BYTES} bytes")
        # A policy by which no password can be made is refused now, not at the first rotation.
        await _made(parse_password_policy(text))
        await self._context.engine.transact(
            lambda each: each.put_document(MOUNT, KIND, name, {"policy": text})
        )

    async def _delete(self, call: Call) -> None:
        name = call.args["name"]
        await self._context.engine.transact(lambda each: each.delete_document(MOUNT, KIND, name))

    async def _generate(self, call: Call) -> Result:
        if self._context.view.document(MOUNT, KIND, call.args["name"]) is None:
            raise nothing_here()
        policy = password_policy(self._context.view, call.args["name"])
        return Result({"password": await _made(policy)}, top_level=True)


async def _made(policy: PasswordPolicy) -> str:
    """A password of a policy; one that asks for much takes its time, so not on the loop."""
    return await asyncio.to_thread(policy.generate, random_text)
