"""Label selectors and a cluster store's conditions. Pure.

Selectors: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from strongroom.model.errors import Invalid
from strongroom.sync.patterns import compile_pattern

Labels = Mapping[str, str]


def selects(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a LabelSelector matches; an empty one matches everything, none matches nothing."""
    if selector is None:
        return False
    wanted: Labels = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or [])


def _holds(expression: Mapping[str, Any], labels: Labels) -> bool:
    key, operator = expression.get("key", ""), expression.get("operator")
    values = expression.get("values") or []
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    raise Invalid(
        "bad-selector", f"operator {operator!r} is none of In, NotIn, Exists, DoesNotExist"
    )


def allows(condition: Mapping[str, Any], namespace: str, labels: Labels) -> bool:
    """Whether one condition of a cluster store lets a namespace in; raises Invalid."""
    if namespace in (condition.get("namespaces") or []):
        return True
    patterns = condition.get("namespaceRegexes") or []
    if any(compile_pattern(each).search(namespace) for each in patterns):
        return True
    return selects(condition.get("namespaceSelector"), labels)


def any_allows(conditions: Iterable[Mapping[str, Any]], namespace: str, labels: Labels) -> bool:
    """Whether any of them does; no conditions let everybody in."""
    given = list(conditions)
    return not given or any(allows(each, namespace, labels) for each in given)


def namespaces_of(spec: Mapping[str, Any], namespaces: Iterable[tuple[str, Labels]]) -> list[str]:
    """The namespaces a cluster-wide object is for: by selectors, joined with "or", and by name."""
    selectors = [*(spec.get("namespaceSelectors") or [])]
    if spec.get("namespaceSelector") is not None:
        selectors.append(spec["namespaceSelector"])
    named = set(spec.get("namespaces") or [])
    return sorted(
        name
        for name, labels in namespaces
        if name in named or any(selects(each, labels) for each in selectors)
    )
