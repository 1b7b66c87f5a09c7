"""`auth/cert`: the TLS certificate of the connection becomes a store token.

API: https://developer.hashicorp.com/vault/api-docs/auth/cert. The listener only shows the
certificate; whether it is trusted is decided here, against the roles.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from strongroom.crypto.client_certificates import (
    ClientCertificate,
    RevocationList,
    is_revoked,
    is_trusted,
    read_certificate,
    read_certificates,
    read_revocation_list,
)
from strongroom.model.errors import Denied, Invalid
from strongroom.store.auth.login import log_in
from strongroom.store.auth.renewal import CERTIFICATE
from strongroom.store.auth.role_fields import RoleReader, role_grant
from strongroom.store.auth.token_roles import glob_matches
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import nothing_here
from strongroom.store.identity.at_login import LoginAlias

CERT: Final = "cert"
CRL: Final = "crl"
CONFIG: Final = "config"
_NAMES: Final = (
    "allowed_names", "allowed_common_names", "allowed_dns_sans", "allowed_email_sans",
    "allowed_uri_sans", "allowed_organizational_units", "required_extensions",
    "allowed_metadata_extensions",
)  # fmt: skip


class CertAuth:
    """The backend of every cert mount."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("config", {"read": self._read_config, "update": self._write_config}),
            Endpoint("certs", {"list": self._list(CERT)}),
            Endpoint(
                "certs/{name}",
                {
                    "read": self._read,
                    "create": self._write,
                    "update": self._write,
                    "delete": self._delete(CERT),
                },
            ),
            Endpoint("crls", {"list": self._list(CRL)}),
            Endpoint(
                "crls/{name}",
                {
                    "read": self._read_crl,
                    "update": self._write_crl,
                    "delete": self._delete(CRL),
                },
            ),
            Endpoint("login", {"update": self._login}, public=True),
        )

    def exists(self, call: Call) -> bool:
        kind, _, name = call.rest.partition("/")
        if kind != "certs":
            return True
        return self._context.view.document(call.mount.uuid, CERT, name.lower()) is not None

    # configuration

    def _config(self, call: Call) -> dict[str, Any]:
        usual = {"disable_binding": False, "enable_identity_alias_metadata": False}
        return {**usual, **(self._context.view.document(call.mount.uuid, CONFIG, "") or {})}

    def _read_config(self, call: Call) -> Result:
        return Result(self._config(call))

    async def _write_config(self, call: Call) -> None:
        old, mount = self._config(call), call.mount.uuid
        config = {name: call.flag(name, default=old[name]) for name in old}
        await self._context.engine.transact(
            lambda transaction: transaction.put_document(mount, CONFIG, "", config)
        )

    def _list(self, kind: str) -> Any:  # noqa: ANN401 - a handler
        def handler(call: Call) -> Result:
            names = self._context.view.document_names(call.mount.uuid, kind)
            if not names:
                raise nothing_here()
            return Result({"keys": list(names)})

        return handler

    def _delete(self, kind: str) -> Any:  # noqa: ANN401 - a handler
        async def handler(call: Call) -> None:
            mount, name = call.mount.uuid, call.args["name"].lower()
            await self._context.engine.transact(
                lambda each: each.delete_document(mount, kind, name)
            )

        return handler

    def _read(self, call: Call) -> Result:
        role = self._context.view.document(call.mount.uuid, CERT, call.args["name"].lower())
        if role is None:
            raise nothing_here()
        return Result(role)

    async def _write(self, call: Call) -> None:
        mount, name = call.mount.uuid, call.args["name"].lower()

        def write(transaction: Transaction) -> None:
            old = transaction.document(mount, CERT, name) or {}
            read = RoleReader(call, old)
            role: dict[str, Any] = {
                "certificate": read.text("certificate"),
                "display_name": read.text("display_name") or name,
                **{each: read.texts(each) for each in _NAMES},
                **read.token_fields(),
            }
            if not role["certificate"]:
                raise Invalid("no-certificate", "failed to parse certificate")
            read_certificates(role["certificate"])
            transaction.put_document(mount, CERT, name, role)

        await self._context.engine.transact(write)

    # revocation lists

    def _read_crl(self, call: Call) -> Result:
        found = self._context.view.document(call.mount.uuid, CRL, call.args["name"].lower())
        if found is None:
            raise Invalid("no-crl", f"no such CRL {call.args['name'].lower()}")
        return Result(
            {"issuer": found["issuer"], "serials": {each: {} for each in found["serials"]}}
        )

    async def _write_crl(self, call: Call) -> None:
        text = call.text("crl").strip()
        if not text:
            raise Invalid("no-crl", "one of 'crl' is required", hint="give the list itself")
        try:
            data = text.encode() if text.startswith("-----") else base64.b64decode(text)
        except binascii.Error:
            raise Invalid("bad-crl", "failed to parse CRL") from None
        found = read_revocation_list(data)
        mount, name = call.mount.uuid, call.args["name"].lower()
        kept = {"issuer": found.issuer, "serials": list(found.serials)}
        await self._context.engine.transact(
            lambda transaction: transaction.put_document(mount, CRL, name, kept)
        )

    def _lists(self, mount: str) -> list[RevocationList]:
        view = self._context.view
        found = (view.document(mount, CRL, name) for name in view.document_names(mount, CRL))
        return [RevocationList(each["issuer"], tuple(each["serials"])) for each in found if each]

    # login

    async def _login(self, call: Call) -> Result:
        if call.certificate is None:
            raise Invalid("no-certificate", "client certificate must be supplied")
        shown, mount = read_certificate(call.certificate), call.mount.uuid
        now, trusted = self._context.clock.now(), False
        if is_revoked(shown, self._lists(mount)):
            raise Invalid("revoked", "invalid certificate or no client certificate supplied")
        for name, role in self._roles(call):
            if not is_trusted(shown, read_certificates(role["certificate"]), now):
                continue
            trusted = True
            if meets(shown, role):
                return await self._granted(call, name, role, shown)
        if trusted:
            raise Invalid(
                "constraints",
                "no chain matching all constraints could be found for this login certificate",
            )
        raise Invalid("not-trusted", "invalid certificate or no client certificate supplied")

    def _roles(self, call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
        view, mount = self._context.view, call.mount.uuid
        wanted = call.text("name").lower()
        for name in [wanted] if wanted else view.document_names(mount, CERT):
            role = view.document(mount, CERT, name)
            if role is not None:
                yield name, role

    async def _granted(
        self, call: Call, name: str, role: dict[str, Any], shown: ClientCertificate
    ) -> Result:
        subject_key, authority_key = shown.key_ids
        metadata = {
            "cert_name": name,
            "common_name": shown.common_name,
            "serial_number": shown.serial,
            "subject_key_id": subject_key,
            "authority_key_id": authority_key,
            **_of_extensions(shown, role["allowed_metadata_extensions"]),
        }
        mount = call.mount.uuid

        def still(transaction: Transaction) -> None:
            if transaction.document(mount, CERT, name) != role:
                raise Denied("role-changed", "permission denied")

        bound = {CERTIFICATE: shown.fingerprint}
        grant = role_grant(call.mount, name, role, role["display_name"], metadata, internal=bound)
        kept = metadata if self._config(call)["enable_identity_alias_metadata"] else {}
        alias = LoginAlias(shown.common_name or shown.fingerprint, kept)
        return await log_in(self._context, call, grant, alias, still)


def meets(shown: ClientCertificate, role: Mapping[str, Any]) -> bool:
    """Whether a certificate has what a role asks for; each list that is given must match. Pure."""
    every = (shown.common_name, *shown.dns_names, *shown.emails)
    return (
        _matches(every, role["allowed_names"])
        and _matches((shown.common_name,), role["allowed_common_names"])
        and _matches(shown.dns_names, role["allowed_dns_sans"])
        and _matches(shown.emails, role["allowed_email_sans"])
        and _matches(shown.uris, role["allowed_uri_sans"])
        and _matches(shown.units, role["allowed_organizational_units"])
        and all(_has_extension(shown, each) for each in role["required_extensions"])
    )


def _matches(values: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return True
    return any(value and glob_matches(each, value) for each in patterns for value in values)


def _has_extension(shown: ClientCertificate, wanted: str) -> bool:
    """`oid:pattern`, or `hex:oid:pattern` for a pattern of the raw value's digits."""
    as_hex = wanted.startswith("hex:")
    oid, _, pattern = wanted.removeprefix("hex:").partition(":")
    value = shown.extensions.get(oid)
    if value is None:
        return False
    return glob_matches(pattern, value.hex() if as_hex else _text(value))


def _text(value: bytes) -> str:
    """The text of a short ASN.1 string (tag, length, text), or of the raw bytes."""
    if len(value) >= 2 and value[0] in (0x0C, 0x13, 0x16) and value[1] == len(value) - 2:
        value = value[2:]
    return value.decode("utf-8", "replace")


def _of_extensions(shown: ClientCertificate, wanted: Sequence[str]) -> dict[str, str]:
    found = {oid: shown.extensions.get(oid) for oid in wanted}
    return {oid.replace(".", "-"): _text(value) for oid, value in found.items() if value}
