"""What the store asks of an engine about logins: AppRole's secret ids, and failed attempts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from strongroom.store.engine.listed import Listed


@dataclass(frozen=True, slots=True)
class SecretIdRow:
    """A secret id of an AppRole role. `id` is the keyed hash of its text.

    Times are epoch seconds, `expires` None for one that does not expire; `uses_left` 0 means
    unlimited, -1 that none is left.
    """

    mount: str
    role: str
    id: bytes = field(repr=False)
    accessor: str
    created: float
    expires: float | None
    ttl: int = 0
    uses_left: int = 0
    uses: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    cidrs: tuple[str, ...] = ()
    token_cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FailedLoginRow:
    """Failed attempts of one user of one auth method; `locked` is until when, or None.

    The row means nothing after `lapses`, and is removed some time later.
    """

    mount: str
    name: str
    failures: int
    lapses: float
    locked: float | None = None


class AuthView(Protocol):
    """Reads. Absent rows are None."""

    def secret_id(self, mount: str, secret_id: bytes) -> SecretIdRow | None:
        """By the hash, expired or not."""

    def secret_id_by_accessor(self, mount: str, accessor: str) -> SecretIdRow | None:
        """By the accessor."""

    def secret_id_accessors(self, mount: str, role: str) -> Sequence[str]:
        """Accessors of a role's secret ids, sorted."""

    def failed_login(self, mount: str, name: str) -> FailedLoginRow | None:
        """What is known of a user's failed attempts."""

    def failed_logins(self) -> Listed[FailedLoginRow]:
        """Those that open, of all users of all methods."""


class AuthTransaction(AuthView, Protocol):
    """Writes."""

    def put_secret_id(self, row: SecretIdRow) -> None:
        """Insert or replace."""

    def delete_secret_id(self, mount: str, secret_id: bytes) -> None:
        """Remove; no error when absent."""

    def delete_secret_ids(self, mount: str, role: str) -> None:
        """Remove all of a role."""

    def use_secret_id(self, mount: str, secret_id: bytes) -> bool:
        """Count one use of a limited secret id; False when none is left."""

    def delete_spent_secret_ids(self, now: float, limit: int) -> int:
        """Remove up to `limit` that have expired or have no use left; returns how many."""

    def put_failed_login(self, row: FailedLoginRow) -> None:
        """Insert or replace."""

    def delete_failed_login(self, mount: str, name: str) -> None:
        """Remove; no error when absent."""

    def forget_failed_logins(self, before: float, limit: int) -> int:
        """Remove up to `limit` that lapsed before a time; returns how many."""

    def trim_failed_logins(self, mount: str, kept: int, limit: int) -> int:
        """Remove up to `limit` of a mount's beside the `kept` that lapse last; returns how many."""
