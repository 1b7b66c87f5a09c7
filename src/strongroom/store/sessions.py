"""Sessions: what is known of a live token, kept until tokens, policies or mounts change.

A session holds the caller's principal, compiled policies and audit fragment, so that a request
of a known token costs one lookup. The pipeline clears all sessions when the engine's generation
moves, and every use checks expiry against the clock.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.access.engine import Acl
from strongroom.access.policy import Policy, parse_policy
from strongroom.audit.record import RecordWriter
from strongroom.crypto.mac import KeyedHmac
from strongroom.model.decision import Decision
from strongroom.model.errors import Denied
from strongroom.model.principal import Principal
from strongroom.store.engine.contract import TokenRow, View

SESSIONS: Final = 20_000
ROOT: Final = "root"
_ROOT_DECISION: Final = Decision(True, "the root policy allows everything", "root")


@dataclass(slots=True)
class Session:
    """A live token. `prepared` holds whole answers, each right for one revision."""

    row: TokenRow
    principal: Principal
    acl: Acl
    auth_fragment: bytes
    prepared: dict[str, Any] = field(default_factory=dict)

    @property
    def is_root(self) -> bool:
        """Whether the root policy is attached."""
        return self.principal.is_root

    def decide(
        self, path: str, capability: str, parameters: dict[str, Any] | None = None
    ) -> Decision:
        """What the policies say."""
        if self.is_root:
            return _ROOT_DECISION
        return self.acl.decide(path, capability, parameters)

    def capabilities(self, path: str) -> tuple[str, ...]:
        """What `sys/capabilities` says."""
        return ("root",) if self.is_root else self.acl.capabilities(path)


def invalid_token() -> Denied:
    """The one answer to a missing, unknown, expired or misplaced token."""
    return Denied("invalid-token", "permission denied")


class Sessions:
    """Tokens to sessions."""

    def __init__(self, view: View, mac: Callable[[], KeyedHmac], writer: RecordWriter) -> None:
        self._view = view
        self._mac = mac
        self._writer = writer
        self._live: dict[str, Session] = {}
        self._policies: dict[str, Policy | None] = {}
        self._acls: dict[tuple[str, ...], Acl] = {}

    def forget(self) -> None:
        """Something was committed: know nothing."""
        self._live.clear()
        self._policies.clear()
        self._acls.clear()

    def known(self, token: str) -> Session | None:
        """The session if it is in memory; the caller checks expiry."""
        return self._live.get(token)

    def token_id(self, token: str) -> bytes:
        """The keyed hash a token is stored under."""
        return self._mac().digest(token.encode())

    def open(self, token: str, now: float, peer: str) -> Session:
        """The session of a token; raises Denied(`invalid-token`)."""
        session = self._live.get(token)
        if session is None:
            row = self._view.token(self.token_id(token)) if token else None
            if row is None:
                raise invalid_token()
            session = self.of_row(row, token)
            if len(self._live) >= SESSIONS:
                self._live.clear()
            # A limited token is counted in the database on every use, so it is never kept.
            if row.uses_left == 0:
                self._live[token] = session
        row = session.row
        if (row.expires is not None and row.expires <= now) or row.uses_left < 0:
            raise invalid_token()
        if row.bound_cidrs and not _within(peer, row.bound_cidrs):
            raise invalid_token()
        return session

    def of_row(self, row: TokenRow, token: str = "") -> Session:
        """The session a token row stands for."""
        principal = Principal(
            display_name=row.display_name,
            accessor=row.accessor,
            policies=row.policies,
            metadata=row.metadata,
        )
        fragment = self._writer.auth_fragment(principal, token)
        return Session(row, principal, self.acl(row.policies), fragment)

    def acl(self, names: tuple[str, ...]) -> Acl:
        """The compiled policies of these names; a policy that is gone grants nothing."""
        acl = self._acls.get(names)
        if acl is None:
            found = [self._policy(name) for name in names if name != ROOT]
            acl = self._acls[names] = Acl([policy for policy in found if policy])
        return acl

    def _policy(self, name: str) -> Policy | None:
        if name not in self._policies:
            text = self._view.policy(name)
            self._policies[name] = None if text is None else parse_policy(name, text)
        return self._policies[name]


def _within(peer: str, networks: tuple[str, ...]) -> bool:
    try:
        address = ipaddress.ip_address(peer)
        return any(address in ipaddress.ip_network(each, strict=False) for each in networks)
    except ValueError:
        return False
