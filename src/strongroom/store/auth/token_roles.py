"""`auth/token/roles`: what a token made by way of a role may be.

API: https://developer.hashicorp.com/vault/api-docs/auth/token#create-update-token-role.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from strongroom.model.errors import Invalid
from strongroom.store.auth.role_fields import RoleReader, token_type
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import listed, present
from strongroom.store.parameters import fields
from strongroom.store.tokens import BATCH, clean_policies

KIND: Final = "role"
ROLE: Final = fields(
    texts="allowed_policies disallowed_policies allowed_policies_glob disallowed_policies_glob"
    " allowed_entity_aliases token_bound_cidrs bound_cidrs",
    flag="orphan renewable token_no_default_policy",
    text="path_suffix token_type",
    seconds="token_period period token_explicit_max_ttl explicit_max_ttl",
    number="token_num_uses num_uses",
)
_SUFFIX: Final = re.compile(r"\w(?:[\w.-]*\w)?(?:/\w(?:[\w.-]*\w)?)*")


class TokenRoles:
    """The role endpoints of the `token/` mount."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("roles", {"list": self._list}),
            Endpoint(
                "roles/{role_name}",
                {
                    "read": self._read,
                    "create": self._write,
                    "update": self._write,
                    "delete": self._delete,
                },
                takes=ROLE,
            ),
        )

    def exists(self, call: Call) -> bool:
        """Whether the role of a path is there."""
        name = call.rest.removeprefix("roles/").lower()
        return self._context.view.document(call.mount.uuid, KIND, name) is not None

    def _list(self, call: Call) -> Result:
        return listed(self._context.view.document_names(call.mount.uuid, KIND))

    def _read(self, call: Call) -> Result:
        role = present(
            self._context.view.document(call.mount.uuid, KIND, call.args["role_name"].lower())
        )
        shown = {key: value for key, value in role.items() if key not in _INNER}
        older = {name: role[f"token_{name}"] for name in ("period", "explicit_max_ttl")}
        return Result({"name": call.args["role_name"].lower(), **older, **shown})

    async def _write(self, call: Call) -> None:
        mount, name = call.mount.uuid, call.args["role_name"].lower()

        def write(transaction: Transaction) -> None:
            old = transaction.document(mount, KIND, name) or {}
            transaction.put_document(mount, KIND, name, _role_from(call, old))

        await self._context.engine.transact(write)

    async def _delete(self, call: Call) -> None:
        mount, name = call.mount.uuid, call.args["role_name"].lower()
        await self._context.engine.transact(lambda each: each.delete_document(mount, KIND, name))


# Fields that the roles of other methods have and token roles do not show.
_INNER: Final = frozenset({"token_policies", "token_ttl", "token_max_ttl"})


def _role_from(call: Call, old: Mapping[str, Any]) -> dict[str, Any]:
    read = RoleReader(call, old)
    role: dict[str, Any] = {
        **{
            name: sorted(clean_policies(read.texts(name), with_default=False))
            for name in ("allowed_policies", "disallowed_policies")
        },
        **{
            name: sorted({each.lower() for each in read.texts(name)})
            for name in ("allowed_policies_glob", "disallowed_policies_glob")
        },
        "allowed_entity_aliases": sorted(
            {each.lower() for each in read.texts("allowed_entity_aliases")}
        ),
        "orphan": read.flag("orphan"),
        "renewable": read.flag("renewable", default=True),
        "path_suffix": read.text("path_suffix").strip("/"),
        "token_bound_cidrs": read.cidrs("token_bound_cidrs", "bound_cidrs"),
        "token_period": read.seconds("token_period", "period"),
        "token_explicit_max_ttl": read.seconds("token_explicit_max_ttl", "explicit_max_ttl"),
        "token_num_uses": read.count("token_num_uses"),
        "token_no_default_policy": read.flag("token_no_default_policy"),
        "token_type": token_type(read.text("token_type", "default-service")),
    }
    if role["path_suffix"] and not _SUFFIX.fullmatch(role["path_suffix"]):
        raise Invalid("bad-parameter", "the given role path suffix contains invalid characters")
    if role["token_type"] == BATCH:
        for unwanted, words in (
            (not role["orphan"], "non-orphan tokens"),
            (role["renewable"], "renewable tokens"),
            (role["token_period"], "periodic tokens"),
            (role["token_explicit_max_ttl"], "tokens with an explicit max TTL"),
            (role["token_num_uses"], "tokens with limited use count"),
        ):
            if unwanted:
                raise Invalid(
                    "bad-parameter",
                    f"'token_type' cannot be 'batch' when role is set to generate {words}",
                )
    return role


def role_policies(
    role: Mapping[str, Any], asked: Sequence[str], parent: Sequence[str], *, with_default: bool
) -> tuple[str, ...] | None:
    """The policies of a token made with a role, None when the role does not restrict them.

    Without policies that are asked for they are those that the role allows, or the parent's where
    it only forbids some. Raises Invalid for a policy that the role does not allow, or forbids.
    """
    allowed, globs = role["allowed_policies"], role["allowed_policies_glob"]
    # Names are in lower case; a role of before may have its patterns as they were written.
    forbidden = [*role["disallowed_policies"], *map(str.lower, role["disallowed_policies_glob"])]
    if not (allowed or globs or forbidden):
        return None
    with_default = with_default and not _any_match("default", forbidden)
    usual = allowed if allowed or globs else parent
    policies = clean_policies(asked or usual, with_default=with_default)
    if allowed or globs:
        for name in policies:
            if name != "default" and name not in allowed and not _any_match(name, globs):
                raise Invalid(
                    "beyond-role",
                    f"token policies ({_quoted(policies)}) must be subset of the role's allowed"
                    f" policies ({_quoted(allowed)}) or glob policies ({_quoted(globs)})",
                )
    for name in policies:
        if _any_match(name, forbidden):
            raise Invalid("beyond-role", f'token policy "{name}" is disallowed by this role')
    return policies


def _any_match(name: str, patterns: Sequence[str]) -> bool:
    return any(glob_matches(each, name) for each in patterns)


def glob_matches(pattern: str, text: str) -> bool:
    """Whether a text matches a pattern in which `*` alone is special."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def _quoted(names: Sequence[str]) -> str:
    return "[" + " ".join(f'"{name}"' for name in names) + "]"
