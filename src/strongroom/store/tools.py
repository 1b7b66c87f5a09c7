"""Random bytes and hashes: `sys/tools/` and the same endpoints of transit.

API: https://developer.hashicorp.com/vault/api-docs/system/tools.
"""

import base64
import os
from collections.abc import Sequence
from typing import Final

from strongroom.crypto.signatures import digest
from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result, whole_number
from strongroom.store.parameters import fields
from strongroom.store.secrets.transit_key import from_base64

RANDOM_BYTES: Final = 128 * 1024
SOURCES: Final = ("platform", "seal", "all")
TAKES: Final = {
    "random": fields(number="bytes", text="format source"),
    "hash": fields(text="input algorithm format"),
}


def endpoints(prefix: str = "") -> Sequence[Endpoint]:
    """Both tools under a prefix that ends in a slash."""
    patterns = ("random", "random/{source}", "random/{source}/{bytes}", "hash", "hash/{hash}")
    handlers = {"random": random_bytes, "hash": hashed}
    return tuple(
        Endpoint(
            prefix + pattern,
            dict.fromkeys(("create", "update"), handlers[pattern.partition("/")[0]]),
            takes=TAKES[pattern.partition("/")[0]],
        )
        for pattern in patterns
    )


def hashed(call: Call) -> Result:
    """The hash of an input in base64."""
    name = call.args.get("hash") or call.text("algorithm", "sha2-256")
    content = from_base64(call.text("input"), "input")
    return Result({"sum": _shown(digest(name, content), call.text("format", "hex"))})


def random_bytes(call: Call) -> Result:
    """Bytes of the operating system's generator; every source is that one."""
    source, asked = call.args.get("source", ""), call.args.get("bytes", "")
    if source not in SOURCES and not asked:
        source, asked = "", source
    source = source or call.text("source") or "platform"
    try:
        count = whole_number(asked) if asked else call.integer("bytes", 32)
    except ValueError:
        source = ""
    if source not in SOURCES:
        raise Invalid("bad-source", "the source is platform, seal or all")
    if not 0 < count <= RANDOM_BYTES:
        raise Invalid("bad-bytes", f"bytes is between 1 and {RANDOM_BYTES}")
    form = call.text("format", "base64")
    return Result({"random_bytes": _shown(os.urandom(count), form)})


def _shown(content: bytes, form: str) -> str:
    if form == "hex":
        return content.hex()
    if form == "base64":
        return base64.b64encode(content).decode()
    raise Invalid("bad-format", "format is hex or base64")
