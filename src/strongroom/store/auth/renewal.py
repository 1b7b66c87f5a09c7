"""What bounds a renewal: the role, user or certificate the token came from, as it is now."""

from collections.abc import Mapping
from typing import Any, Final

from strongroom.crypto.client_certificates import read_certificate
from strongroom.crypto.tokens import constant_time_equal
from strongroom.model.errors import Invalid
from strongroom.store.auth.cert_match import CERTIFICATE, Verdict, judge, lists_of
from strongroom.store.call import Call
from strongroom.store.engine.contract import MountRow, TokenRow, Transaction
from strongroom.store.routing import unknown_type
from strongroom.store.tokens import Bounds, Grant, bounds_of, clean_policies

CERTIFICATE_LOST: Final = "the certificate of the login is no longer accepted, not renewing"
# Where each method keeps what a login went by.
_KINDS: Final = {
    **dict.fromkeys(("token", "approle", "kubernetes", "jwt", "oidc"), "role"),
    "userpass": "user",
    "cert": "cert",
}


def renewal_grant(
    row: TokenRow, transaction: Transaction, system: Bounds, call: Call, now: float
) -> tuple[Grant, Bounds]:
    """The limits of a renewal now.

    Raises Invalid when the role is gone, its policies have changed, or the client shows another
    certificate than at the login, or one that would not log in any more; Unavailable for a method
    of a later version, whose roles are not known here.
    """
    mount = _mount_of(row, transaction)
    if mount is not None and mount.type not in _KINDS:
        raise unknown_type(mount)
    bounds = bounds_of(mount, system) if mount else system
    role: Mapping[str, Any] = {}
    if mount is not None and row.role:
        found = transaction.document(mount.uuid, _KINDS[mount.type], row.role)
        if found is None:
            raise Invalid(
                "role-gone", f'original role "{row.role}" could not be found, not renewing'
            )
        role = found
        if mount.type != "token":
            _check_policies(row, role)
        _check_certificate(row, transaction, role, call, now)
    period = int(role.get("token_period") or 0) if role else row.period
    return (
        Grant(
            policies=row.policies,
            display_name=row.display_name,
            path=row.path,
            ttl=int(role.get("token_ttl") or 0) or _own_ttl(row, mount),
            max_ttl=int(role.get("token_max_ttl") or 0),
            explicit_max_ttl=row.explicit_max_ttl,
            period=min(period, row.period) if period and row.period else period or row.period,
        ),
        bounds,
    )


def _own_ttl(row: TokenRow, mount: MountRow | None) -> int:
    """A token that another token made is renewed for as long as it had; 0 for a login's."""
    return row.ttl if mount is not None and mount.type == "token" else 0


def _mount_of(row: TokenRow, transaction: Transaction) -> MountRow | None:
    mounts = [each for each in transaction.mounts() if each.kind == "auth"]
    if row.mount:
        return next((each for each in mounts if each.uuid == row.mount), None)
    # A token of a version that did not keep the mount.
    path = row.path.removeprefix("auth/")
    return next((each for each in mounts if path.startswith(each.path)), None)


def _check_policies(row: TokenRow, role: Mapping[str, Any]) -> None:
    now = clean_policies(role["token_policies"], with_default=not role["token_no_default_policy"])
    if now != row.policies:
        raise Invalid("policies-changed", "policies have changed, not renewing")


def _check_certificate(
    row: TokenRow, transaction: Transaction, role: Mapping[str, Any], call: Call, now: float
) -> None:
    bound = row.internal.get(CERTIFICATE)
    config = transaction.document(row.mount, "config", "") or {}
    if not bound or config.get("disable_binding"):
        return
    if not constant_time_equal(bound.encode(), call.certificate_fingerprint.encode()):
        raise Invalid(
            "other-certificate", "client identity during renewal not matching client identity"
            " used during login",
        )  # fmt: skip
    shown = read_certificate(call.certificate or b"", call.chain)
    lists = lists_of(transaction, row.mount)
    if judge(shown, role, lists, now).verdict is not Verdict.ACCEPTED:
        raise Invalid("certificate-lost", CERTIFICATE_LOST)
