"""The YAML maps that templates render to.

Scalars that go into a Secret are taken as they are written: a PIN of 0123 is no octal number, and
a version of 1.10 has two digits after its point. External Secrets Operator has Go's YAML read
them first (0123 becomes 83, 1.10 becomes 1.1, `yes` becomes `true`), by which passwords that look
like numbers are lost; lists and maps it refuses.
"""

from collections.abc import Callable
from typing import Any, Final

import yaml

from strongroom.model.errors import Invalid
from strongroom.sync.values import as_bytes
from strongroom.template.budget import Budget
from strongroom.template.errors import BudgetSpent
from strongroom.template.yaml_nodes import Loader, check_expanded, check_nodes

_TAG: Final = "tag:yaml.org,2002:"


class NoMap(Exception):
    """The text is no YAML, or no map, or holds what has no text. Carries no value."""


class _Loader(Loader):  # type: ignore[misc]
    """Without times, for JSON has none."""


_Loader.yaml_implicit_resolvers = {
    first: [each for each in found if each[0] != f"{_TAG}timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Take = Callable[[_Loader, yaml.Node], Any]


def texts_of(text: str, budget: Budget) -> dict[str, bytes]:
    """Scalars as written, nothing for null, lists and maps as JSON; raises NoMap, BudgetSpent."""
    return _read(text, _written, budget)


def objects_of(text: str, budget: Budget) -> dict[str, Any]:
    """Values of the types that YAML gives them; raises NoMap, BudgetSpent."""
    return _read(text, _typed, budget)


def _read(text: str, take: _Take, budget: Budget) -> dict[str, Any]:
    try:
        check_nodes(text, budget)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None or node.tag == f"{_TAG}null":
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise NoMap
        check_expanded(node, budget)
        loader.flatten_mapping(node)
        return {_key(key): take(loader, value) for key, value in node.value}
    except BudgetSpent:
        raise
    except (yaml.YAMLError, TypeError, ValueError, RecursionError, Invalid):
        raise NoMap from None


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise NoMap
    return str(node.value)


def _typed(loader: _Loader, node: yaml.Node) -> Any:  # noqa: ANN401 - YAML
    return loader.construct_object(node, deep=True)


def _written(loader: _Loader, node: yaml.Node) -> bytes:
    plain = isinstance(node, yaml.ScalarNode) and node.tag not in (f"{_TAG}null", f"{_TAG}binary")
    return node.value.encode() if plain else as_bytes(_typed(loader, node))
