"""Maps. Source: https://masterminds.github.io/sprig/dicts.html.

`keys` and `values` come sorted by key: Go gives them in no order, so any order serves, and a
stable one does not rewrite a Secret at every refresh.
"""

from typing import Final

from strongroom.template.budget import check_depth
from strongroom.template.casting import is_empty, to_text
from strongroom.template.equality import deep_equal
from strongroom.template.errors import CallFailed
from strongroom.template.registry import Run, Table
from strongroom.template.values import (
    ANY,
    Map,
    Slice,
    Value,
    any_list,
    any_map,
    is_nil,
    kind_name,
    string_list,
)

DICTS: Final = Table("Maps")


@DICTS("dict", "any...")
def _dict(run: Run, *values: Value) -> Value:
    """A map of keys and values in turn; a last key without a value gets "" ."""
    items: dict[Value, Value] = {}
    for at in range(0, len(values), 2):
        items[to_text(values[at], run.budget)] = values[at + 1] if at + 1 < len(values) else b""
    return any_map(items)


@DICTS("get", "map, string")
def _get(value: Map, key: bytes) -> Value:
    """The value of a key, "" if it is missing."""
    return value.items.get(key, b"")


def _written(value: Map) -> Map:
    if value.nil:
        raise CallFailed("assignment to entry in nil map")
    return value


@DICTS("set", "map, string, any")
def _set(value: Map, key: bytes, item: Value) -> Value:
    """The map itself, with a key set."""
    _written(value).items[bytes(key)] = item
    return value


@DICTS("unset", "map, string")
def _unset(value: Map, key: bytes) -> Value:
    """The map itself, with a key removed."""
    value.items.pop(key, None)
    return value


@DICTS("hasKey", "map, string")
def _has_key(value: Map, key: bytes) -> bool:
    """Whether the map has a key."""
    return key in value.items


@DICTS("pluck", "string, map...")
def _pluck(key: bytes, *maps: Map) -> Value:
    """The values that several maps have for a key."""
    return any_list([each.items[key] for each in maps if key in each.items])


@DICTS("keys", "map...")
def _keys(*maps: Map) -> Value:
    """The keys of one or more maps."""
    return string_list([key for each in maps for key in sorted(each.items)])


@DICTS("values", "map")
def _values(value: Map) -> Value:
    """The values of a map."""
    return any_list([value.items[key] for key in sorted(value.items)])


@DICTS("pick", "map, string...")
def _pick(value: Map, *keys: bytes) -> Value:
    """A new map with these keys alone."""
    return any_map({bytes(key): value.items[key] for key in keys if key in value.items})


@DICTS("omit", "map, string...")
def _omit(value: Map, *keys: bytes) -> Value:
    """A new map without these keys."""
    return any_map({key: item for key, item in value.items.items() if key not in keys})


@DICTS("dig", "any...")
def _dig(*given: Value) -> Value:
    """A value deep in maps, by keys, with a default before the map."""
    if len(given) < 3:
        raise CallFailed("dig needs at least three arguments")
    *keys, default, value = given
    if not all(isinstance(key, bytes) for key in keys):
        raise CallFailed("the keys of dig are strings")
    for key in keys:
        if not isinstance(value, Map) or value.elem != ANY:
            raise CallFailed(f"dig finds a {kind_name(value)} where it needs a map")
        if key not in value.items:
            return default
        value = value.items[key]
    return value


@DICTS("merge mustMerge", "map, map...")
def _merge(run: Run, target: Map, *sources: Map) -> Value:
    """The first map filled with what only the others have."""
    for source in sources:
        _merge_into(run, target, source, overwrite=False)
    return target


@DICTS("mergeOverwrite mustMergeOverwrite", "map, map...")
def _merge_overwrite(run: Run, target: Map, *sources: Map) -> Value:
    """The first map overwritten by the others, from left to right."""
    for source in sources:
        _merge_into(run, target, source, overwrite=True)
    return target


def _merge_into(run: Run, target: Map, source: Map, *, overwrite: bool, depth: int = 0) -> None:
    check_depth(depth)
    for key in sorted(source.items):
        run.budget.step()
        item, there = source.items[key], target.items.get(key)
        if is_nil(item):
            if overwrite:
                _written(target).items[key] = item
            continue
        if isinstance(item, Map) and isinstance(there, Map):
            _merge_into(run, there, item, overwrite=overwrite, depth=depth + 1)
            if there.items:
                continue
        if overwrite or is_empty(there):
            if target.elem not in (ANY, "string" if isinstance(item, bytes) else ANY):
                raise CallFailed("cannot merge values of different types")
            target.items[key] = item
            target.nil = False


@DICTS("deepCopy mustDeepCopy", "any")
def _deep_copy(run: Run, value: Value) -> Value:
    """A copy that shares nothing with the original."""
    if value is None:
        raise CallFailed("there is nothing to copy")
    return _copied(run, value, 0)


def _copied(run: Run, value: Value, depth: int) -> Value:
    run.budget.step(10)  # what a copy costs against a look
    check_depth(depth)
    if isinstance(value, Slice):
        items = [_copied(run, item, depth + 1) for item in value.items]
        return Slice(value.elem, items, value.nil)
    if isinstance(value, Map):
        copies = {key: _copied(run, item, depth + 1) for key, item in value.items.items()}
        return Map(value.elem, copies, value.key, value.nil)
    return value


@DICTS("deepEqual", "any, any")
def _deep_equal(run: Run, one: Value, other: Value) -> bool:
    """Whether two values are of one type and equal all through."""
    return deep_equal(one, other, run.budget)
