"""The sealed offline cache: keys for a restart while no backend answers, for a limited time.

Sealed under a key file that belongs on the host (a TPM-sealed or systemd credential), bound to
provider, cluster, the moment of the last confirmation and the state's epoch.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyfile import load_key_file
from strongroom.encrypt.kms.keys import Keks, Place
from strongroom.encrypt.kms.state import write_private
from strongroom.model.errors import Denied, NotFound, Unavailable

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Cached:
    """What the cache held: the keys, when a backend last confirmed them, and the epoch."""

    keks: Keks = field(repr=False)
    confirmed: float
    epoch: int


class OfflineCache:
    """One file and the key file that seals it."""

    def __init__(self, path: Path, key_file: Path, place: Place) -> None:
        self._path = path
        self._key_file = key_file
        self._place = place

    def write(self, cached: Cached) -> None:
        """Replace the file; raises Unavailable or what the key file refuses."""
        keys = {name: base64.b64encode(key).decode() for name, key in cached.keks.keys.items()}
        content = json.dumps({"current": cached.keks.current, "keys": keys}).encode()
        head = {"version": VERSION, "confirmed": cached.confirmed, "epoch": cached.epoch}
        sealed = load_key_file(self._key_file).wrap(
            content, self._aad(cached.confirmed, cached.epoch)
        )
        whole = {**head, "sealed": base64.b64encode(sealed).decode()}
        write_private(self._path, json.dumps(whole).encode())

    def read(self, now: float, longest: float) -> Cached:
        """The keys, if the last confirmation is not older than `longest` seconds.

        Raises NotFound(`no-cache`), Denied(`cache-sealed`) or Unavailable(`cache-expired`).
        """
        try:
            whole = json.loads(self._path.read_bytes())
            confirmed, epoch = float(whole["confirmed"]), int(whole["epoch"])
            sealed = base64.b64decode(whole["sealed"], validate=True)
        except FileNotFoundError:
            raise NotFound("no-cache", "there is no offline cache yet") from None
        except (OSError, ValueError, KeyError, TypeError, binascii.Error):
            raise Denied("cache-sealed", f"the offline cache {self._path} is damaged") from None
        # A clock that was set back does not make the cache younger than it is.
        if abs(now - confirmed) > longest:
            raise Unavailable(
                "cache-expired",
                f"the last backend answered {abs(now - confirmed) / 3600:.1f} h ago,"
                f" the limit is {longest / 3600:.1f} h",
                hint="bring a backend back, or raise max_offline_age knowing what that means",
            )
        try:
            content = json.loads(
                load_key_file(self._key_file).unwrap(sealed, self._aad(confirmed, epoch))
            )
            keys = {name: base64.b64decode(key) for name, key in content["keys"].items()}
            return Cached(Keks(content["current"], keys, self._place), confirmed, epoch)
        except (Tampered, ValueError, KeyError, TypeError):
            raise Denied("cache-sealed", "the offline cache does not open") from None

    def _aad(self, confirmed: float, epoch: int) -> bytes:
        return self._place.aad("offline", f"{confirmed!r} {epoch}")
