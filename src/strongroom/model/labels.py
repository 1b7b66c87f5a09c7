"""Kubernetes label selectors. Pure.

Form: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/.
"""

from collections.abc import Mapping
from typing import Any

from strongroom.model.errors import Invalid

Labels = Mapping[str, str]


def selects(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a LabelSelector matches; an empty one matches everything, none matches nothing."""
    if selector is None:
        return False
    wanted: Labels = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or [])


def check_selector(selector: Mapping[str, Any] | None) -> None:
    """Raise Invalid for a selector that `selects` could not apply to every object."""
    for each in (selector or {}).get("matchExpressions") or []:
        _holds(each, {})


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
