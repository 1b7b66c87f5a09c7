"""The `sys/` mount: the endpoints of every file in this folder as one backend."""

from collections.abc import Sequence
from typing import Protocol

from strongroom.store.call import Call, Endpoint


class Part(Protocol):
    """One file's endpoints."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """In the order they are tried."""


class System:
    """All parts in one table."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._endpoints = tuple(each for part in parts for each in part.endpoints)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self._endpoints

    def exists(self, call: Call) -> bool:  # noqa: ARG002 - every write here is an update
        return True
