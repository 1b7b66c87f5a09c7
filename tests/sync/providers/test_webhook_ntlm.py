"""The webhook provider's NTLM against a server that proves each connection by itself.

The server's half is written from MS-NLMP and shares no code with the client's library; the hash of
the password is the document's own (4.2.2.1.2).
"""

import asyncio
import base64
import hmac
import itertools
import json
import logging
import ssl
import struct
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import pytest

from strongroom.crypto.x509_dev import issue
from strongroom.kube.resource import SECRETS
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.generators.contract import Sources
from strongroom.sync.generators.web import answer
from strongroom.sync.providers.contract import PushTarget
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.spec import RemoteRef
from strongroom.wire.http import Response
from strongroom.wire.ntlm import offered_by

PASSWORD = "Password"
NT_HASH = bytes.fromhex("a4f49c406510bdcab6824ee7c30fd852")
SIGNATURE = b"NTLMSSP\0"
# unicode, target asked for, NTLM, always sign, target is a domain, extended session security,
# target info, version, 128 bits; no key exchange, so that the session key is the base key.
FLAGS = 0x1 | 0x4 | 0x200 | 0x8000 | 0x10000 | 0x80000 | 0x800000 | 0x2000000 | 0x20000000


def md5(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "md5")


def challenge_message(nonce: bytes) -> bytes:
    target = "Domain".encode("utf-16-le")
    pairs = [(2, target), (1, "Server".encode("utf-16-le"))]
    pairs += [(7, struct.pack("<Q", 133_000_000_000_000_000)), (0, b"")]
    info = b"".join(struct.pack("<HH", kind, len(each)) + each for kind, each in pairs)
    head = SIGNATURE + struct.pack("<IHHII", 2, len(target), len(target), 56, FLAGS) + nonce
    head += bytes(8) + struct.pack("<HHI", len(info), len(info), 56 + len(target))
    return head + b"\x0a\0\x63\x45\0\0\0\x0f" + target + info


def part(message: bytes, at: int) -> bytes:
    length, _, offset = struct.unpack_from("<HHI", message, at)
    return message[offset : offset + length]


def account_of(opening: bytes, challenge: bytes, nonce: bytes, last: bytes) -> str:
    """The account that an AUTHENTICATE message proves, "" for none (MS-NLMP 3.3.2)."""
    assert last[:12] == SIGNATURE + struct.pack("<I", 3)
    domain, user = (part(last, at).decode("utf-16-le") for at in (28, 36))
    response = part(last, 20)
    assert len(response) > 24, "an NTLMv1 response"
    key = md5(NT_HASH, (user.upper() + domain).encode("utf-16-le"))
    if response[:16] != md5(key, nonce + response[16:]):
        return ""
    whole = opening + challenge + last[:72] + bytes(16) + last[88:]
    assert last[72:88] == md5(md5(key, response[:16]), whole), "the messages were changed"
    return f"{domain}\\{user}"


@dataclass
class NtlmServer:
    """Answers whoever proves their connection; keeps what came and over which connection."""

    scheme: str = "NTLM"
    offers: tuple[str, ...] = ("NTLM",)
    # None, "said" with the challenge, "silent" once the last leg was read; "mute" never answers
    closes: str | None = None
    unasked: int | None = None
    challenge: str | None = None
    answers: dict[str, bytes] = field(default_factory=dict)
    legs: list[tuple[int, str, str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    numbers: itertools.count = field(default_factory=itertools.count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, state = next(self.numbers), {}
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                headers = {n.lower(): v for n, v in (each.split(": ", 1) for each in lines)}
                assert len(headers) == len(lines), "a header twice"
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, target, _ = first.split(" ")
                scheme, _, token = headers.get("authorization", "").partition(" ")
                self.legs.append((number, method, scheme, body))
                self.headers.append(headers)
                if self.closes == "mute":
                    await reader.read()
                    break
                reply = self.reply(target, scheme, base64.b64decode(token), state)
                if reply is None:
                    break
                status, more, content = reply
                writer.write(
                    f"HTTP/1.1 {status} Said\r\nContent-Length: {len(content)}\r\n{more}\r\n".encode()
                    + content
                )
                await writer.drain()
                if "Connection: close" in more:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def reply(self, target: str, scheme: str, token: bytes, state: dict):
        asking = "".join(f"WWW-Authenticate: {each}\r\n" for each in self.offers)
        if self.unasked:
            return self.unasked, "", b"for everybody"
        if scheme != self.scheme:
            return 401, asking, b"who are you?"
        if token[8:12] == struct.pack("<I", 1):
            state["nonce"] = struct.pack("<Q", 0x1122334455667788 + len(self.legs))
            state["opening"], state["challenge"] = token, challenge_message(state["nonce"])
            said = self.challenge or base64.b64encode(state["challenge"]).decode()
            close = "Connection: close\r\n" if self.closes == "said" else ""
            return 401, f"WWW-Authenticate: {scheme} {said}\r\n{close}", b"<html>" * 500
        if self.closes == "silent":
            return None
        account = account_of(state["opening"], state["challenge"], state["nonce"], token)
        if not account:
            return 401, asking, b"no"
        self.accounts.append(account)
        found = self.answers.get(target)
        return (404, "", b"") if found is None else (200, "", found)


@asynccontextmanager
async def listening(server: NtlmServer, tls: ssl.SSLContext | None = None):
    made = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    port = made.sockets[0].getsockname()[1]
    yield f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    made.close()


def ntlm() -> dict:
    return {
        "usernameSecret": {"name": "who", "key": "user"},
        "passwordSecret": {"name": "who", "key": "password"},
    }


@dataclass
class Bed:
    server: NtlmServer
    address: str
    api: object
    clock: object

    async def account(self, user="Domain\\User", password=PASSWORD, labels=None) -> None:
        labels = {"external-secrets.io/type": "webhook"} if labels is None else labels
        data = {
            name: base64.b64encode(each.encode()).decode()
            for name, each in (("user", user), ("password", password))
        }
        metadata = {"name": "who", "namespace": "n", "labels": labels}
        await self.api.create(SECRETS, {"metadata": metadata, "data": data})

    async def provider(self, **spec):
        spec = {"url": f"{self.address}/{{{{ .remoteRef.key }}}}", "auth": {"ntlm": ntlm()}} | spec
        store = {
            "metadata": {"name": "s", "namespace": "n"},
            "spec": {"provider": {"webhook": spec}},
        }
        return await Providers(Surroundings(self.api, self.clock))(store, "n")


@pytest.fixture
async def bed(api, clock):
    server = NtlmServer(answers={"/db": b"one"})
    async with listening(server) as address:
        yield Bed(server, address, api, clock)


async def refusal_of_fetch(bed: Bed, **spec) -> Refusal:
    provider = await bed.provider(**spec)
    with pytest.raises(Refusal) as caught:
        await provider.fetch(RemoteRef("db"))
    await provider.close()
    assert PASSWORD not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("user", "proven"),
    [("Domain\\User", "Domain\\User"), ("User@domain.example", "\\User@domain.example"), ("User\n", "\\User")],
)  # fmt: skip
async def test_all_legs_of_a_read_go_over_one_connection(bed, user: str, proven: str) -> None:
    await bed.account(user, PASSWORD + "\n")
    provider = await bed.provider(headers={"authorization": "Bearer x", "X-More": "y"})
    await provider.validate()
    assert bed.server.legs == []
    assert (await provider.fetch(RemoteRef("db"))).data == b"one"
    assert bed.server.legs == [(0, "GET", "NTLM", b""), (0, "GET", "NTLM", b"")]
    assert bed.server.accounts == [proven]
    assert [each["x-more"] for each in bed.server.headers] == ["y", "y"]
    await provider.fetch(RemoteRef("db"))
    assert {number for number, *_ in bed.server.legs} == {0, 1}
    with pytest.raises(NotFound):
        await provider.fetch(RemoteRef("absent"))
    await provider.close()


async def test_a_body_is_sent_with_the_last_leg_alone(bed) -> None:
    await bed.account()
    bed.server.answers["/new"] = b"old"
    provider = await bed.provider(url=f"{bed.address}/{{{{ .remoteRef.remoteKey }}}}")
    assert (await provider.push(PushTarget("new"), Secret("marked-value"))).changed
    assert bed.server.legs[2:] == [(1, "POST", "NTLM", b""), (1, "POST", "NTLM", b"marked-value")]
    await provider.delete(PushTarget("new"))
    assert [leg[1] for leg in bed.server.legs[4:]] == ["DELETE", "DELETE"]
    await provider.close()


async def test_a_password_that_is_changed_counts_for_the_next_request(bed) -> None:
    await bed.account(password="wrong-password")
    provider = await bed.provider()
    with pytest.raises(Denied, match=r"refused the account.*ntlm-refused") as caught:
        await provider.fetch(RemoteRef("db"))
    assert "wrong-password" not in str(caught.value)
    assert bed.server.accounts == []
    data = {"password": base64.b64encode(PASSWORD.encode()).decode()}
    await bed.api.merge_patch(SECRETS, "who", "n", {"data": data})
    assert (await provider.fetch(RemoteRef("db"))).data == b"one"
    await provider.close()


@pytest.mark.parametrize("closes", ["said", "silent"])
async def test_a_connection_that_is_closed_between_is_not_replaced(bed, closes: str) -> None:
    await bed.account()
    bed.server.closes = closes
    refusal = await refusal_of_fetch(bed)
    assert (type(refusal), refusal.code) == (Unavailable, "ntlm-connection-closed")
    assert {number for number, *_ in bed.server.legs} == {0}


async def test_a_server_of_the_other_name_is_given_the_same_messages(bed) -> None:
    await bed.account()
    bed.server.scheme, bed.server.offers = "Negotiate", ("Negotiate", 'Basic realm="a, b"')
    provider = await bed.provider()
    assert (await provider.fetch(RemoteRef("db"))).data == b"one"
    assert [leg[:3] for leg in bed.server.legs] == [
        (0, "GET", "NTLM"), (0, "GET", "Negotiate"), (0, "GET", "Negotiate"),
    ]  # fmt: skip
    await provider.close()


@pytest.mark.parametrize(
    ("offers", "said"),
    [
        ((), "offers nothing"),
        (('Basic realm="x"',), "offers basic.*never used by itself"),
        (("NTLM", 'Digest realm="x"'), "offers NTLM, digest"),
    ],
)
async def test_without_ntlm_on_offer_the_password_stays_here(bed, offers, said: str) -> None:
    await bed.account()
    bed.server.scheme, bed.server.offers = "Nothing", offers
    refusal = await refusal_of_fetch(bed)
    assert (type(refusal), refusal.code) == (Denied, "ntlm-not-offered")
    with pytest.raises(Denied, match=said):
        raise refusal
    assert {leg[2] for leg in bed.server.legs} == {"NTLM"}


@pytest.mark.parametrize("said", ["!!!", "AAAA", "TlRMTVNTUAACAAAA", "TlRMTVNTUAADAAAA"])
async def test_a_challenge_that_is_none_is_a_bad_reply(bed, said: str) -> None:
    await bed.account()
    bed.server.challenge = said
    refusal = await refusal_of_fetch(bed)
    assert (type(refusal), refusal.code) == (Unavailable, "ntlm-bad-challenge")


async def test_a_server_that_does_not_ask_is_read_but_not_given_a_body(bed) -> None:
    await bed.account()
    bed.server.unasked = 200
    provider = await bed.provider(url=f"{bed.address}/db")
    assert (await provider.fetch(RemoteRef("db"))).data == b"for everybody"
    with pytest.raises(Unavailable, match="ntlm-not-asked"):
        await provider.push(PushTarget("db"), Secret("marked-value"))
    assert {leg[3] for leg in bed.server.legs} == {b""}
    # Policies delete on "not there", which is no word for a stranger.
    bed.server.unasked = 404
    with pytest.raises(Unavailable, match="ntlm-not-asked"):
        await provider.fetch(RemoteRef("db"))
    bed.server.unasked = 503
    with pytest.raises(Unavailable, match="webhook-unavailable"):
        await provider.fetch(RemoteRef("db"))
    await provider.close()


async def test_no_answer_names_the_host_alone(bed) -> None:
    await bed.account()
    refusal = await refusal_of_fetch(bed, url="http://127.0.0.1:1/marked-path")
    assert (type(refusal), refusal.code) == (Unavailable, "unreachable")
    assert "marked-path" not in str(refusal)


async def test_the_timeout_is_for_all_legs_together(bed) -> None:
    await bed.account()
    bed.server.closes = "mute"
    refusal = await refusal_of_fetch(bed, timeout="50ms")
    assert (type(refusal), refusal.code) == (Unavailable, "unreachable")


async def test_the_messages_are_in_no_log(bed, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    await bed.account()
    provider = await bed.provider()
    await provider.fetch(RemoteRef("db"))
    proofs = [each["authorization"].split(" ")[1] for each in bed.server.headers]
    assert len(proofs) == 2
    assert not any(proof in caplog.text for proof in proofs)
    await provider.close()


async def test_the_authority_of_the_store_is_what_is_trusted(api, clock, tmp_path) -> None:
    made = issue(("localhost",), SystemClock().now())
    (tmp_path / "crt").write_bytes(made.certificate)
    (tmp_path / "key").write_bytes(made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    server = NtlmServer(answers={"/db": b"one"})
    async with listening(server, context) as address:
        bed = Bed(server, address, api, clock)
        await bed.account()
        assert (await refusal_of_fetch(bed)).code == "unreachable"
        provider = await bed.provider(caBundle=base64.b64encode(made.authority).decode())
        assert (await provider.fetch(RemoteRef("db"))).data == b"one"
        await provider.close()


async def test_an_account_needs_the_label_and_both_keys(bed) -> None:
    await bed.account(labels={})
    provider = await bed.provider()
    for work in (provider.validate(), provider.fetch(RemoteRef("db"))):
        with pytest.raises(Denied, match="not-for-webhooks"):
            await work
    await provider.close()
    labels = {"external-secrets.io/type": "webhook"}
    provider = await bed.provider()
    for password, said in (
        (None, "credential-missing"),
        ("Cg==", "credential-missing"),
        ("/w==", "bad-secret"),
    ):
        changed = {"metadata": {"labels": labels}, "data": {"password": password}}
        await bed.api.merge_patch(SECRETS, "who", "n", changed)
        with pytest.raises(Invalid, match=rf"passwordSecret points to no.*{said}"):
            await provider.validate()
    await provider.close()
    assert bed.server.legs == []


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({"ntlm": {"usernameSecret": {"name": "a", "key": "u"}}}, r"ntlm\.passwordSecret is needed"),
        ({"ntlm": ntlm() | {"usernameSecret": {"name": "a"}}}, r"usernameSecret\.key is needed"),
        ({"kerberos": {}}, r"auth\.kerberos is not served"),
        ({}, r"auth\.ntlm is needed"),
    ],
)  # fmt: skip
async def test_a_spec_that_cannot_be_names_its_field(bed, auth: dict, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        await bed.provider(auth=auth)


async def test_an_installation_without_the_library_says_so(bed, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "spnego", None)
    with pytest.raises(Unavailable, match=r"no-ntlm.*pip install"):
        await bed.provider()
    await (await bed.provider(auth=None)).close()


async def test_the_generator_proves_its_account_as_well(bed) -> None:
    await bed.account(labels={"generators.external-secrets.io/type": "webhook"})
    bed.server.answers["/made"] = json.dumps({"password": "p", "n": 1}).encode()
    around = Surroundings(bed.api, bed.clock)
    generator = {"metadata": {"name": "g", "namespace": "n"}}
    spec = Fields({"url": f"{bed.address}/made", "auth": {"ntlm": ntlm()}}, "spec")
    made = await answer(spec, References(around, generator, "n"), Sources(around, Random(1)))
    assert made.values == {"password": b"p", "n": b"1"}
    assert bed.server.accounts == ["Domain\\User"]


@pytest.mark.parametrize(
    ("values", "offered"),
    [
        (["ntlm"], {"NTLM": ""}),
        (["Negotiate, NTLM TlRM=="], {"Negotiate": "", "NTLM": "TlRM=="}),
        (['Basic realm="NTLM, x", charset="UTF-8"', "NEGOTIATE"], {"basic": 'realm="NTLM, x"', "Negotiate": ""}),
        (["", ",,", "=x"], {}),
    ],
)  # fmt: skip
def test_offers_are_read_as_they_are_written(values: list[str], offered: dict) -> None:
    headers = tuple(("WWW-Authenticate", each) for each in values)
    assert offered_by(Response(401, b"", headers)) == offered
