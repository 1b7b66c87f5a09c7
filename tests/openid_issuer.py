"""An OpenID issuer that really listens, and the fixture that starts it beside a store."""

import asyncio
import base64
import hashlib
import html
import json
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt as pyjwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm


@dataclass
class Issuer:
    """An issuer with one client. `claims` are added to every ID token, `info` to the user info."""

    now: Any
    url: str = ""
    client: str = "strongroom"
    secret: str = "client-secret"
    claims: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    # Whether the user info is away.
    no_info: bool = False
    nonce: str | None = None
    audience: str = ""
    # What the person answers instead of yes, such as access_denied.
    denies: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    # Paths of key sets that answer no sooner than this.
    holds: dict[str, asyncio.Event] = field(default_factory=dict)
    key_id: str = ""
    key: Any = None
    runner: web.AppRunner | None = None

    def rotate(self, *, usual: bool = False) -> None:
        """A new key under a new id: for ES256, or, as issuers usually have it, for RS256."""
        self.key_id = secrets.token_hex(4)
        self.key = (
            rsa.generate_private_key(65537, 2048) if usual
            else ec.generate_private_key(ec.SECP256R1())
        )  # fmt: skip

    @property
    def pem(self) -> str:
        public = self.key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, **claims: Any) -> str:
        """A token valid for ten minutes, unless the claims say otherwise."""
        now = int(self.now())
        usual = {"iss": self.url, "sub": "ada", "iat": now, "exp": now + 600}
        every = {key: each for key, each in {**usual, **claims}.items() if each is not None}
        algorithm = "RS256" if isinstance(self.key, rsa.RSAPrivateKey) else "ES256"
        return pyjwt.encode(every, self.key, algorithm, headers={"kid": self.key_id})

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
        if request.path in self.holds:
            await self.holds[request.path].wait()
        form = RSAAlgorithm if isinstance(self.key, rsa.RSAPrivateKey) else ECAlgorithm
        shown = json.loads(form.to_jwk(self.key.public_key()))
        return web.json_response({"keys": [{**shown, "kid": self.key_id, "use": "sig"}]})

    async def authorize(self, request: web.Request) -> web.Response:
        """The person says yes at once, or no."""
        query = dict(request.query)
        if self.denies:
            back = {"error": self.denies, "error_description": "the person said no"}
        else:
            code = secrets.token_hex(8)
            self.codes[code] = query
            back = {"code": code}
        back["state"] = query["state"]
        if query.get("response_mode") == "form_post":
            # A page whose form a browser sends at once.
            inputs = "".join(
                f'<input type="hidden" name="{key}" value="{html.escape(value)}"/>'
                for key, value in back.items()
            )
            form = f'<form method="post" action="{query["redirect_uri"]}">{inputs}</form>'
            return web.Response(text=form, content_type="text/html")
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode(back)}")

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
        if self.no_info:
            return web.Response(status=503)
        return web.json_response({"sub": "ada", **self.info})

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Issuer"]:
        """Serve, under a first key."""
        self.rotate()
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self.discovery)
        app.router.add_get("/keys", self.keys)
        app.router.add_get("/openid/v1/jwks", self.keys)
        app.router.add_get("/authorize", self.authorize)
        app.router.add_post("/token", self.token)
        app.router.add_get("/userinfo", self.userinfo)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        yield self
        await asyncio.wait_for(self.runner.cleanup(), 60)

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
    async with Issuer(store.clock.now).listening() as made:
        yield made
