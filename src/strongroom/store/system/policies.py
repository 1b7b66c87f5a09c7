"""`sys/policies/acl`, its older form `sys/policy`, and `sys/capabilities`.

API: https://developer.hashicorp.com/vault/api-docs/system/policies.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Final

from strongroom.access.policy import parse_policy
from strongroom.access.templates import unbalanced
from strongroom.model.errors import Denied, Invalid, Refusal
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.envelope import present
from strongroom.store.normalise import LONGEST_PATH, Operation
from strongroom.store.parameters import fields
from strongroom.store.routing import Route
from strongroom.store.sessions import ROOT, WRAPPING, Session
from strongroom.store.tokens import is_over

DEFAULT_POLICY: Final = """\
# Every token may look after itself.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
path "sys/explain-self" { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/wrapping/wrap" { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/tools/hash" { capabilities = ["update"] }
path "sys/tools/hash/*" { capabilities = ["update"] }
# The feed tells each subscriber of the paths its other policies let it read.
path "sys/events/subscribe/*" { capabilities = ["read"] }
# A reader says which version it uses.
path "sys/consumers/ack" { capabilities = ["update"] }
"""


class Policies:
    """Both forms of the policy endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("policies/acl", {"list": self._list, "read": self._list}),
            Endpoint(
                "policies/acl/{name}",
                {
                    "read": self._read,
                    "update": self._write,
                    "patch": self._patch,
                    "delete": self._delete,
                },
                takes=fields(text="policy rules"),
            ),
            Endpoint("policy", {"list": self._list_old, "read": self._list_old}),
            Endpoint(
                "policy/{name}",
                {"read": self._read_old, "update": self._write, "delete": self._delete},
                takes=fields(text="policy rules"),
            ),
        )

    def _names(self) -> list[str]:
        return sorted({*self._context.view.policy_names(), "root"})

    def _list(self, call: Call) -> Result:  # noqa: ARG002
        return Result({"keys": self._names()}, top_level=True)

    def _list_old(self, call: Call) -> Result:  # noqa: ARG002
        return Result({"keys": self._names(), "policies": self._names()}, top_level=True)

    def _text(self, call: Call) -> tuple[str, str]:
        name = call.args["name"].lower()
        text = present("" if name == "root" else self._context.view.policy(name))
        return name, text

    def _read(self, call: Call) -> Result:
        name, text = self._text(call)
        return Result({"name": name, "policy": text}, top_level=True)

    def _read_old(self, call: Call) -> Result:
        name, text = self._text(call)
        return Result({"name": name, "rules": text}, top_level=True)

    async def _write(self, call: Call) -> Result | None:
        name = call.args["name"].lower()
        if name in (ROOT, WRAPPING):
            raise Invalid("fixed-policy", f'cannot update "{name}" policy')
        text = policy_text(call.text("policy") or call.text("rules"))
        if not text:
            raise Invalid("no-policy", "'policy' parameter not supplied or empty")
        # Asked of who writes it, and not of what is kept: it would name nobody, and deny nothing.
        if path := unbalanced(parse_policy(name, text)):
            raise Invalid("bad-policy", f"unbalanced templating characters in {path!r}")
        await self._context.engine.transact(lambda each: each.put_policy(name, text))
        if call.asked_path != call.path:
            return Result(warnings=(f"policy name was converted to {name!r}",))
        return None

    async def _patch(self, call: Call) -> Result | None:
        """A new text for a policy that is there; 404 when it is not. As OpenBao has it."""
        self._text(call)
        return await self._write(call)

    async def _delete(self, call: Call) -> None:
        name = call.args["name"].lower()
        if name in ("root", "default"):
            raise Invalid("fixed-policy", f'cannot delete "{name}" policy')
        await self._context.engine.transact(lambda each: each.delete_policy(name))


def policy_text(text: str) -> str:
    """A policy as it was sent: plain, or in base64."""
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return text


PATHS: Final = fields(texts="paths path")
# Every token may ask: what one request asks for is bounded, and others are served meanwhile.
MOST_PATHS: Final = 5000
PER_TURN: Final = 100


class Capabilities:
    """What a token may do on paths; `find` gives the route of one."""

    def __init__(self, context: Context, find: Callable[[str, Operation], Route]) -> None:
        self._context = context
        self._find = find

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("capabilities", {"update": self._of_token}, takes=fields(PATHS, text="token")),
            Endpoint(
                "capabilities-accessor",
                {"update": self._of_accessor},
                takes=fields(PATHS, text="accessor"),
            ),
            Endpoint(
                "capabilities-self", {"update": self._of_self}, takes=fields(PATHS, text="token")
            ),
        )

    async def _of_self(self, call: Call) -> Result:
        return await self._answer(call, call.caller)

    async def _of_token(self, call: Call) -> Result:
        now = self._context.clock.now()
        try:
            session = self._context.sessions.open(call.text("token"), now, call.peer)
        except Denied:
            raise Invalid("invalid-token", "invalid token") from None
        return await self._answer(call, session)

    async def _of_accessor(self, call: Call) -> Result:
        row = self._context.view.token_by_accessor(call.text("accessor"))
        # One that has ended has a row until the next sweep.
        if row is None or is_over(row, self._context.clock.now()):
            raise Invalid("invalid-accessor", "invalid accessor")
        return await self._answer(call, self._context.sessions.of_row(row))

    async def _answer(self, call: Call, session: Session) -> Result:
        paths = call.texts("paths") or call.texts("path")
        if not paths:
            raise Invalid("no-paths", "paths must be supplied")
        if len(paths) > MOST_PATHS:
            raise Invalid("too-many-paths", f"at most {MOST_PATHS} paths in a request")
        if any(len(path) > LONGEST_PATH for path in paths):
            raise Invalid("bad-path", "a path is too long")
        said: dict[str, list[str]] = {}
        for number, path in enumerate(paths, 1):
            said[path] = self._of_path(path.removeprefix("/"), session)
            if number % PER_TURN == 0:
                await asyncio.sleep(0)
        single = {"capabilities": said[paths[0]]} if len(paths) == 1 else {}
        return Result({**said, **single}, top_level=True)

    def _of_path(self, path: str, session: Session) -> list[str]:
        try:
            route = self._find(path, "read")
        except Refusal:
            return sorted(session.capabilities(path))
        return sorted(session.capabilities(route.path, route.lowered))
