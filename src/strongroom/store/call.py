"""One call as the engines see it, what they answer, and the table they are found by."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Protocol, cast

from strongroom.model.errors import Invalid
from strongroom.model.truth import truth
from strongroom.store.engine.contract import NO_MARK, About, MountRow, Transaction
from strongroom.store.normalise import Operation
from strongroom.store.parameters import Fields

if TYPE_CHECKING:
    from strongroom.model.decision import Decision
    from strongroom.store.sessions import Session


@dataclass(slots=True)
class Call:
    """An authorised call. `rest` is the path under the mount, `args` what its pattern named."""

    operation: Operation
    path: str
    data: dict[str, Any] = field(repr=False)
    mount: MountRow
    rest: str
    session: "Session | None" = None
    args: dict[str, str] = field(default_factory=dict)
    peer: str = ""
    request_id: str = ""
    token: str = field(default="", repr=False)
    # The path before names that mean the same in any case were lower-cased.
    asked_path: str = ""
    # The route's, see there.
    lowered: int = 0
    # How long the reply is to be kept wrapped, 0 for not at all.
    wrap_seconds: int = 0
    certificate: bytes | None = field(default=None, repr=False)
    # What the client sent beside it, see `wire.http.Request`.
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    # The body where it is a file, in memory or on disk.
    body: bytes = field(default=b"", repr=False)
    # The data as a record has it, where making that took long.
    hidden: bytes | None = field(default=None, repr=False)
    file: BinaryIO | None = field(default=None, repr=False)
    # The connection's, 0 for a unix socket.
    port: int = 0
    # What the policies said, None before they are asked.
    decision: "Decision | None" = None

    def setting(self, name: str) -> Sequence[str]:
        """A list in the settings of the call's mount, empty where it is not set."""
        # None for a path that leads nowhere: it is recorded as well.
        mount = cast(Any, self.mount)
        return mount.config.get(name) or () if mount else ()

    @property
    def certificate_fingerprint(self) -> str:
        """SHA-256 of the client's TLS certificate in hexadecimal, "" without one."""
        return hashlib.sha256(self.certificate).hexdigest() if self.certificate else ""

    @property
    def caller(self) -> "Session":
        """The session; only public endpoints are called without one."""
        if self.session is None:
            raise Invalid("no-token", "missing client token")
        return self.session

    def text(self, name: str, default: str = "") -> str:
        """A string parameter; raises Invalid(`bad-parameter`) for another type."""
        value = self.data.get(name, default)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise Invalid("bad-parameter", f"{name} must be a string")
        return str(value)

    def integer(self, name: str, default: int = 0) -> int:
        """A whole number, also as text."""
        value = self.data.get(name, default)
        if value is None or value == "":
            return default
        try:
            return whole_number(value)
        except ValueError:
            raise Invalid("bad-parameter", f"{name} must be a whole number") from None

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean, also "true", "1"; null is as good as not given."""
        value = self.data.get(name)
        return default if value is None else parse_flag(value, name)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings, also as text with commas."""
        value = self.data.get(name)
        if value is None or value == "":
            return ()
        if isinstance(value, str):
            return tuple(each.strip() for each in value.split(",") if each.strip())
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
        raise Invalid("bad-parameter", f"{name} must be a list of strings")

    def seconds(self, name: str, default: int = 0) -> int:
        """A duration: seconds as a number, or "30s", "5m", "1h", "2d"."""
        return parse_seconds(self.data.get(name), name, default)


# Zeros before it count for nothing: the ids of events have some.
_DIGITS: Final = re.compile(r"[+-]?0*[0-9]{1,19}")
# What 64 bits of nanoseconds hold, as Vault counts.
LONGEST_SECONDS: Final = 9_223_372_036
LONGEST_DURATION: Final = 1000  # characters
_UNITS: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3,
    "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0,
}  # fmt: skip
_PART: Final = re.compile(rf"(\d+(?:\.\d*)?|\.\d+)({'|'.join(_UNITS)})", re.ASCII)
_PARTS: Final = re.compile(rf"([-+]?)((?:{_PART.pattern})+)", re.ASCII)
_NUMBER: Final = re.compile(r"[-+]?\d+(\.\d*)?", re.ASCII)


def parse_duration(value: Any, name: str = "ttl") -> float:  # noqa: ANN401 - JSON
    """Seconds: a number, also as text, or Go's form such as "1h30m", "1.5h", "100ms", and "2d".

    Raises Invalid(`bad-parameter`) for anything else, and for what no Go program can hold.
    """
    seconds = _seconds(value)
    if seconds is None:
        raise Invalid("bad-parameter", f'{name} must be a duration such as "30m"')
    if not abs(seconds) <= LONGEST_SECONDS:
        raise Invalid("bad-parameter", f"{name} must not be longer than 292 years")
    return seconds


def _seconds(value: Any) -> float | None:  # noqa: ANN401 - JSON
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(max(min(value, 2 * LONGEST_SECONDS), -2 * LONGEST_SECONDS))
    if not isinstance(value, str) or len(value) > LONGEST_DURATION:
        return None
    if _NUMBER.fullmatch(value):
        return float(value)
    parts = _PARTS.fullmatch(value)
    if parts is None:
        return None
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(parts[2]))
    return -total if parts[1] == "-" else total


def parse_flag(value: object, name: str) -> bool:
    """A boolean, also written as text or number; raises Invalid."""
    try:
        return value != "" and truth(value)
    except ValueError:
        raise Invalid("bad-parameter", f"{name} must be true or false") from None


def parse_pairs(value: object, name: str) -> dict[str, str]:
    """A map of texts, also as `key=value` words; raises Invalid.

    A number is its digits and true is 1, as in Vault.
    """
    if isinstance(value, str):
        value = [value] if value else {}
    if isinstance(value, list) and all(isinstance(each, str) and "=" in each for each in value):
        value = dict(each.split("=", 1) for each in value)
    if not isinstance(value, dict) or not all(
        isinstance(each, str | int | float) for each in value.values()
    ):
        raise Invalid("bad-parameter", f"{name} must be a map of strings")
    return {key: str(int(each) if isinstance(each, bool) else each) for key, each in value.items()}


def parse_seconds(value: Any, name: str = "ttl", default: int = 0) -> int:  # noqa: ANN401 - JSON
    """A duration parameter in whole seconds; raises Invalid(`bad-parameter`).

    Less than a second is one: 0 would mean that nothing was given.
    """
    if value is None or value == "":
        return default
    seconds = parse_duration(value, name)
    return 1 if 0 < seconds < 1 else int(seconds)


def whole_number(value: Any) -> int:  # noqa: ANN401 - JSON
    """A number of JSON, or its digits as text, that fits 64 bits; raises ValueError."""
    if isinstance(value, str):
        if not _DIGITS.fullmatch(value.strip()):
            raise ValueError
    elif isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise ValueError
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def go_duration(seconds: int) -> str:
    """Seconds the way Go prints a duration: 0s, 1m30s, 24h0m0s."""
    if seconds < 0:
        return "-" + go_duration(-seconds)
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"


@dataclass(slots=True)
class Result:
    """What a call answers. `status` 0 means 200, or 204 when there is nothing to say.

    `top_level` copies the keys of `data` beside it, as older clients read them. `cache_until`
    (epoch seconds) says how long the answer holds if nothing is committed meanwhile; what is
    committed does not touch it while the secret with `cache_mark` stands (`View.kv_stands`).
    `lease_duration` is in seconds; `lease_id` "" means there is nothing to renew or revoke. `long`
    data is recorded a part at a time, so that other requests are answered meanwhile.
    """

    data: Mapping[str, Any] | None = None
    auth: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    status: int = 0
    top_level: bool = False
    raw: bytes | None = None
    # Sent as it is, a piece in memory at a time.
    file: BinaryIO | None = None
    content_type: str = "application/json"
    cache_until: float = 0.0
    cache_mark: tuple[int, int] = NO_MARK
    long: bool = False
    lease_id: str = ""
    lease_duration: int = 0
    renewable: bool = False
    wrap_info: Mapping[str, Any] | None = None
    # Of the token in `auth`; recorded and not sent.
    display_name: str = ""
    # Whether the connection ends with a `raw` answer.
    close: bool = False
    # Those that the mount allows by `allowed_response_headers` are sent.
    headers: tuple[tuple[str, str], ...] = ()


class Write(NamedTuple):
    """A unit of work that is all there is to a call, and what its outcome is answered with.

    A handler that needs no more returns it in place of a coroutine: no task has to wait then.
    """

    work: Callable[[Transaction], Any]
    reply: Callable[[Any], Result | None]
    about: About | None = None


def no_reply(_: object) -> None:
    """Nothing is said of what was written."""


Handler = Callable[[Call], "Result | Write | Awaitable[Result | None] | None"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path pattern under a mount and what each operation on it does.

    `{name}` stands for one segment, `{name*}` for as many as what follows it leaves. `public`
    needs no token, `sudo` needs the capability of that name besides the operation's, and what is
    `ungoverned` needs a token but no policy: it answers with what the caller may know anyway.
    What is not `published` answers, but is no part of the API's description. What is `opened_by`
    a word needs no token on a listener whose configuration says so. `takes` are the
    parameters beside those of the path, None for an endpoint that takes whatever it is given.
    One that `pages` cuts its LIST by itself; others are cut behind them.
    """

    pattern: str
    handlers: Mapping[Operation, Handler]
    public: bool = False
    sudo: bool = False
    published: bool = True
    ungoverned: bool = False
    takes: Fields | None = field(default_factory=dict)
    opened_by: str = ""
    pages: bool = False


class Backend(Protocol):
    """A secrets engine, an auth method or the system: its endpoints, for all mounts of a type."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """In the order they are tried."""

    def exists(self, call: Call) -> bool:
        """Whether a write to the path is an update rather than a create."""


def match(pattern: str, rest: str, written: str | None = None) -> dict[str, str] | None:
    """The named parts of a path under a pattern, or None.

    A list arrives with a final slash, which a pattern does not write. The parts are taken from
    `written`, the same path before its case was folded.
    """
    # Before a path of tens of thousands of segments is cut at them for each pattern of a table.
    if not rest.startswith(pattern.partition("{")[0].rstrip("/")):
        return None
    names = pattern.split("/")
    parts = _segments(rest)
    shown = parts if written is None or written == rest else _segments(written)
    found: dict[str, str] = {}
    for index, name in enumerate(names):
        if name.endswith("*}"):
            tail = names[index + 1 :]
            end = len(parts) - len(tail)
            if tail and (end <= index or parts[end:] != tail):
                return None
            found[name[1:-2]] = "/".join(shown[index:end])
            return found
        if index >= len(parts):
            return found if name == "" else None
        if name.startswith("{"):
            found[name[1:-1]] = shown[index]
        elif name != parts[index]:
            return None
    return found if len(parts) == len(names) else None


def _segments(path: str) -> list[str]:
    path = path.removesuffix("/")
    return path.split("/") if path else []
