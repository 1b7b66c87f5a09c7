"""Which PushSecrets a Secret or a store concerns, known without a look at all of them. Pure.

A cluster may have thousands of each, and every Secret that changes is asked about.
"""

from collections.abc import Mapping
from typing import Any

from strongroom.kube.resource import SECRETS, Object
from strongroom.model.errors import Refusal
from strongroom.model.labels import Labels, selects
from strongroom.sync.index import Index, Key
from strongroom.sync.push_spec import PushSpec, parse_push

# Kind, namespace ("" for what has none), name.
Thing = tuple[str, str, str]
# Where a selector looks: kind and namespace.
_Place = tuple[str, str]
Selector = Mapping[str, Any]


class PushConcerns:
    """What each PushSecret names or selects, as it was last seen."""

    def __init__(self) -> None:
        self._named = Index[Thing]()
        self._places = Index[_Place]()
        self._selectors: dict[Key, list[tuple[_Place, Selector]]] = {}

    def put(self, key: Key, item: Object | None) -> None:
        """Note a PushSecret; None for one that is gone. One that is refused concerns nothing."""
        try:
            spec = None if item is None else parse_push(item)
        except Refusal:
            spec = None
        named, selectors = ([], []) if spec is None else _concerns(spec, key[0])
        self._named.put(key, named)
        self._places.put(key, (place for place, _ in selectors))
        if selectors:
            self._selectors[key] = selectors
        else:
            self._selectors.pop(key, None)

    def of(self, thing: Thing, *labels: Labels) -> frozenset[Key]:
        """The PushSecrets that name a thing, or select it by any of the labels it has or had."""
        place = thing[:2]
        selecting = {
            key
            for key in self._places.of(place)
            if any(
                where == place and any(selects(selector, each) for each in labels)
                for where, selector in self._selectors[key]
            )
        }
        return self._named.of(thing) | selecting


def _concerns(spec: PushSpec, namespace: str) -> tuple[list[Thing], list[tuple[_Place, Selector]]]:
    named: list[Thing] = []
    selectors: list[tuple[_Place, Selector]] = []
    if spec.source_name:
        named.append((SECRETS.kind, namespace, spec.source_name))
    if spec.source_selector is not None:
        selectors.append(((SECRETS.kind, namespace), spec.source_selector))
    for choice in spec.stores:
        where = "" if choice.kind == "ClusterSecretStore" else namespace
        if choice.name:
            named.append((choice.kind, where, choice.name))
        elif choice.selector is not None:
            selectors.append(((choice.kind, where), choice.selector))
    return named, selectors
