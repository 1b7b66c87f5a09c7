"""An OpenID issuer that really listens, and what real server processes are harmed with."""

import asyncio
import base64
import hashlib
import json
import os
import secrets
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt as pyjwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm
from server_process import Server

from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.wire.client import HttpClient


@dataclass
class Issuer:
    """An issuer with one client. `claims` are added to every ID token, `info` to the user info."""

    now: Any
    url: str = ""
    client: str = "strongroom"
    secret: str = "client-secret"
    claims: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    nonce: str | None = None
    audience: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    key_id: str = ""
    key: Any = None
    runner: web.AppRunner | None = None

    def rotate(self) -> None:
        """A new key under a new id."""
        self.key, self.key_id = ec.generate_private_key(ec.SECP256R1()), secrets.token_hex(4)

    @property
    def pem(self) -> str:
        public = self.key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, **claims: Any) -> str:
        """A token valid for ten minutes, unless the claims say otherwise."""
        now = int(self.now())
        usual = {"iss": self.url, "sub": "ada", "iat": now, "exp": now + 600}
        every = {key: each for key, each in {**usual, **claims}.items() if each is not None}
        return pyjwt.encode(every, self.key, "ES256", headers={"kid": self.key_id})

    async def discovery(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "userinfo_endpoint": f"{self.url}/userinfo",
            }
        )

    async def keys(self, request: web.Request) -> web.Response:
        self.asked.append("keys")
        shown = json.loads(ECAlgorithm.to_jwk(self.key.public_key()))
        return web.json_response({"keys": [{**shown, "kid": self.key_id, "use": "sig"}]})

    async def authorize(self, request: web.Request) -> web.Response:
        """The person says yes at once."""
        query = dict(request.query)
        code = secrets.token_hex(8)
        self.codes[code] = query
        back = urlencode({"code": code, "state": query["state"]})
        raise web.HTTPFound(f"{query['redirect_uri']}?{back}")

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        begun = self.codes.pop(str(form["code"]), None)
        pair = base64.b64encode(f"{self.client}:{self.secret}".encode()).decode()
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            begun is None
            or request.headers.get("Authorization") != f"Basic {pair}"
            or begun["code_challenge"] != challenge
            or begun["redirect_uri"] != form["redirect_uri"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        nonce = begun["nonce"] if self.nonce is None else self.nonce
        audience = self.audience or self.client
        token = self.sign(aud=audience, nonce=nonce, **self.claims)
        return web.json_response({"id_token": token, "access_token": "at", "token_type": "Bearer"})

    async def userinfo(self, request: web.Request) -> web.Response:
        return web.json_response({"sub": "ada", **self.info})

    @asynccontextmanager
    async def over_tls(self, context: ssl.SSLContext) -> AsyncIterator[None]:
        """The same issuer at an https address, and known by it."""
        assert self.runner is not None
        before, site = self.url, web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.url = f"https://127.0.0.1:{self.runner.addresses[-1][1]}"
        yield
        self.url = before

    async def go(self, url: str) -> dict[str, str]:
        """What a browser does with an authorization URL: the parameters it comes back with."""
        query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        code = secrets.token_hex(8)
        self.codes[code] = query
        return {"code": code, "state": query["state"]}


@pytest.fixture
async def issuer(store) -> AsyncIterator[Issuer]:
    made = Issuer(store.clock.now)
    made.rotate()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", made.discovery)
    app.router.add_get("/keys", made.keys)
    app.router.add_get("/openid/v1/jwks", made.keys)
    app.router.add_get("/authorize", made.authorize)
    app.router.add_post("/token", made.token)
    app.router.add_get("/userinfo", made.userinfo)
    runner = made.runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await asyncio.wait_for(runner.cleanup(), 5)


@pytest.fixture(params=["sqlite", "postgres"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    on_postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if on_postgres else ""
    async with HttpClient() as http:
        made = Server(tmp_path, http, database=url)
        yield made
        made.kill()


@pytest.fixture
def own_postgres() -> Iterator[ThrowawayPostgres]:
    """A PostgreSQL that this test may harm; durable, as in production."""
    folder = Path(tempfile.mkdtemp(prefix="sr-pg-"))
    made = ThrowawayPostgres(folder)
    made.start()
    yield made
    made.resume()
    made.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes small file systems of a size such as "64k"."""
    if os.geteuid() != 0:
        pytest.skip("root is needed to mount a small file system")
    mounted: list[Path] = []

    def make(size: str, place: Path | None = None) -> Path:
        place = place or tmp_path / f"small-{size}"
        place.mkdir(exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def small(mount: Callable[[str], Path]) -> Path:
    """A file system of 64 KiB."""
    return mount("64k")
