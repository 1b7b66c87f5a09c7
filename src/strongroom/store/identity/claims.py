"""What an identity token says: claims from a role's template, filled in as JSON. Pure.

A directive such as `{{identity.entity.name}}` stands for a whole JSON value, quotes and all, so
no value can add a claim. What an entity does not have is an empty value of the same kind.

Directives: https://developer.hashicorp.com/vault/docs/concepts/oidc-provider#scopes-and-claims.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from strongroom.model.errors import Invalid
from strongroom.store.call import parse_seconds
from strongroom.store.engine.identity_contract import AliasRow
from strongroom.store.identity.resolve import Identity

# The store's own; a template does not say them.
RESERVED: Final = frozenset(
    {"iat", "aud", "exp", "iss", "sub", "namespace", "nonce", "at_hash", "c_hash", "auth_time"}
)
# Without braces inside: each pair that opens would else be tried to the end of the text.
_DIRECTIVE: Final = re.compile(r"(?<!\{)\{\{([^{}]*)\}\}")
_ENTITY: Final = "identity.entity."
_ALIAS_WORDS: Final = ("metadata", "custom_metadata")


def template_text(given: str) -> str:
    """A template as it was meant: it may come in base64."""
    try:
        return base64.b64decode(given, validate=True).decode()
    except (binascii.Error, ValueError):
        return given


def check_template(template: str) -> None:
    """Raise Invalid for a template that never gives claims, whoever asks."""
    _filled(template, None, 0.0)


def claims_of(template: str, identity: Identity, now: float) -> dict[str, Any]:
    """The claims of a template for an entity at a time in epoch seconds; raises Invalid."""
    return _filled(template, identity, now)


def _filled(template: str, identity: Identity | None, now: float) -> dict[str, Any]:
    if not template.strip():
        return {}

    def value(found: re.Match[str]) -> str:
        return orjson.dumps(_value(found[1].strip(), identity, now)).decode()

    text = _DIRECTIVE.sub(value, template)
    if "{{" in _DIRECTIVE.sub("", template):
        raise _bad("a directive has no end")
    try:
        claims = orjson.loads(text)
    except ValueError as error:
        raise _bad(f"no JSON: {error}", "a directive stands without quotes of its own") from None
    if not isinstance(claims, dict):
        raise _bad("it must be a JSON object")
    taken = sorted(RESERVED & claims.keys())
    if taken:
        raise _bad(
            f'top level key "{taken[0]}" not allowed', f"reserved: {', '.join(sorted(RESERVED))}"
        )
    return claims


def _bad(why: str, hint: str = "") -> Invalid:
    return Invalid("bad-template", f"error parsing template: {why}", hint=hint)


def _value(name: str, identity: Identity | None, now: float) -> Any:  # noqa: ANN401 - JSON
    if name == "time.now" or name.startswith(("time.now.plus.", "time.now.minus.")):
        return _time(name, now)
    if name.startswith(_ENTITY):
        return _of_entity(name.removeprefix(_ENTITY), identity)
    if name.startswith("identity.groups."):
        return identity.values.get(name, "") if identity else ""
    raise _bad(f"no value could be found for {name!r}")


def _time(name: str, now: float) -> int:
    way, _, duration = name.removeprefix("time.now").lstrip(".").partition(".")
    if not way:
        return int(now)
    seconds = parse_seconds(duration, name)
    return int(now) + (seconds if way == "plus" else -seconds)


def _of_entity(rest: str, identity: Identity | None) -> Any:  # noqa: ANN401 - JSON
    word, _, more = rest.partition(".")
    if rest in ("id", "name"):
        return getattr(identity.entity, rest) if identity else ""
    if word == "metadata":
        return _of_map(identity.entity.metadata if identity else {}, more)
    if rest in ("groups.ids", "groups.names"):
        field = "id" if rest == "groups.ids" else "name"
        return sorted(getattr(each, field) for each in identity.groups) if identity else []
    if word == "aliases" and more:
        return _of_alias(more, identity)
    raise _bad(f"no value could be found for '{_ENTITY}{rest}'")


def _of_alias(rest: str, identity: Identity | None) -> Any:  # noqa: ANN401 - JSON
    accessor, _, what = rest.partition(".")
    aliases = identity.aliases if identity else ()
    alias = next((each for each in aliases if each.mount == accessor), None)
    if what in ("id", "name"):
        return getattr(alias, what) if alias else ""
    word, _, key = what.partition(".")
    if word not in _ALIAS_WORDS:
        raise _bad(f"no value could be found for '{_ENTITY}aliases.{rest}'")
    return _of_map(_map_of(alias, word), key)


def _map_of(alias: AliasRow | None, word: str) -> Mapping[str, str]:
    if alias is None:
        return {}
    return alias.metadata if word == "metadata" else alias.custom_metadata


def _of_map(values: Mapping[str, str], key: str) -> Any:  # noqa: ANN401 - JSON
    return values.get(key, "") if key else dict(values)
