"""An EncryptionConfiguration as values, read as strictly as kube-apiserver reads it.

Key material is looked at for its length alone and kept nowhere.
API: https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from strongroom.encrypt.spelling import meant
from strongroom.model.errors import Invalid

LOCAL: Final = ("aescbc", "aesgcm", "secretbox")
KINDS: Final = ("kms", *LOCAL, "identity")
FILE_BYTES: Final = 1024 * 1024
# The second is the name before 1.13, which is still read.
_NAMES: Final = (
    ("apiserver.config.k8s.io/v1", "EncryptionConfiguration"),
    ("v1", "EncryptionConfig"),
)
_NUMBER: Final = r"(?:\d+(?:\.\d*)?|\.\d+)"
_DURATION: Final = re.compile(rf"\+?(?:{_NUMBER}(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+")
_KMS_FIELDS: Final = {"apiVersion", "name", "endpoint", "timeout", "cachesize"}
_FIELDS_AND_KINDS: Final = {
    *_KMS_FIELDS, *KINDS, "kind", "resources", "providers", "keys", "secret",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. `version` is v1 or v2 of a kms one, `key_bytes` the lengths of local keys."""

    kind: str
    name: str = ""
    version: str = ""
    endpoint: str = ""
    key_names: tuple[str, ...] = ()
    key_bytes: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """How a person names it."""
        if self.kind == "kms":
            return f"kms {self.version} {self.name}"
        return f"{self.kind} {self.key_names[0]}" if self.key_names else self.kind


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry: which resources, and the providers in order. `number` counts from 1."""

    number: int
    resources: tuple[str, ...]
    providers: tuple[Provider, ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole file; `digest` is how the API server's metric names it.

    `more` says that other documents follow, which the API server does not read.
    """

    rules: tuple[Rule, ...]
    digest: str = ""
    more: bool = False

    @property
    def kms(self) -> tuple[Provider, ...]:
        """Every KMS provider, each name once."""
        found = {
            each.name: each for rule in self.rules for each in rule.providers if each.kind == "kms"
        }
        return tuple(found.values())


class _Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, as the API server does."""


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise _bad(f"line {key_node.start_mark.line + 1}: a key is no text")
        if key in seen:
            named = f"the key {key!r}" if key in _FIELDS_AND_KINDS else "a key"
            raise _bad(f"line {key_node.start_mark.line + 1}: {named} is there twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse(content: bytes) -> Configuration:
    """Read a file's bytes; raises Invalid(`bad-encryption-configuration`)."""
    if len(content) > FILE_BYTES:
        raise _bad(f"it is larger than {FILE_BYTES} bytes")
    given, more = _read(content)
    if not isinstance(given, dict):
        raise _bad("it is no object")
    version, kind = given.get("apiVersion"), given.get("kind")
    if kind not in [each for _, each in _NAMES]:
        raise _bad(f"kind is {kind!r}, not EncryptionConfiguration")
    if (version, kind) not in _NAMES:
        raise _bad(f"apiVersion {version!r} is not served")
    _only(given, {"kind", "apiVersion", "resources"}, "the configuration")
    rules = given.get("resources")
    if not isinstance(rules, list) or not rules:
        raise _bad("resources is a list of at least one entry")
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    read = tuple(_rule(number, each) for number, each in enumerate(rules, 1))
    return Configuration(read, digest, more)


def _read(content: bytes) -> tuple[Any, bool]:
    """The first document, and whether there are more: the API server reads the first alone."""
    if content.lstrip().startswith(b"{"):
        try:
            return json.loads(content, object_pairs_hook=_once), False
        except (ValueError, RecursionError):
            raise _bad("it begins with { and is not JSON") from None
    try:
        documents = yaml.load_all(content, _Strict)
        given = next(documents, None)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise _bad(f"{where}it is not YAML") from None
    except (RecursionError, ValueError):
        raise _bad("it is nested too deeply or not YAML") from None
    try:
        return given, any(each is not None for each in documents)
    except (yaml.YAMLError, RecursionError, ValueError, Invalid):
        return given, True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _bad("a key is there twice")
    return found


def _rule(number: int, entry: Any) -> Rule:  # noqa: ANN401 - YAML
    where = f"entry {number}"
    if not isinstance(entry, dict):
        raise _bad(f"{where} is no object")
    _only(entry, {"resources", "providers"}, where)
    names, providers = entry.get("resources"), entry.get("providers")
    if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names):
        raise _bad(f"{where}: resources is a list of names")
    if not isinstance(providers, list) or not providers:
        raise _bad(f"{where}: providers is a list of at least one")
    for name in names:
        _check_name(name, where)
    resources = tuple(map(_resource, names))
    return Rule(number, resources, tuple(_provider(each, where) for each in providers))


def _resource(name: str) -> str:
    """A name as all others have it: the core group may be written out, as nothing after a dot."""
    return name if name == "*." else name.removesuffix(".")


def _check_name(name: str, where: str) -> None:
    if name != name.lower():
        raise _bad(f"{where}: {name!r} has capital letters")
    if name == "*" or (name.endswith(".*") and name != "*.*"):
        raise _bad(f"{where}: {name!r} is no wildcard the API server takes")
    group = name.partition(".")[2]
    if group in ("extensions", "events.k8s.io"):
        raise _bad(f"{where}: the group {group!r} cannot be encrypted under that name")


def _provider(entry: Any, where: str) -> Provider:  # noqa: ANN401 - YAML
    if not isinstance(entry, dict):
        raise _bad(f"{where}: a provider is an object with one key")
    for kind in entry:
        if kind not in KINDS:
            raise _bad(f"{where}: a provider is one of {', '.join(KINDS)}{meant(kind, KINDS)}")
    # What is null is not there: `identity:` without its braces is no provider.
    given = {kind: fields for kind, fields in entry.items() if fields is not None}
    if len(given) != 1:
        raise _bad(f"{where}: a provider is an object with one key, which is not null")
    ((kind, fields),) = given.items()
    if not isinstance(fields, dict):
        raise _bad(f"{where}: {kind} is an object")
    if kind == "kms":
        return _kms(fields, where)
    if kind == "identity":
        _only(fields, set(), f"{where}: identity")
        return Provider("identity")
    return _local(str(kind), fields, where)


def _kms(fields: Mapping[Any, Any], where: str) -> Provider:
    _only(fields, _KMS_FIELDS, f"{where}: kms")
    name, endpoint = fields.get("name"), fields.get("endpoint")
    version = fields.get("apiVersion") or "v1"
    if not isinstance(name, str) or not name or not isinstance(endpoint, str):
        raise _bad(f"{where}: kms needs name and endpoint")
    if version not in ("v1", "v2"):
        raise _bad(f"{where}: kms apiVersion {version!r} is not v1 or v2")
    if version == "v2" and ":" in name:
        raise _bad(f"{where}: a kms v2 name has no colon")
    cached = fields.get("cachesize")
    if version == "v2" and cached is not None:
        raise _bad(f"{where}: cachesize is not for kms v2")
    if cached is not None and (type(cached) is not int or cached == 0):
        raise _bad(f"{where}: cachesize is a number other than 0")
    if not endpoint.lower().startswith("unix:"):
        raise _bad(f"{where}: the endpoint must be a unix socket")
    timeout = fields.get("timeout")
    if timeout is not None and not _lasts(timeout):
        raise _bad(f"{where}: timeout is a text such as 3s, above 0")
    return Provider("kms", name, str(version), endpoint)


def _lasts(given: Any) -> bool:  # noqa: ANN401 - YAML
    """Whether it is a duration as Go writes them, above 0."""
    return isinstance(given, str) and bool(_DURATION.fullmatch(given) and re.search("[1-9]", given))


def _local(kind: str, fields: Mapping[Any, Any], where: str) -> Provider:
    _only(fields, {"keys"}, f"{where}: {kind}")
    keys = fields.get("keys")
    if not isinstance(keys, list) or not keys:
        raise _bad(f"{where}: {kind} needs keys")
    names, lengths = [], []
    for key in keys:
        if not isinstance(key, dict) or not isinstance(key.get("name"), str) or not key["name"]:
            raise _bad(f"{where}: a key of {kind} has name and secret")
        _only(key, {"name", "secret"}, f"{where}: a key of {kind}")
        try:
            # A block of text ends with a newline, which Go's decoder leaves out, as any other.
            secret = str(key.get("secret")).replace("\n", "").replace("\r", "")
            lengths.append(len(base64.b64decode(secret, validate=True)))
        except (binascii.Error, ValueError):
            raise _bad(f"{where}: the secret of key {key['name']!r} is not base64") from None
        names.append(key["name"])
    allowed = (32,) if kind == "secretbox" else (16, 24, 32)
    if any(length not in allowed for length in lengths):
        raise _bad(f"{where}: a key of {kind} has a length it cannot have")
    return Provider(kind, key_names=tuple(names), key_bytes=tuple(lengths))


def _only(given: Mapping[Any, Any], allowed: set[str], where: str) -> None:
    for name in given:
        if name not in allowed:
            fields = f"; it has {', '.join(sorted(allowed))}" if allowed else ""
            raise _bad(f"{where} has an unknown field{meant(name, allowed)}{fields}")


def _bad(what: str) -> Invalid:
    return Invalid(
        "bad-encryption-configuration",
        f"the API server would not start with it: {what}",
        hint="strongroom encrypt init writes one that it takes",
    )
