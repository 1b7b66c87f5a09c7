"""What a change feed of Vault's form says: events as paths, and pages of what was before. Pure.

Form: https://developer.hashicorp.com/vault/docs/concepts/events; the pages are Strongroom's own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.model.clock import parse_rfc3339
from strongroom.sync.providers.contract import Version

# A history of more paths than that is taken for one of which nothing is known.
MOST_PATHS: Final = 100_000
# The events behind which a version can be read.
_WRITES: Final = frozenset({"kv-v2/data-write", "kv-v2/data-patch"})
# Where calls are made that change what is read under `data/`.
_FOLDERS: Final = frozenset({"metadata", "delete", "undelete", "destroy"})


@dataclass(slots=True)
class Past:
    """What the pages of a history have told so far, of which no more than so much is kept."""

    versions: dict[str, Version] = field(default_factory=dict)
    whole: bool = True
    unsure_before: float = 0.0

    def add(self, page: Mapping[str, Any]) -> None:
        """Raises ValueError or KeyError for what is no page."""
        self.whole = self.whole and page.get("whole") is True
        if page.get("restored"):
            when = parse_rfc3339(str(page["restored"]))
            self.unsure_before = max(self.unsure_before, when)
        if not math.isinf(self.unsure_before):
            self.versions |= dict(map(_was, page.get("changes") or []))
        if len(self.versions) > MOST_PATHS:
            # Comparing that many one by one is no better than reading what is in use.
            self.versions, self.whole, self.unsure_before = {}, False, math.inf


def changed_path(event: Mapping[str, Any], kind: str) -> str:
    """The path of an event of the feed, "" for none. Pure."""
    data = event.get("data") or {}
    metadata = (data.get("event") or {}).get("metadata") or {}
    path = metadata.get("data_path") or metadata.get("path")
    mount = (data.get("plugin_info") or {}).get("mount_path")
    return _of_data(path, kind, str(mount or "")) if isinstance(path, str) else ""


def _was(change: Mapping[str, Any]) -> tuple[str, Version]:
    """The path of a change in the history, and the version that was written. Pure."""
    kind = str(change["event_type"])
    path = _of_data(str(change["path"]), kind, str(change["mount_path"]))
    return path, int(change["version"]) if kind in _WRITES else ""


def _of_data(path: str, kind: str, mount: str) -> str:
    """What becomes of metadata or of versions concerns whoever reads the values, by their path."""
    folder = kind.removeprefix("kv-v2/")
    folder = "metadata" if folder.startswith("metadata") else folder
    if folder in _FOLDERS and path.startswith(f"{mount}{folder}/"):
        return f"{mount}data/" + path.removeprefix(f"{mount}{folder}/")
    return path
