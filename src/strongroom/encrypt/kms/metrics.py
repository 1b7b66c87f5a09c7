"""Counters and a histogram of the plugin's calls.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from collections import Counter
from typing import Final

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 3.0)


class KmsMetrics:
    """What was asked, how it ended and how long it took; and whether memory is locked."""

    def __init__(self, *, memory_locked: bool = False) -> None:
        self.memory_locked = memory_locked
        self.calls: Counter[tuple[str, str]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._sums: dict[str, float] = {}

    def count(self, method: str, code: str, seconds: float) -> None:
        """One call."""
        self.calls[method, code] += 1
        self._sums[method] = self._sums.get(method, 0.0) + seconds
        for limit in BUCKETS:
            if seconds <= limit:
                self._buckets[method, limit] += 1

    def lines(self) -> list[str]:
        """The series of the calls."""
        name = "strongroom_kms_call_seconds"
        lines = ["# TYPE strongroom_kms_calls_total counter"]
        lines += [
            f'strongroom_kms_calls_total{{method="{method}",code="{code}"}} {count}'
            for (method, code), count in sorted(self.calls.items())
        ]
        lines.append(f"# TYPE {name} histogram")
        for method in sorted(self._sums):
            total = sum(count for (each, _), count in self.calls.items() if each == method)
            lines += [
                f'{name}_bucket{{method="{method}",le="{limit}"}} {self._buckets[method, limit]}'
                for limit in BUCKETS
            ]
            lines += [
                f'{name}_bucket{{method="{method}",le="+Inf"}} {total}',
                f'{name}_sum{{method="{method}"}} {self._sums[method]:.6f}',
                f'{name}_count{{method="{method}"}} {total}',
            ]
        return lines
