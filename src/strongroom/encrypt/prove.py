"""The proof: every Secret in etcd against the provider and key it should be under. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from strongroom.encrypt.stored import Stored, classify


@dataclass(frozen=True, slots=True)
class Expected:
    """What every value should be under; "" leaves a point open."""

    provider: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One Secret and the verdict: ok, plaintext, other-key, other-provider, weaker or unknown."""

    namespace: str
    name: str
    stored: Stored
    verdict: str

    def as_data(self) -> dict[str, Any]:
        """For machines."""
        return {
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
    """All rows; `holds` only when something was read and all of it is as expected."""

    expected: Expected
    rows: list[Row] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """Secrets by verdict."""
        return Counter(row.verdict for row in self.rows)

    @property
    def holds(self) -> bool:
        """Whether every Secret is under the expected key."""
        return bool(self.rows) and all(row.verdict == "ok" for row in self.rows)


def judge(stored: Stored, expected: Expected) -> str:
    """The verdict on one value."""
    if stored.form in ("plaintext", "unknown"):
        return stored.form
    if stored.form != "kms-v2":
        return "weaker"
    if expected.provider and stored.provider != expected.provider:
        return "other-provider"
    if expected.key_id and stored.key_id != expected.key_id:
        return "other-key"
    return "ok"


def prove(pairs: Iterable[tuple[str, bytes]], expected: Expected) -> Proof:
    """Classify and judge; a key is `PREFIX/secrets/NAMESPACE/NAME`."""
    proof = Proof(expected)
    for key, value in pairs:
        *_, namespace, name = key.split("/")
        stored = classify(value)
        proof.rows.append(Row(namespace, name, stored, judge(stored, expected)))
    return proof
