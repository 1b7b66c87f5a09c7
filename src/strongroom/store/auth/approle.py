"""`auth/approle`: roles and logging in with a role id and a secret id.

API: https://developer.hashicorp.com/vault/api-docs/auth/approle.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from strongroom.crypto.tokens import constant_time_equal
from strongroom.model.errors import Denied, Invalid
from strongroom.store.auth.approle_secret_ids import SecretIds, secret_id_key
from strongroom.store.auth.lockout import Lockout
from strongroom.store.auth.login import log_in
from strongroom.store.auth.role_fields import (
    TOKEN_FIELDS,
    RoleReader,
    overlap,
    role_grant,
    shown_role,
    within,
)
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.auth_contract import SecretIdRow
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import listed, nothing_here, present
from strongroom.store.identity.at_login import LoginAlias, canonical_alias
from strongroom.store.parameters import fields

ROLE: Final = "role"
ROLE_ID: Final = "role-id"
# The role of an id that has capitals, by the id without them: that is its entity's name.
ALIAS: Final = "role-id-alias"
# The last segment of a role's path, and the field it reads, writes and resets.
FIELDS: Final = {
    "policies": "token_policies",
    "bound-cidr-list": "secret_id_bound_cidrs",
    "secret-id-bound-cidrs": "secret_id_bound_cidrs",
    "token-bound-cidrs": "token_bound_cidrs",
    "bind-secret-id": "bind_secret_id",
    "secret-id-num-uses": "secret_id_num_uses",
    "secret-id-ttl": "secret_id_ttl",
    "period": "token_period",
    "token-num-uses": "token_num_uses",
    "token-ttl": "token_ttl",
    "token-max-ttl": "token_max_ttl",
}
# The names of before, which a field's own endpoint shows beside the new ones.
_SHOWN_TOO: Final = {
    "policies": "policies",
    "period": "period",
    "bound-cidr-list": "bound_cidr_list",
}
ROLE_FIELDS: Final = fields(
    TOKEN_FIELDS,
    text="role_id",
    flag="bind_secret_id local_secret_ids",
    texts="secret_id_bound_cidrs bound_cidr_list",
    number="secret_id_num_uses",
    seconds="secret_id_ttl",
)


def _names_of(word: str) -> frozenset[str]:
    """The parameters that a field's own endpoint takes it by."""
    field = FIELDS[word]
    return frozenset({field, word.replace("-", "_"), _SHOWN_TOO.get(word, field)})


class AppRole:
    """The backend of every approle mount."""

    def __init__(
        self,
        context: Context,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
        lockout: Lockout | None = None,
    ) -> None:
        self._context = context
        self._new_id = new_id
        self._lockout = lockout or Lockout(context)
        self._secret_ids = SecretIds(context, new_id)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("role", {"list": self._list}),
            Endpoint(
                "role/{role_name}",
                {
                    "read": self._read,
                    "create": self._write,
                    "update": self._write,
                    "delete": self._delete,
                },
                takes=ROLE_FIELDS,
            ),
            Endpoint(
                "role/{role_name}/role-id",
                {"read": self._read_role_id, "update": self._write_role_id},
                takes=fields(text="role_id"),
            ),
            Endpoint("role/{role_name}/local-secret-ids", {"read": self._read_local}),
            *(
                Endpoint(
                    f"role/{{role_name}}/{word}",
                    {
                        "read": self._read_field,
                        "update": self._write_field,
                        "delete": self._reset_field,
                    },
                    takes={name: ROLE_FIELDS[name] for name in _names_of(word)},
                )
                for word in FIELDS
            ),
            *self._secret_ids.endpoints,
            Endpoint(
                "login",
                {"update": self._login},
                public=True,
                takes=fields(text="role_id secret_id"),
            ),
        )

    def exists(self, call: Call) -> bool:
        kind, _, name = call.rest.partition("/")
        if kind != ROLE or "/" in name:
            return True
        return self._context.view.document(call.mount.uuid, ROLE, name.lower()) is not None

    # roles

    def _list(self, call: Call) -> Result:
        return listed(self._context.view.document_names(call.mount.uuid, ROLE))

    def _role(self, call: Call) -> dict[str, Any]:
        name = call.args["role_name"].lower()
        return present(self._context.view.document(call.mount.uuid, ROLE, name))

    def _read(self, call: Call) -> Result:
        shown = shown_role(self._role(call))
        return Result({key: value for key, value in shown.items() if key != "role_id"})

    async def _write(self, call: Call) -> None:
        await self._change(call, lambda old: self._role_from(call, old), only_there=False)

    def _role_from(self, call: Call, old: Mapping[str, Any]) -> dict[str, Any]:
        read = RoleReader(call, old)
        local = read.flag("local_secret_ids")
        if old and local != old["local_secret_ids"]:
            raise Invalid(
                "fixed-field", "local_secret_ids can only be modified during role creation"
            )
        return {
            "bind_secret_id": read.flag("bind_secret_id", default=True),
            "local_secret_ids": local,
            "secret_id_bound_cidrs": read.cidrs("secret_id_bound_cidrs", "bound_cidr_list"),
            "secret_id_num_uses": read.count("secret_id_num_uses"),
            "secret_id_ttl": read.seconds("secret_id_ttl"),
            # As a login reads it.
            "role_id": call.text("role_id").strip() or old.get("role_id") or str(self._new_id()),
            **read.token_fields(),
        }

    async def _change(
        self,
        call: Call,
        changed: Callable[[Mapping[str, Any]], dict[str, Any]],
        *,
        only_there: bool,
    ) -> None:
        mount, name = call.mount.uuid, call.args["role_name"].lower()

        def write(transaction: Transaction) -> None:
            old = transaction.document(mount, ROLE, name)
            if old is None and only_there:
                raise nothing_here()
            role = changed(old or {})
            bound = role["bind_secret_id"] or role["secret_id_bound_cidrs"]
            if not bound and not role["token_bound_cidrs"]:
                raise Invalid(
                    "unbound-role", "at least one constraint should be enabled on the role"
                )
            if old is not None and old["role_id"] != role["role_id"]:
                self._forget(transaction, mount, old["role_id"])
            if old is None or old["role_id"] != role["role_id"]:
                self._check_free(transaction, mount, role["role_id"], name)
            for kind, key in self._places(role["role_id"]):
                transaction.put_document(mount, kind, key, {"role": name})
            transaction.put_document(mount, ROLE, name, role)

        await self._context.engine.transact(write)

    def _role_id_key(self, role_id: str) -> str:
        return self._context.fingerprint(f"approle role id\n{role_id}".encode())

    def _places(self, role_id: str) -> tuple[tuple[str, str], tuple[str, str]]:
        """Where it is kept whose a role id is: as it is written, and without its case.

        Two ids that differ in their case alone would be one entity: whoever may write one role
        and choose its id would log in as what another role is.
        """
        alias = self._role_id_key(canonical_alias("approle", role_id))
        return (ROLE_ID, self._role_id_key(role_id)), (ALIAS, alias)

    def _check_free(self, transaction: Transaction, mount: str, role_id: str, name: str) -> None:
        # Roles of earlier versions stand under the id as it is written alone.
        earlier = ROLE_ID, self._role_id_key(role_id.lower())
        alias = canonical_alias("approle", role_id)
        for kind, key in (*self._places(role_id), earlier):
            holder = (transaction.document(mount, kind, key) or {"role": name})["role"]
            role = transaction.document(mount, ROLE, holder) if holder != name else None
            # The release before takes the second place from no role that it removes or renames.
            if role is not None and canonical_alias("approle", role["role_id"]) == alias:
                raise Invalid("role-id-in-use", "role_id already in use by another role")

    def _forget(self, transaction: Transaction, mount: str, role_id: str) -> None:
        for kind, key in self._places(role_id):
            transaction.delete_document(mount, kind, key)

    async def _delete(self, call: Call) -> None:
        mount, name = call.mount.uuid, call.args["role_name"].lower()

        def write(transaction: Transaction) -> None:
            role = transaction.document(mount, ROLE, name)
            if role is not None:
                self._forget(transaction, mount, role["role_id"])
                transaction.delete_document(mount, ROLE, name)
                transaction.delete_secret_ids(mount, name)

        await self._context.engine.transact(write)

    # one field of a role

    def _read_role_id(self, call: Call) -> Result:
        return Result({"role_id": self._role(call)["role_id"]})

    async def _write_role_id(self, call: Call) -> None:
        role_id = call.text("role_id").strip()
        if not role_id:
            raise Invalid("no-role-id", "missing role_id")
        await self._change(call, lambda old: {**old, "role_id": role_id}, only_there=True)

    def _read_local(self, call: Call) -> Result:
        return Result({"local_secret_ids": self._role(call)["local_secret_ids"]})

    def _read_field(self, call: Call) -> Result:
        word = call.rest.rpartition("/")[2]
        value = self._role(call)[FIELDS[word]]
        older = {_SHOWN_TOO[word]: value} if word in _SHOWN_TOO else {}
        return Result({FIELDS[word]: value, **older})

    async def _write_field(self, call: Call) -> None:
        word = call.rest.rpartition("/")[2]
        field = FIELDS[word]
        if _names_of(word).isdisjoint(call.data):
            raise Invalid("no-value", f"missing {field}")

        def changed(old: Mapping[str, Any]) -> dict[str, Any]:
            return {**old, field: self._role_from(call, old)[field]}

        await self._change(call, changed, only_there=True)

    async def _reset_field(self, call: Call) -> None:
        field = FIELDS[call.rest.rpartition("/")[2]]
        empty = {"bind_secret_id": True}

        def changed(old: Mapping[str, Any]) -> dict[str, Any]:
            blank: Any = [] if isinstance(old[field], list) else 0
            return {**old, field: empty.get(field, blank)}

        await self._change(call, changed, only_there=True)

    # login

    async def _login(self, call: Call) -> Result:
        role_id, text = call.text("role_id").strip(), call.text("secret_id").strip()
        if not role_id:
            raise Invalid("no-role-id", "missing role_id")
        mount, view = call.mount.uuid, self._context.view
        user = role_id.lower()
        self._lockout.check(call.mount, user)
        index = view.document(mount, ROLE_ID, self._role_id_key(role_id))
        name = index["role"] if index else ""
        role = view.document(mount, ROLE, name) if name else None
        secret = view.secret_id(mount, secret_id_key(self._context, mount, name, text))
        if role is not None and role["bind_secret_id"] and not text:
            raise Invalid("no-secret-id", "missing secret_id")
        if role is None or (role["bind_secret_id"] and not self._is_good(secret, name)):
            await self._lockout.failed(call.mount, user)
            raise Invalid("bad-login", "invalid role or secret ID")
        if not role["bind_secret_id"]:
            secret = None
        _check_networks(call, role, secret)
        return await self._granted(call, name, role, secret)

    def _is_good(self, secret: SecretIdRow | None, name: str) -> bool:
        return (
            secret is not None
            and constant_time_equal(secret.role.encode(), name.encode())
            and secret.uses_left >= 0
            and (secret.expires is None or secret.expires > self._context.clock.now())
        )

    async def _granted(
        self, call: Call, name: str, role: dict[str, Any], secret: SecretIdRow | None
    ) -> Result:
        mount = call.mount.uuid

        def still(transaction: Transaction) -> None:
            if transaction.document(mount, ROLE, name) != role:
                raise Denied("role-changed", "permission denied")
            if secret is not None:
                current = transaction.secret_id(mount, secret.id)
                if current is None or not self._is_good(current, name):
                    raise Invalid("bad-login", "invalid role or secret ID")
                if current.uses_left and not transaction.use_secret_id(mount, secret.id):
                    raise Invalid("bad-login", "invalid role or secret ID")
            self._lockout.succeeded(transaction, call.mount, role["role_id"].lower())

        metadata = {**(secret.metadata if secret else {}), "role_name": name}
        networks = _token_networks(role, secret)
        grant = role_grant(call.mount, name, {**role, "token_bound_cidrs": networks}, "", metadata)
        alias = LoginAlias(role["role_id"], {"role_name": name})
        return await log_in(self._context, call, grant, alias, still)


def _token_networks(role: Mapping[str, Any], secret: SecretIdRow | None) -> list[str]:
    """Where a token may be used: the role may be narrower than when the secret id was made.

    Raises Denied where that leaves no place.
    """
    of_role: list[str] = role["token_bound_cidrs"]
    of_secret = secret.token_cidrs if secret else ()
    if not of_secret or not of_role:
        return list(of_secret or of_role)
    both = overlap(of_secret, of_role)
    if not both:
        raise Denied("outside-networks", "permission denied")
    return both


def _check_networks(call: Call, role: Mapping[str, Any], secret: SecretIdRow | None) -> None:
    for networks, words in (
        (role["secret_id_bound_cidrs"], "by CIDR restrictions on the role"),
        (secret.cidrs if secret else (), "through CIDR restrictions on the secret ID"),
    ):
        if not within(call.peer, networks):
            raise Invalid("outside-networks", f'source address "{call.peer}" unauthorized {words}')
