"""Batch tokens: the whole token in its own text, sealed by the barrier; no row is written.

The text is `hvb.` and the base64url of a sealed JSON object. It ends with its time, its parent or
its auth method, whichever is first, and can be neither renewed nor revoked by itself.
Concept: https://developer.hashicorp.com/vault/docs/concepts/tokens#batch-tokens.
"""

import base64
import binascii
import dataclasses
from typing import Any, Final

import orjson

from strongroom.crypto.aead import Tampered
from strongroom.model.errors import Invalid
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import TokenRow, View
from strongroom.store.tokens import BATCH

PREFIX: Final = "hvb."
MAX_TEXT: Final = 64 * 1024
_TABLE: Final = "batch token"
_KEPT: Final = (
    "policies", "display_name", "path", "created", "ttl", "expires", "metadata",
    "bound_cidrs", "role", "entity_id", "mount", "internal", "maker",
)  # fmt: skip


class BatchTokens:
    """Seals and opens the text of batch tokens."""

    def __init__(self, barrier: Barrier) -> None:
        self._barrier = barrier

    def seal(self, row: TokenRow) -> str:
        """The text of a token; raises Invalid(`token-too-long`) beyond what `open` takes."""
        kept: dict[str, Any] = {name: getattr(row, name) for name in _KEPT}
        kept["parent"] = row.parent.hex() if row.parent else None
        sealed = self._barrier.seal(_TABLE, "", 0, orjson.dumps(kept))
        text = PREFIX + base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        if len(text) > MAX_TEXT:
            raise Invalid("token-too-long", "too much metadata for a batch token, which carries it")
        return text

    def open(self, text: str, view: View) -> TokenRow | None:
        """The token of a text, None when it is not ours or its parent is gone.

        Its `id` is empty: there is no row of that key.
        """
        if not text.startswith(PREFIX) or len(text) > MAX_TEXT:
            return None
        body = text.removeprefix(PREFIX)
        try:
            padded = body + "=" * (-len(body) % 4)
            sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
            kept = orjson.loads(self._barrier.open(_TABLE, "", 0, sealed))
        except (Tampered, binascii.Error, ValueError):
            return None
        parent = bytes.fromhex(kept["parent"]) if kept["parent"] else None
        # One of the release before has no maker.
        fields = {name: kept[name] for name in _KEPT if name in kept}
        for name in ("policies", "bound_cidrs"):
            fields[name] = tuple(fields[name])
        row = TokenRow(id=b"", accessor="", parent=parent, type=BATCH, renewable=False, **fields)
        if parent is None:
            return row
        elder = view.token(parent)
        if elder is None or elder.uses_left < 0:
            return None
        ends = [each for each in (row.expires, elder.expires) if each is not None]
        return dataclasses.replace(row, expires=min(ends, default=None))
