"""User lockout: after some failed logins in a row a user is refused for a while.

Counted in the database by the canonical name, for every node and over restarts, and alike for
users that do not exist, so that nobody can learn who does.
Settings: https://developer.hashicorp.com/vault/docs/concepts/user-lockout.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from strongroom.crypto.aead import Tampered
from strongroom.model.errors import Denied, Invalid
from strongroom.store.call import parse_flag, parse_seconds, whole_number
from strongroom.store.context import Context
from strongroom.store.engine.auth_contract import AuthView, FailedLoginRow
from strongroom.store.engine.contract import MountRow, Transaction

CONFIG: Final = "user_lockout_config"
ALL: Final = "all"
# Beside the methods: what goes before every other setting, that of a mount as well.
FORCED: Final = "forced"
METHODS: Final = frozenset({"userpass", "approle"})
FORGOTTEN_AT_ONCE: Final = 20
# Of a mount: strangers make a new one with each name they think of.
MOST_ROWS: Final = 50_000
# A process looks once in so many failures whether there are more, and takes away so many at once.
TRIMMED_EVERY: Final = 1_000
TRIMMED_AT_ONCE: Final = 5_000
# Of a name, in a row that strangers make.
MOST_CHARACTERS: Final = 512
RESET: Final = "lockout_counter_reset_duration"
# As it was called here before; still read, from requests and from mounts tuned then.
OLD_RESET: Final = "lockout_counter_reset"


@dataclass(frozen=True, slots=True)
class Rules:
    """When a user is locked, and for how long, in seconds."""

    threshold: int = 5
    duration: float = 900.0
    reset: float = 900.0
    disabled: bool = False


def rules_of(
    mount: MountRow, configured: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> Rules:
    """A mount's rules: as it is tuned, else as its method is `configured`, else all, else Vault's.

    `configured` is what the server's configuration says, by method, "all" or "forced".
    """
    tuned = mount.config.get(CONFIG) or {}
    usually = {**configured.get(ALL, {}), **configured.get(mount.type, {})}
    config = {**usually, **tuned, **configured.get(FORCED, {})}
    usual = Rules()
    return Rules(
        int(config.get("lockout_threshold") or usual.threshold),
        float(config.get("lockout_duration") or usual.duration),
        float(config.get(RESET) or config.get(OLD_RESET) or usual.reset),
        bool(config.get("lockout_disable")) or mount.type not in METHODS,
    )


def lockout_settings(given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The `user_lockout_config` of a tune request over what it was; raises Invalid."""
    found = dict(before)
    if OLD_RESET in found:
        found[RESET] = found.pop(OLD_RESET)
    for name in ("lockout_duration", RESET, OLD_RESET):
        if name in given:
            seconds = parse_seconds(given[name], name)
            if seconds < 0:
                raise Invalid("bad-parameter", f"{name} must not be negative")
            found[RESET if name == OLD_RESET else name] = seconds
    if "lockout_threshold" in given:
        try:
            threshold = whole_number(given["lockout_threshold"])
        except ValueError:
            threshold = 0
        if threshold <= 0:
            raise Invalid("bad-parameter", "lockout_threshold must be a positive number")
        found["lockout_threshold"] = threshold
    if "lockout_disable" in given:
        found["lockout_disable"] = parse_flag(given["lockout_disable"] or False, "lockout_disable")
    return found


def after_failure(
    row: FailedLoginRow | None, rules: Rules, now: float, mount: str, name: str
) -> FailedLoginRow:
    """The row after one more failed attempt. Pure."""
    if row is None or row.lapses <= now:
        row = FailedLoginRow(mount, name, 0, now + rules.reset)
    failures = row.failures + 1
    if failures < rules.threshold:
        return dataclasses.replace(row, failures=failures, lapses=now + rules.reset)
    until = row.locked or now + rules.duration
    return dataclasses.replace(row, failures=failures, locked=until, lapses=until)


def is_locked(row: FailedLoginRow | None, now: float) -> bool:
    """Whether the user is refused now."""
    return row is not None and row.locked is not None and row.locked > now


def _refuse_locked(row: FailedLoginRow | None, now: float) -> None:
    if is_locked(row, now):
        raise Denied("user-locked", "permission denied")


def counted(name: str) -> str:
    """The name by which failures are counted: a long one, which may have megabytes, by its hash."""
    if len(name) <= MOST_CHARACTERS:
        return name
    return "sha256-" + hashlib.sha256(name.encode()).hexdigest()


class Lockout:
    """The rule kept for the users of every mount.

    Of a mount's rows the `most` that lapse last are kept, whether or not there is such a user.
    """

    def __init__(
        self, context: Context, most: int = MOST_ROWS, trimmed_every: int = TRIMMED_EVERY
    ) -> None:
        self._context = context
        self._most = most
        self._trimmed_every = trimmed_every
        # Failures of a mount, by its uuid, since its rows were counted.
        self._since: Counter[str] = Counter()

    def check(self, mount: MountRow, name: str, view: AuthView | None = None) -> None:
        """Refuse a locked user; raises Denied with the sentence of any other refusal."""
        rules = rules_of(mount, self._context.lockout)
        row = self._row(view or self._context.view, mount, counted(name))
        if not rules.disabled:
            _refuse_locked(row, self._context.clock.now())

    @staticmethod
    def _row(view: AuthView, mount: MountRow, name: str) -> FailedLoginRow | None:
        """Raises Tampered when the row does not open: then nobody can tell whether it is locked.

        This user alone is refused, until the row is restored or forgotten.
        """
        try:
            return view.failed_login(mount.uuid, name)
        except Tampered as error:
            error.hint = (
                "how often this login has failed is not known, so it is refused; to forget it and"
                f" let the user try again, write sys/locked-users/{mount.accessor}/unlock/{name}"
            )
            raise

    async def failed(self, mount: MountRow, name: str) -> None:
        """Count a failed attempt; raises Denied when others have locked the user meanwhile.

        Many attempts may be verified at once, in all processes together. Of those that come after
        the lock nobody learns which were wrong.
        """
        now = self._context.clock.now()
        rules, name = rules_of(mount, self._context.lockout), counted(name)
        if rules.disabled:
            return
        trims = self._is_due(mount)

        def write(transaction: Transaction) -> None:
            transaction.forget_failed_logins(now, FORGOTTEN_AT_ONCE)
            if trims:
                transaction.trim_failed_logins(mount.uuid, self._most, TRIMMED_AT_ONCE)
            row = self._row(transaction, mount, name)
            _refuse_locked(row, now)
            transaction.put_failed_login(after_failure(row, rules, now, mount.uuid, name))

        await self._context.engine.transact(write)

    def _is_due(self, mount: MountRow) -> bool:
        """Whether it is time to look at how many rows a mount has."""
        self._since[mount.uuid] += 1
        if self._since[mount.uuid] < self._trimmed_every:
            return False
        del self._since[mount.uuid]
        return True

    def succeeded(self, transaction: Transaction, mount: MountRow, name: str) -> None:
        """A right password: forget the failures, unless the user was locked meanwhile."""
        self.check(mount, name, transaction)
        if transaction.failed_login(mount.uuid, counted(name)) is not None:
            transaction.delete_failed_login(mount.uuid, counted(name))
