"""Sessions: what is known of a live token, kept until tokens, policies or mounts change.

A session holds the caller's principal, compiled policies and audit fragments, so that a request
of a known token costs one lookup. The pipeline clears all sessions when the engine's generation
moves, and every use checks expiry against the clock.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.access.engine import Acl
from strongroom.access.policy import Policy, parse_policy
from strongroom.access.templates import is_templated, render
from strongroom.audit.record import Caller, RecordWriter
from strongroom.crypto.mac import KeyedHmac
from strongroom.model.clock import rfc3339
from strongroom.model.decision import Decision
from strongroom.model.errors import Denied
from strongroom.model.principal import Principal
from strongroom.store.auth.role_fields import within
from strongroom.store.batch_tokens import PREFIX as BATCH_PREFIX
from strongroom.store.batch_tokens import BatchTokens
from strongroom.store.engine.contract import TokenRow, View
from strongroom.store.identity.resolve import Identity, identity_of
from strongroom.store.tokens import is_over

SESSIONS: Final = 20_000
# Whole answers that are kept: of a session by number, of all together by bytes.
PREPARED: Final = 2048
PREPARED_BYTES: Final = 64 * 1024 * 1024
ROOT: Final = "root"
WRAPPING: Final = "response-wrapping"
# Fixed and not in the database: nobody may widen what a wrapping token can do.
WRAPPING_TEXT: Final = """\
path "cubbyhole/response" { capabilities = ["create", "read"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
"""
_WRITES: Final = frozenset({"create", "update"})
_ROOT_DECISION: Final = Decision(True, "the root policy allows everything", ROOT, policies=(ROOT,))


@dataclass(slots=True)
class Prepared:
    """A whole answer to a GET of one session, right until a commit or `until`.

    After a commit it is right again while the secret with `mark` stands.
    """

    head: bytes
    results: bytes
    data: bytes
    recorded: bytes
    before: bytes
    after: bytes
    status: int
    until: float
    revision: int
    mark: tuple[int, int]

    @property
    def size(self) -> int:
        """About so many bytes."""
        parts = self.before, self.after, self.recorded, self.data, self.results
        return sum(map(len, parts))


@dataclass(slots=True)
class Session:
    """A live token. `prepared` holds whole answers by the target that was asked."""

    row: TokenRow
    principal: Principal
    acl: Acl
    who: Caller
    prepared: dict[str, Prepared] = field(default_factory=dict)
    # Whether the root policy is attached.
    is_root: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_root = self.principal.is_root

    def decide(
        self,
        path: str,
        capability: str,
        parameters: dict[str, Any] | None = None,
        *,
        wrap_seconds: int | None = None,
        lowered: int = 0,
    ) -> Decision:
        """What the policies say; `wrap_seconds` None does not ask how the reply is wrapped.

        `lowered` is the route's, see there.
        """
        if self.is_root:
            return _ROOT_DECISION
        acl = self.acl.lowered(lowered) if lowered else self.acl
        return acl.decide(path, capability, parameters, wrap_seconds=wrap_seconds)

    def denies(self, path: str, *, listing: bool = False) -> bool:
        """Whether a rule denies a path, which is more than that none allows it."""
        grant = None if self.is_root else self.acl.governing(path, listing=listing)
        return grant is not None and "deny" in grant.capabilities

    def may_write(self, path: str, lowered: int = 0) -> bool:
        """Whether it may create or update what is at a path, whatever with."""
        if self.is_root:
            return True
        grant = self.acl.lowered(lowered).governing(path)
        return grant is not None and not _WRITES.isdisjoint(grant.capabilities)

    def capabilities(self, path: str, lowered: int = 0) -> tuple[str, ...]:
        """What `sys/capabilities` says."""
        return ("root",) if self.is_root else self.acl.lowered(lowered).capabilities(path)


def no_token() -> Denied:
    """The answer to a request without a token."""
    return Denied("invalid-token", "permission denied")


def invalid_token() -> Denied:
    """The one answer to an unknown, expired or misplaced token.

    Vault Agent and Vault Proxy log in again when they read its second sentence, and not before.
    """
    both = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"
    return Denied("invalid-token", both)


class Sessions:
    """Tokens to sessions."""

    def __init__(
        self, view: View, mac: Callable[[], KeyedHmac], writer: RecordWriter, batch: BatchTokens
    ) -> None:
        self._view = view
        self._mac = mac
        self._writer = writer
        self._batch = batch
        self._live: dict[str, Session] = {}
        self._policies: dict[str, Policy | None] = {}
        self._acls: dict[tuple[str, ...], Acl] = {}
        self._methods: frozenset[str] | None = None
        self._identities: dict[str, Identity] = {}
        self._epoch = 0
        self.prepared_bytes = 0
        # How much of each is remembered at most.
        self.bound = SESSIONS

    @property
    def remembered(self) -> dict[str, int]:
        """How much is kept in memory, by what it is."""
        return {
            "sessions": len(self._live),
            "policies": len(self._policies),
            "acls": len(self._acls),
            "identities": len(self._identities),
        }

    def prepare(self, session: Session, target: str, answer: Prepared) -> None:
        """Keep a whole answer for a session that is kept."""
        size = answer.size + len(target)
        if size > PREPARED_BYTES // 8:
            return
        before = session.prepared.pop(target, None)
        if before is not None:
            self.prepared_bytes -= before.size + len(target)
        if self.prepared_bytes + size > PREPARED_BYTES or len(session.prepared) >= PREPARED:
            for each in self._live.values():
                each.prepared.clear()
            self.prepared_bytes = 0
        session.prepared[target] = answer
        self.prepared_bytes += size

    def forget(self) -> None:
        """The generation has moved: know nothing, nor keep what is being read just now."""
        self._epoch += 1
        self.prepared_bytes = 0
        self._live.clear()
        self._policies.clear()
        self._acls.clear()
        self._methods = None
        self._identities.clear()

    def known(self, token: str) -> Session | None:
        """The session if it is in memory; the caller checks expiry."""
        return self._live.get(token)

    def token_id(self, token: str) -> bytes:
        """The keyed hash a token is stored under."""
        return self._mac().digest(token.encode())

    def row_of(self, token: str) -> TokenRow | None:
        """The token of a text, expired or not; None when it, or its auth method, is not there."""
        if not token:
            return None
        if token.startswith(BATCH_PREFIX):
            row = self._batch.open(token, self._view)
        else:
            row = self._view.token(self.token_id(token))
        return None if row is None or not self._has_method(row) else row

    def _has_method(self, row: TokenRow) -> bool:
        if not row.mount:
            return True
        methods = self._methods
        if methods is None:
            epoch, rows = self._epoch, self._view.mounts()
            methods = frozenset(each.uuid for each in rows if each.kind == "auth")
            if epoch == self._epoch:
                self._methods = methods
        return row.mount in methods

    def open(self, token: str, now: float, peer: str) -> Session:
        """The session of a token; raises Denied(`invalid-token`)."""
        session = self._live.get(token)
        if session is None:
            epoch = self._epoch
            row = self.row_of(token)
            if row is None:
                raise invalid_token() if token else no_token()
            session = self.of_row(row, token)
            if len(self._live) >= self.bound:
                self._live.clear()
                self.prepared_bytes = 0
            # A limited token is counted in the database on every use, so it is never kept.
            if row.uses_left == 0 and epoch == self._epoch:
                self._live[token] = session
        row = session.row
        if is_over(row, now) or (row.bound_cidrs and not within(peer, row.bound_cidrs)):
            raise invalid_token()
        return session

    def of_row(self, row: TokenRow, token: str = "") -> Session:
        """The session a token row stands for; raises Denied when its entity is gone or disabled."""
        identity = self.identity(row)
        added = identity.policies if identity else ()
        principal = Principal(
            display_name=row.display_name,
            accessor=row.accessor,
            policies=tuple(sorted({*row.policies, *added})),
            metadata=row.metadata,
            token_type=row.type,
            entity_id=row.entity_id,
            token_policies=row.policies,
            identity_policies=added,
            token_ttl=row.ttl,
            token_issue_time=rfc3339(row.created),
        )
        caller = self._writer.caller(principal, token)
        return Session(row, principal, self._acl_for(principal, identity), caller)

    def identity(self, row: TokenRow) -> Identity | None:
        """Who holds a token, None for one without entity; raises Denied, see `of_row`."""
        if not row.entity_id:
            return None
        identity = self._identities.get(row.entity_id)
        if identity is None:
            epoch = self._epoch
            identity = identity_of(self._view, row.entity_id)
            if epoch == self._epoch and identity is not None:
                if len(self._identities) >= self.bound:
                    self._identities.clear()
                self._identities[row.entity_id] = identity
        if identity is None or identity.entity.disabled:
            raise invalid_token()
        return identity

    def identity_policies(self, row: TokenRow, *, anew: bool = False) -> tuple[str, ...]:
        """What the token's entity and its groups add to the token's own policies.

        `anew` is for whoever has changed them just now, before everybody's next look.
        """
        try:
            identity = identity_of(self._view, row.entity_id) if anew else self.identity(row)
        except Denied:
            return ()
        return identity.policies if identity else ()

    def _acl_for(self, principal: Principal, identity: Identity | None) -> Acl:
        policies = [self._policy(name) for name in principal.policies if name != ROOT]
        if not any(policy and is_templated(policy) for policy in policies):
            return self.acl(principal.policies)
        values = identity.values if identity else {}
        return Acl([render(policy, values) for policy in policies if policy])

    def of_policies(self, names: tuple[str, ...]) -> Session:
        """The session that a token with these policies would have; for explanations."""
        row = TokenRow(
            id=b"", accessor="", parent=None, policies=names, display_name="", path="",
            created=0.0, ttl=0, expires=None,
        )  # fmt: skip
        return self.of_row(row)

    def acl(self, names: tuple[str, ...]) -> Acl:
        """The compiled policies of these names; a policy that is gone grants nothing."""
        acl = self._acls.get(names)
        if acl is None:
            epoch = self._epoch
            found = [self._policy(name) for name in names if name != ROOT]
            acl = Acl([policy for policy in found if policy])
            if epoch == self._epoch:
                if len(self._acls) >= self.bound:
                    self._acls.clear()
                self._acls[names] = acl
        return acl

    def _policy(self, name: str) -> Policy | None:
        if name in self._policies:
            return self._policies[name]
        epoch = self._epoch
        text = WRAPPING_TEXT if name == WRAPPING else self._view.policy(name)
        policy = None if text is None else parse_policy(name, text)
        if epoch == self._epoch:
            if len(self._policies) >= self.bound:
                self._policies.clear()
            self._policies[name] = policy
        return policy
