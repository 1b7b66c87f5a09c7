"""What a database says of its seal, readable before anybody has unsealed it.

The root key opens the key ring; the seal opens the root key. Stored are: the root key wrapped by
the seal (a backend, or the unseal key that Shamir shares give), the key ring under the root key,
how many shares there are, and what the processes of one group leave for each other.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from strongroom.crypto.aead import Tampered
from strongroom.model.errors import Invalid, Unavailable
from strongroom.store.engine.contract import ClusterRow, View

SHAMIR: Final = "shamir"
# Groups of processes whose notes are kept; the oldest goes first.
GROUPS: Final = 16


@dataclass(frozen=True, slots=True)
class Split:
    """How many shares a key is in, and how many give it back."""

    shares: int = 1
    threshold: int = 1


@dataclass(frozen=True, slots=True)
class StoredSeal:
    """The seal's part of the cluster row.

    `check` is the recovery key under the root key, b"" when there is none. `identity` says which
    key of the backend wrapped. `sealed` is set by `sys/seal` for the whole cluster. `shared` and
    `gathered` are, by group, the root key and the shares given so far under the group's key.
    """

    type: str
    root: bytes = field(repr=False)
    ring: bytes = field(repr=False)
    split: Split = Split()
    check: bytes = field(default=b"", repr=False)
    identity: str = ""
    sealed: bool = False
    shared: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    gathered: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def is_shamir(self) -> bool:
        """Whether people hold the unseal key."""
        return self.type == SHAMIR

    def dumps(self) -> bytes:
        """As it is stored."""
        found = {
            "v": 1,
            "type": self.type,
            "root": _b64(self.root),
            "ring": _b64(self.ring),
            "shares": self.split.shares,
            "threshold": self.split.threshold,
            "check": _b64(self.check),
            "identity": self.identity,
            "sealed": self.sealed,
            "shared": {name: _b64(each) for name, each in self.shared.items()},
            "gathered": {name: _b64(each) for name, each in self.gathered.items()},
        }
        return json.dumps(found).encode()


def cluster_of(view: View) -> ClusterRow:
    """The row of the cluster; raises Unavailable(`not-initialised`)."""
    row = view.cluster()
    if row is None:
        raise Unavailable("not-initialised", "Vault is not initialized")
    return row


def load_stored(row: ClusterRow) -> StoredSeal:
    """Read what `dumps` wrote; raises Tampered.

    The first form, the bare ring wrapped by the key file, reads as a seal without a root key.
    """
    data = row.wrapped_ring
    if not data.startswith(b'{"v": 1,'):
        return StoredSeal(row.seal_type, root=b"", ring=data)
    try:
        found: dict[str, Any] = json.loads(data)
        return StoredSeal(
            type=str(found["type"]),
            root=_bytes(found["root"]),
            ring=_bytes(found["ring"]),
            split=Split(int(found["shares"]), int(found["threshold"])),
            check=_bytes(found["check"]),
            identity=str(found["identity"]),
            sealed=bool(found["sealed"]),
            shared={name: _bytes(each) for name, each in found["shared"].items()},
            gathered={name: _bytes(each) for name, each in found["gathered"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Tampered("the stored seal") from None


def merged(now: StoredSeal, before: StoredSeal, better: StoredSeal) -> StoredSeal:
    """What `better` changes of `before`, on what others have made of that meanwhile.

    A key ring that was rotated, a seal that was closed and shares that were renewed stay so.
    """
    if now.root != before.root or now.type != before.type:
        better = replace(
            better, type=now.type, root=now.root, split=now.split, check=now.check,
            identity=now.identity,
        )  # fmt: skip
    if now.sealed and not before.sealed:
        return now
    return replace(
        better,
        ring=now.ring,
        shared=_newer(now.shared, before.shared, better.shared),
        gathered=_newer(now.gathered, before.gathered, better.gathered),
    )


def _newer(
    now: Mapping[str, bytes], before: Mapping[str, bytes], better: Mapping[str, bytes]
) -> Mapping[str, bytes]:
    """The notes as they are, and those that were changed."""
    for group, note in better.items():
        if before.get(group) != note:
            now = with_note(now, group, note)
    return now


def with_note(notes: Mapping[str, bytes], group: str, note: bytes) -> dict[str, bytes]:
    """The notes with a group's newest, oldest groups dropped; b"" removes the group's."""
    others = [(name, each) for name, each in notes.items() if name != group]
    return dict([*others, (group, note)][-GROUPS:]) if note else dict(others)


def unseal_keys(split: Split) -> str:
    """What a cluster waits for whose unseal keys people hold."""
    return f"{split.threshold} of {split.shares} unseal keys: strongroom operator unseal"


def opens_when_closed(stored: StoredSeal | None) -> str:
    """What a cluster waits for that `sys/seal` has closed."""
    by = "an unseal: the cluster was sealed by sys/seal; it takes"
    if stored is None or stored.is_shamir:
        return f"{by} {unseal_keys(stored.split if stored else Split())}"
    recovery = unseal_keys(stored.split).replace("unseal keys", "recovery keys")
    return f"{by} {recovery}, or a restart" if stored.check else f"{by} a restart of a node"


def check_moves(stored: StoredSeal, configured: str) -> None:
    """Raise Invalid where a start by another seal would wait for people.

    Such a node was open before others migrated the cluster's seal, or was not given its stanza.
    """
    if SHAMIR in (configured, stored.type) or stored.check:
        raise Invalid(
            "other-seal",
            f"the cluster is sealed by {stored.type} now, and the configuration names {configured}",
            hint="start this node anew with the configuration of those that have migrated",
        )


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
