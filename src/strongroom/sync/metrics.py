"""Metrics of the operator: External Secrets Operator's names, and histograms beside them.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/. Names of the other
controller: https://external-secrets.io/latest/api/metrics/.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from strongroom.kube.informer import Informer
from strongroom.kube.queue import Lane, WorkQueue
from strongroom.kube.resource import Object, key_of
from strongroom.model.clock import Clock
from strongroom.sync.due import refresh_time

Key = tuple[str, str]
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

# Kinds beside ExternalSecrets, whose last reconcile is told as theirs is.
OTHERS: Final = (
    "pushsecret", "secretstore", "clustersecretstore", "clusterexternalsecret", "clusterpushsecret",
)  # fmt: skip
# Every family: name, type, help. The dashboard, the alert rules and the page are checked by it.
FAMILIES: Final[Mapping[str, tuple[str, str]]] = {
    "externalsecret_sync_calls_total": ("counter", "reconciles of an ExternalSecret"),
    "externalsecret_sync_calls_error": ("counter", "reconciles that were refused"),
    "externalsecret_status_condition": ("gauge", "1 for the status a condition has"),
    "externalsecret_reconcile_duration": ("gauge", "the last reconcile, in nanoseconds"),
    "externalsecret_provider_api_calls_count": ("counter", "calls to stores"),
    "pushsecret_status_condition": ("gauge", "1 for the status a condition has"),
    "secretstore_status_condition": ("gauge", "1 for the status a condition has"),
    "clustersecretstore_status_condition": ("gauge", "1 for the status a condition has"),
    "clusterexternalsecret_status_condition": ("gauge", "1 for the status a condition has"),
    "clusterpushsecret_status_condition": ("gauge", "1 for the status a condition has"),
    **{
        f"{each}_reconcile_duration": ("gauge", "the last reconcile, in nanoseconds")
        for each in OTHERS
    },
    "strongroom_sync_reconcile_seconds": ("histogram", "time of a reconcile"),
    "strongroom_sync_age_seconds": ("gauge", "seconds since the value was last written or checked"),
    "strongroom_sync_queue_length": ("gauge", "keys that wait, by lane"),
    "strongroom_sync_queue_oldest_seconds": ("gauge", "for how long the oldest of them has waited"),
    "strongroom_sync_notices_total": ("counter", "notices of clouds, by result"),
    "strongroom_sync_leader": ("gauge", "1 while this replica leads"),
    "strongroom_sync_objects": ("gauge", "objects in the caches, by kind"),
}


class SyncMetrics:
    """Counts what happens; what can be read from the caches is read when it is asked for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: Counter[Key] = Counter()
        self._errors: Counter[Key] = Counter()
        self._last: dict[Key, float] = {}
        self._provider: Counter[tuple[str, str, str]] = Counter()
        self._buckets: Counter[float] = Counter()
        self._sum, self._count = 0.0, 0
        self._checked: dict[Key, float] = {}
        self._took: dict[str, dict[Key, float]] = {each: {} for each in OTHERS}
        self.notices: Counter[str] = Counter()

    def reconciled(self, key: Key, seconds: float, well: bool) -> None:  # noqa: FBT001 - a callback
        """One reconcile of an ExternalSecret."""
        self._calls[key] += 1
        if not well:
            self._errors[key] += 1
        else:
            self._checked[key] = self._clock.now()
        self._last[key] = seconds
        self._sum += seconds
        self._count += 1
        for limit in BUCKETS:
            if seconds <= limit:
                self._buckets[limit] += 1

    def took(self, kind: str, key: Key, seconds: float) -> None:
        """One reconcile of another kind."""
        self._took[kind][key] = seconds

    def durations(self, held: Mapping[str, Informer]) -> Iterator[str]:
        """`*_reconcile_duration` of the other kinds, of the objects that there are."""
        for kind in OTHERS:
            name, took = f"{kind}_reconcile_duration", self._took[kind]
            yield from family(name)
            for key in [each for each in took if kind not in held or each not in held[kind]]:
                del took[key]
            for (namespace, each), seconds in sorted(took.items()):
                yield sample(name, {"name": each, "namespace": namespace}, round(seconds * 1e9))

    def called(self, store: str, call: str, well: bool) -> None:  # noqa: FBT001 - a callback
        """One call to a store."""
        self._provider[store, call, "success" if well else "error"] += 1

    def forget(self, key: Key) -> None:
        """An ExternalSecret is gone, and its series with it."""
        for held in (self._calls, self._errors, self._last, self._checked):
            held.pop(key, None)

    def lines(self) -> Iterator[str]:
        """The series of what was counted."""
        for name, counter in (
            ("externalsecret_sync_calls_total", self._calls),
            ("externalsecret_sync_calls_error", self._errors),
        ):
            yield from family(name)
            for (namespace, each), count in sorted(counter.items()):
                yield sample(name, {"name": each, "namespace": namespace}, count)
        name = "externalsecret_reconcile_duration"
        yield from family(name)
        for (namespace, each), seconds in sorted(self._last.items()):
            yield sample(name, {"name": each, "namespace": namespace}, round(seconds * 1e9))
        name = "externalsecret_provider_api_calls_count"
        yield from family(name)
        for (store, call, result), count in sorted(self._provider.items()):
            yield sample(name, {"provider": store, "call": call, "status": result}, count)
        yield from self._histogram()
        name = "strongroom_sync_notices_total"
        yield from family(name)
        for result, count in sorted(self.notices.items()):
            yield sample(name, {"result": result}, count)

    def _histogram(self) -> Iterator[str]:
        name = "strongroom_sync_reconcile_seconds"
        yield from family(name)
        for limit in BUCKETS:
            yield f'{name}_bucket{{le="{limit}"}} {self._buckets[limit]}'
        yield f'{name}_bucket{{le="+Inf"}} {self._count}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {self._count}"

    def ages(self, items: Iterable[Object]) -> Iterator[str]:
        """How old each value is: since it was last known to be the store's."""
        name = "strongroom_sync_age_seconds"
        yield from family(name)
        now = self._clock.now()
        for item in items:
            namespace, each = key_of(item)
            since = refresh_time(item.get("status") or {})
            checked = self._checked.get((namespace, each))
            known = [moment for moment in (since, checked) if moment is not None]
            if known:
                labels = {"name": each, "namespace": namespace}
                yield sample(name, labels, round(max(0.0, now - max(known)), 1))


def conditions(name: str, items: Iterable[Object]) -> Iterator[str]:
    """`*_status_condition` of a kind, from its cache."""
    yield from family(name)
    for item in items:
        namespace, each = key_of(item)
        for condition in (item.get("status") or {}).get("conditions") or []:
            for status in ("True", "False"):
                labels = {
                    "name": each,
                    "namespace": namespace,
                    "condition": condition["type"],
                    "status": status,
                }
                yield sample(name, labels, int(condition["status"] == status))


def queues(named: Iterable[tuple[str, WorkQueue[Key]]]) -> Iterator[str]:
    """Lengths by lane, and the oldest wait, of each controller's queue."""
    held = list(named)
    name = "strongroom_sync_queue_length"
    yield from family(name)
    for controller, queue in held:
        for lane, length in queue.lengths().items():
            yield sample(name, {"controller": controller, "lane": _lane(lane)}, length)
    name = "strongroom_sync_queue_oldest_seconds"
    yield from family(name)
    for controller, queue in held:
        yield sample(name, {"controller": controller}, round(queue.oldest(), 3))


def _lane(lane: Lane) -> str:
    return lane.name.lower()


def gauge(name: str, values: Iterable[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    """A family of plain values."""
    yield from family(name)
    for labels, value in values:
        yield sample(name, labels, value)


def family(name: str) -> Iterator[str]:
    """The lines before a family's series."""
    kind, said = FAMILIES[name]
    yield f"# HELP {name} {said}"
    yield f"# TYPE {name} {kind}"


def sample(name: str, labels: Mapping[str, str], value: float) -> str:
    """One series."""
    if not labels:
        return f"{name} {value}"
    inner = ",".join(f'{key}="{each.translate(_ESCAPES)}"' for key, each in labels.items())
    return f"{name}{{{inner}}} {value}"
