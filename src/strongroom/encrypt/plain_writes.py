"""Whether a server wrote or read in plain text or another key between two looks. Pure.

That a server hears a key id says that the provider is in its list, and not that it stands first:
with identity in front, a rewrite makes plain text of what was encrypted. Nor does it say that the
plugin has sealed a seed under that key yet: while it has not, the server goes on with the old one.
"""

from strongroom.encrypt.check.api_metrics import (
    KEY_USES,
    OPERATIONS,
    Sample,
    identity_reads,
    key_reads,
    of,
    sealed_reads,
    started,
)
from strongroom.encrypt.coverage import Expected


def one_process(before: tuple[Sample, ...], after: tuple[Sample, ...]) -> bool:
    """Whether both are of one process; behind a balancer they may be of two servers."""
    return started(before) is not None and started(before) == started(after)


def wrote_plain(
    before: tuple[Sample, ...], after: tuple[Sample, ...], resources: list[str]
) -> list[str]:
    """The resources of which something was written by identity.

    Empty where it cannot be told: servers before 1.32 do not say of which resource a write was.
    """
    if not one_process(before, after):
        return []
    return [each for each in resources if _writes(after, each) > _writes(before, each)]


def read_plain(
    before: tuple[Sample, ...], after: tuple[Sample, ...], resources: list[str]
) -> float:
    """How many reads were of values in plain text; 0 where it cannot be told."""
    if not tells(before, after):
        return 0.0
    return sum(identity_reads(after, each) - identity_reads(before, each) for each in resources)


def never_sealed(
    before: tuple[Sample, ...], after: tuple[Sample, ...], resources: list[str]
) -> list[str]:
    """The resources of which no encrypted value was read; empty where it cannot be told.

    What the configuration does not cover is counted nowhere, not even as plain text; and a server
    without one shows no counter at all.
    """
    if not tells(before, after):
        return []
    return [each for each in resources if sealed_reads(after, each) <= sealed_reads(before, each)]


def kept_plain(
    before: tuple[Sample, ...], after: tuple[Sample, ...], resources: list[str], touches: int
) -> bool:
    """Whether, of so many touches that changed nothing, some were of values in plain text for sure.

    Each has read its value once or more, so all of them were encrypted only if as many encrypted
    values were read; and who else reads in plain text at the same time does not add to those.
    """
    if read_plain(before, after, resources) < touches:
        return False
    sealed = sum(sealed_reads(after, each) - sealed_reads(before, each) for each in resources)
    return sealed < touches


def under_another_key(
    before: tuple[Sample, ...],
    after: tuple[Sample, ...],
    resources: list[str],
    key: Expected,
    touches: int,
) -> bool:
    """Whether, of so many touches, some were of values under another key for sure.

    Each has read its value once or more and left it under the key, so as many reads of that key
    are missing; unless a balancer led the touches elsewhere, and then so are the reads at all.
    """
    counts = of(after, KEY_USES, provider_name=key.provider)
    if not tells(before, after) or not counts:
        return False
    sealed = sum(sealed_reads(after, each) - sealed_reads(before, each) for each in resources)
    was, now = (key_reads(each, key.provider, key.key_id) for each in (before, after))
    return was + touches > now and sealed >= touches


def tells(before: tuple[Sample, ...], after: tuple[Sample, ...]) -> bool:
    """Whether it can be told what was read; servers before 1.32 do not say of which resource."""
    named = all("resource" in each.labels for each in of(after, OPERATIONS))
    return named and one_process(before, after)


def _writes(samples: tuple[Sample, ...], resource: str) -> float:
    found = of(
        samples, OPERATIONS, transformation_type="to_storage", transformer_prefix="",
        resource=resource,
    )  # fmt: skip
    return sum(each.value for each in found)
