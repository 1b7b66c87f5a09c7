"""The proof without etcd: two passes of no-op rewrites, and the server's own counters.

Where etcd is hidden (EKS, GKE, AKS): after a pass everything is under what writes now, so a second
pass must change no resourceVersion, and what another writer changed in between must stay when it
is touched once more; and reading it all must show no read by identity. Where a key is named, as
many reads must be of values under it: what is stale nowhere may all be under another.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from strongroom.encrypt.check.api_metrics import (
    Sample,
    identity_reads,
    key_reads,
    parse,
    sealed_reads,
    started,
)
from strongroom.encrypt.coverage import UNKNOWN, Expected
from strongroom.encrypt.rewrite import Progress, Rewriter, Touchable, name_of
from strongroom.kube.resource import Resource
from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal

BLIND: Final = (
    "older revisions, in etcd's files until compaction and defragmentation, and in backups",
    "API servers other than the one that was asked, unless all have the same configuration",
    "what lies in etcd and this server does not serve, as of a version or API that is off",
)
BLIND_TO_KEYS: Final = "which key is used: only that it is the one the server writes with now"


class Measured(Touchable, Protocol):
    """An API that also shows its metrics."""

    async def raw(self, path: str) -> bytes:
        """GET a path that is no object."""


@dataclass(frozen=True, slots=True)
class TwoPass:
    """Both passes, and what speaks against the proof."""

    first: Progress
    second: Progress
    problems: tuple[str, ...]
    blind: tuple[str, ...] = (*BLIND, BLIND_TO_KEYS)
    # By resource, what it should be under; of what KMS v2 has under which key, it was shown.
    keys: Mapping[str, Expected] = field(default_factory=dict)
    # What is written in plain text by now, and was not touched.
    may_be_sealed: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether everything is under what writes now, and that encrypts."""
        return self.second.done > 0 and not self.problems

    def as_data(self) -> dict[str, Any]:
        """The stable form for machines."""
        return {
            "holds": self.holds,
            "method": "two-pass",
            "expected": {name: each.as_data() for name, each in sorted(self.keys.items())},
            "first": {"objects": self.first.done, "rewritten": self.first.rewritten},
            "second": {
                "objects": self.second.done,
                "rewritten": self.second.rewritten,
                "unsettled": self.second.unsettled,
            },
            "problems": list(self.problems),
            "still_under": {name: [UNKNOWN] for name in self.may_be_sealed},
            "cannot_see": list(self.blind),
        }


async def two_pass(
    api: Measured,
    clock: Clock,
    resources: list[Resource],
    counted: Callable[[str], bool],
    keys: Mapping[str, Expected] | None = None,
) -> TwoPass:
    """Run both passes; of what is `counted` reads must be seen, and of `keys`, by the names of
    resources, reads under that key. Raises what the API refuses.
    """
    rewriter = Rewriter(api, clock)
    first = await rewriter.run_pass(resources, Progress(1))
    before = await _metrics(api)
    second = await rewriter.run_pass(resources, Progress(2))
    after = await _metrics(api)
    names = {name_of(each): counted(name_of(each)) for each in resources}
    # Of KMS v1 and of local keys the server does not say which was used.
    told = {name: key for name, key in (keys or {}).items() if key.key_id and key.form == "kms-v2"}
    problems = _problems(first, second, before, after, names)
    if before and after and not problems:
        problems = _other_keys(second, before, after, told)
    blind = BLIND if names.keys() <= told.keys() else (*BLIND, BLIND_TO_KEYS)
    return TwoPass(first, second, tuple(problems), blind, keys or {})


def _other_keys(
    second: Progress,
    before: tuple[Sample, ...],
    after: tuple[Sample, ...],
    keys: Mapping[str, Expected],
) -> list[str]:
    touched: Counter[Expected] = Counter()
    for name, key in keys.items():
        touched[key] += second.touched[name]
    read = {
        key: key_reads(after, key.provider, key.key_id)
        - key_reads(before, key.provider, key.key_id)
        for key in touched
    }
    return [
        f"{touches - read[key]:g} of {touches} objects were not seen to be read under the key"
        f" {key.key_id}"
        for key, touches in touched.items()
        if read[key] < touches
    ]


async def _metrics(api: Measured) -> tuple[Sample, ...] | None:
    try:
        return parse((await api.raw("/metrics")).decode(errors="replace"))
    except Refusal:
        return None


def _problems(
    first: Progress,
    second: Progress,
    before: tuple[Sample, ...] | None,
    after: tuple[Sample, ...] | None,
    names: Mapping[str, bool],
) -> list[str]:
    """What speaks against it; of the names it is said whether their reads must be counted."""
    found = []
    if second.unsettled:
        found.append(
            f"{second.unsettled} objects change at every touch: servers do not agree on the key, or"
            " a webhook edits every update"
        )
    failed = first.failed + second.failed
    if failed:
        found.append(f"{len(failed)} objects could not be touched, such as {failed[0]}")
    if before is None or after is None:
        found.append(
            "the server's metrics cannot be read, so identity as the writer is not excluded"
        )
        return found
    plain = sum(identity_reads(after, name) - identity_reads(before, name) for name in names)
    sealed = {name: sealed_reads(after, name) - sealed_reads(before, name) for name in names}
    if started(after) != started(before) or min([plain, *sealed.values()]) < 0:
        found.append(
            "the counters are not of one process: the server was started anew meanwhile, or another"
            " one answered; prove it once more"
        )
        return found
    if plain:
        found.append(f"{plain:g} reads in the second pass were of values in plain text")
    # What no entry covers is counted nowhere, neither as plain text nor as encrypted.
    bare = [name for name in names if names[name] and second.touched[name] and not sealed[name]]
    if bare or not any(sealed.values()):
        found.append(
            f"no read of {', '.join(bare or names)} in the second pass was of an encrypted value:"
            " nothing covers them"
        )
    return found
