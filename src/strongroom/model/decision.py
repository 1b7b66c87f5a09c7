"""Outcomes of pure decisions: allow or deny with the reason, and findings of checks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, and why.

    `rule` names what decided (a policy and path pattern), `missing` what would have been
    needed ("" when allowed), so that the enforcer and `explain` say the same thing. `policies`
    are those that grant it.
    """

    allowed: bool
    reason: str
    rule: str = ""
    missing: str = ""
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check: stable id, severity (`error`, `warning`, `note`), where, what."""

    check: str
    severity: str
    subject: str
    message: str
    hint: str = ""
