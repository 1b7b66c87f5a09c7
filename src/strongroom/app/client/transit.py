"""`strongroom transit import`: a key of one's own for the transit engine, wrapped on this machine.

The key never travels in the clear: it is wrapped by AES (RFC 5649) under a key of this moment, and
that one by RSA-OAEP under the store's wrapping key.
https://developer.hashicorp.com/vault/docs/secrets/transit#bring-your-own-key-byok
"""

import argparse
import base64
import binascii
import secrets
import sys
from typing import TYPE_CHECKING, Any

from strongroom.app.client.flags import group, verb
from strongroom.app.client.output import success
from strongroom.app.kv_values import parse_pairs
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.app.client.session import Session

_PEM = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----")


def register(commands: Any) -> None:  # noqa: ANN401
    """Add the command and its verbs."""
    verbs = group(commands, "transit", "bring keys of one's own to the transit engine",
                  "strongroom transit import transit/keys/mine @key.b64")  # fmt: skip
    for name, summary, example in (
        ("import", "make a transit key of one's own key",
         "strongroom transit import transit/keys/mine @key.b64 type=aes256-gcm96"),
        ("import-version", "give an imported key another version",
         "strongroom transit import-version transit/keys/mine @key.b64"),
    ):  # fmt: skip
        parser = verb(verbs, name, summary, _import, example)
        parser.add_argument("path", help="MOUNT/keys/NAME")
        parser.add_argument("key", help="base64 of an AES key or of PKCS #8; @file, also PEM; -")
        parser.add_argument(
            "pairs", nargs="*", default=[], metavar="KEY=VALUE", help="such as type=rsa-4096"
        )
        parser.set_defaults(action=name.replace("-", "_"))


async def _import(session: "Session", args: argparse.Namespace) -> int:
    from strongroom.crypto.ciphers import wrap_key
    from strongroom.crypto.signatures import rsa_encrypt_to_public

    mount, found, name = args.path.strip("/").rpartition("/keys/")
    if not found or not mount or not name or "/" in name:
        raise Invalid("bad-path", "the path is MOUNT/keys/NAME", hint="transit/keys/mine")
    key = key_material(str(parse_pairs([f"key={args.key}"], sys.stdin)["key"]))
    options = parse_pairs(args.pairs, sys.stdin) if args.pairs else {}
    wrapping = (await session.preflight(f"{mount}/wrapping_key")).data["public_key"]
    kek = secrets.token_bytes(32)
    wrapped = rsa_encrypt_to_public(wrapping, kek) + wrap_key(kek, key)
    body = {**options, "ciphertext": base64.b64encode(wrapped).decode(), "hash_function": "SHA256"}
    await session.ask("PUT", f"{mount}/keys/{name}/{args.action}", body)
    success(f"Imported key: {args.path.strip('/')}", args.format)
    return 0


def key_material(text: str) -> bytes:
    """The bytes of a key in base64 or of PKCS #8 in PEM; raises Invalid, and repeats nothing."""
    inner = text.strip()
    if inner.startswith(_PEM[0]) and inner.endswith(_PEM[1]):
        inner = inner.removeprefix(_PEM[0]).removesuffix(_PEM[1])
    try:
        key = base64.b64decode("".join(inner.split()), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise Invalid(
            "bad-key",
            "the key is not base64",
            hint="base64 of the key's bytes, or @FILE with base64 or a PKCS #8 key in PEM",
        )
    return key
