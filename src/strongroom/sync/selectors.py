"""A cluster store's conditions, and the namespaces that an object is for. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from strongroom.model.labels import Labels, check_selector, selects
from strongroom.sync.patterns import compile_pattern


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
    """The namespaces a cluster-wide object is for: by selectors, joined with "or", and by name.

    Raises Invalid.
    """
    selectors = [*(spec.get("namespaceSelectors") or [])]
    if spec.get("namespaceSelector") is not None:
        selectors.append(spec["namespaceSelector"])
    for each in selectors:
        check_selector(each)
    named = set(spec.get("namespaces") or [])
    return sorted(
        name
        for name, labels in namespaces
        if name in named or any(selects(each, labels) for each in selectors)
    )
