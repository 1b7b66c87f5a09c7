"""How many processors this process may keep busy, which in a container are few of the machine's.

What it may run on is its affinity (sched_setaffinity(2)); how much of that, the quota of its
control group (`cpu.max` of version 2, https://docs.kernel.org/admin-guide/cgroup-v2.html), which is
what the CPU limit of a Kubernetes container becomes.
"""

import contextlib
import math
import os
from pathlib import Path
from typing import Final

GROUPS: Final = Path("/sys/fs/cgroup")
OWN_GROUP: Final = Path("/proc/self/cgroup")


def usable(groups: Path = GROUPS, own: Path = OWN_GROUP) -> int:
    """As many as can be busy at once, at least one."""
    return at_most(len(os.sched_getaffinity(0)), _quotas(groups, own))


def at_most(processors: int, quotas: list[str]) -> int:
    """What is left of so many under the quotas, each the text of a `cpu.max`. Pure."""
    for each in quotas:
        quota, _, period = each.strip().partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            processors = min(processors, math.ceil(int(quota) / int(period)))
    return max(processors, 1)


def _quotas(groups: Path, own: Path) -> list[str]:
    """Those of the group and of all that it lies in; none where there is no such system."""
    found = []
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            number, _, path = line.partition("::")
            if number != "0":
                continue
            group = groups / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(groups):
                    with contextlib.suppress(OSError):
                        found.append((folder / "cpu.max").read_text())
    return found
