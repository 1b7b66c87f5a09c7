"""Generators that need nobody: Password, UUID, SSHKey and Fake. Pure but for their randomness.

Fields: https://external-secrets.io/latest/api/generator/password/ and its neighbours.
"""

import asyncio
import base64
import string
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Final

from strongroom.crypto.ssh_keys import new_ssh_key
from strongroom.model.errors import Invalid
from strongroom.sync.generators.contract import Made, Sources
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References

LENGTH: Final = 24
LONGEST: Final = 4096
SYMBOLS: Final = '~!@#$%^&*()_+`-={}|[]\\:"<>?,./'
# An RSA key of 8192 bits takes a minute, in which neither the loop nor the threads of others wait.
_KEY_MAKERS: Final = ThreadPoolExecutor(2, "ssh-key")
_ENCODINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "raw": bytes,
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "base32": base64.b32encode,
    "hex": lambda value: value.hex().encode(),
}


async def password(spec: Fields, _: References, sources: Sources) -> Made:
    """A password for each of `secretKeys`."""
    encode = _ENCODINGS[spec.choice("encoding", tuple(_ENCODINGS), "raw")]
    keys = spec.texts("secretKeys") or ("password",)
    return Made({key: encode(_password(spec, sources.random).encode()) for key in keys})


def _password(spec: Fields, random: Random) -> str:
    """So many digits, so many symbols, the rest letters, in any order."""
    length = spec.number("length", LENGTH) or LENGTH
    if not 0 < length <= LONGEST:
        raise spec.bad("length", f"must be between 1 and {LONGEST}")
    digits, symbols = spec.number("digits", length // 4), spec.number("symbols", length // 4)
    if digits < 0 or symbols < 0 or digits + symbols > length:
        raise spec.bad("length", "must have room for the digits and symbols")
    letters = string.ascii_lowercase + ("" if spec.flag("noUpper") else string.ascii_uppercase)
    chosen = [
        *_drawn(spec, "digits", string.digits, digits, random),
        *_drawn(spec, "symbols", spec.text("symbolCharacters") or SYMBOLS, symbols, random),
        *_drawn(spec, "length", letters, length - digits - symbols, random),
    ]
    random.shuffle(chosen)
    return "".join(chosen)


def _drawn(spec: Fields, name: str, alphabet: str, count: int, random: Random) -> list[str]:
    alphabet = "".join(dict.fromkeys(alphabet))
    if count and not alphabet:
        raise spec.bad(name, "asks for characters of which there are none")
    if spec.flag("allowRepeat"):
        return random.choices(alphabet, k=count)
    if count > len(alphabet):
        raise spec.bad(name, f"asks for {count} of {len(alphabet)} characters; set allowRepeat")
    return random.sample(alphabet, count)


async def uuid4(_spec: Fields, _references: References, sources: Sources) -> Made:
    """A random UUID (RFC 9562, version 4)."""
    return Made({"uuid": str(uuid.UUID(int=sources.random.getrandbits(128), version=4)).encode()})


async def ssh_key(spec: Fields, _references: References, _sources: Sources) -> Made:
    """A key pair in OpenSSH's formats."""
    kind = spec.choice("keyType", ("rsa", "ecdsa", "ed25519"), "rsa")
    try:
        make = partial(new_ssh_key, kind, spec.number("keySize", 0), spec.text("comment"))
        pair = await asyncio.get_running_loop().run_in_executor(_KEY_MAKERS, make)
    except Invalid as refusal:
        raise spec.bad("keySize", refusal.message) from None
    return Made({"privateKey": pair.private, "publicKey": pair.public})


async def fake(spec: Fields, _references: References, _sources: Sources) -> Made:
    """What its manifest says."""
    return Made({name: value.encode() for name, value in spec.labels("data").items()})
