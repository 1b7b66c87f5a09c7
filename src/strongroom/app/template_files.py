"""What `strongroom template` reads: values, templates, and manifests that hold templates."""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from strongroom.model.errors import Invalid, NotFound
from strongroom.sync.render import Inputs

# Where the template of a kind stands in its spec.
_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "ExternalSecret": ("target", "template"),
    "ClusterExternalSecret": ("externalSecretSpec", "target", "template"),
    "PushSecret": ("template",),
    "ClusterPushSecret": ("pushSecretSpec", "template"),
}


@dataclass(frozen=True, slots=True)
class Manifests:
    """Templates by the object that has them, and the ConfigMaps and Secrets beside these."""

    templates: tuple[tuple[str, Mapping[str, Any]], ...]
    inputs: Inputs = field(repr=False)


def read_text(path: Path) -> bytes:
    """A file's bytes; raises NotFound(`no-file`)."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound("no-file", f"cannot read {path}: {error.strerror}") from None


def read_values(path: Path) -> dict[str, bytes]:
    """Values from a YAML or JSON map, or from a Secret manifest.

    A string is itself, `!!binary` its bytes, anything else its JSON text, as a provider's value is.
    """
    found = _parsed(path, read_text(path))
    if len(found) != 1 or not isinstance(found[0], dict):
        raise Invalid("bad-values", f"{path} is not one map of values")
    values = found[0]
    if values.get("kind") == "Secret":
        return _secret(values, path)
    return {str(key): _bytes(value) for key, value in values.items()}


def pairs(texts: Sequence[str], *, files: bool) -> dict[str, bytes]:
    """KEY=VALUE, or KEY=PATH with the file's bytes; raises Invalid."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Invalid("bad-values", f"{text.partition('=')[0]} has no value: write KEY=VALUE")
        found[key] = read_text(Path(value)) if files else value.encode("utf-8", "surrogateescape")
    return found


def read_manifests(path: Path, text: bytes) -> Manifests | None:
    """The manifests of a file; None when it is a plain template."""
    if path.suffix not in (".yaml", ".yml", ".json"):
        return None
    try:
        documents = [each for each in _parsed(path, text) if isinstance(each, dict)]
    except Invalid:
        return None  # a template of YAML need not be YAML itself
    if not any(each.get("kind") in _TEMPLATES for each in documents):
        return None
    return Manifests(tuple(_templates(documents)), _inputs(documents, path))


class _Readable(yaml.SafeDumper):
    """Text of several lines as a block."""


def _text_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Readable.add_representer(str, _text_block)


def readable(documents: Sequence[Any]) -> str:
    """YAML for a person."""
    text: str = yaml.dump_all(documents, Dumper=_Readable, sort_keys=False, allow_unicode=True)
    return text


def _parsed(path: Path, text: bytes) -> list[Any]:
    try:
        return [each for each in yaml.safe_load_all(text) if each is not None]
    except (yaml.YAMLError, UnicodeDecodeError):
        raise Invalid("bad-yaml", f"{path} is neither YAML nor JSON") from None


def _templates(documents: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for document in documents:
        path = _TEMPLATES.get(str(document.get("kind")))
        if path is None:
            continue
        found: Any = document.get("spec") or {}
        for step in path:
            found = found.get(step) or {}
        name = (document.get("metadata") or {}).get("name", "")
        yield f"{document['kind']} {name}", found


def _inputs(documents: Iterable[Mapping[str, Any]], path: Path) -> Inputs:
    found: dict[tuple[str, str], Mapping[str, bytes]] = {}
    for document in documents:
        name = str((document.get("metadata") or {}).get("name", ""))
        if document.get("kind") == "ConfigMap":
            data = document.get("data") or {}
            found["ConfigMap", name] = {key: _bytes(value) for key, value in data.items()}
        elif document.get("kind") == "Secret":
            found["Secret", name] = _secret(document, path)
    return found


def _secret(document: Mapping[str, Any], path: Path) -> dict[str, bytes]:
    try:
        data = {
            key: base64.b64decode(value, validate=True)
            for key, value in (document.get("data") or {}).items()
        }
    except (binascii.Error, ValueError, TypeError):
        raise Invalid("bad-values", f"the data of a Secret in {path} is not base64") from None
    return data | {key: _bytes(value) for key, value in (document.get("stringData") or {}).items()}


def _bytes(value: Any) -> bytes:  # noqa: ANN401 - YAML
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value, default=str).encode()
