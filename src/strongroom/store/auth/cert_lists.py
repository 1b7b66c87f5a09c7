"""The revocation lists of a cert mount: written by hand, or fetched from where they are published.

A fetched list is fetched anew after an hour, or sooner when its own time is over, before the next
login or renewal of a certificate that a role would let in if nothing were revoked: strangers make
the store fetch nothing. Until that succeeds the old one holds; one whose time is over holds
everybody of its issuer off, since nobody knows who was revoked meanwhile.
"""

import asyncio
import base64
import datetime
from collections.abc import Callable, Sequence
from typing import Any, Final

from strongroom.crypto.client_certificates import (
    Certificate,
    RevocationList,
    read_certificates,
    read_revocation_list,
)
from strongroom.model.errors import Conflict, Invalid, Refusal
from strongroom.store.auth.cert_match import CERT, CRL
from strongroom.store.auth.fetching import Fetch, check_address
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import listed
from strongroom.store.parameters import fields

LIST_BYTES: Final = 16 * 1024 * 1024
REFRESH_SECONDS: Final = 3600.0
AGAIN_SECONDS: Final = 30.0
_PART: Final = "revocation list"

Document = dict[str, Any]


class CertLists:
    """Endpoints, and what a login does first; one for each process."""

    def __init__(self, context: Context, fetch: Fetch) -> None:
        self._context = context
        self._fetch = fetch
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}
        self._tried: dict[tuple[str, str], float] = {}

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """To be among those of the method."""
        return (
            Endpoint("crls", {"list": self._list}),
            Endpoint(
                "crls/{name}",
                {"read": self._read, "update": self._write, "delete": self._delete},
                takes=fields(text="crl url"),
            ),
        )

    def _list(self, call: Call) -> Result:
        return listed(self._context.view.document_names(call.mount.uuid, CRL))

    async def _delete(self, call: Call) -> None:
        mount, name = call.mount.uuid, call.args["name"].lower()
        await self._context.engine.transact(lambda each: each.delete_document(mount, CRL, name))

    def _read(self, call: Call) -> Result:
        found = self._context.view.document(call.mount.uuid, CRL, call.args["name"].lower())
        if found is None:
            raise Invalid("no-crl", f"no such CRL {call.args['name'].lower()}")
        url = found.get("url")
        return Result(
            {
                "cdp": {"url": url, "valid_until": _moment(found["until"])} if url else None,
                "issuer": found["issuer"],
                "serials": {each: {} for each in found["serials"]},
            }
        )

    async def _write(self, call: Call) -> None:
        text, url = call.text("crl").strip(), call.text("url").strip()
        if text:
            made = _document(read_revocation_list(_bytes_of(text)))
        elif url:
            made = await self._fetched(check_address(url, "url"), self._signers(call.mount.uuid))
        else:
            raise Invalid("no-crl", "one of 'crl' or 'url' must be provided")
        mount, name = call.mount.uuid, call.args["name"].lower()
        await self._context.engine.transact(
            lambda transaction: transaction.put_document(mount, CRL, name, made)
        )

    @property
    def mounts(self) -> set[str]:
        """Those of which anything is kept."""
        return {mount for mount, _ in self._turns}

    def forget(self, mounts: set[str]) -> None:
        """Keep nothing of these."""
        for key in [each for each in self._turns if each[0] in mounts]:
            del self._turns[key]
            self._tried.pop(key, None)

    def due(self, mount: str) -> list[tuple[str, Document]]:
        """The lists that are to be fetched anew before one is judged by them, with their names."""
        view, now = self._context.view, self._context.clock.now()
        found = (
            (name, view.document(mount, CRL, name)) for name in view.document_names(mount, CRL)
        )
        return [
            (name, each) for name, each in found if each and each.get("url") and each["due"] <= now
        ]

    async def refresh(self, mount: str, due: Sequence[tuple[str, Document]]) -> None:
        """Fetch these anew; what fails is said in the log and tried again soon."""
        # Read here: the tasks of a gathering may not read the view.
        signers = self._signers(mount)
        await asyncio.gather(*(self._refreshed(mount, *each, signers) for each in due))

    async def _refreshed(
        self, mount: str, name: str, old: Document, signers: list[Certificate]
    ) -> None:
        key = (mount, name)
        async with self._turns.setdefault(key, asyncio.Lock()):
            tried = self._tried.get(key)
            monotonic = self._context.clock.monotonic()
            if tried is not None and monotonic - tried < AGAIN_SECONDS:
                return
            self._tried[key] = monotonic
            try:
                made = await self._fetched(old["url"], signers)
                _check_successor(old, made)
                await self._context.engine.transact(_replacing(mount, name, old, made))
            except Refusal as refusal:
                self._context.notices.say(_PART, f"{name} stays as it was: {refusal.message}")
            else:
                self._context.notices.over(_PART)

    async def _fetched(self, url: str, signers: list[Certificate]) -> Document:
        """What the address answers; over plain HTTP a role must vouch for who signed it."""
        data = await self._fetch(url, None, LIST_BYTES)
        signed = not url.lower().startswith("https://")
        # A large list is seconds of work; the other callers go on meanwhile.
        found = await asyncio.to_thread(read_revocation_list, data, signers, signed=signed)
        now = self._context.clock.now()
        if found.until and found.until <= now:
            raise Invalid("old-crl", f"the list at {url.partition('?')[0]} is out of date")
        due = now + REFRESH_SECONDS
        due = min(due, found.until) if found.until else due
        return {**_document(found), "url": url, "until": found.until, "due": due}

    def _signers(self, mount: str) -> list[Certificate]:
        view = self._context.view
        roles = [view.document(mount, CERT, name) for name in view.document_names(mount, CERT)]
        return [each for role in roles if role for each in read_certificates(role["certificate"])]


def _bytes_of(text: str) -> bytes:
    try:
        return text.encode() if text.startswith("-----") else base64.b64decode(text)
    except ValueError:
        raise Invalid("bad-crl", "failed to parse CRL") from None


def _document(found: RevocationList) -> Document:
    return {"issuer": found.issuer, "serials": list(found.serials), "made": found.made}


def _check_successor(old: Document, made: Document) -> None:
    """A list never becomes an older one, or somebody else's: that would free who is revoked."""
    if made["issuer"] != old["issuer"]:
        raise Conflict("other-crl", "the list there is another issuer's now")
    if made["made"] < old.get("made", 0.0):
        raise Conflict("older-crl", "the list there is older than the one that is kept")


def _replacing(
    mount: str, name: str, old: Document, made: Document
) -> Callable[[Transaction], None]:
    def write(transaction: Transaction) -> None:
        # Whoever removed or wrote it meanwhile knew better.
        if transaction.document(mount, CRL, name) == old:
            transaction.put_document(mount, CRL, name, made)

    return write


def _moment(seconds: float) -> str:
    """RFC 3339; the year 1 is Go's word for no time."""
    if not seconds:
        return "0001-01-01T00:00:00Z"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
