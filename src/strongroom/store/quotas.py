"""Quotas: how many requests in a time, how many leases at once.

Decisions are pure over rows, counts and a clock; `Quotas` keeps what it has read of the rows
until the generation moves. Which quota counts: the one with the longest path that fits, and of
those with the same path the one of a login role. API:
https://developer.hashicorp.com/vault/api-docs/system/rate-limit-quotas.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from strongroom.model.errors import Refusal
from strongroom.store.engine.contract import Transaction, View
from strongroom.store.tokens import without_tokens

MOUNT: Final = "system"
RATE, LEASES, CONFIG = "quota-rate-limit", "quota-lease-count", "quota-config"
# On from the start: a client that never renews and never stops fills no database.
DEFAULT_NAME, DEFAULT_LEASES = "default", 300_000
CLIENTS: Final = 50_000
# Vault's list, as far as the paths are here, until another is written.
EXEMPT: Final = (
    "sys/generate-root/attempt",
    "sys/generate-root/update",
    "sys/health",
    "sys/seal-status",
    "sys/unseal",
)
# Where quotas are changed: whoever would lift one is not kept out by it.
LIFTING: Final = "sys/quotas/"
# Below these are names that mean the same in any case.
NAMED: Final = ("auth/", "identity/", "sys/")
# Where a method with a default role lets in whoever names none.
LOGINS: Final = ("login", "oidc/auth_url")
RETRY_SECONDS: Final = 60
# How long a count holds, with what this process has added; one that refuses all is taken anew.
COUNT_SECONDS: Final = 2.0
RECOUNT_SECONDS: Final = 0.2
# Nobody writes while they are counted, so of a large quota that is full no more than these.
RECOUNTED_IN_A_SECOND: Final = 300_000


class TooMany(Refusal):
    """A quota is used up (429). `retry_after` in seconds; `headers` tell how much there is."""

    def __init__(
        self,
        path: str,
        what: str,
        retry_after: int,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        hint: str = "",
    ) -> None:
        message = f'request path "{without_tokens(path)}": {what} quota exceeded'
        super().__init__("quota-exceeded", message, hint=hint)
        self.retry_after = retry_after
        self.headers = (("Retry-After", str(retry_after)), *headers)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`rate` requests of a client in each `interval` seconds; then none for `block` seconds."""

    name: str
    path: str
    rate: float
    interval: float = 1.0
    block: float = 0.0
    role: str = ""


# What a client has at those paths after a quota has refused it.
RESERVE: Final = RateLimit("", LIFTING, rate=10.0)


@dataclass(frozen=True, slots=True)
class LeaseCount:
    """At most `most` leases and tokens under a path.

    One over everything is everybody's: no client has more of it than is left for all others.
    """

    name: str
    path: str
    most: int

    @property
    def shared(self) -> bool:
        """Whether one client could keep everybody else out."""
        return not self.path


def recount_seconds(most: int) -> float:
    """How long the count of a full quota of so many holds."""
    return min(COUNT_SECONDS, max(RECOUNT_SECONDS, most / RECOUNTED_IN_A_SECOND))


@dataclass(slots=True)
class Bucket:
    """What a client has left; filled as time goes by."""

    left: float
    at: float
    blocked_until: float = 0.0

    def take(self, limit: RateLimit, now: float) -> float:
        """Take one; 0 when there was one, else the seconds until it is worth trying again."""
        if now < self.blocked_until:
            return self.blocked_until - now
        gained = max(0.0, now - self.at) * limit.rate / limit.interval
        self.left, self.at = min(limit.rate, self.left + gained), now
        if self.left >= 1:
            self.left -= 1
            return 0.0
        if limit.block:
            self.blocked_until = now + limit.block
            return limit.block
        return (1 - self.left) * limit.interval / limit.rate


def fits(quota_path: str, path: str) -> bool:
    """Whether a quota's path covers a request: everything, a mount, a prefix or the path itself.

    A list of a path is the same path, and users, roles and policies are the same in any case.
    """
    if not quota_path:
        return True
    if path.startswith(NAMED):
        quota_path, path = quota_path.lower(), path.lower()
    if quota_path.endswith("*"):
        return path.startswith(quota_path[:-1])
    if quota_path.endswith("/"):
        return path.startswith(quota_path)
    return path.removesuffix("/") == quota_path


def _is_role(asked: object, role: str) -> bool:
    """Whether a login asks for a role: methods take its name in any case."""
    return str(asked).lower() == role.lower()


@dataclass(slots=True)
class _Known:
    rates: list[RateLimit] = field(default_factory=list)
    counts: list[LeaseCount] = field(default_factory=list)
    exempt: tuple[str, ...] = ()
    show: bool = False
    recorded: bool = False
    # The uuids of auth methods by full path, where a quota is of a role.
    methods: Mapping[str, str] = field(default_factory=dict)

    def asks(self, view: View, limit: RateLimit, path: str, role: Callable[[], object]) -> bool:
        """Whether a request is one for the role of a quota; `role` reads whom its body names.

        A login that names none gets the one that the method's config says.
        """
        if not path.startswith("auth/"):
            return False
        asked = role()
        if not asked and path.removeprefix(limit.path) in LOGINS and limit.path in self.methods:
            config = view.document(self.methods[limit.path], "config", "")
            asked = (config or {}).get("default_role")
        return _is_role(asked, limit.role)


def _read(view: View) -> _Known:
    config = view.document(MOUNT, CONFIG, "") or {}
    known = _Known(
        exempt=tuple(config.get("rate_limit_exempt_paths", EXEMPT)),
        show=bool(config.get("enable_rate_limit_response_headers")),
        recorded=bool(config.get("enable_rate_limit_audit_logging")),
    )
    known.rates += [RateLimit(**each) for each in _documents(view, RATE)]
    known.counts += [LeaseCount(**each) for each in _documents(view, LEASES)]
    if any(each.role for each in known.rates):
        methods = (each for each in view.mounts() if each.kind == "auth")
        known.methods = {f"auth/{each.path}": each.uuid for each in methods}
    known.rates.sort(key=lambda each: (bool(each.role), len(each.path)), reverse=True)
    known.counts.sort(key=lambda each: len(each.path), reverse=True)
    return known


def _documents(view: View, kind: str) -> Iterator[dict[str, Any]]:
    for name in view.document_names(MOUNT, kind):
        # Another process may have removed it since.
        if found := _fields(view.document(MOUNT, kind, name)):
            yield found


class Quotas:
    """One for each process: rates are counted in each, leases in the database."""

    def __init__(self) -> None:
        self._known: _Known | None = None
        # Moves with each `forget`: what was read before and comes after it is not kept.
        self._epoch = 0
        self._before: dict[str, RateLimit] = {}
        self._buckets: dict[tuple[str, str], Bucket] = {}
        # By quota, and by quota and client.
        self._counted: dict[tuple[str, str], tuple[float, int]] = {}

    def forget(self) -> None:
        """The generation has moved."""
        self._known = None
        self._epoch += 1

    def limits_requests(self, view: View) -> bool:
        """Whether any request has to be counted."""
        return bool((self._known or self._rows(view)).rates)

    def _rows(self, view: View) -> _Known:
        if self._known is not None:
            return self._known
        epoch, known = self._epoch, _read(view)
        if epoch == self._epoch:
            self._begin_anew({each.name: each for each in known.rates})
            self._known = known
        return known

    def _begin_anew(self, rates: dict[str, RateLimit]) -> None:
        """Forget what clients had left, and who was kept out, by a quota that is another now."""
        changed = {name for name, each in self._before.items() if rates.get(name) != each}
        if changed:
            kept = {key: each for key, each in self._buckets.items() if key[0] not in changed}
            self._buckets = kept
        self._before = rates

    def admit_request(
        self, view: View, path: str, role: Callable[[], object], peer: str, now: float
    ) -> tuple[tuple[tuple[str, str], ...], TooMany | None]:
        """Count a request against the quota of its path; headers for the reply.

        `role` reads the body for the role of a login, where a quota asks for one. `now` is
        monotonic. Raises TooMany, or returns it where such refusals are to be recorded.
        """
        known = self._known or self._rows(view)
        if not known.rates or any(fits(each, path) for each in known.exempt):
            return (), None
        for limit in known.rates:
            if fits(limit.path, path) and (not limit.role or known.asks(view, limit, path, role)):
                try:
                    return self._take_or_spare(limit, path, peer, now, show=known.show), None
                except TooMany as refusal:
                    if not known.recorded:
                        raise
                    return (), refusal
        return (), None

    def _take_or_spare(
        self, limit: RateLimit, path: str, peer: str, now: float, *, show: bool
    ) -> tuple[tuple[str, str], ...]:
        try:
            return self._take(limit, path, peer, now, show=show)
        except TooMany:
            if not path.startswith(LIFTING):
                raise
            return self._take(RESERVE, path, peer, now, show=show)

    def _take(
        self, limit: RateLimit, path: str, peer: str, now: float, *, show: bool
    ) -> tuple[tuple[str, str], ...]:
        key = limit.name, peer
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= CLIENTS:
                # The oldest half: what a client of long ago had left is full again by now.
                for each in list(self._buckets)[: CLIENTS // 2]:
                    del self._buckets[each]
            bucket = self._buckets[key] = Bucket(limit.rate, now)
        wait = bucket.take(limit, now)
        shown = (
            (
                ("X-Ratelimit-Limit", f"{limit.rate:g}"),
                ("X-Ratelimit-Remaining", str(int(bucket.left))),
                ("X-Ratelimit-Reset", str(math.ceil(wait or limit.interval))),
            )
            if show
            else ()
        )
        if wait:
            raise TooMany(path, "rate limit", math.ceil(wait), shown)
        return shown

    def admit_lease(self, view: View, path: str, client: str, now: float) -> None:
        """Refuse one more lease or token of a client where there are enough; raises TooMany.

        `view` may be a transaction: of what is yet undecided no row is kept. A count holds for a
        moment, so the bound may be passed by what other processes add in that moment.
        """
        for quota in (self._known or _read(view)).counts:
            if fits(quota.path, path):
                if not self._has_room(view, quota, client, now):
                    raise TooMany(path, "lease count", RETRY_SECONDS, hint=_hint(quota))
                for key in ((quota.name, ""), (quota.name, client)):
                    if counted := self._counted.get(key):
                        self._counted[key] = counted[0], counted[1] + 1
                return

    def _has_room(self, view: View, quota: LeaseCount, client: str, now: float) -> bool:
        free = quota.most - self._count(view, quota, now, COUNT_SECONDS)
        if free <= 0:
            free = quota.most - self._count(view, quota, now, recount_seconds(quota.most))
        if free <= 0 or not quota.shared or quota.most - free < free:
            # While less than half is used nobody can have more than is left.
            return free > 0
        # Not taken anew where it refuses: nobody writes while 150,000 are counted, and a client
        # that is refused asks again at once.
        counted = self._kept(
            (quota.name, client), now, COUNT_SECONDS, lambda: view.count_of(client, free)
        )
        return counted < free

    def _count(self, view: View, quota: LeaseCount, now: float, holds: float) -> int:
        return self._kept((quota.name, ""), now, holds, lambda: leases_under(view, quota))

    def _kept(
        self, key: tuple[str, str], now: float, holds: float, taken: Callable[[], int]
    ) -> int:
        """A count that is not older than it `holds`, or `taken` anew."""
        at, count = self._counted.get(key, (float("-inf"), 0))
        if not 0 <= now - at < holds:
            count = taken()
            if len(self._counted) >= CLIENTS:
                self._counted.clear()
            self._counted[key] = now, count
        return count


def put_default_quota(transaction: Transaction) -> None:
    """The quota that a new cluster has."""
    quota = LeaseCount(DEFAULT_NAME, "", DEFAULT_LEASES)
    transaction.put_document(MOUNT, LEASES, DEFAULT_NAME, asdict(quota))


def move_quotas(transaction: Transaction, source: str, target: str) -> None:
    """What limited a mount, or a path in it, does so at the mount's new place."""
    for kind, name, document in _quotas_under(transaction, source):
        moved = {**document, "path": target + document["path"].removeprefix(source)}
        transaction.put_document(MOUNT, kind, name, moved)


def remove_quotas(transaction: Transaction, mount: str) -> None:
    """Those of a mount that is gone: whatever comes to its place is another one."""
    for kind, name, _ in _quotas_under(transaction, mount):
        transaction.delete_document(MOUNT, kind, name)


def _quotas_under(transaction: Transaction, mount: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (kind, name, document)
        for kind in (RATE, LEASES)
        for name in transaction.document_names(MOUNT, kind)
        if (document := _fields(transaction.document(MOUNT, kind, name)))
        and str(document.get("path", "")).startswith(mount)
    ]


def leases_under(view: View, quota: LeaseCount) -> int:
    """How many leases and tokens count against a quota, no further than its bound."""
    return view.count_under(quota.path.rstrip("*"), quota.most)


def _hint(quota: LeaseCount) -> str:
    whose = "one client has as many as are left for all others, or " if quota.shared else ""
    return (
        f"{whose}there are {quota.most:,}: shorten the token_ttl of roles, revoke what nobody"
        f" needs, or raise max_leases of sys/quotas/lease-count/{quota.name}"
    )


def _fields(document: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(document or {})
