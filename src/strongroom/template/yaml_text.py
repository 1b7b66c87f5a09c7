"""YAML as Kubernetes' Go library writes and reads it. Source: https://pkg.go.dev/sigs.k8s.io/yaml."""

import base64
import binascii
import json
import re
from typing import Any, Final

import yaml

from strongroom.template.budget import Budget, check_depth
from strongroom.template.json_text import NotJson, from_plain, to_json
from strongroom.template.numbers import format_float
from strongroom.template.values import Map, Value
from strongroom.template.yaml_nodes import Loader, check_nodes
from strongroom.template.yaml_scalars import reads_as_string, resolve

_TAG: Final = "tag:yaml.org,2002:"
# What a YAML stream may not hold, not even in the JSON that Go goes by.
_FORBIDDEN: Final = re.compile("[\x7f-\x84\x86-\x9f\ufffe\uffff]")
_RUNS: Final = re.compile(r"\d+|\D")
_ALL_BITS: Final = (1 << 64) - 1


class NotYaml(Exception):
    """A text that is no YAML, or holds what JSON cannot. Carries no value."""


class _Dumper(yaml.SafeDumper):
    """Writes strings, floats and keys the way Go does."""

    def analyze_scalar(self, scalar: str) -> Any:  # noqa: ANN401 - PyYAML has no public type
        analysis = super().analyze_scalar(scalar)
        if any(char > "\uffff" for char in scalar):
            # Go's emitter writes characters beyond the basic plane as escapes.
            analysis.allow_flow_plain = analysis.allow_block_plain = False
            analysis.allow_single_quoted = analysis.allow_block = False
        return analysis

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the base class's signature
        return True


def _plain(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """A scalar without quotes: under whatever tag PyYAML reads it by, so that it writes none."""
    tag: str = dumper.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(tag, text)


def _string(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    if "\n" not in text and reads_as_string(text):
        return _plain(dumper, text)
    return dumper.represent_scalar(f"{_TAG}str", text, style="|" if "\n" in text else '"')


def _float(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    return _plain(dumper, format_float(value, "g"))


def _natural(key: str) -> list[tuple[int, int, str]]:
    """Go's order of keys: numbers inside them by their value, letters after other characters."""
    return [
        (1, _size(run), run) if run[0].isdecimal() else (2 if run.isalpha() else 0, ord(run), run)
        for run in _RUNS.findall(key)
    ]


def _size(run: str) -> int:
    """What Go takes digits of any script for, in 64 bits that overflow."""
    value = 0
    for char in run:
        value = (value * 10 + ord(char) - ord("0")) & _ALL_BITS
    return value - (1 << 64) if value >> 63 else value


def _mapping(dumper: _Dumper, value: dict[str, object]) -> yaml.MappingNode:
    pairs = [(key, value[key]) for key in sorted(value, key=_natural)]
    return dumper.represent_mapping(f"{_TAG}map", pairs, flow_style=False)


_Dumper.add_representer(str, _string)
_Dumper.add_representer(float, _float)
_Dumper.add_representer(dict, _mapping)


def to_yaml(value: Value, budget: Budget) -> bytes:
    """The value as YAML without its last newline; raises NotJson for what JSON cannot hold."""
    written = to_json(value, budget)
    # The writer looks at each character, and more than once.
    budget.step(len(written) // 2)
    if _FORBIDDEN.search(written.decode()):
        raise NotJson("YAML has no such character")
    plain = json.loads(written, parse_int=_integer_or_float)
    text: str = yaml.dump(
        plain, Dumper=_Dumper, allow_unicode=True, sort_keys=False, explicit_end=False, width=80
    )
    return text.removesuffix("...\n").removesuffix("\n").encode()


def _integer_or_float(text: str) -> int | float:
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 64 else float(number)


def from_yaml(text: bytes, budget: Budget) -> Map:
    """The map of a YAML text; raises NotYaml."""
    try:
        decoded = text.decode()
        check_nodes(decoded, budget)
        loader = Loader(decoded)
        try:
            node = loader.get_node() if loader.check_node() else None
        finally:
            loader.dispose()
        found = None if node is None else _Reader(budget).read(node, 0)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, binascii.Error):
        raise NotYaml("the text is not YAML") from None
    if found is None:
        found = {}
    if not isinstance(found, dict):
        raise NotYaml("the YAML is not a map")
    value: Map = from_plain(found, budget)
    return value


class _Reader:
    """From nodes to plain values; an alias is read again, and so charged again."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def read(self, node: yaml.Node, depth: int) -> object:
        self.budget.step()
        check_depth(depth)
        if isinstance(node, yaml.ScalarNode):
            return self.as_json(self.scalar(node))
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, depth + 1) for item in node.value]
        return self.mapping(node, depth)

    def mapping(self, node: yaml.Node, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key, item in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == "<<" and not key.style:
                merged = self.merge(item, depth) | merged
            elif isinstance(key, yaml.ScalarNode):
                found[self.key(self.scalar(key))] = self.read(item, depth + 1)
            else:
                raise NotYaml("a key of the YAML is no scalar")
        return merged | found

    def merge(self, node: yaml.Node, depth: int) -> dict[str, object]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, object] = {}
        for each in nodes:
            if not isinstance(each, yaml.MappingNode):
                raise NotYaml("only maps can be merged")
            check_depth(depth)
            merged = self.mapping(each, depth + 1) | merged
        return merged

    def key(self, value: object) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None:
            raise NotYaml("a key of the YAML is null")
        return format_float(value, "g") if isinstance(value, float) else str(value)

    def as_json(self, value: object) -> object:
        if isinstance(value, float) and (value != value or abs(value) == float("inf")):  # noqa: PLR0124
            raise NotYaml("the YAML holds a number that JSON cannot")
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return value

    def scalar(self, node: yaml.ScalarNode) -> object:
        tag = node.tag.removeprefix(_TAG)
        if tag == "str" and (node.style or not self.is_implicit(node)):
            return node.value
        if tag == "binary":
            return base64.b64decode("".join(node.value.split()), validate=True).decode()
        if node.tag.startswith("!"):
            return node.value
        return resolve(node.value)

    def is_implicit(self, node: yaml.ScalarNode) -> bool:
        """PyYAML resolves a plain scalar itself; an explicit !!str differs from what it finds."""
        start, end = node.start_mark, node.end_mark
        return end.index - start.index == len(node.value) or not node.value


__all__ = ["NotJson", "NotYaml", "from_yaml", "to_yaml"]
