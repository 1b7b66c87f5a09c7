"""Asks the control-plane nodes whether they can decrypt with a key, before it is used."""

from collections.abc import Sequence
from pathlib import Path

import orjson

from strongroom.encrypt.kms.plugin import lacks_key
from strongroom.model.errors import Conflict, Refusal
from strongroom.wire.client import HttpClient


async def check_peers(http: HttpClient, peers: Sequence[str], key_id: str) -> None:
    """Raises Conflict(`peer-not-ready`) naming every node that cannot.

    A peer is the URL of a node's HTTP page, or a file that its `/keys` was saved to, since the
    page listens on loopback alone. A node forgets no key by itself, so an older answer is none
    that says too much.
    """
    behind, lacking = [], False
    for peer in peers:
        try:
            if key_id not in orjson.loads(await _keys_page(http, peer))["decrypts"]:
                behind.append(f"{peer} does not have the key")
                lacking = True
        except Refusal as refusal:
            behind.append(f"{peer}: {refusal.message}")
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            behind.append(f"{peer} is no answer of a plugin")
    if behind:
        raise Conflict(
            "peer-not-ready",
            "; ".join(behind),
            hint="copy the state file there; the plugin reads it once a minute, or on SIGHUP"
            if lacking
            else "its page listens on loopback: there, curl -s http://127.0.0.1:8085/keys > F, and"
            " --peer F here",
        )


async def check_own(socket: Path, key_id: str) -> None:
    """The same of the plugin of this node; where none runs nothing is known.

    Raises Conflict(`peer-not-ready`), or Unavailable(`grpc-silent`) for one that hangs.
    """
    if await lacks_key(socket, key_id):
        raise Conflict(
            "peer-not-ready",
            f"the plugin on {socket} does not open the key {key_id}",
            hint="its log says why: does it read this state file, and do its backends answer?",
        )


async def _keys_page(http: HttpClient, peer: str) -> bytes:
    if peer.startswith(("http://", "https://")):
        return (await http.request("GET", f"{peer.rstrip('/')}/keys", timeout=5)).body
    return Path(peer).read_bytes()
