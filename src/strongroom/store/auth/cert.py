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
    read_certificate,
    read_certificates,
    read_revocation_list,
)
from strongroom.model.errors import Invalid
from strongroom.store.auth.cert_match import (
    CERT,
    CERTIFICATE,
    CRL,
    Verdict,
    extension_text,
    judge,
    lists_of,
)
from strongroom.store.auth.login import log_in
from strongroom.store.auth.role_fields import TOKEN_FIELDS, RoleReader, refuse, role_grant
from strongroom.store.auth.roles import Roles
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.envelope import nothing_here
from strongroom.store.identity.at_login import LoginAlias
from strongroom.store.parameters import fields

CONFIG: Final = "config"
_NAMES: Final = (
    "allowed_names", "allowed_common_names", "allowed_dns_sans", "allowed_email_sans",
    "allowed_uri_sans", "allowed_organizational_units", "required_extensions",
    "allowed_metadata_extensions",
)  # fmt: skip
_NO_OCSP: Final = "certificates are checked against revocation lists; write them to crls/NAME"
_NOT_SERVED: Final = {
    "ocsp_enabled": _NO_OCSP, "ocsp_ca_certificates": _NO_OCSP, "ocsp_servers_override": _NO_OCSP,
    "ocsp_fail_open": _NO_OCSP, "ocsp_query_all_servers": _NO_OCSP,
}  # fmt: skip
_NO_CACHE: Final = "nothing is kept in a cache of its own, so there is no size to set"
_CACHES: Final = ("ocsp_cache_size", "role_cache_size")

ROLE_FIELDS: Final = fields(
    TOKEN_FIELDS,
    text="certificate display_name ocsp_ca_certificates",
    texts=f"{' '.join(_NAMES)} ocsp_servers_override",
    flag="ocsp_enabled ocsp_fail_open ocsp_query_all_servers",
)


class CertAuth:
    """The backend of every cert mount."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._roles = Roles(context, role_from, ROLE_FIELDS, "certs", CERT)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "config",
                {"read": self._read_config, "update": self._write_config},
                takes=fields(
                    flag="disable_binding enable_identity_alias_metadata", number=" ".join(_CACHES)
                ),
            ),
            *self._roles.endpoints,
            Endpoint("crls", {"list": self._list_crls}),
            Endpoint(
                "crls/{name}",
                {
                    "read": self._read_crl,
                    "update": self._write_crl,
                    "delete": self._delete_crl,
                },
                takes=fields(text="crl url"),
            ),
            Endpoint("login", {"update": self._login}, public=True, takes=fields(text="name")),
        )

    def exists(self, call: Call) -> bool:
        return self._roles.exists(call)

    # configuration

    def _config(self, call: Call) -> dict[str, Any]:
        usual = {"disable_binding": False, "enable_identity_alias_metadata": False}
        return {**usual, **(self._context.view.document(call.mount.uuid, CONFIG, "") or {})}

    def _read_config(self, call: Call) -> Result:
        return Result(self._config(call))

    async def _write_config(self, call: Call) -> Result | None:
        old, mount = self._config(call), call.mount.uuid
        config = {name: call.flag(name, default=old[name]) for name in old}
        await self._context.engine.transact(
            lambda transaction: transaction.put_document(mount, CONFIG, "", config)
        )
        ignored = [name for name in _CACHES if name in call.data]
        return Result(warnings=(f"{', '.join(ignored)}: {_NO_CACHE}",)) if ignored else None

    # revocation lists

    def _list_crls(self, call: Call) -> Result:
        names = self._context.view.document_names(call.mount.uuid, CRL)
        if not names:
            raise nothing_here()
        return Result({"keys": list(names)})

    async def _delete_crl(self, call: Call) -> None:
        mount, name = call.mount.uuid, call.args["name"].lower()
        await self._context.engine.transact(lambda each: each.delete_document(mount, CRL, name))

    def _read_crl(self, call: Call) -> Result:
        found = self._context.view.document(call.mount.uuid, CRL, call.args["name"].lower())
        if found is None:
            raise Invalid("no-crl", f"no such CRL {call.args['name'].lower()}")
        return Result(
            {"issuer": found["issuer"], "serials": {each: {} for each in found["serials"]}}
        )

    async def _write_crl(self, call: Call) -> None:
        refuse(call, {"url": "the store fetches no lists; write the list itself as crl"})
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

    # login

    async def _login(self, call: Call) -> Result:
        if call.certificate is None:
            raise Invalid("no-certificate", "client certificate must be supplied")
        shown, now = read_certificate(call.certificate), self._context.clock.now()
        lists, constrained = lists_of(self._context.view, call.mount.uuid), False
        for name, role in self._candidates(call):
            verdict = judge(shown, role, lists, now)
            if verdict is Verdict.ACCEPTED:
                return await self._granted(call, name, role, shown)
            constrained = constrained or verdict is Verdict.CONSTRAINED
        if constrained:
            raise Invalid(
                "constraints",
                "no chain matching all constraints could be found for this login certificate",
            )
        raise Invalid("not-trusted", "invalid certificate or no client certificate supplied")

    def _candidates(self, call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
        mount, wanted = call.mount.uuid, call.text("name").lower()
        for name in [wanted] if wanted else self._roles.names(mount):
            role = self._roles.get(mount, name)
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
        still = self._roles.unchanged(call.mount.uuid, name, role)
        bound = {CERTIFICATE: shown.fingerprint}
        grant = role_grant(call.mount, name, role, role["display_name"], metadata, internal=bound)
        kept = metadata if self._config(call)["enable_identity_alias_metadata"] else {}
        alias = LoginAlias(shown.common_name or shown.fingerprint, kept)
        return await log_in(self._context, call, grant, alias, still)


def role_from(call: Call, old: Mapping[str, Any]) -> dict[str, Any]:
    """A role; raises Invalid."""
    refuse(call, _NOT_SERVED)
    read = RoleReader(call, old)
    role: dict[str, Any] = {
        "certificate": read.text("certificate"),
        "display_name": read.text("display_name") or call.args["name"].lower(),
        **{each: read.texts(each) for each in _NAMES},
        **read.token_fields(),
    }
    if not role["certificate"]:
        raise Invalid("no-certificate", "failed to parse certificate")
    read_certificates(role["certificate"])
    return role


def _of_extensions(shown: ClientCertificate, wanted: Sequence[str]) -> dict[str, str]:
    found = {oid: shown.extensions.get(oid) for oid in wanted}
    return {oid.replace(".", "-"): extension_text(value) for oid, value in found.items() if value}
