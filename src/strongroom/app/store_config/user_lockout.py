"""The `user_lockout` stanzas: when users of a method are locked, where its mount does not say.

`VAULT_DISABLE_USER_LOCKOUT` goes before them, and before what a mount is tuned to, as in Vault.

Format: https://developer.hashicorp.com/vault/docs/configuration/user-lockout. The counter's reset
is read as `lockout_counter_reset` and under the API's name, `lockout_counter_reset_duration`.
"""

from collections.abc import Mapping
from typing import Any, Final

from strongroom.app.store_config.flag_fields import flag_of
from strongroom.app.store_config.sources import Configuration
from strongroom.model.errors import Invalid
from strongroom.store.auth.lockout import ALL, FORCED, METHODS, lockout_settings

DISABLES: Final = "VAULT_DISABLE_USER_LOCKOUT"
# Methods that Vault locks and Strongroom has not.
_ELSEWHERE: Final = frozenset({"ldap"})
_FIELDS: Final = frozenset({
    "lockout_threshold", "lockout_duration", "lockout_counter_reset",
    "lockout_counter_reset_duration", "disable_lockout", "lockout_disable",
})  # fmt: skip


def user_lockout(found: Configuration, notes: list[str]) -> dict[str, dict[str, Any]]:
    """The settings by method, or "all"; raises Invalid(`bad-config`) for what cannot be meant."""
    settings: dict[str, dict[str, Any]] = {}
    for stanza in found.of("user_lockout"):
        name = stanza.labels[0].lower() if stanza.labels else ALL
        if name not in METHODS | _ELSEWHERE | {ALL}:
            raise Invalid(
                "bad-config",
                f"{stanza.place}: user_lockout {name!r} is none of all, approle, ldap, userpass",
            )
        if name in _ELSEWHERE:
            notes.append(f"{stanza.place}: user_lockout {name!r} has no effect: no such method")
        notes += [
            f"{stanza.place}: unknown or unsupported user_lockout field {each!r}"
            for each in stanza.fields
            if each not in _FIELDS
        ]
        fields = dict(stanza.fields)
        if "disable_lockout" in fields:
            fields["lockout_disable"] = fields.pop("disable_lockout")
        try:
            settings[name] = lockout_settings(fields, settings.get(name, {}))
        except Invalid as refusal:
            raise Invalid("bad-config", f"{stanza.place}: {refusal.message}") from None
    return settings


def forced(
    settings: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str]
) -> dict[str, Mapping[str, Any]]:
    """The settings with what the environment says; raises Invalid(`bad-config`) for no flag."""
    if not environment.get(DISABLES):
        return dict(settings)
    off = flag_of(environment, DISABLES, "the environment")
    return {**settings, FORCED: {"lockout_disable": off}}


def is_off(settings: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the environment lets nobody be locked."""
    return bool(settings.get(FORCED, {}).get("lockout_disable"))
