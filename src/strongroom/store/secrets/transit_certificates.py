"""Transit keys and X.509: a request for a certificate, and the chain kept beside a version.

API: https://developer.hashicorp.com/vault/api-docs/secret/transit#sign-csr.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from strongroom.crypto.certificate_requests import certificate_request, checked_chain
from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.parameters import fields
from strongroom.store.secrets.transit_key import TransitKey

Change = Callable[[TransitKey], TransitKey]


class TransitCertificates:
    """The endpoints; `stored` finds a key, `change` writes it anew in a transaction."""

    def __init__(
        self,
        stored: Callable[[Call], TransitKey],
        change: Callable[[Call, str, Change], Awaitable[TransitKey]],
    ) -> None:
        self._stored = stored
        self._change = change

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "keys/{name}/csr",
                {"update": self._request},
                takes=fields(text="csr", number="version"),
            ),
            Endpoint(
                "keys/{name}/set-certificate",
                {"update": self._set},
                takes=fields(text="certificate_chain", number="version"),
            ),
        )

    async def _request(self, call: Call) -> Result:
        key = self._stored(call)
        version = key.to_use(call.integer("version"))
        pair = signing_pair(key, version)
        # Milliseconds with RSA: not on the loop.
        made = await asyncio.to_thread(certificate_request, key.type, pair, call.text("csr"))
        return Result({"name": key.name, "type": key.type, "csr": made})

    async def _set(self, call: Call) -> None:
        chain = call.text("certificate_chain")
        if not chain:
            raise Invalid("no-chain", "missing certificate_chain")

        def change(key: TransitKey) -> TransitKey:
            version = key.to_use(call.integer("version"))
            return key.certified(
                version, checked_chain(key.type, signing_pair(key, version), chain)
            )

        await self._change(call, call.args["name"], change)


def signing_pair(key: TransitKey, version: int) -> bytes:
    """The pair of a version that a certificate can be about; raises Invalid."""
    if not key.signs or key.derived:
        raise Invalid("no-certificate", f"a key of type {key.type} takes no certificate")
    return key.versions[version].material
