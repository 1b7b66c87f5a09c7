"""Backends that open the root key without a person, each asked under a deadline."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from strongroom.crypto.aead import KEY_BYTES
from strongroom.crypto.tokens import constant_time_equal
from strongroom.model.errors import Denied, Refusal, Unavailable
from strongroom.wire.keywrap.contract import Wrapper

BACKEND_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class AutoSeal:
    """A backend that opens the root key without a person."""

    type: str
    wrapper: Wrapper


@asynccontextmanager
async def in_time(auto: AutoSeal) -> AsyncIterator[None]:
    """A deadline on a backend; whatever it does is told as a Refusal.

    What answers at its address may be anything: a proxy's page, half a reply, another program.
    """
    try:
        async with asyncio.timeout(BACKEND_SECONDS):
            yield
    except Refusal:
        raise
    except TimeoutError:
        raise Unavailable(
            "seal-slow", f"the {auto.type} seal gave no answer in {BACKEND_SECONDS:g} s"
        ) from None
    except Exception as error:  # noqa: BLE001 - its message may hold what was answered
        raise Unavailable(
            "seal-reply",
            f"the {auto.type} seal gave an answer that cannot be used ({type(error).__name__})",
            hint="is its address the right one?",
        ) from None


async def wrapped_by(auto: AutoSeal, root: bytes, place: bytes) -> tuple[bytes, str]:
    """The root key wrapped, and the identity of the key that did; raises what it refuses by.

    It is opened once before anybody relies on it: an identity that may encrypt and not decrypt, or
    bytes that were changed on their way, would be found by the next start, and nothing helps then.
    """
    async with in_time(auto):
        identity = await auto.wrapper.identity()
        wrapped = await auto.wrapper.wrap(root, place)
        if not constant_time_equal(await auto.wrapper.unwrap(wrapped, place), root):
            raise Denied("not-root-key", f"the {auto.type} seal opens another key than it wrapped")
    return wrapped, identity


async def unwrapped(backends: Sequence[AutoSeal], wrapped: bytes, place: bytes) -> bytes:
    """What the first of them gives that opens it; raises what they refuse by."""
    refusals: list[Refusal] = []
    for each in backends:
        try:
            async with in_time(each):
                return _root_key(each, await each.wrapper.unwrap(wrapped, place))
        except Refusal as refusal:
            refusals.append(refusal)
    first, *more = refusals
    if not more:
        raise first
    said = "; and the one that is disabled: ".join(each.message for each in refusals)
    raise Denied(first.code, said, hint=first.hint)


def _root_key(auto: AutoSeal, opened: bytes) -> bytes:
    if len(opened) != KEY_BYTES:
        raise Denied("not-root-key", f"what the {auto.type} seal opened is no root key")
    return opened
