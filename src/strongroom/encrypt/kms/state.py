"""The plugin's state file: wrapped keys, which one is in use, and how that changes.

JSON: `{"version": 2, "epoch", "current", "pending", "promoted", "keys": [{"id", "created",
"threshold", "wraps": [{"by", "identity", "blob", "share"}]}]}`. It holds nothing that opens
without a backend, so it may be copied to the other control-plane nodes as it is.
"""

import base64
import binascii
import dataclasses
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from strongroom.model.errors import Conflict, Invalid, NotFound, Unavailable

VERSION: Final = 2
PROMOTION_INTERVAL_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Wrap:
    """One key, or one share of it, wrapped by one backend."""

    by: str
    identity: str
    blob: bytes = field(repr=False)
    share: bool = False


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key-encryption key. `threshold` 1: any wrap opens it; k: k shares do."""

    id: str
    created: float
    threshold: int
    wraps: tuple[Wrap, ...]

    def by(self, name: str) -> Wrap | None:
        """The wrap of a backend."""
        return next((each for each in self.wraps if each.by == name), None)


@dataclass(frozen=True, slots=True)
class KmsState:
    """`current` encrypts, `pending` is known everywhere before it does, the others still open.

    `epoch` grows with every change of them, so that an older file is told from a newer one.
    """

    epoch: int
    current: str
    keys: tuple[WrappedKey, ...]
    pending: str = ""
    promoted: float = 0.0

    def key(self, key_id: str) -> WrappedKey:
        """A key by its id; raises NotFound(`unknown-key-id`)."""
        for each in self.keys:
            if each.id == key_id:
                return each
        raise NotFound(
            "unknown-key-id",
            "no key of this id",
            hint="strongroom kms status lists them; one that was retired is there no more",
        )


def first(key: WrappedKey) -> KmsState:
    """The state of a new installation."""
    return KmsState(1, key.id, (key,), promoted=key.created)


def prepared(state: KmsState, key: WrappedKey) -> KmsState:
    """Phase one: the key is there to decrypt with, and nothing uses it yet.

    It counts as made after all others, though the clock of the node that made it may be behind:
    a key that looks older than the one before it is taken for one that comes back.
    """
    if state.pending:
        raise Conflict(
            "pending", f"the key {state.pending} is prepared already", hint="promote it first"
        )
    newest = max(each.created for each in state.keys)
    key = dataclasses.replace(key, created=max(key.created, newest + 1.0))
    return dataclasses.replace(
        state, epoch=state.epoch + 1, pending=key.id, keys=(*state.keys, key)
    )


def promoted(state: KmsState, now: float) -> KmsState:
    """Phase two: the prepared key encrypts. Raises Conflict without one, or too soon after."""
    if not state.pending:
        raise Conflict(
            "nothing-pending", f"no key is prepared; {state.current} is in use",
            hint="strongroom kms prepare, unless that is the key which was to be promoted",
        )  # fmt: skip
    left = state.promoted + PROMOTION_INTERVAL_SECONDS - now
    if state.promoted and 0 < left <= PROMOTION_INTERVAL_SECONDS and state.epoch > 2:
        raise Conflict(
            "too-soon",
            f"the last promotion was less than {PROMOTION_INTERVAL_SECONDS:g} s ago",
            hint="API servers poll once a minute; a key that changes faster leaves stale data",
        )
    return dataclasses.replace(
        state, epoch=state.epoch + 1, current=state.pending, pending="", promoted=now
    )


def retired(state: KmsState, key_id: str) -> KmsState:
    """Without an old key: what it sealed does not open any more."""
    state.key(key_id)
    if key_id in (state.current, state.pending):
        raise Conflict("in-use", f"the key {key_id} is in use")
    kept = tuple(each for each in state.keys if each.id != key_id)
    return dataclasses.replace(state, epoch=state.epoch + 1, keys=kept)


def with_key(state: KmsState, key: WrappedKey) -> KmsState:
    """The state with other wraps of a key; which keys there are and what they do stays."""
    keys = tuple(key if each.id == key.id else each for each in state.keys)
    return dataclasses.replace(state, keys=keys)


def check_successor(seen: KmsState, read: KmsState) -> None:
    """Refuse a state that goes back: an older epoch, a key id in use again after another, or one
    without the key in use: what it has sealed until now would open nowhere.

    Raises Conflict(`rolled-back`).
    """
    if read.epoch < seen.epoch or (read.epoch == seen.epoch and read.current != seen.current):
        raise Conflict(
            "rolled-back",
            f"the state file has epoch {read.epoch}, the plugin has seen {seen.epoch}",
            hint="copy the newest state file to this node",
        )
    older = [each.id for each in seen.keys if each.created < seen.key(seen.current).created]
    if read.current in older:
        raise Conflict(
            "rolled-back", f"the key {read.current} was in use before; ids do not return"
        )
    if all(each.id != seen.current for each in read.keys):
        raise Conflict(
            "rolled-back",
            f"the state file (epoch {read.epoch}) lacks the key {seen.current}, which this plugin"
            " encrypts with",
            hint="copy the file from before kms retire to this node, and retire the key when every"
            " node uses another; a restart takes this one, and what the key sealed is lost then",
        )


def load(path: Path) -> KmsState:
    """Read; raises NotFound(`no-kms-state`) or Invalid(`bad-kms-state`)."""
    try:
        read = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound("no-kms-state", f"there is no state file {path}") from None
    except (OSError, ValueError):
        raise Invalid("bad-kms-state", f"cannot read the KMS state {path}") from None
    return loads(read, str(path))


def loads(read: Any, where: str = "the KMS state") -> KmsState:  # noqa: ANN401 - JSON
    """The state of its JSON form; raises Invalid(`bad-kms-state`)."""
    try:
        if read["version"] != VERSION:
            raise KeyError("version")
        keys = tuple(_key(each) for each in read["keys"])
        state = KmsState(
            int(read["epoch"]), str(read["current"]), keys, str(read["pending"]),
            float(read["promoted"]),
        )  # fmt: skip
        ids = {each.id for each in keys}
        if len(ids) != len(keys) or not {state.current, state.pending or state.current} <= ids:
            raise KeyError("current")
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        raise Invalid("bad-kms-state", f"{where} is damaged", hint="restore a copy of it") from None
    return state


def _key(entry: dict[str, Any]) -> WrappedKey:
    wraps = tuple(
        Wrap(
            str(each["by"]),
            str(each["identity"]),
            base64.b64decode(each["blob"], validate=True),
            bool(each["share"]),
        )
        for each in entry["wraps"]
    )
    return WrappedKey(str(entry["id"]), float(entry["created"]), int(entry["threshold"]), wraps)


def dumps(state: KmsState) -> dict[str, Any]:
    """The JSON form."""
    return {
        "version": VERSION,
        "epoch": state.epoch,
        "current": state.current,
        "pending": state.pending,
        "promoted": state.promoted,
        "keys": [
            {
                "id": key.id,
                "created": key.created,
                "threshold": key.threshold,
                "wraps": [
                    {
                        "by": wrap.by,
                        "identity": wrap.identity,
                        "blob": base64.b64encode(wrap.blob).decode(),
                        "share": wrap.share,
                    }
                    for wrap in key.wraps
                ],
            }
            for key in state.keys
        ],
    }


def save(path: Path, state: KmsState) -> None:
    """Replace the file; durable before it returns. Raises Unavailable(`state-unwritable`)."""
    write_private(path, json.dumps(dumps(state), indent=1).encode())


def save_over(path: Path, seen: KmsState, state: KmsState) -> None:
    """Replace the file if it still holds what was seen, so that of two changes none is lost.

    Raises Conflict(`state-changed`), and what `load` and `save` raise.
    """
    name = path.with_name(path.name + ".lock")
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable("state-unwritable", f"cannot write {name}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if load(path) != seen:
            raise Conflict(
                "state-changed", f"{path} was changed meanwhile, and was left as it is",
                hint="run it again",
            )  # fmt: skip
        save(path, state)
    finally:
        os.close(lock)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file of mode 0600, durable before it returns; raises Unavailable."""
    scratch = path.with_name(path.name + ".new")
    try:
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        scratch.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Unavailable("state-unwritable", f"cannot write {path}: {error.strerror}") from None
