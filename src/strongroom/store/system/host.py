"""`sys/host-info`: the machine that this process runs on.

API: https://developer.hashicorp.com/vault/api-docs/system/host-info. In a container most numbers
are the node's, not the pod's.
"""

import os
import platform
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from strongroom.model.clock import rfc3339
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context

PROC: Final = Path("/proc")
# The columns of /proc/stat (proc_stat(5)), in seconds.
TIMES: Final = (
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guestNice",
)  # fmt: skip
TEXTS: Final = {
    "vendorId": "vendor_id", "family": "cpu family", "model": "model", "physicalId": "physical id",
    "coreId": "core id", "microcode": "microcode",
}  # fmt: skip


class HostInfo:
    """The endpoint."""

    def __init__(self, context: Context, proc: Path = PROC) -> None:
        self._context = context
        self._proc = proc

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (Endpoint("host-info", {"read": self._read}),)

    def _read(self, call: Call) -> Result:  # noqa: ARG002 - the handler's shape
        now = self._context.clock.now()
        found: dict[str, Any] = {"timestamp": rfc3339(now)}
        warnings = []
        for name, ask in (
            ("cpu", self._cpu), ("cpu_times", self._cpu_times), ("disk", _disk),
            ("host", self._host), ("memory", self._memory),
        ):  # fmt: skip
            try:
                found[name] = ask()
            except (OSError, ValueError, KeyError) as error:
                warnings.append(f"{name} is not known here: {type(error).__name__}")
        return Result(found, warnings=tuple(warnings))

    def _cpu(self) -> list[dict[str, Any]]:
        blocks = (self._proc / "cpuinfo").read_text().split("\n\n")
        found = [
            {name.strip(): value.strip() for name, _, value in map(_parted, block.splitlines())}
            for block in blocks
        ]
        # Other architectures than this one's say less, or nothing of each processor.
        found = [each for each in found if "processor" in each]
        found = found or [{} for _ in range(os.cpu_count() or 1)]
        return [_processor(number, each) for number, each in enumerate(found)]

    def _cpu_times(self) -> list[dict[str, Any]]:
        ticks = os.sysconf("SC_CLK_TCK")
        found = []
        for line in (self._proc / "stat").read_text().splitlines():
            name, *numbers = line.split()
            if name.startswith("cpu") and name != "cpu":
                times = (int(each) / ticks for each in numbers)
                found.append({"cpu": name, **dict(zip(TIMES, times, strict=False))})
        return found

    def _memory(self) -> dict[str, Any]:
        lines = (self._proc / "meminfo").read_text().splitlines()
        fields = {
            name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines)
        }
        total, free, available = (
            1024 * int(fields[name]) for name in ("MemTotal", "MemFree", "MemAvailable")
        )
        used = total - available
        return {
            "total": total, "free": free, "available": available, "used": used,
            "usedPercent": 100 * used / total,
        }  # fmt: skip

    def _host(self) -> dict[str, Any]:
        uptime = float((self._proc / "uptime").read_text().split()[0])
        return {
            "hostname": socket.gethostname(),
            "uptime": int(uptime),
            "bootTime": int(self._context.clock.now() - uptime),
            "procs": sum(each.name.isdigit() for each in self._proc.iterdir()),
            "os": platform.system().lower(),
            "platform": platform.platform(),
            "kernelVersion": platform.release(),
            "kernelArch": platform.machine(),
        }


def _disk() -> list[dict[str, Any]]:
    total, used, free = shutil.disk_usage("/")
    inodes = os.statvfs("/")
    percent = 100 * used / (used + free)
    return [
        {
            "path": "/", "total": total, "used": used, "free": free, "usedPercent": percent,
            "inodesTotal": inodes.f_files, "inodesFree": inodes.f_ffree,
            "inodesUsed": inodes.f_files - inodes.f_ffree,
        }
    ]  # fmt: skip


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _processor(number: int, said: dict[str, str]) -> dict[str, Any]:
    """A processor under the names of Vault's library (gopsutil's InfoStat)."""
    cache = said.get("cache size", "").partition(" ")[0]
    return {
        "cpu": number,
        "modelName": said.get("model name") or platform.machine(),
        **{name: said.get(field, "") for name, field in TEXTS.items()},
        "stepping": _number(said.get("stepping")),
        # Each entry is one logical processor.
        "cores": 1,
        "mhz": float(said.get("cpu MHz") or 0),
        "cacheSize": _number(cache),
        "flags": said.get("flags", "").split(),
    }


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
