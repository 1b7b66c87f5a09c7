"""The `x_forwarded_for_*` fields of a listener: which proxies may say who their client is."""

import ipaddress
from typing import Any, Final

from strongroom.app.store_config.flag_fields import flag_of
from strongroom.model.errors import Invalid
from strongroom.wire.forwarded import ForwardedFor

_FIELD: Final = "x_forwarded_for_"
TRUSTED: Final = _FIELD + "authorized_addrs"
FIELDS: Final = frozenset(
    _FIELD + each
    for each in ("authorized_addrs", "hop_skips", "reject_not_authorized", "reject_not_present")
)


def forwarded_for(fields: dict[str, Any], place: str) -> ForwardedFor | None:
    """The rules, None where no proxy is named; raises Invalid(`bad-config`)."""
    given = fields.get(TRUSTED) or []
    named = given.split(",") if isinstance(given, str) else given
    if not named:
        if FIELDS & fields.keys():
            raise Invalid(
                "bad-config",
                f"{place}: {TRUSTED} names no proxy, so the others of its fields mean nothing",
            )
        return None
    try:
        trusted = tuple(ipaddress.ip_network(str(each).strip(), strict=False) for each in named)
        skip = int(fields.get(_FIELD + "hop_skips") or 0)
        if skip < 0:
            raise ValueError
    except ValueError:
        raise Invalid(
            "bad-config",
            f"{place}: {TRUSTED} are addresses and networks, {_FIELD}hop_skips is a number",
        ) from None
    return ForwardedFor(
        trusted,
        skip,
        needed=flag_of(fields, _FIELD + "reject_not_present", place, default=True),
        trusted_only=flag_of(fields, _FIELD + "reject_not_authorized", place, default=True),
    )


def _bad(place: str, what: str) -> Invalid:
    return Invalid("bad-config", f"{place}: {what}")
