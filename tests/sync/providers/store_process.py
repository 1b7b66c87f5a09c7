"""A whole Strongroom server: a process of its own behind TLS, configured as operators do."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strongroom.app.cluster.control_plane import free_port
from strongroom.app.dev.processes import TIED_TO_PARENT
from strongroom.app.waiting import Hopeless, until
from strongroom.crypto.x509_dev import issue
from strongroom.model.clock import SystemClock
from strongroom.wire.client import HttpClient

CLOCK = SystemClock()


@dataclass
class StoreProcess:
    """Its address, the PEM of its authority, and the root token."""

    address: str
    authority: str
    process: subprocess.Popen[bytes]
    log: Path
    root: str = ""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def ask(
        self, method: str, path: str, body: Any = None, token: str | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of one request; `path` follows `/v1/`."""
        headers = {"X-Vault-Token": self.root if token is None else token}
        content = None if body is None else json.dumps(body).encode()
        async with HttpClient(ca_data=self.authority) as http:
            reply = await http.request(
                method, f"{self.address}/v1/{path}", headers=headers, body=content
            )
        return reply.status, json.loads(reply.body) if reply.body else None

    async def tell(self, path: str, **body: Any) -> Any:
        """POST that must go well; the answer's data."""
        status, said = await self.ask("POST", path, body)
        assert status in (200, 204), said
        return (said or {}).get("data")

    async def mount(self, version: str) -> str:
        """A KV mount that no other test has, and the name of a policy that may do all in it."""
        name = f"kv{next(self.numbers)}"
        await self.tell(f"sys/mounts/{name}", type="kv", options={"version": version})
        verbs = '["create", "read", "update", "delete", "list"]'
        policy = f'path "{name}/*" {{ capabilities = {verbs} }}'
        await self.tell(f"sys/policies/acl/{name}", policy=policy)
        return name

    async def auth(self, kind: str) -> str:
        """An auth method that no other test has; its path."""
        name = f"{kind}{next(self.numbers)}"
        await self.tell(f"sys/auth/{name}", type=kind)
        return name

    async def token(self, policy: str) -> str:
        """A token that has one policy."""
        _, made = await self.ask("POST", "auth/token/create", {"policies": [policy]})
        return str(made["auth"]["client_token"])

    async def begin(self) -> None:
        """Wait for it and initialise it; it opens by itself."""

        async def up() -> bool | None:
            if self.process.poll() is not None:
                raise Hopeless("ended", self.log.read_text()[-2000:])
            return (await self.ask("GET", "sys/seal-status"))[0] == 200 or None

        async def ready() -> bool | None:
            status, said = await self.ask("GET", "sys/seal-status")
            return True if status == 200 and said["sealed"] is False else None

        await until("the server", up, CLOCK, seconds=120)
        status, made = await self.ask("PUT", "sys/init", {})
        assert status == 200, made
        self.root = made["root_token"]
        await until("an open store", ready, CLOCK, seconds=120)


def store_process(folder: Path) -> Iterator[StoreProcess]:
    """For a fixture: the server, until the generator goes on."""
    made = issue(("localhost", "127.0.0.1"), CLOCK.now())
    (folder / "crt").write_bytes(made.certificate)
    (folder / "key").write_bytes(made.key)
    (folder / "seal").write_bytes(b"k" * 32)
    port = free_port()
    (folder / "server.hcl").write_text(
        f'storage "file" {{ path = "{folder}/data" }}\n'
        f'seal "static" {{ current_key = "file://{folder}/seal" }}\n'
        f'listener "tcp" {{ address = "127.0.0.1:{port}" '
        f'tls_cert_file = "{folder}/crt" tls_key_file = "{folder}/key" }}\n'
    )
    clean = {name: each for name, each in os.environ.items() if not name.startswith("VAULT_")}
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*TIED_TO_PARENT, sys.executable, "-m", "strongroom", "server",
             f"-config={folder}/server.hcl"],
            env=clean, cwd=folder, stdout=out, stderr=out,
        )  # fmt: skip
    server = StoreProcess(f"https://localhost:{port}", made.authority.decode(), process, log)
    try:
        asyncio.run(server.begin())
        yield server
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
