"""`sys/config/state/sanitized`: the configuration this process runs with, without what is secret.

API: https://developer.hashicorp.com/vault/api-docs/system/config-state.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from strongroom.store.call import Call, Endpoint, Result


class Configuration:
    """The endpoint; `sanitized` gives the fields."""

    def __init__(self, sanitized: Callable[[], Mapping[str, Any]]) -> None:
        self._sanitized = sanitized

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (Endpoint("config/state/sanitized", {"read": self._read}),)

    def _read(self, call: Call) -> Result:  # noqa: ARG002 - the handler's shape
        return Result(self._sanitized(), top_level=True)
