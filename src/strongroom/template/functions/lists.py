"""Lists. Source: https://masterminds.github.io/sprig/lists.html."""

import math
from typing import Final

from strongroom.template.casting import is_empty, to_int64, to_text, to_texts
from strongroom.template.equality import deep_equal
from strongroom.template.errors import CallFailed
from strongroom.template.registry import Run, Table
from strongroom.template.values import ANY, Slice, Value, any_list, kind_name, string_list

LISTS: Final = Table("Lists")


def _items(value: Value, what: str) -> list[Value]:
    if not isinstance(value, Slice):
        raise CallFailed(f"cannot {what} a {kind_name(value)}")
    return value.items


@LISTS("list tuple", "any...")
def _list(*values: Value) -> Value:
    """A list of the arguments."""
    return any_list(list(values))


@LISTS("append push mustAppend mustPush", "any, any")
def _append(value: Value, item: Value) -> Value:
    """A new list with the item at its end."""
    return any_list([*_items(value, "push on"), item])


@LISTS("prepend mustPrepend", "any, any")
def _prepend(value: Value, item: Value) -> Value:
    """A new list with the item in front."""
    return any_list([item, *_items(value, "prepend to")])


@LISTS("first mustFirst", "any")
def _first(value: Value) -> Value:
    """The first element; nil of an empty list."""
    items = _items(value, "find the first of")
    return items[0] if items else None


@LISTS("last mustLast", "any")
def _last(value: Value) -> Value:
    """The last element; nil of an empty list."""
    items = _items(value, "find the last of")
    return items[-1] if items else None


@LISTS("rest mustRest", "any")
def _rest(value: Value) -> Value:
    """All but the first element."""
    items = _items(value, "find the rest of")
    return any_list(items[1:]) if items else Slice(ANY, [], nil=True)


@LISTS("initial mustInitial", "any")
def _initial(value: Value) -> Value:
    """All but the last element."""
    items = _items(value, "find the initial of")
    return any_list(items[:-1]) if items else Slice(ANY, [], nil=True)


@LISTS("reverse mustReverse", "any")
def _reverse(value: Value) -> Value:
    """The elements from the last to the first."""
    return any_list(_items(value, "reverse")[::-1])


@LISTS("compact mustCompact", "any")
def _compact(value: Value) -> Value:
    """Without empty elements."""
    return any_list([item for item in _items(value, "compact") if not is_empty(item)])


@LISTS("uniq mustUniq", "any")
def _uniq(run: Run, value: Value) -> Value:
    """Each element once."""
    found: list[Value] = []
    for item in _items(value, "find the unique elements of"):
        if not any(deep_equal(item, other, run.budget) for other in found):
            found.append(item)
    return any_list(found)


@LISTS("without mustWithout", "any, any...")
def _without(run: Run, value: Value, *omitted: Value) -> Value:
    """Without the given elements."""
    return any_list(
        [
            item
            for item in _items(value, "leave elements out of")
            if not any(deep_equal(item, other, run.budget) for other in omitted)
        ]
    )


@LISTS("has mustHas", "any, any")
def _has(run: Run, needle: Value, value: Value) -> bool:
    """Whether the list holds an element."""
    if value is None:
        return False
    return any(deep_equal(needle, item, run.budget) for item in _items(value, "find in"))


@LISTS("slice mustSlice", "any, any...")
def _slice(value: Value, *bounds: Value) -> Value:
    """Elements from one index up to another."""
    items = _items(value, "slice")
    if not items:
        return None
    start = to_int64(bounds[0]) if bounds else 0
    end = to_int64(bounds[1]) if len(bounds) > 1 else len(items)
    if not 0 <= start <= end <= len(items):
        raise CallFailed("slice index out of bounds")
    return Slice(value.elem, items[start:end])


@LISTS("concat", "any...")
def _concat(*values: Value) -> Value:
    """Several lists as one."""
    joined = [item for value in values for item in _items(value, "concat")]
    return any_list(joined) if joined else Slice(ANY, [], nil=True)


@LISTS("chunk mustChunk", "int, any")
def _chunk(size: int, value: Value) -> Value:
    """Lists of at most so many elements."""
    items = _items(value, "chunk")
    if not items and size > 0:
        # The formula gives one chunk less than none for size 1, and an empty list otherwise.
        return Slice(f"[]{ANY}", [])
    if size <= 0:
        raise CallFailed("chunks need a positive size")
    count = math.ceil(len(items) / size)
    pieces = [any_list(items[at * size : (at + 1) * size]) for at in range(count)]
    return Slice(f"[]{ANY}", pieces)


@LISTS("sortAlpha", "any")
def _sort_alpha(run: Run, value: Value) -> Value:
    """The elements as strings in order."""
    if not isinstance(value, Slice):
        return string_list([to_text(value, run.budget)])
    found = sorted(to_texts(value, run.budget))
    if value.elem == "string":
        value.items[:] = found  # Go sorts a list of strings in place
    return string_list(found)
