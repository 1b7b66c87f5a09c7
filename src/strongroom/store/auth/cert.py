"""`auth/cert`: the TLS certificate of the connection becomes a store token.

API: https://developer.hashicorp.com/vault/api-docs/auth/cert. The listener only shows the
certificate; whether it is trusted is decided here, against the roles.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from strongroom.crypto.client_certificates import (
    ClientCertificate,
    read_certificate,
    read_certificates,
)
from strongroom.crypto.ocsp import read_authorities
from strongroom.model.errors import Invalid
from strongroom.store.auth.cert_lists import CertLists
from strongroom.store.auth.cert_match import (
    CERT,
    CERTIFICATE,
    Judgement,
    Verdict,
    extension_text,
    judge,
    lists_of,
)
from strongroom.store.auth.cert_ocsp import USUAL_SIZE, OcspChecks
from strongroom.store.auth.fetching import Fetch, check_address, fetch_over_http
from strongroom.store.auth.login import log_in
from strongroom.store.auth.renewal import CERTIFICATE_LOST
from strongroom.store.auth.role_fields import TOKEN_FIELDS, RoleReader, role_grant
from strongroom.store.auth.roles import Roles
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import TokenRow, Transaction, View
from strongroom.store.identity.at_login import LoginAlias
from strongroom.store.parameters import fields

CONFIG: Final = "config"
_NAMES: Final = (
    "allowed_names", "allowed_common_names", "allowed_dns_sans", "allowed_email_sans",
    "allowed_uri_sans", "allowed_organizational_units", "required_extensions",
    "allowed_metadata_extensions",
)  # fmt: skip
_OCSP_FLAGS: Final = ("ocsp_enabled", "ocsp_fail_open", "ocsp_query_all_servers")
_CONSTRAINED: Final = "no chain matching all constraints could be found for this login certificate"
_FLAGS: Final = ("disable_binding", "enable_identity_alias_metadata")
_NO_CACHE: Final = "role_cache_size: roles are kept in no cache of their own"
MOST_ANSWERS: Final = 100_000

ROLE_FIELDS: Final = fields(
    TOKEN_FIELDS,
    text="certificate display_name ocsp_ca_certificates",
    texts=f"{' '.join(_NAMES)} ocsp_servers_override",
    flag=" ".join(_OCSP_FLAGS),
)


class CertAuth:
    """The backend of every cert mount."""

    def __init__(self, context: Context, fetch: Fetch = fetch_over_http) -> None:
        self._context = context
        self._lists = CertLists(context, fetch)
        self._ocsp = OcspChecks(context.clock, fetch, context.notices)
        self._roles = Roles(context, role_from, ROLE_FIELDS, "certs", CERT)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "config",
                {"read": self._read_config, "update": self._write_config},
                takes=fields(flag=" ".join(_FLAGS), number="ocsp_cache_size role_cache_size"),
            ),
            *self._roles.endpoints,
            *self._lists.endpoints,
            Endpoint("login", {"update": self._login}, public=True, takes=fields(text="name")),
        )

    def exists(self, call: Call) -> bool:  # noqa: ARG002
        """True: here Vault never asks for `create`, not even to write a role that is new."""
        return True

    def forget_removed(self) -> None:
        """Keep nothing of mounts that are gone; called when mounts may have changed."""
        kept = self._lists.mounts | self._ocsp.mounts
        if kept:
            gone = kept - {each.uuid for each in self._context.view.mounts()}
            self._lists.forget(gone)
            self._ocsp.forget(gone)

    # configuration

    def _config(self, mount: str, view: View | None = None) -> dict[str, Any]:
        usual = {**dict.fromkeys(_FLAGS, False), "ocsp_cache_size": USUAL_SIZE}
        return {**usual, **((view or self._context.view).document(mount, CONFIG, "") or {})}

    def _read_config(self, call: Call) -> Result:
        return Result(self._config(call.mount.uuid))

    async def _write_config(self, call: Call) -> Result | None:
        mount = call.mount.uuid

        def write(transaction: Transaction) -> None:
            config = self._config(mount, transaction)
            config |= {name: call.flag(name, default=config[name]) for name in _FLAGS}
            size = call.integer("ocsp_cache_size", config["ocsp_cache_size"])
            if not 2 <= size <= MOST_ANSWERS:
                raise Invalid(
                    "bad-parameter", f"invalid cache size, must be >= 2 and <= {MOST_ANSWERS}"
                )
            changed = {**config, "ocsp_cache_size": size}
            transaction.put_document(mount, CONFIG, "", changed)

        await self._context.engine.transact(write)
        return Result(warnings=(_NO_CACHE,)) if "role_cache_size" in call.data else None

    # login

    async def _login(self, call: Call) -> Result:
        if call.certificate is None:
            raise Invalid("no-certificate", "client certificate must be supplied")
        shown = read_certificate(call.certificate, call.chain)
        mount, now = call.mount.uuid, self._context.clock.now()
        candidates = list(self._candidates(call))
        due = self._lists.due(mount)
        # Strangers make the store fetch nothing.
        if due and any(_would_accept(shown, role, now) for _, role in candidates):
            await self._lists.refresh(mount, due)
        lists, now = lists_of(self._context.view, mount), self._context.clock.now()
        seen, problems = set(), []
        for name, role in candidates:
            judged = judge(shown, role, lists, now)
            seen.add(judged.verdict)
            if judged.verdict is Verdict.ACCEPTED:
                refused = await self._revoked(mount, role, judged)
                if not refused:
                    return await self._granted(call, name, role, shown)
                problems.append(refused)
        raise _refusal(seen, problems)

    async def _revoked(self, mount: str, role: dict[str, Any], judged: Judgement) -> str:
        size = self._config(mount)["ocsp_cache_size"]
        return await self._ocsp.refusal(judged.chain, role, mount, size)

    async def before_renewal(self, row: TokenRow, call: Call) -> None:
        """What is asked of others before a token of a certificate is renewed; raises Invalid.

        Everything else about the certificate is looked at in the transaction of the renewal.
        """
        bound = row.internal.get(CERTIFICATE)
        if not bound or self._config(row.mount)["disable_binding"]:
            return
        role = self._roles.get(row.mount, row.role)
        if role is None or not call.certificate or call.certificate_fingerprint != bound:
            return
        shown = read_certificate(call.certificate, call.chain)
        due = self._lists.due(row.mount)
        if due and _would_accept(shown, role, self._context.clock.now()):
            await self._lists.refresh(row.mount, due)
        lists = lists_of(self._context.view, row.mount)
        judged = judge(shown, role, lists, self._context.clock.now())
        if judged.verdict is Verdict.ACCEPTED:
            refused = await self._revoked(row.mount, role, judged)
            if refused:
                raise Invalid("certificate-lost", f"{CERTIFICATE_LOST}: {refused}")

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
        kept = metadata if self._config(call.mount.uuid)["enable_identity_alias_metadata"] else {}
        alias = LoginAlias(shown.common_name or shown.fingerprint, kept)
        return await log_in(self._context, call, grant, alias, still)


def role_from(call: Call, old: Mapping[str, Any]) -> dict[str, Any]:
    """A role; raises Invalid."""
    read = RoleReader(call, old)
    role: dict[str, Any] = {
        "certificate": read.text("certificate"),
        "display_name": read.text("display_name") or call.args["name"].lower(),
        **{each: read.texts(each) for each in _NAMES},
        "ocsp_ca_certificates": read.text("ocsp_ca_certificates"),
        "ocsp_servers_override": read.texts("ocsp_servers_override"),
        **{each: read.flag(each) for each in _OCSP_FLAGS},
        **read.token_fields(),
    }
    if not role["certificate"]:
        raise Invalid("no-certificate", "failed to parse certificate")
    read_certificates(role["certificate"])
    read_authorities(role["ocsp_ca_certificates"])
    for each in role["ocsp_servers_override"]:
        check_address(each, "ocsp_servers_override")
    return role


def _would_accept(shown: ClientCertificate, role: Mapping[str, Any], now: float) -> bool:
    """Whether a role lets a certificate in if nothing is revoked."""
    return judge(shown, role, (), now).verdict is Verdict.ACCEPTED


def _refusal(seen: set[Verdict], problems: Sequence[str]) -> Invalid:
    """Why nobody is logged in, of the verdict that came nearest."""
    if problems:
        return Invalid(
            "revocation", f"{_CONSTRAINED}; additionally got errors during verification: "
            + "; ".join(dict.fromkeys(problems)),
        )  # fmt: skip
    if Verdict.UNSURE in seen:
        return Invalid(
            "old-crl", f"{_CONSTRAINED}: the revocation list of its issuer is out of date and"
            " could not be fetched",
        )  # fmt: skip
    if Verdict.CONSTRAINED in seen:
        return Invalid("constraints", _CONSTRAINED)
    return Invalid("not-trusted", "invalid certificate or no client certificate supplied")


def _of_extensions(shown: ClientCertificate, wanted: Sequence[str]) -> dict[str, str]:
    found = {oid: shown.extensions.get(oid) for oid in wanted}
    return {oid.replace(".", "-"): extension_text(value) for oid, value in found.items() if value}
