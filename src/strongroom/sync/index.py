"""Which ExternalSecrets depend on what: inputs in the cluster, or places in stores. Pure."""

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

Key = tuple[str, str]
Input = TypeVar("Input", bound=Hashable)


class Index(Generic[Input]):
    """Which keys depend on what; a key's dependencies are replaced as a whole."""

    def __init__(self) -> None:
        self._of: dict[Key, frozenset[Input]] = {}
        self._by: dict[Input, set[Key]] = {}

    def put(self, key: Key, inputs: Iterable[Input]) -> None:
        """Replace what a key depends on."""
        fresh = frozenset(inputs)
        old = self._of.get(key, frozenset())
        if fresh == old:
            return
        for gone in old - fresh:
            held = self._by[gone]
            held.discard(key)
            if not held:
                del self._by[gone]
        for new in fresh - old:
            self._by.setdefault(new, set()).add(key)
        if fresh:
            self._of[key] = fresh
        else:
            self._of.pop(key, None)

    def given(self, key: Key) -> frozenset[Input]:
        """What a key depends on."""
        return self._of.get(key, frozenset())

    def of(self, given: Input) -> frozenset[Key]:
        """The keys that depend on something."""
        return frozenset(self._by.get(given, ()))

    def items(self) -> Iterator[tuple[Input, frozenset[Key]]]:
        """Each thing that keys depend on, with them."""
        return ((given, frozenset(keys)) for given, keys in self._by.items())

    def has(self, given: Input) -> bool:
        """Whether any key does."""
        return given in self._by
