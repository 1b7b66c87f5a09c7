"""Reads, logins, writes and encryptions side by side: the latency of each, and the longest gap."""

import asyncio
import base64
import json
import random
import time
from itertools import pairwise

from store_lab import CONNECTIONS, SECRETS, VALUE_BYTES, Store, ask, spread

# Of a hundred requests.
SHARES = {"read": 80, "login": 10, "write": 5, "transit": 5}


def prepare_mixed(store: Store) -> dict:
    """An AppRole and a key; what a login sends."""
    address, root = store.address, store.root
    ask(address, root, "POST", "sys/auth/approle", {"type": "approle"})
    ask(address, root, "POST", "auth/approle/role/bench", {"token_policies": "bench"})
    role = ask(address, root, "GET", "auth/approle/role/bench/role-id")["data"]["role_id"]
    made = ask(address, root, "POST", "auth/approle/role/bench/secret-id", {})
    ask(address, root, "POST", "sys/mounts/transit", {"type": "transit"})
    ask(address, root, "POST", "transit/keys/bench", {})
    return {"role_id": role, "secret_id": made["data"]["secret_id"]}


def encoded(store: Store, method: str, path: str, body: object = None) -> bytes:
    """The bytes of a request."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} /v1/{path} HTTP/1.1\r\nHost: bench\r\nX-Vault-Token: {store.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def requests_of(store: Store, login: dict) -> dict:
    """For each kind, the bytes of a request."""
    plaintext = base64.b64encode(b"p" * VALUE_BYTES).decode()
    paths = [f"secret/data/bench/{number}" for number in range(1, SECRETS + 1)]
    value = {"data": {"value": "v" * VALUE_BYTES}}
    return {
        "read": [encoded(store, "GET", path) for path in paths],
        "login": [encoded(store, "POST", "auth/approle/login", login)],
        "write": [encoded(store, "POST", path, value) for path in paths],
        "transit": [encoded(store, "POST", "transit/encrypt/bench", {"plaintext": plaintext})],
    }


class Load:
    """So many connections, each asking one thing after another."""

    def __init__(self, store: Store, requests: dict, shares: dict, seed: int = 1) -> None:
        self._host, port = store.address.removeprefix("http://").split(":")
        self._port = int(port)
        self._requests = requests
        self._kinds, self._weights = list(shares), list(shares.values())
        self._chosen = random.Random(seed)
        self.took: dict[str, list[float]] = {kind: [] for kind in shares}
        self.done_at: list[float] = []

    async def _connection(self, until: float) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        while (begun := time.perf_counter()) < until:
            (kind,) = self._chosen.choices(self._kinds, self._weights)
            writer.write(self._chosen.choice(self._requests[kind]))
            head = await reader.readuntil(b"\r\n\r\n")
            if head[9:12] not in (b"200", b"204"):
                raise SystemExit(f"{kind} failed: {head[:15].decode()}")
            length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
            if length:
                await reader.readexactly(int(length))
            now = time.perf_counter()
            self.took[kind].append((now - begun) * 1000)
            self.done_at.append(now)
        writer.close()

    async def run(self, seconds: float, connections: int = CONNECTIONS) -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(self._connection(until) for _ in range(connections)))

    def found(self, seconds: float) -> dict:
        """Rate, percentiles of each kind, and the longest time without any reply."""
        gaps = [after - before for before, after in pairwise(self.done_at)]
        return {
            "rate": round(len(self.done_at) / seconds, 1),
            "longest_gap_ms": round(max(gaps) * 1000, 1),
            "kinds": {kind: spread(took) for kind, took in self.took.items() if took},
        }


def loaded(
    store: Store, requests: dict, shares: dict, seconds: float, connections: int = CONNECTIONS
) -> dict:
    """One run of a mix on a fast event loop."""
    import uvloop

    load = Load(store, requests, shares)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(load.run(seconds, connections))
    return load.found(seconds)


def mixed(store: Store, seconds: float) -> dict:
    """80 reads, 10 logins, 5 writes, 5 encryptions of a hundred; `store` is served."""
    requests = requests_of(store, prepare_mixed(store))
    loaded(store, requests, SHARES, 1)
    return loaded(store, requests, SHARES, seconds)
