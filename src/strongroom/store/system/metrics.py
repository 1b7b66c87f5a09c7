"""`sys/metrics`: what this process counts, in Prometheus' text form or as JSON.

Names that Vault has are Vault's (https://developer.hashicorp.com/vault/docs/internals/telemetry);
others begin with `strongroom`. Counters count from the start of the process, also in JSON, where
Vault's begin anew every ten seconds. As in Vault, JSON is the answer to whom asks for no format;
Prometheus says in its Accept header what it reads. Form of the text:
https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

import resource
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.parameters import fields
from strongroom.store.system.in_flight import InFlight
from strongroom.store.system.status import raw

TEXT: Final = "text/plain; version=0.0.4"
# Counting all of a million rows would keep every other request of the process waiting.
MOST_COUNTED: Final = 50_000
COUNT_SECONDS: Final = 60.0
RATE_LIMITED: Final = 429
_STATM: Final = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Sample:
    """One number; `sum` is there for a summary, in milliseconds as Vault's are."""

    kind: Literal["gauge", "counter", "summary"]
    name: str
    value: float
    help: str
    labels: dict[str, str] = field(default_factory=dict)
    sum: float = 0.0


class Metrics:
    """Counts replies by operation and status; names and values of secrets never become labels."""

    def __init__(self, context: Context, worker: int) -> None:
        self._context = context
        self._worker = str(worker)
        self._counted: tuple[float, int] | None = None
        self.replies: Counter[tuple[str, int]] = Counter()
        self.in_flight = InFlight(context.clock)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "metrics", {"read": self._read}, takes=fields(text="format"), opened_by="metrics"
            ),
            *self.in_flight.endpoints,
        )

    def _read(self, call: Call) -> Result:
        wanted, accepted = call.text("format"), call.headers.get("accept", "")
        if not wanted and any(each in accepted for each in ("openmetrics-text", "text/plain")):
            wanted = "prometheus"
        if wanted not in ("", "prometheus"):
            raise Invalid("bad-format", "metric response format unknown", hint="use prometheus")
        samples = list(self._samples())
        if wanted:
            # A scraper keeps its connection, and would see the same one of the workers for ever.
            return Result(raw=as_text(samples).encode(), content_type=TEXT, close=True)
        stamp = datetime.fromtimestamp(self._context.clock.now(), UTC)
        return raw(as_json(samples, f"{stamp:%Y-%m-%d %H:%M:%S} +0000 UTC"))

    def _samples(self) -> Iterator[Sample]:
        row = self._context.view.cluster()
        where = {"cluster": row.cluster_name if row else "", "worker": self._worker}
        yield Sample("gauge", "vault.core.unsealed", 1, "1 while the store is open.", where)
        yield Sample("gauge", "vault.core.active", 1, "1: every open node serves.", where)
        yield Sample(
            "gauge", "vault.core.in_flight_requests", len(self.in_flight),
            "Requests that are not answered yet.", where,
        )  # fmt: skip
        yield Sample(
            "gauge", "vault.expire.num_leases", self._leases(),
            f"Leases and tokens in the database, counted to {MOST_COUNTED}.", where,
        )  # fmt: skip
        yield Sample(
            "gauge", "vault.runtime.sys_bytes", _resident(), "Memory of this process.", where
        )
        yield Sample(
            "summary", "vault.core.handle_request", self.replies.total(),
            "Requests, and the milliseconds of those that were not answered from memory.",
            where, 1000 * self.in_flight.seconds,
        )  # fmt: skip
        limited = sum(n for (_, status), n in self.replies.items() if status == RATE_LIMITED)
        yield Sample(
            "counter", "vault.quota.rate_limit.violation", limited,
            "Requests refused by a quota.", where,
        )  # fmt: skip
        failures = self._context.broker.failures
        for name in ("log_request_failure", "log_response_failure"):
            # A device takes lines of both kinds at once; it fails for both.
            yield Sample(
                "counter", f"vault.audit.{name}", sum(failures.values()),
                "Writes that an audit device did not take.", where,
            )  # fmt: skip
        for (operation, status), count in sorted(self.replies.items()):
            labels = {"operation": operation, "status": str(status), "worker": self._worker}
            yield Sample(
                "counter", "strongroom.requests.total", count,
                "Replies by operation and status.", labels,
            )  # fmt: skip
        yield from self._failures()
        yield Sample(
            "gauge", "strongroom.seal.backend.failing",
            int(bool(self._context.seal.backend_problem)),
            "1 when the next start would not unseal by itself.", where,
        )  # fmt: skip
        for name, number in self._context.sessions.remembered.items():
            yield Sample(
                "gauge", "strongroom.remembered", number,
                "What is kept in memory of tokens, policies and entities.",
                {"what": name, "worker": self._worker},
            )  # fmt: skip

    def _failures(self) -> Iterator[Sample]:
        for path, count in self._context.broker.failures.items():
            labels = {"device": path.strip("/"), "worker": self._worker}
            yield Sample(
                "counter", "strongroom.audit.failures.total", count,
                "Writes an audit device did not take.", labels,
            )  # fmt: skip
        for part, count in sorted(self._context.notices.counts.items()):
            yield Sample(
                "counter", "strongroom.background.failures.total", count,
                "What went wrong beside the requests, also rows that do not open.",
                {"part": part, "worker": self._worker},
            )  # fmt: skip

    def _leases(self) -> int:
        now = self._context.clock.monotonic()
        if self._counted is None or not 0 <= now - self._counted[0] < COUNT_SECONDS:
            self._counted = now, self._context.view.count_under("", MOST_COUNTED)
        return self._counted[1]


def as_text(samples: Sequence[Sample]) -> str:
    """Prometheus' form."""
    lines, told = [], set()
    for each in samples:
        name = each.name.replace(".", "_").replace("-", "_")
        if name not in told:
            told.add(name)
            lines += [f"# HELP {name} {each.help}", f"# TYPE {name} {each.kind}"]
        labels = "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in each.labels.items())
        if each.kind == "summary":
            lines.append(f"{name}_sum{labels}}} {_number(each.sum)}")
            name += "_count"
        lines.append(f"{name}{labels}}} {_number(each.value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    # All its digits: of a rounded sum nobody can say by how much it has grown.
    return repr(value) if isinstance(value, int) else repr(round(value, 3))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def as_json(samples: Sequence[Sample], stamp: str) -> dict[str, object]:
    """Vault's own form; `stamp` is the time of day."""
    gauges: list[dict[str, object]] = []
    counters: list[dict[str, object]] = []
    summaries: list[dict[str, object]] = []
    for each in samples:
        head = {"Name": each.name, "Labels": each.labels}
        if each.kind == "gauge":
            gauges.append({**head, "Value": int(each.value)})
            continue
        total = each.sum if each.kind == "summary" else each.value
        mean = total / each.value if each.value else 0
        row = {**head, "Count": int(each.value), "Sum": round(total, 3), "Mean": round(mean, 3)}
        (summaries if each.kind == "summary" else counters).append(row)
    return {
        "Timestamp": stamp,
        "Gauges": gauges,
        "Points": [],
        "Counters": counters,
        "Samples": summaries,
    }


def _resident() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
