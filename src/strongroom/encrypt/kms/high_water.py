"""The newest state a node has seen, so that an older file is refused after a restart as well.

JSON beside the state file, `FILE.seen`: `{"epoch", "current"}`. Restoring both from one backup goes
back unnoticed; restoring the state file alone, or copying an old one from another node, does not.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from strongroom.encrypt.kms.state import KmsState, write_private
from strongroom.model.errors import Conflict, Invalid


@dataclass(frozen=True, slots=True)
class Mark:
    """The highest epoch, and the key that was in use then."""

    epoch: int
    current: str


def of_state(state: KmsState) -> Mark:
    """The mark that a state sets."""
    return Mark(state.epoch, state.current)


def mark_file(state_file: Path) -> Path:
    """Where the mark of a state file lies."""
    return state_file.with_name(state_file.name + ".seen")


def read_mark(state_file: Path) -> Mark | None:
    """The mark, None on a node that has none yet; raises Invalid(`bad-kms-mark`)."""
    path = mark_file(state_file)
    try:
        read = json.loads(path.read_bytes())
        return Mark(int(read["epoch"]), str(read["current"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise Invalid(
            "bad-kms-mark", f"cannot read {path}", hint="remove it if the state file is the newest"
        ) from None


def write_mark(state_file: Path, mark: Mark) -> None:
    """Keep the mark; durable before it returns. Raises Unavailable(`state-unwritable`)."""
    content = json.dumps({"epoch": mark.epoch, "current": mark.current}).encode()
    write_private(mark_file(state_file), content)


def check_mark(seen: Mark | None, read: KmsState, state_file: Path) -> None:
    """Refuse a state from before the mark; raises Conflict(`rolled-back`)."""
    if seen is None:
        return
    created = {each.id: each.created for each in read.keys}
    if (
        read.epoch < seen.epoch
        or (read.epoch == seen.epoch and read.current != seen.current)
        or created[read.current] < created.get(seen.current, 0.0)
    ):
        raise Conflict(
            "rolled-back",
            f"the state file has epoch {read.epoch} and key {read.current}, this node has seen"
            f" epoch {seen.epoch} and key {seen.current}",
            hint="copy the newest state file to this node; if there is none any more, remove"
            f" {mark_file(state_file)}",
        )
