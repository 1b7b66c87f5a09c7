"""What publishes revocations, listening for real: an OCSP responder and a place of CRLs.

It says what a test tells it to, rightly signed or not.
"""

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp


@dataclass
class Responder:
    """Answers for an authority: `revoked` and `unknown` by serial number, else good.

    `signer` is the certificate and key that sign, the authority's own where it is None.
    """

    authority: Any
    now: Callable[[], float]
    known: dict[int, x509.Certificate] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    # About these it answers nobody.
    refused: set[int] = field(default_factory=set)
    signer: tuple[x509.Certificate, Any] | None = None
    about: x509.Certificate | None = None
    # Seconds from now until the answer is old, None to leave it out; and since it was made.
    holds: float | None = 600.0
    age: float = 0.0
    status: int = 200
    body: bytes | None = None
    hangs: asyncio.Event | None = None
    asked: int = 0
    crl: bytes = b""
    url: str = ""

    def answer(self, asked: bytes) -> bytes:
        request = ocsp.load_der_ocsp_request(asked)
        serial = request.serial_number
        if serial in self.refused:
            said = ocsp.OCSPResponseStatus.UNAUTHORIZED
            refusal = ocsp.OCSPResponseBuilder.build_unsuccessful(said)
            return refusal.public_bytes(Encoding.DER)
        certificate = self.about or self.known[serial]
        status, when = ocsp.OCSPCertStatus.GOOD, None
        now = datetime.datetime.fromtimestamp(self.now(), datetime.UTC)
        if serial in self.revoked:
            status, when = ocsp.OCSPCertStatus.REVOKED, now
        elif serial in self.unknown:
            status = ocsp.OCSPCertStatus.UNKNOWN
        made = now - datetime.timedelta(seconds=self.age)
        until = now + datetime.timedelta(seconds=self.holds) if self.holds is not None else None
        certificate_of, key = self.signer or (self.authority.certificate, self.authority.key)
        builder = ocsp.OCSPResponseBuilder().add_response(
            certificate, self.authority.certificate, hashes.SHA1(), status, made, until, when, None
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, certificate_of)
        if self.signer:
            builder = builder.certificates([certificate_of])
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

    async def _ocsp(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.hangs:
            await self.hangs.wait()
        body = self.answer(await request.read()) if self.body is None else self.body
        return web.Response(status=self.status, body=body, content_type="application/ocsp-response")

    async def _crl(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.hangs:
            await self.hangs.wait()
        return web.Response(status=self.status, body=self.crl)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Responder"]:
        app = web.Application()
        app.router.add_post("/ocsp", self._ocsp)
        app.router.add_get("/crl", self._crl)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            if self.hangs:
                self.hangs.set()
            await runner.cleanup()
