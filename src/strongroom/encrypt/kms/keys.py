"""Key-encryption keys in memory, and how they are made, wrapped and opened by backends."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from strongroom.crypto.aead import KEY_BYTES, Aead, Tampered, new_key
from strongroom.crypto.shamir import combine, split
from strongroom.crypto.tokens import BASE62, constant_time_equal, random_text
from strongroom.encrypt.kms.state import Wrap, WrappedKey
from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Unavailable
from strongroom.wire.keywrap.contract import Wary, Wrapper

T = TypeVar("T")
# `plugin.lacks_key` looks for it in what a plugin answers.
UNKNOWN_KEY: Final = "unknown-key-id"
ID_CHARACTERS: Final = 24
BACKEND_SECONDS: Final = 5.0
# Which key, the wrap, and whether that opens: a slow backend has its time for each.
CALLS_TO_WRAP: Final = 3


def unknown_key() -> NotFound:
    """The refusal of what is sealed under a key that is not open here."""
    return NotFound(UNKNOWN_KEY, "no key of this id")


@dataclass(frozen=True, slots=True)
class Place:
    """What keys are bound to beside their id: the provider's name and the cluster's."""

    provider: str
    cluster: str

    def aad(self, purpose: str, key_id: str) -> bytes:
        """The associated data for a purpose: `wrap`, `seed` or `offline`."""
        parts = ("strongroom kms", purpose, self.provider, self.cluster, key_id)
        return "\x1f".join(parts).encode()


@dataclass(frozen=True, slots=True)
class Keks:
    """An immutable set of keys, one of which encrypts."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)
    place: Place
    ciphers: Mapping[str, Aead] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ciphers", {name: Aead(key) for name, key in self.keys.items()})

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """The id of the key used, and the sealed bytes."""
        aad = self.place.aad("seed", self.current)
        return self.current, self.ciphers[self.current].seal(plaintext, aad)

    def decrypt(self, key_id: str, sealed: bytes) -> bytes:
        """Open; raises NotFound(`unknown-key-id`) or Denied(`not-authentic`)."""
        cipher = self.ciphers.get(key_id)
        if cipher is None:
            raise unknown_key()
        try:
            return cipher.open(sealed, self.place.aad("seed", key_id))
        except Tampered:
            raise Denied("not-authentic", "the sealed seed was changed") from None


def new_key_id() -> str:
    """An opaque id that is never used again."""
    return random_text(ID_CHARACTERS, BASE62)


@dataclass(frozen=True, slots=True)
class Backends:
    """What wraps. With `threshold` 1 each wraps the key; with k each wraps one share of it.

    Escrows always wrap the whole key and do not count.
    """

    wrappers: tuple[Wrapper, ...]
    threshold: int = 1
    escrows: tuple[Wrapper, ...] = ()

    def __post_init__(self) -> None:
        """Raises Invalid(`bad-backends`)."""
        names = [each.name for each in (*self.wrappers, *self.escrows)]
        if not self.wrappers or len(set(names)) != len(names):
            raise Invalid("bad-backends", "at least one backend is needed, each with its own name")
        if not 1 <= self.threshold <= len(self.wrappers):
            raise Invalid("bad-backends", "the threshold is more than there are backends")

    async def ask_again(self) -> None:
        """Ask those too that stopped after a refusal, such as a token that took no PIN."""
        for each in self.wrappers:
            if isinstance(each, Wary):
                await each.ask_again()

    async def close(self) -> None:
        """Let go of all connections."""
        for each in (*self.wrappers, *self.escrows):
            await each.close()


async def make(backends: Backends, place: Place, now: float) -> tuple[WrappedKey, bytes]:
    """A fresh key, wrapped by enough backends; one that is away is made up for later.

    Raises Unavailable(`no-quorum`).
    """
    key = new_key()
    whole = WrappedKey(new_key_id(), now, backends.threshold, ())
    wrapped, failed = await _wrapped(whole, key, backends, place)
    count = sum(1 for each in wrapped.wraps if each.by in {one.name for one in backends.wrappers})
    if count < backends.threshold:
        raise Unavailable("no-quorum", "too few backends wrap the new key: " + _said(failed))
    return wrapped, key


async def _wrapped(
    entry: WrappedKey, key: bytes, backends: Backends, place: Place
) -> tuple[WrappedKey, dict[str, Refusal]]:
    """The entry with the wraps it lacks. A key in shares is shared anew as a whole.

    Each wrap is opened once before anybody relies on it, except an escrow's, for which nobody here
    has the key: one that does not open would be found when nothing else is left.
    """
    parts: dict[str, bytes] = {each.name: key for each in backends.escrows}
    shared = backends.threshold > 1
    if shared:
        shares = split(key, len(backends.wrappers), backends.threshold)
        parts |= {one.name: share for one, share in zip(backends.wrappers, shares, strict=True)}
    else:
        parts |= {each.name: key for each in backends.wrappers}
    kept = {each.by: each for each in entry.wraps if not shared or not each.share}
    aad = place.aad("wrap", entry.id)

    async def one(wrapper: Wrapper) -> Wrap:
        counts = wrapper in backends.wrappers
        # Asked first: a backend that rotates meanwhile is then found to be behind, and wraps anew.
        identity = await _answer(wrapper.identity())
        blob = await _answer(wrapper.wrap(parts[wrapper.name], aad))
        if counts:
            opened = await _answer(wrapper.unwrap(blob, aad))
            if not constant_time_equal(opened, parts[wrapper.name]):
                raise Denied("not-the-key", "it opens another key than it wrapped")
        return Wrap(wrapper.name, identity, blob, shared and counts)

    missing = [each for each in (*backends.wrappers, *backends.escrows) if each.name not in kept]
    made, failed = await _each(missing, one, CALLS_TO_WRAP * BACKEND_SECONDS)
    wraps = (*kept.values(), *made.values())
    return dataclasses.replace(entry, threshold=backends.threshold, wraps=wraps), failed


async def completed(
    entry: WrappedKey, key: bytes, backends: Backends, place: Place
) -> WrappedKey | None:
    """The entry with wraps by every backend, None when it has them all or cannot get more."""
    names = {each.name for each in (*backends.wrappers, *backends.escrows)}
    have = {each.by for each in entry.wraps}
    if names <= have:
        return None
    better, failed = await _wrapped(entry, key, backends, place)
    if backends.threshold > 1 and failed:
        return None  # Old shares still work; new ones replace them only as a whole.
    return better if len(better.wraps) > len(entry.wraps) else None


async def wrapped_anew(
    entry: WrappedKey, key: bytes, backends: Backends, place: Place
) -> WrappedKey:
    """The entry with fresh wraps by every backend; raises Unavailable when one does not answer."""
    bare = dataclasses.replace(entry, wraps=())
    made, failed = await _wrapped(bare, key, backends, place)
    if failed:
        raise Unavailable("not-wrapped", f"not every backend wraps: {_said(failed)}")
    return made


@dataclass(frozen=True, slots=True)
class Opened:
    """A key that was opened, and which backends answered."""

    key: bytes = field(repr=False)
    answered: tuple[str, ...]
    failed: Mapping[str, Refusal]


async def open_key(
    entry: WrappedKey,
    wrappers: Sequence[Wrapper],
    place: Place,
    seconds: float = BACKEND_SECONDS,
) -> Opened:
    """Open through the backends, all asked at once and waited for this long.

    Raises Unavailable(`not-opened`).
    """
    aad = place.aad("wrap", entry.id)
    able = [each for each in wrappers if entry.by(each.name)]

    async def one(wrapper: Wrapper) -> bytes:
        wrap = entry.by(wrapper.name)
        assert wrap is not None  # noqa: S101 - `able` has only those
        opened = await wrapper.unwrap(wrap.blob, aad)
        if not wrap.share and len(opened) != KEY_BYTES:
            raise Denied("no-key", "what it opened is no key")
        return opened

    parts, failed = await _each(able, one, seconds)
    whole = [parts[name] for name in parts if not _is_share(entry, name)]
    shares = [parts[name] for name in parts if _is_share(entry, name)]
    if whole:
        return Opened(whole[0], tuple(parts), failed)
    if entry.threshold > 1 and len(shares) >= entry.threshold:
        return Opened(combine(shares[: entry.threshold]), tuple(parts), failed)
    raise Unavailable(
        "not-opened", f"too few backends open the key {entry.id}: {_said(failed) or 'none has it'}"
    )


async def identities(wrappers: Sequence[Wrapper]) -> dict[str, str]:
    """Which key each of those that answer wraps with now, by the backend's name."""
    found, _ = await _each(wrappers, lambda each: each.identity())
    return found


def _is_share(entry: WrappedKey, name: str) -> bool:
    wrap = entry.by(name)
    return wrap is not None and wrap.share


async def _each(
    wrappers: Sequence[Wrapper],
    work: Callable[[Wrapper], Awaitable[T]],
    seconds: float = BACKEND_SECONDS,
) -> tuple[dict[str, T], dict[str, Refusal]]:
    """What each gave or refused; one that does not answer in time is one that refused.

    What answers at its address may be anything, and must not end the work of the others.
    """

    async def one(wrapper: Wrapper) -> T | Refusal:
        try:
            return await _answer(work(wrapper), seconds)
        except Refusal as refusal:
            return refusal
        except Exception as error:  # noqa: BLE001 - its message may hold what was answered
            why = f"it gave an answer that cannot be used ({type(error).__name__})"
            return Unavailable("backend-reply", why)

    given = await asyncio.gather(*(one(each) for each in wrappers))
    pairs = [(each.name, result) for each, result in zip(wrappers, given, strict=True)]
    good = {name: result for name, result in pairs if not isinstance(result, Refusal)}
    return good, {name: result for name, result in pairs if isinstance(result, Refusal)}


async def _answer(call: Awaitable[T], seconds: float = BACKEND_SECONDS) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise Unavailable("backend-slow", f"no answer in {seconds:g} s") from None


def _said(failed: Mapping[str, Refusal]) -> str:
    return "; ".join(f"{name}: {refusal.message}" for name, refusal in failed.items())
