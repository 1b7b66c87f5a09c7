"""`sys/version-history`: the versions of this program that have served the cluster, since when.

A version is noted when a node of it first leads the upkeep. The one that is asked is among them
from its start on. API: https://developer.hashicorp.com/vault/api-docs/system/version-history.
"""

from collections.abc import Sequence
from typing import Any, Final

from strongroom.model.clock import rfc3339
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.system.status import About
from strongroom.store.upkeep import Chore

MOUNT, KIND = "system", "version"
# A snapshot that was restored may know nothing of the version that runs.
AGAIN_SECONDS: Final = 3600.0


def noting(version: str) -> Chore:
    """The chore that notes the version of the node that leads."""

    def note(transaction: Transaction, now: float) -> bool:
        if version and transaction.document(MOUNT, KIND, version) is None:
            transaction.put_document(MOUNT, KIND, version, {"installed": now})
        return False

    return Chore("version history", AGAIN_SECONDS, note)


class VersionHistory:
    """The endpoint."""

    def __init__(self, context: Context, about: About) -> None:
        self._context = context
        self._about = about

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (Endpoint("version-history", {"list": self._list}),)

    def _list(self, call: Call) -> Result:  # noqa: ARG002 - the shape of a handler
        view = self._context.view
        installed: dict[str, float] = {}
        for name in view.document_names(MOUNT, KIND):
            installed[name] = (view.document(MOUNT, KIND, name) or {}).get("installed", 0.0)
        started = self._about.started or self._context.clock.now()
        installed.setdefault(self._about.program_version, started)
        versions = sorted(installed, key=lambda each: (installed[each], each))
        info: dict[str, Any] = {}
        for before, version in zip([None, *versions], versions, strict=False):
            info[version] = {
                "timestamp_installed": rfc3339(installed[version]),
                "previous_version": before,
                # A package of Python does not know when it was built.
                "build_date": "",
            }
        return Result({"keys": versions, "key_info": info})
