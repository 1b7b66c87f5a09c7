"""The proof: every value in etcd against the provider and key it should be under. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.encrypt.coverage import Coverage, Expected
from strongroom.encrypt.keyspace import DEFAULT_PREFIX, place_of, resource_of
from strongroom.encrypt.stored import Stored, classify

LISTED: Final = 10_000
BLIND: Final = (
    "older revisions: they stay in etcd's files until compaction and defragmentation",
    "backups: strongroom encrypt prove --snapshot FILE reads one",
    "whether a value opens: none was decoded, each was judged by its prefix and key id",
    "another etcd, if --etcd-servers-overrides of the API server gives a resource one of its own",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One value and the verdict: ok, plaintext, other-key, other-provider, weaker or unknown."""

    resource: str
    namespace: str
    name: str
    stored: Stored
    verdict: str

    def as_data(self) -> dict[str, Any]:
        """For machines."""
        return {
            "resource": self.resource,
            "namespace": self.namespace,
            "name": self.name,
            "form": self.stored.form,
            "provider": self.stored.provider,
            "key_id": self.stored.key_id,
            "verdict": self.verdict,
            "detail": self.stored.detail,
        }


@dataclass(slots=True)
class Proof:
    """What was read; `holds` only when something was, all of it is as expected, and each name is
    one that the cluster serves: `unserved` are the others, under which nothing can lie.

    Values that are not ok are listed first, and up to a limit; all are counted. `uncovered` counts
    by resource what the configuration does not encrypt, `still_under` the ids of keys that some of
    that is under all the same, from before.
    """

    coverage: Coverage
    prefix: str = DEFAULT_PREFIX
    counts: Counter[str] = field(default_factory=Counter)
    stored: dict[str, Counter[Stored]] = field(default_factory=dict)
    uncovered: Counter[str] = field(default_factory=Counter)
    still_under: dict[str, set[str]] = field(default_factory=dict)
    unserved: list[str] = field(default_factory=list)
    wrong: list[Row] = field(default_factory=list)
    right: list[Row] = field(default_factory=list)
    _expected: dict[str, Expected | None] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> list[Row]:
        """The listed values."""
        return self.wrong + self.right

    @property
    def empty(self) -> list[str]:
        """Resources named to be proved of which there is no value: none is there, or a typo."""
        return [each for each in self.coverage.resources if not self.stored.get(each)]

    @property
    def total(self) -> int:
        """How many values were judged."""
        return sum(self.counts.values())

    @property
    def holds(self) -> bool:
        """Whether every value is under the expected key."""
        return self.total > 0 and self.counts["ok"] == self.total and not self.unserved

    def read(self, key: str, value: bytes) -> None:
        """Judge and count one value, and list it while there is room."""
        resource = resource_of(key, self.prefix)
        if resource not in self._expected:
            self._expected[resource] = self.coverage.expected(resource)
        expected = self._expected[resource]
        stored = classify(value, self.coverage.names)
        if expected is None:
            self.uncovered[resource] += 1
            if stored.form == "kms-v2":
                self.still_under.setdefault(resource, set()).add(stored.key_id)
            return
        verdict = judge(stored, expected)
        self.counts[verdict] += 1
        self.stored.setdefault(resource, Counter())[stored] += 1
        listed = self.right if verdict == "ok" else self.wrong
        if len(listed) < LISTED:
            namespace, name = place_of(key, resource, self.prefix)
            listed.append(Row(resource, namespace, name, stored, verdict))


def judge(stored: Stored, expected: Expected) -> str:
    """The verdict on one value."""
    if stored.form in ("plaintext", "unknown"):
        return stored.form
    if stored.form != expected.form:
        return "weaker" if expected.form == "kms-v2" else "other-provider"
    if expected.provider and stored.provider != expected.provider:
        return "other-provider"
    if expected.key_id and stored.key_id != expected.key_id:
        return "other-key"
    return "ok"


def prove(
    pairs: Iterable[tuple[str, bytes]], coverage: Coverage, prefix: str = DEFAULT_PREFIX
) -> Proof:
    """Judge these keys and values."""
    proof = Proof(coverage, prefix)
    for key, value in pairs:
        proof.read(key, value)
    return proof
