"""Whether every API server uses the new key, before anything is rewritten. Pure.

Not advisory: a server that still has the old key takes what another rewrote for stale, and
writes it back under the old one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.encrypt.check.api_metrics import (
    CONFIG_INFO,
    KEY_TIME,
    Sample,
    key_hash,
    of,
    status_times,
)


@dataclass(frozen=True, slots=True)
class Barrier:
    """Which servers are not there yet, each with the reason."""

    behind: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Whether every server is."""
        return not self.behind


def barrier(servers: Mapping[str, tuple[Sample, ...]], provider: str, key_id: str) -> Barrier:
    """Look at each server's metrics."""
    wanted, behind = key_hash(key_id), {}
    for name, samples in servers.items():
        times = status_times(samples, provider)
        newest = max(times, key=lambda each: times[each], default="")
        writes = {
            each.labels.get("key_id_hash", ""): each.value
            for each in of(
                samples, KEY_TIME, provider_name=provider, transformation_type="to_storage"
            )
        }
        last_write = max(writes, key=lambda each: writes[each], default="")
        if not times:
            behind[name] = f"has not heard of the provider {provider!r} since it loaded its file"
        elif newest != wanted:
            behind[name] = "has not heard the new key id from its plugin yet"
        elif last_write and last_write != wanted and writes[last_write] >= times[wanted]:
            behind[name] = "still writes with another key"
    return Barrier(behind)


def differ(servers: Mapping[str, tuple[Sample, ...]]) -> bool:
    """Whether servers have loaded different files; before 1.34 they do not say."""
    loaded = {
        each.labels.get("hash") for samples in servers.values() for each in of(samples, CONFIG_INFO)
    }
    return len(loaded) > 1
