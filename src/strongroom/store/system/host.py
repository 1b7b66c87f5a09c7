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
            ("cpu", self._cpu), ("disk", _disk), ("host", self._host), ("memory", self._memory),
        ):  # fmt: skip
            try:
                found[name] = ask()
            except (OSError, ValueError, KeyError) as error:
                warnings.append(f"{name} is not known here: {type(error).__name__}")
        return Result(found, warnings=tuple(warnings))

    def _cpu(self) -> list[dict[str, Any]]:
        lines = (self._proc / "cpuinfo").read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        names = models or [platform.machine()] * (os.cpu_count() or 1)
        return [{"cpu": number, "modelName": name} for number, name in enumerate(names)]

    def _memory(self) -> dict[str, int]:
        lines = (self._proc / "meminfo").read_text().splitlines()
        fields = {
            name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines)
        }
        total, free, available = (
            1024 * int(fields[name]) for name in ("MemTotal", "MemFree", "MemAvailable")
        )
        return {"total": total, "free": free, "available": available, "used": total - available}

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
    return [{"path": "/", "total": total, "used": used, "free": free}]
