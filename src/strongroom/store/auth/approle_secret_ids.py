"""The secret ids of AppRole roles: made, looked up, used up and destroyed.

Only a keyed hash of a secret id is kept. An accessor finds a secret id within its role alone.
"""

import base64
import dataclasses
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Invalid, NotFound, Refusal
from strongroom.store.auth.role_fields import check_cidrs, covered
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.auth_contract import SecretIdRow
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import listed
from strongroom.store.parameters import fields

ROLE: Final = "role"
TIDIED_AT_ONCE: Final = 5000
NEVER: Final = "0001-01-01T00:00:00Z"
SECRET_ID: Final = fields(text="secret_id")
ACCESSOR: Final = fields(text="secret_id_accessor")
MAKE: Final = fields(
    texts="cidr_list token_bound_cidrs", object="metadata", number="num_uses", seconds="ttl"
)


def secret_id_key(context: Context, mount: str, role: str, text: str) -> bytes:
    """The keyed hash a secret id is kept under."""
    message = f"approle secret id\n{mount}\n{role}\n{text}".encode()
    return bytes.fromhex(context.fingerprint(message).rpartition(":")[2])


class SecretIds:
    """The endpoints under `role/NAME/` that are about secret ids."""

    def __init__(self, context: Context, new_id: Callable[[], uuid.UUID]) -> None:
        self._context = context
        self._new_id = new_id

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        role = "role/{role_name}/"
        return (
            Endpoint(f"{role}secret-id", {"update": self._make, "list": self._list}, takes=MAKE),
            Endpoint(
                f"{role}custom-secret-id",
                {"update": self._make_custom},
                takes=fields(MAKE, SECRET_ID),
            ),
            Endpoint(f"{role}secret-id/lookup", {"update": self._lookup}, takes=SECRET_ID),
            Endpoint(
                f"{role}secret-id/destroy",
                {"update": self._destroy, "delete": self._destroy},
                takes=SECRET_ID,
            ),
            Endpoint(
                f"{role}secret-id-accessor/lookup",
                {"update": self._lookup_accessor},
                takes=ACCESSOR,
            ),
            Endpoint(
                f"{role}secret-id-accessor/destroy",
                {"update": self._destroy_accessor, "delete": self._destroy_accessor},
                takes=ACCESSOR,
            ),
            Endpoint("tidy/secret-id", {"update": self._tidy}),
        )

    def _role(self, call: Call) -> tuple[str, dict[str, Any]]:
        name = call.args["role_name"].lower()
        role = self._context.view.document(call.mount.uuid, ROLE, name)
        if role is None:
            raise Invalid("no-such-role", f'role "{name}" does not exist')
        return name, role

    async def _make(self, call: Call) -> Result:
        return await self._made(call, str(self._new_id()))

    async def _make_custom(self, call: Call) -> Result:
        return await self._made(call, _text_of(call))

    async def _made(self, call: Call, text: str) -> Result:
        name = call.args["role_name"].lower()
        role = self._context.view.document(call.mount.uuid, ROLE, name)
        if role is None:
            raise _no_role(name)
        row = self._row(call, name, role, text)

        def write(transaction: Transaction) -> None:
            if transaction.document(call.mount.uuid, ROLE, name) is None:
                raise _no_role(name)
            if transaction.secret_id(row.mount, row.id) is not None:
                raise Invalid("secret-id-exists", "SecretID is already registered")
            transaction.put_secret_id(row)

        await self._context.engine.transact(write)
        return Result(
            {
                "secret_id": text,
                "secret_id_accessor": row.accessor,
                "secret_id_num_uses": row.uses,
                "secret_id_ttl": row.ttl,
            }
        )

    def _row(self, call: Call, name: str, role: Mapping[str, Any], text: str) -> SecretIdRow:
        if not role["bind_secret_id"]:
            raise Invalid("no-secret-ids", "bind_secret_id is not set on the role")
        uses = _within_role(call.integer("num_uses"), role["secret_id_num_uses"], "num_uses")
        ttl = _within_role(call.seconds("ttl"), role["secret_id_ttl"], "ttl")
        now, mount = self._context.clock.now(), call.mount.uuid
        return SecretIdRow(
            mount=mount,
            role=name,
            id=secret_id_key(self._context, mount, name, text),
            accessor=str(self._new_id()),
            created=now,
            expires=now + ttl if ttl else None,
            ttl=ttl,
            uses_left=uses,
            uses=uses,
            metadata=_metadata(call),
            cidrs=_networks(call, "cidr_list", role["secret_id_bound_cidrs"]),
            token_cidrs=_networks(call, "token_bound_cidrs", role["token_bound_cidrs"]),
        )

    async def _list(self, call: Call) -> Result:
        name, _ = self._role(call)
        return listed(self._context.view.secret_id_accessors(call.mount.uuid, name), long=True)

    def _by_text(self, call: Call) -> SecretIdRow | None:
        name, _ = self._role(call)
        key = secret_id_key(self._context, call.mount.uuid, name, _text_of(call))
        return self._alive(self._context.view.secret_id(call.mount.uuid, key))

    def _by_accessor(self, call: Call) -> SecretIdRow:
        name, _ = self._role(call)
        accessor = call.text("secret_id_accessor")
        if not accessor:
            raise Invalid("no-accessor", "missing secret_id_accessor")
        row = self._context.view.secret_id_by_accessor(call.mount.uuid, accessor)
        row = self._alive(row)
        if row is None or row.role != name:
            raise NotFound(
                "no-accessor",
                f'failed to find accessor entry for secret_id_accessor: "{accessor}"',
            )
        return row

    def _alive(self, row: SecretIdRow | None) -> SecretIdRow | None:
        now = self._context.clock.now()
        if row is None or row.uses_left < 0 or (row.expires is not None and row.expires <= now):
            return None
        return row

    def _lookup(self, call: Call) -> Result | None:
        row = self._by_text(call)
        return Result(_shown(row)) if row else None

    def _lookup_accessor(self, call: Call) -> Result:
        name = call.args["role_name"]
        if self._context.view.document(call.mount.uuid, ROLE, name.lower()) is None:
            # Vault's 500, by which Terraform knows that a role was removed behind its back.
            raise Refusal("no-such-role", f'role "{name}" does not exist')
        return Result(_shown(self._by_accessor(call)))

    async def _destroy(self, call: Call) -> None:
        row = self._by_text(call)
        if row is not None:
            await self._delete(row)

    async def _destroy_accessor(self, call: Call) -> None:
        await self._delete(self._by_accessor(call))

    async def _delete(self, row: SecretIdRow) -> None:
        await self._context.engine.transact(lambda each: each.delete_secret_id(row.mount, row.id))

    async def _tidy(self, call: Call) -> Result:  # noqa: ARG002
        now = self._context.clock.now()
        await self._context.engine.transact(
            lambda each: each.delete_spent_secret_ids(now, TIDIED_AT_ONCE)
        )
        said = (
            "Tidy operation successfully started. Any information from the operation will be"
            " printed to Vault's server logs."
        )
        return Result(warnings=(said,), status=202)


def _no_role(name: str) -> NotFound:
    return NotFound("no-such-role", f'role "{name}" does not exist')


def _text_of(call: Call) -> str:
    """The secret id as a login reads it: a file that it comes from usually ends in a line break."""
    text = call.text("secret_id").strip()
    if not text:
        raise Invalid("no-secret-id", "missing secret_id")
    return text


def _within_role(asked: int, of_role: int, name: str) -> int:
    if asked < 0:
        raise Invalid("bad-parameter", f"{name} cannot be negative")
    if of_role and asked > of_role:
        raise Invalid("beyond-role", f"{name} cannot be higher than the role's secret_id_{name}")
    return asked or of_role


def _networks(call: Call, name: str, of_role: list[str]) -> tuple[str, ...]:
    networks = check_cidrs(list(call.texts(name)))
    if of_role and not covered(networks, of_role):
        raise Invalid(
            "beyond-role",
            f"failed to verify subset relationship between CIDR blocks on the role"
            f" {of_role} and CIDR blocks on the secret ID {networks}",
        )
    return tuple(networks)


def _metadata(call: Call) -> dict[str, str]:
    given = call.data.get("metadata") or {}
    if isinstance(given, str):
        given = _decoded(given.strip())
        try:
            given = orjson.loads(given)
        except ValueError:
            given = _pairs(given)
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
        raise Invalid("bad-parameter", "metadata must be a map of strings")
    return given


def _decoded(text: str) -> str:
    """What Vault takes as base64 as well, JSON or pairs, as it is meant."""
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        return text


def _pairs(text: str) -> dict[str, str]:
    """`key=value` with commas between, as people write it on a command line."""
    found = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        key, equals, value = (each.strip() for each in pair.partition("="))
        if not (key and equals and value) or "=" in value:
            # Without the text itself, which may be anything.
            raise Invalid(
                "bad-parameter",
                "failed to parse metadata: neither a JSON object nor key=value,key=value",
            )
        found[key] = value
    return found


def _shown(row: SecretIdRow) -> dict[str, Any]:
    return {
        "cidr_list": list(row.cidrs),
        "creation_time": rfc3339(row.created),
        "expiration_time": NEVER if row.expires is None else rfc3339(row.expires),
        "last_updated_time": rfc3339(row.created),
        "metadata": dataclasses.asdict(row)["metadata"],
        "secret_id_accessor": row.accessor,
        "secret_id_num_uses": row.uses_left,
        "secret_id_ttl": row.ttl,
        "token_bound_cidrs": list(row.token_cidrs),
    }
