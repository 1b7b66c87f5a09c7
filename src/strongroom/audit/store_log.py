"""A store's audit log (Strongroom's, Vault's or OpenBao's) as values.

Format: https://developer.hashicorp.com/vault/docs/audit. Pod, node and token id are there when
the store that wrote the record keeps them; others leave them "".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from strongroom.model.clock import parse_rfc3339

KV2_VERBS: Final = ("data", "metadata", "delete", "undelete", "destroy", "subkeys")
# Where an answer that was wrapped is handed out, or wrapped anew, without a word of its path.
UNWRAPPING: Final = ("sys/wrapping/unwrap", "cubbyhole/response")
WRAPPING: Final = (*UNWRAPPING, "sys/wrapping/rewrap")
# What Go's encoder escapes, by which Vault and OpenBao write, and no other has to.
_GO_ESCAPES: Final = str.maketrans({each: f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"})


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """One record: a request that came in, or (`answered`) the answer that left.

    `versions` are the versions the answer speaks of, `keys` the names of the fields it showed.
    `wrapped` is the hash of the wrapping token that the answer is under, `tokens` those of the
    tokens that an unwrapping may be of; `chosen`: it asked for a version, whose number is hidden.
    """

    time: float
    answered: bool
    request_id: str
    operation: str
    path: str
    display_name: str
    accessor: str
    policies: tuple[str, ...]
    metadata: Mapping[str, str]
    remote_address: str
    error: str
    versions: tuple[int, ...] = ()
    keys: tuple[str, ...] = field(default=())
    wrapped: str = ""
    tokens: tuple[str, ...] = field(default=())
    chosen: bool = False

    @property
    def vouched(self) -> Mapping[str, str]:
        """The metadata where an issuer stands for what they say of a pod, else none.

        A record does not say by which method its token came. Whoever makes a token or a secret id
        writes into its metadata what they like; a login by AppRole always names its role there.
        """
        named = made_by_hand(self.display_name) or "role_name" in self.metadata
        return {} if named else self.metadata


def made_by_hand(display_name: str) -> bool:
    """Whether a token came from no login, so that its name says nothing of who holds it."""
    return display_name in ("root", "token") or display_name.startswith("token-")


def parse_record(line: bytes) -> StoreRecord | None:
    """A record; None for a line that is none (torn, or of another program)."""
    try:
        entry = orjson.loads(line)
        return _record(entry)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _record(entry: dict[str, Any]) -> StoreRecord:
    request, auth = entry["request"], entry.get("auth") or {}
    answered = entry["type"] == "response"
    error = str(entry.get("error") or "")
    response, asked = entry.get("response") or {}, request.get("data") or {}
    path = str(request["path"])
    versions, keys = _shown(asked, response.get("data") or {}) if answered else ((), ())
    tokens = (asked.get("token"), auth.get("client_token"), request.get("client_token"))
    return StoreRecord(
        time=parse_rfc3339(entry["time"]),
        answered=answered,
        request_id=str(request.get("id", "")),
        operation=str(request["operation"]),
        path=path,
        display_name=str(auth.get("display_name") or ""),
        accessor=str(auth.get("accessor") or ""),
        policies=tuple(auth.get("policies") or ()),
        metadata={name: str(each) for name, each in (auth.get("metadata") or {}).items() if each},
        remote_address=str(request.get("remote_address") or ""),
        error=error,
        versions=() if error else versions,
        keys=() if error else keys,
        wrapped=str((response.get("wrap_info") or {}).get("token") or ""),
        tokens=tuple(str(each) for each in tokens if each) if path in WRAPPING else (),
        chosen="version" in asked,
    )


def _shown(
    asked: Mapping[str, Any], data: Mapping[str, Any]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    metadata = data.get("metadata")
    if isinstance(metadata, Mapping) and isinstance(metadata.get("version"), int):
        shown = data.get("data")
        keys = tuple(sorted(shown)) if isinstance(shown, Mapping) else ()
        return (metadata["version"],), keys
    if isinstance(data.get("version"), int):
        return (data["version"],), ()
    if isinstance(asked.get("versions"), list):
        return tuple(each for each in asked["versions"] if isinstance(each, int)), ()
    return (), ()


def paths_of(mount: str, path: str) -> dict[str, str]:
    """The API paths that touch a KV v2 secret, each with what it is about."""
    return {f"{mount}/{verb}/{path}": verb for verb in KV2_VERBS}


def records_of(
    lines: Iterator[bytes], mount: str, path: str, wraps: set[str] | None = None
) -> Iterator[StoreRecord | None]:
    """The records about one secret, and those that unwrap an answer about it.

    None for each line that cannot be read. The hashes of wrapping tokens are left in `wraps`.
    """
    paths = paths_of(mount, path)
    wraps = set() if wraps is None else wraps
    # A cheap look before parsing.
    marks = [form for each in (*paths, *WRAPPING) for form in _written(each)]
    for line in lines:
        whole = line.endswith((b"}\n", b"}"))
        if whole and not any(mark in line for mark in marks):
            continue
        record = parse_record(line)
        if record is None:
            yield None
        elif record.path in paths or not wraps.isdisjoint(record.tokens):
            if record.wrapped:
                wraps.add(record.wrapped)
            yield record


def _written(path: str) -> set[bytes]:
    """A path as a store's log may have it."""
    text = orjson.dumps(path)
    return {text, text.decode().translate(_GO_ESCAPES).encode()}


def unwrappings_of(lines: Iterator[bytes], wraps: set[str]) -> Iterator[StoreRecord]:
    """The records that unwrap one of these answers, or wrap it anew, which goes into `wraps`."""
    marks = [orjson.dumps(each) for each in WRAPPING]
    for line in lines:
        record = parse_record(line) if any(mark in line for mark in marks) else None
        if record is not None and not wraps.isdisjoint(record.tokens):
            if record.wrapped:
                wraps.add(record.wrapped)
            yield record
