"""`sys/metrics`: counters of this worker in Prometheus' text form.

Form: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from collections import Counter
from collections.abc import Sequence

from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context


class Metrics:
    """Counts replies by operation and status; names and values of secrets never become labels."""

    def __init__(self, context: Context, worker: int, *, public: bool = False) -> None:
        self._context = context
        self._worker = worker
        self._public = public
        self.replies: Counter[tuple[str, int]] = Counter()

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (Endpoint("metrics", {"read": self._read}, public=self._public),)

    def _read(self, call: Call) -> Result:  # noqa: ARG002
        lines = [
            "# HELP strongroom_requests_total Replies by operation and status.",
            "# TYPE strongroom_requests_total counter",
        ]
        lines += [
            f'strongroom_requests_total{{operation="{operation}",status="{status}",'
            f'worker="{self._worker}"}} {count}'
            for (operation, status), count in sorted(self.replies.items())
        ]
        lines += [
            "# HELP strongroom_audit_failures_total Writes an audit device did not take.",
            "# TYPE strongroom_audit_failures_total counter",
        ]
        lines += [
            f'strongroom_audit_failures_total{{device="{path.strip("/")}",'
            f'worker="{self._worker}"}} {count}'
            for path, count in self._context.broker.failures.items()
        ]
        text = "\n".join(lines) + "\n"
        return Result(raw=text.encode(), content_type="text/plain; version=0.0.4")
