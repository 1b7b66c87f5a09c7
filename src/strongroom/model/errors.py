"""The two error families.

    Exception
    +-- Misuse                a bug of ours; never shown as advice, always a stack trace
    +-- Refusal               the world said no; carries a stable code, a sentence and a hint
        +-- Invalid           the request or file is malformed or impossible
        |   +-- TooLarge      a limit was passed before parsing
        +-- Denied            the caller may not
        +-- NotFound          nothing there
        +-- Conflict          somebody else was first
        +-- Unavailable       it cannot be served now; try again or repair
            +-- Throttled     asked too often; `retry_after` says when to come back
            +-- Unanswered    a request went out and no whole reply came: it may be done

A refusal never carries a secret value, neither in its text nor in its arguments.
"""


class Misuse(Exception):
    """A contract between rooms was broken; the program is wrong, not its input."""


class Refusal(Exception):
    """Something was refused for a reason that a person or program can act on.

    `code` is stable and machine-readable (`kebab-case`), `message` one sentence for a person,
    `hint` what to do next ("" when there is nothing to do).
    """

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" + (f"; {self.hint}" if self.hint else "")


class Invalid(Refusal):
    """Malformed or impossible input."""


class TooLarge(Invalid):
    """Input beyond a named limit, refused before it is parsed."""


class Denied(Refusal):
    """The caller is not allowed to do this."""


class NotFound(Refusal):
    """There is nothing under that name."""


class Conflict(Refusal):
    """Another writer was first, or the state does not permit the change."""


class Unavailable(Refusal):
    """It cannot be served now: sealed, database away, audit not writable."""


class Throttled(Unavailable):
    """Asked too often; `retry_after` is the server's wish in seconds, None when it has none."""

    def __init__(
        self, code: str, message: str, *, hint: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.retry_after = retry_after


class Unanswered(Unavailable):
    """A request that may change something went out, and no whole reply came: it may be done."""
