"""Configuration files as stanzas: HCL or JSON, one file, several, or folders of them.

Both forms read alike: `listener "tcp" { ... }`, `{"listener": {"tcp": {...}}}` and
`{"listener": [{"tcp": {...}}]}` are the same stanza.
Form: https://developer.hashicorp.com/vault/docs/configuration.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strongroom.access.hcl import Attribute, Block, Body, parse
from strongroom.model.errors import Invalid

# How many labels a stanza of a kind has; a kind that is not here has none.
LABELS: Final = {
    "storage": 1, "backend": 1, "ha_storage": 1, "ha_backend": 1, "listener": 1, "seal": 1,
    "audit": 2, "service_registration": 1, "kms": 1, "plugin": 2, "initialize": 1,
}  # fmt: skip
_ENDINGS: Final = (".hcl", ".json")


@dataclass(frozen=True, slots=True)
class Stanza:
    """`kind "label" { fields }`; `place` is file and line for messages."""

    kind: str
    labels: tuple[str, ...]
    fields: dict[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """All files together: plain values (the last file wins) and stanzas in order."""

    values: dict[str, tuple[Any, str]]
    stanzas: tuple[Stanza, ...]

    def of(self, *kinds: str) -> list[Stanza]:
        """The stanzas of these kinds."""
        return [each for each in self.stanzas if each.kind in kinds]


def read_files(paths: Sequence[Path]) -> Configuration:
    """Read files and folders; raises Invalid(`bad-config`) with file, line and column."""
    values: dict[str, tuple[Any, str]] = {}
    stanzas: list[Stanza] = []
    for path in _files(paths):
        try:
            body = parse(path.read_text(), code="bad-config")
        except OSError as error:
            raise Invalid("bad-config", f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Invalid("bad-config", f"{path} is not text") from None
        except Invalid as refusal:
            raise Invalid("bad-config", f"{path}: {refusal.message}") from None
        for item in body.items:
            place = f"{path}:{item.line}" if item.line else str(path)
            if isinstance(item, Attribute) and not _holds_stanza(item):
                values[item.name] = (item.value, place)
            else:
                stanzas += _stanzas(item, place)
    return Configuration(values, tuple(stanzas))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(each for each in path.iterdir() if each.suffix in _ENDINGS)
        if not found:
            raise Invalid("bad-config", f"the folder {path} has no .hcl or .json file")
        yield from found


def _holds_stanza(item: Attribute) -> bool:
    values = item.value if isinstance(item.value, list) else [item.value]
    return bool(values) and all(isinstance(each, Body) for each in values)


def _stanzas(item: Block | Attribute, place: str) -> Iterable[Stanza]:
    if isinstance(item, Block):
        yield Stanza(item.kind, item.labels, _plain(item.body), place)
        return
    for body in item.value if isinstance(item.value, list) else [item.value]:
        yield from _labelled(item.name, (), body, place)


def _labelled(kind: str, labels: tuple[str, ...], body: Body, place: str) -> Iterable[Stanza]:
    """JSON writes labels as keys; an object whose values are not objects has no more of them."""
    deeper = [each for each in body.items if isinstance(each, Attribute) and _holds_stanza(each)]
    if len(labels) < LABELS.get(kind, 0) and len(deeper) == len(body.items) > 0:
        for each in deeper:
            for inner in each.value if isinstance(each.value, list) else [each.value]:
                yield from _labelled(kind, (*labels, each.name), inner, place)
        return
    yield Stanza(kind, labels, _plain(body), place)


def _plain(body: Body) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in body.items:
        if isinstance(item, Block):
            found[item.kind] = _plain(item.body)
        elif isinstance(item.value, Body):
            found[item.name] = _plain(item.value)
        elif _holds_stanza(item):
            found[item.name] = _plain(item.value[0])
        else:
            found[item.name] = item.value
    return found
