"""Who is connected to a listener, and who makes room where all its places are taken.

Whoever keeps connections and asks nothing would else keep everybody out.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

# Peers that are looked at for one that comes; those after them are for the next one.
LOOKED_AT = 256


class Peer(Protocol):
    """Somebody who is connected."""

    @property
    def is_owed(self) -> bool:
        """Whether it waits for something that it asked for, or is told of as it comes."""

    def cut(self) -> None:
        """Close at once."""


P = TypeVar("P", bound=Peer)


class Places(Generic[P]):
    """A number of them; whoever has sent nothing for longest comes first."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._taken: OrderedDict[P, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._taken)

    def __iter__(self) -> Iterator[P]:
        return iter(tuple(self._taken))

    @property
    def free(self) -> int:
        """How many are left."""
        return max(0, self._number - len(self._taken))

    def take(self, peer: P) -> bool:
        """Whether a peer gets one: a free one, or that of a peer that is owed nothing."""
        if not self.free and not self._make_room():
            return False
        self._taken[peer] = None
        return True

    def _make_room(self) -> bool:
        for _ in range(min(LOOKED_AT, len(self._taken))):
            peer, _ = self._taken.popitem(last=False)
            if not peer.is_owed:
                peer.cut()
                return True
            self._taken[peer] = None
        return False

    def heard(self, peer: P) -> None:
        """A peer has sent something."""
        if peer in self._taken:
            self._taken.move_to_end(peer)

    def leave(self, peer: P) -> None:
        """A peer is gone."""
        self._taken.pop(peer, None)

    def most(self, what: Callable[[P], tuple[int, bool]]) -> P:
        """The peer of which there is most."""
        return max(self._taken, key=what)
