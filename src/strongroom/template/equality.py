"""reflect.DeepEqual on template values. Source: https://pkg.go.dev/reflect#DeepEqual."""

import math

from strongroom.template.budget import Budget, check_depth
from strongroom.template.values import Map, Object, Slice, Value, type_name


def deep_equal(one: Value, other: Value, budget: Budget, depth: int = 0) -> bool:
    """Whether two values have one type and equal contents; raises BudgetSpent."""
    budget.step()
    check_depth(depth)
    if type_name(one) != type_name(other):
        return False
    if isinstance(one, Slice):
        return (
            one.nil == other.nil
            and len(one.items) == len(other.items)
            and (
                one is other
                or all(
                    deep_equal(first, second, budget, depth + 1)
                    for first, second in zip(one.items, other.items, strict=True)
                )
            )
        )
    if isinstance(one, Map):
        return (
            one.nil == other.nil
            and one.items.keys() == other.items.keys()
            and (
                one is other
                or all(
                    deep_equal(item, other.items[key], budget, depth + 1)
                    for key, item in one.items.items()
                )
            )
        )
    if isinstance(one, float) and math.isnan(one):
        return False
    if isinstance(one, Object):
        return bool(one.identity() == other.identity())
    return bool(one == other)
