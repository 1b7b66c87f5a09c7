"""`sys/audit` and `sys/audit-hash`: the devices the server was started with, and their hash."""

from collections.abc import Sequence

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context


class AuditDevices:
    """Devices come from the command line; the API shows them and hashes for a search."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("audit", {"read": self._all}, sudo=True),
            Endpoint("audit-hash/{path*}", {"update": self._hash}),
        )

    def _all(self, call: Call) -> Result:  # noqa: ARG002
        found = {
            f"file-{number}/": {
                "type": "file",
                "description": "",
                "local": False,
                "options": {"file_path": device.name},
                "path": f"file-{number}/",
            }
            for number, device in enumerate(self._context.broker.devices)
        }
        return Result(found, top_level=True)

    def _hash(self, call: Call) -> Result:
        if "input" not in call.data:
            raise Invalid("no-input", 'the "input" parameter is empty')
        return Result({"hash": self._context.writer.hashed(call.text("input"))}, top_level=True)
