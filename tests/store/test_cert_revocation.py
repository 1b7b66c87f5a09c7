"""TLS certificates: who is asked whether one still counts, and what stands between it and a root.

Against a responder that says what it is told to, and against the one of OpenSSL.
"""

import asyncio
import base64
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from ocsp_responder import Responder
from tests.store.test_cert_auth import Maker, der, login, pem, role

from strongroom.app.cluster.control_plane import free_port
from strongroom.app.waiting import until
from strongroom.crypto.ocsp import Standing, question, read_answer
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Invalid
from strongroom.store.auth.cert_ocsp import MOST_SERVERS, OcspSettings, accepts
from strongroom.store.auth.fetching import fetch_over_http


@pytest.fixture
def maker(store) -> Maker:
    return Maker(store.clock.now())


@pytest.fixture
async def responder(store, maker) -> AsyncIterator[Responder]:
    async with Responder(maker, store.clock.now).listening() as made:
        await store.ask("POST", "sys/auth/cert", {"type": "cert"})
        yield made


@pytest.fixture
def app(maker, responder):
    """A client whose authority wrote the responder's address into its certificate."""
    made = maker.client(responders=[f"{responder.url}/ocsp"])
    responder.known[made.serial_number] = made
    return made


async def said_to(store, certificate) -> str:
    """What a refused login is told."""
    status, said = await login(store, certificate)
    assert status == 400, said
    return said["errors"][0]


# OCSP


async def test_a_responder_is_asked_where_the_role_says_so(store, maker, responder, app) -> None:
    responder.revoked.add(app.serial_number)
    await role(store, maker.certificate)
    assert (await login(store, app))[0] == 200
    assert responder.asked == 0
    await role(store, maker.certificate, ocsp_enabled=True)
    assert "revoked, says its OCSP responder" in await said_to(store, app)
    responder.revoked.clear()
    assert "revoked" in await said_to(store, app)  # The answer holds for its time.
    store.clock.step_wall(601)
    assert (await login(store, app))[0] == 200


async def test_strangers_make_the_store_ask_nobody(store, maker, responder) -> None:
    await role(store, maker.certificate, ocsp_enabled=True, allowed_common_names="app")
    url = f"{responder.url}/ocsp"
    stranger = Maker(store.clock.now()).client(responders=[url])
    for certificate in (stranger, maker.client("other", responders=[url])):
        assert (await login(store, certificate))[0] == 400
    assert responder.asked == 0


async def test_a_good_answer_is_asked_for_once_in_its_time(store, maker, responder, app) -> None:
    await role(store, maker.certificate, ocsp_enabled=True)
    responder.holds = 3 * 86400.0
    for _ in range(3):
        assert (await login(store, app))[0] == 200
    assert responder.asked == 1
    store.clock.step_wall(3601)  # However long it says it holds.
    responder.revoked.add(app.serial_number)
    assert "revoked" in await said_to(store, app)


async def test_as_many_answers_are_kept_as_the_mount_says(store, maker, responder) -> None:
    await role(store, maker.certificate, ocsp_enabled=True)
    for size in (1, 100_001):
        status, said = await store.ask("POST", "auth/cert/config", {"ocsp_cache_size": size})
        assert (status, "invalid cache size" in said["errors"][0]) == (400, True)
    assert (await store.ask("POST", "auth/cert/config", {"ocsp_cache_size": 2}))[0] == 204
    made = [maker.client(responders=[f"{responder.url}/ocsp"]) for _ in range(3)]
    responder.known = {each.serial_number: each for each in made}
    for each in (*made, made[2], made[1], made[0]):
        assert (await login(store, each))[0] == 200
    assert responder.asked == 4


def _elsewhere(responder: Responder, maker: Maker, app) -> None:
    responder.about = maker.client("other")


def _stranger(responder: Responder, maker: Maker, app) -> None:
    other = Maker(maker.now.timestamp(), "authority")
    responder.signer = (other.certificate, other.key)


def _a_client_signs(responder: Responder, maker: Maker, app) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    responder.signer = (maker.client("sly", key=key), key)


def _expired_delegate(responder: Responder, maker: Maker, app) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.OCSP_SIGNING
    responder.signer = (maker.client("late", key=key, usage=usage, days=-0.5), key)


WORTHLESS = {
    "no OCSP": (lambda responder, *_: setattr(responder, "body", b"<html>"), "cannot be read"),
    "an error": (lambda responder, *_: setattr(responder, "status", 500), "status 500"),
    "too much": (lambda responder, *_: setattr(responder, "body", b"x" * 70_000), "over 65536"),
    "another's": (_elsewhere, "about another certificate"),
    "old": (lambda responder, *_: vars(responder).update(age=900, holds=-301), "out of date"),
    "endless but old": (
        lambda responder, *_: vars(responder).update(age=4000, holds=None),
        "out of date",
    ),
    "of tomorrow": (lambda responder, *_: vars(responder).update(age=-400), "out of date"),
    "a stranger's": (_stranger, "not signed by anybody who may"),
    "a client's": (_a_client_signs, "not signed by anybody who may"),
    "an expired delegate's": (_expired_delegate, "not signed by anybody who may"),
    "unknown": (
        lambda responder, _, app: responder.unknown.add(app.serial_number),
        "does not know the certificate",
    ),
}


@pytest.mark.parametrize("name", WORTHLESS)
async def test_an_answer_that_is_worth_nothing_lets_nobody_in(
    store, maker, responder, app, name
) -> None:
    harm, why = WORTHLESS[name]
    harm(responder, maker, app)
    await role(store, maker.certificate, ocsp_enabled=True)
    said = await said_to(store, app)
    assert "no OCSP responder vouches for the certificate: " in said
    assert why in said
    await role(store, maker.certificate, ocsp_enabled=True, ocsp_fail_open=True)
    assert (await login(store, app))[0] == 200
    # Another role is not asked for again at once, and a revoked one is revoked however it fails.
    responder.__dict__.update(
        signer=None, about=None, body=None, status=200, age=0.0, holds=600.0,
        revoked={app.serial_number},
    )  # fmt: skip
    await store.clock.advance(6)
    assert "revoked" in await said_to(store, app)


async def test_a_responder_that_is_away_is_left_alone_for_a_while(store, maker, responder) -> None:
    there = f"http://127.0.0.1:{free_port()}"
    client = maker.client(responders=["ldap://x", there, f"{responder.url}/ocsp"])
    responder.known[client.serial_number] = client
    responder.status = 503
    await role(store, maker.certificate, ocsp_enabled=True)
    for _ in range(2):
        said = await said_to(store, client)
        assert there in said
    assert responder.asked == 1
    responder.status = 200
    await store.clock.advance(6)
    assert (await login(store, client))[0] == 200


async def test_a_certificate_that_nothing_is_said_of_shields_no_other(
    store, maker, responder, app
) -> None:
    other = maker.client("other", responders=[f"{responder.url}/ocsp"])
    responder.refused.add(other.serial_number)
    responder.revoked.add(app.serial_number)
    await role(store, maker.certificate, ocsp_enabled=True, ocsp_fail_open=True)
    for _ in range(2):
        assert (await login(store, other))[0] == 200
    assert responder.asked == 1
    assert "revoked" in await said_to(store, app)


async def test_a_certificate_that_names_no_responder_is_not_vouched_for(
    store, maker, responder
) -> None:
    client = maker.client()
    responder.known[client.serial_number] = client
    await role(store, maker.certificate, ocsp_enabled=True)
    assert "no OCSP responder is named for the certificate" in await said_to(store, client)
    await role(store, maker.certificate, ocsp_servers_override=f"{responder.url}/ocsp")
    assert (await login(store, client))[0] == 200


async def test_those_that_the_role_names_are_asked_instead(store, maker, responder, app) -> None:
    await role(store, maker.certificate, ocsp_enabled=True, ocsp_servers_override="http://[::1]:9")
    assert "[::1]:9" in await said_to(store, app)
    assert responder.asked == 0


async def test_all_responders_must_agree_where_the_role_says_so(store, maker, responder) -> None:
    async with Responder(maker, store.clock.now).listening() as second:
        urls = [f"{each.url}/ocsp" for each in (responder, second)]
        client = maker.client(responders=urls)
        responder.known[client.serial_number] = second.known[client.serial_number] = client
        second.revoked.add(client.serial_number)
        await role(store, maker.certificate, ocsp_enabled=True)
        assert (await login(store, client))[0] == 200
        await role(store, maker.certificate, ocsp_query_all_servers=True)
        assert "revoked" in await said_to(store, client)
        second.revoked.clear()
        second.status = 503
        store.clock.step_wall(700)
        assert "status 503" in await said_to(store, client)
        await role(store, maker.certificate, ocsp_fail_open=True)
        assert (await login(store, client))[0] == 200


async def test_so_many_responders_are_asked_and_no_more(store, maker, responder, app) -> None:
    urls = [f"{responder.url}/ocsp?{number}" for number in range(MOST_SERVERS + 2)]
    responder.body = b"none"
    for query_all in (False, True):
        responder.asked = 0
        fields = {"ocsp_query_all_servers": query_all, "ocsp_servers_override": urls}
        await role(store, maker.certificate, f"all-{query_all}", ocsp_enabled=True, **fields)
        assert (await login(store, app, name=f"all-{query_all}"))[0] == 400
        assert responder.asked == MOST_SERVERS
        await store.clock.advance(6)


def test_an_answer_about_a_certificate_of_another_key_is_worth_nothing() -> None:
    """Two authorities may have one name, and give the same serial number."""
    now = SystemClock().now()
    own, other = Maker(now), Maker(now)
    client = own.client()
    for issuer in (own, other):
        answer = Responder(issuer, lambda: now, {client.serial_number: client})
        answer.signer = (own.certificate, own.key)
        data = answer.answer(question(client, own.certificate))
        if issuer is own:
            read = read_answer(data, client, own.certificate, (), now)
            assert read.standing is Standing.GOOD
        else:
            with pytest.raises(Invalid, match="about another certificate"):
                read_answer(data, client, own.certificate, (), now)


def test_an_authority_whose_time_is_over_signs_no_answers() -> None:
    now = SystemClock().now()
    own, other = Maker(now), Maker(now, "operator")
    client = own.client()
    for when, counts in ((now, True), (now + 50 * 365 * 86400.0, False)):
        answer = Responder(own, lambda when=when: when, {client.serial_number: client})
        answer.signer = (other.certificate, other.key)
        data = answer.answer(question(client, own.certificate))
        trusted = (other.certificate,)
        if counts:
            read = read_answer(data, client, own.certificate, trusted, when)
            assert read.standing is Standing.GOOD
        else:
            with pytest.raises(Invalid, match="not signed by anybody who may"):
                read_answer(data, client, own.certificate, trusted, when)


@pytest.mark.parametrize(
    ("standings", "query_all", "accepted", "fails_open"),
    [
        ([Standing.GOOD], False, True, True),
        ([None, Standing.GOOD], False, True, True),
        ([Standing.GOOD, None], True, False, True),
        ([Standing.GOOD, Standing.UNKNOWN], True, False, True),
        ([Standing.GOOD, Standing.REVOKED], False, False, False),
        ([Standing.REVOKED, None], True, False, False),
        ([Standing.UNKNOWN], False, False, True),
        ([], False, False, True),
        ([], True, False, True),
    ],
)
def test_what_answers_let_a_certificate_in(standings, query_all, accepted, fails_open) -> None:
    """Failing open makes up for what is missing, and for no revocation."""
    assert accepts(standings, OcspSettings((), (), False, query_all)) is accepted
    assert accepts(standings, OcspSettings((), (), True, query_all)) is fails_open


async def test_who_may_sign_answers(store, maker, responder, app) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.OCSP_SIGNING
    responder.signer = (maker.client("responder", key=key, usage=usage), key)
    await role(store, maker.certificate, ocsp_enabled=True)
    assert (await login(store, app))[0] == 200
    other = Maker(store.clock.now(), "operator")
    responder.signer = (other.client("responder", key=key, usage=usage), key)
    store.clock.step_wall(700)
    assert "not signed" in await said_to(store, app)
    given = base64.b64encode(pem(other.certificate).encode()).decode()
    await role(store, maker.certificate, ocsp_ca_certificates=given)
    await store.clock.advance(6)
    assert (await login(store, app))[0] == 200
    # What one role trusts is not what another lives on.
    await role(store, maker.certificate, "second", ocsp_enabled=True)
    status, said = await login(store, app, name="second")
    assert (status, "not signed" in said["errors"][0]) == (400, True)
    await role(store, maker.certificate, ocsp_ca_certificates=pem(other.certificate))


async def test_a_leaf_that_is_trusted_as_itself_needs_its_issuer_too(
    store, maker, responder, app
) -> None:
    await role(store, app, ocsp_enabled=True)
    assert "issuer is not known" in await said_to(store, app)
    await role(store, app, ocsp_ca_certificates=pem(maker.certificate))
    assert (await login(store, app))[0] == 200
    responder.revoked.add(app.serial_number)
    store.clock.step_wall(700)
    assert "revoked" in await said_to(store, app)


async def test_a_renewal_asks_too(store, maker, responder, app) -> None:
    await role(store, maker.certificate, ocsp_enabled=True)
    token = (await login(store, app))[1]["auth"]["client_token"]

    async def renew() -> tuple[int, str]:
        status, said = await store.ask("POST", "auth/token/renew-self", {}, token)
        return status, (said.get("errors") or [""])[0]

    assert await renew() == (200, "")
    responder.revoked.add(app.serial_number)
    store.clock.step_wall(700)
    status, said = await renew()
    assert (status, "no longer accepted" in said, "revoked" in said) == (400, True, True)
    await store.ask("POST", "auth/cert/config", {"disable_binding": True})
    assert (await renew())[0] == 200


async def test_a_renewal_with_another_certificate_has_the_store_ask_nobody(
    store, maker, responder, app
) -> None:
    """Else whoever has a token chooses which addresses the store asks, and has the list fetched."""
    await role(store, maker.certificate, ocsp_enabled=True)
    responder.crl = maker.revoked().encode()
    await store.ask("POST", "auth/cert/crls/main", {"url": f"{responder.url}/crl"})
    token = (await login(store, app))[1]["auth"]["client_token"]
    asked = responder.asked
    # Neither the answer nor the list holds any longer.
    store.clock.step_wall(3601)
    other = maker.client(responders=[f"{responder.url}/ocsp"])
    responder.known[other.serial_number] = other
    for shown in (other, None):
        store.certificate = der(shown) if shown else None
        assert (await store.ask("POST", "auth/token/renew-self", {}, token))[0] == 400
    assert responder.asked == asked
    store.certificate = der(app)
    await store.ask("POST", "auth/token/renew-self", {}, token)
    assert responder.asked == asked + 2


@pytest.mark.parametrize(
    "body",
    [
        {"ocsp_servers_override": "ldap://x"},
        {"ocsp_servers_override": "file:///etc/passwd"},
        {"ocsp_servers_override": "http://"},
        {"ocsp_ca_certificates": "none"},
        {"ocsp_ca_certificates": "bm9uZQ=="},
    ],
)
async def test_what_a_role_cannot_name(store, maker, responder, body) -> None:
    body = {"certificate": pem(maker.certificate), "ocsp_enabled": True, **body}
    assert (await store.ask("POST", "auth/cert/certs/x", body))[0] == 400


# Lists by address


async def test_a_list_is_fetched_and_fetched_again(store, maker, responder) -> None:
    one, two = maker.client(), maker.client()
    await role(store, maker.certificate)
    responder.crl = maker.revoked(one).encode()
    body = {"url": f"{responder.url}/crl"}
    assert (await store.ask("POST", "auth/cert/crls/main", body))[0] == 204
    _, said = await store.ask("GET", "auth/cert/crls/main")
    assert said["data"]["cdp"]["url"] == body["url"]
    assert said["data"]["cdp"]["valid_until"].endswith("Z")
    assert list(said["data"]["serials"]) == [str(one.serial_number)]
    assert [(await login(store, each))[0] for each in (one, two)] == [400, 200]
    responder.crl = maker.revoked(one, two, after=1800).encode()
    assert (await login(store, two))[0] == 200
    store.clock.step_wall(3601)
    assert [(await login(store, each))[0] for each in (one, two)] == [400, 400]
    assert responder.asked == 2


async def test_strangers_make_the_store_fetch_no_list(store, maker, responder) -> None:
    await role(store, maker.certificate, allowed_common_names="app")
    responder.crl = maker.revoked().encode()
    await store.ask("POST", "auth/cert/crls/main", {"url": f"{responder.url}/crl"})
    mine, held = maker.client("app"), maker.client("app")
    assert (await login(store, mine))[0] == 200
    responder.crl = maker.revoked(held, after=1800).encode()
    store.clock.step_wall(3601)
    for stranger in (Maker(store.clock.now()).client("app"), maker.client("other")):
        assert (await login(store, stranger))[0] == 400
        assert (await login(store, stranger, name="none"))[0] == 400
    assert responder.asked == 1
    assert (await login(store, held))[0] == 400
    assert responder.asked == 2
    # Whoever the old list revokes asks too: it may be held off no longer.
    responder.crl = maker.revoked(after=5400).encode()
    store.clock.step_wall(3601)
    await store.clock.advance(31)
    assert (await login(store, held))[0] == 200


async def test_nothing_is_kept_of_a_mount_that_is_gone(store, maker, responder, app) -> None:
    await role(store, maker.certificate, ocsp_enabled=True)
    responder.crl = maker.revoked().encode()
    await store.ask("POST", "auth/cert/crls/main", {"url": f"{responder.url}/crl"})
    store.clock.step_wall(3601)
    responder.crl = maker.revoked(after=3600).encode()
    assert (await login(store, app))[0] == 200
    backend: Any = store.handler._router._backends["cert"]
    parts = (backend._lists, backend._ocsp)
    assert [len(each.mounts) for each in parts] == [1, 1]
    await store.ask("POST", "sys/auth/other", {"type": "cert"})
    assert (await store.ask("GET", "sys/auth"))[0] == 200
    assert [len(each.mounts) for each in parts] == [1, 1]
    await store.ask("DELETE", "sys/auth/cert")
    assert (await store.ask("GET", "sys/auth"))[0] == 200
    assert [len(each.mounts) for each in parts] == [0, 0]


async def test_a_list_that_cannot_be_fetched_holds_for_its_time(store, maker, responder) -> None:
    one, two = maker.client(), maker.client()
    await role(store, maker.certificate)
    responder.crl = maker.revoked(one, lasts=7200).encode()
    await store.ask("POST", "auth/cert/crls/main", {"url": f"{responder.url}/crl"})
    token = (await login(store, two))[1]["auth"]["client_token"]
    responder.status = 500
    store.clock.step_wall(3601)
    for _ in range(2):
        assert [(await login(store, each))[0] for each in (one, two)] == [400, 200]
    assert responder.asked == 2  # The second one is left alone for half a minute.
    store.clock.step_wall(3600)
    assert "out of date" in (await login(store, two))[1]["errors"][0]
    assert (await store.ask("POST", "auth/token/renew-self", {}, token))[0] == 400
    other = Maker(store.clock.now(), "another")
    await role(store, other.certificate, "other")
    assert (await login(store, other.client()))[0] == 200
    responder.status, responder.crl = 200, maker.revoked(one, after=7200).encode()
    await store.clock.advance(31)
    assert [(await login(store, each))[0] for each in (one, two)] == [400, 200]


async def test_a_list_never_becomes_a_lesser_one(store, maker, responder) -> None:
    one = maker.client()
    await role(store, maker.certificate)
    responder.crl = maker.revoked(one).encode()
    await store.ask("POST", "auth/cert/crls/main", {"url": f"{responder.url}/crl"})
    other = Maker(store.clock.now(), "another")
    await role(store, other.certificate, "other")
    for crl in (maker.revoked(after=-60), other.revoked(), "none"):
        responder.crl = crl.encode()
        store.clock.step_wall(3601)
        await store.clock.advance(31)
        assert (await login(store, one))[0] == 400
    assert responder.asked == 4


async def test_a_list_that_is_removed_while_it_is_fetched_stays_so(store, maker, responder) -> None:
    await role(store, maker.certificate)
    responder.crl = maker.revoked().encode()
    await store.ask("POST", "auth/cert/crls/main", {"url": f"{responder.url}/crl"})
    store.clock.step_wall(3601)
    responder.hangs = asyncio.Event()
    trying = asyncio.create_task(login(store, maker.client()))

    async def asked() -> bool | None:
        return responder.asked == 2 or None

    await until("the list", asked, SystemClock(), seconds=30)
    assert (await store.ask("DELETE", "auth/cert/crls/main"))[0] == 204
    responder.hangs.set()
    assert (await trying)[0] == 200
    assert (await store.ask("GET", "auth/cert/crls/main"))[0] == 400


async def test_over_plain_http_a_role_vouches_for_who_signed(store, maker, responder) -> None:
    body = {"url": f"{responder.url}/crl"}
    responder.crl = maker.revoked().encode()
    status, said = await store.ask("POST", "auth/cert/crls/main", body)
    assert (status, "not signed by an authority" in said["errors"][0]) == (400, True)
    await role(store, maker.certificate)
    assert (await store.ask("POST", "auth/cert/crls/main", body))[0] == 204
    responder.crl = Maker(store.clock.now()).revoked().encode()  # The same name, another key.
    status, said = await store.ask("POST", "auth/cert/crls/main", body)
    assert (status, "not signed by an authority" in said["errors"][0]) == (400, True)


async def test_what_is_no_list_at_an_address(store, maker, responder) -> None:
    await role(store, maker.certificate)
    responder.crl = maker.revoked(after=-100, lasts=50).encode()
    body = {"url": f"{responder.url}/crl"}
    assert (await store.ask("POST", "auth/cert/crls/x", body))[0] == 400
    responder.status = 404
    status, said = await store.ask("POST", "auth/cert/crls/x", body)
    assert (status, "status 404" in said["errors"][0]) == (503, True)
    for url in ("file:///etc/passwd", "crl"):
        assert (await store.ask("POST", "auth/cert/crls/x", {"url": url}))[0] == 400
    for text in ("no", "nö", "-----nö"):
        status, said = await store.ask("POST", "auth/cert/crls/x", {"crl": text})
        assert (status, said["errors"]) == (400, ["failed to parse CRL"])
    assert (await store.ask("GET", "auth/cert/crls/x"))[0] == 400


async def test_the_list_itself_goes_before_its_address(store, maker, responder) -> None:
    body = {"crl": maker.revoked(), "url": f"{responder.url}/crl"}
    assert (await store.ask("POST", "auth/cert/crls/main", body))[0] == 204
    assert (await store.ask("GET", "auth/cert/crls/main"))[1]["data"]["cdp"] is None
    assert responder.asked == 0


# Authorities that a client shows


async def test_a_client_may_show_the_authority_between(store, maker, responder) -> None:
    await role(store, maker.certificate)
    between = Maker(store.clock.now(), "between", above=maker)
    client = between.client()
    assert (await login(store, client))[0] == 400
    assert (await login(store, client, between.certificate))[0] == 200
    # What is shown is worth nothing by itself.
    stranger = Maker(store.clock.now(), "stranger")
    assert (await login(store, stranger.client(), stranger.certificate))[0] == 400
    no_authority = Maker(store.clock.now(), "leaf", above=maker, ca=False)
    assert (await login(store, no_authority.client(), no_authority.certificate))[0] == 400
    body = {"crl": maker.revoked(between.certificate)}
    await store.ask("POST", "auth/cert/crls/main", body)
    assert (await login(store, client, between.certificate))[0] == 400


async def test_the_authority_between_answers_for_its_clients(store, maker, responder) -> None:
    between = Maker(store.clock.now(), "between", above=maker)
    responder.authority = between
    client = between.client(responders=[f"{responder.url}/ocsp"])
    responder.known[client.serial_number] = client
    await role(store, maker.certificate, ocsp_enabled=True)
    status, said = await login(store, client, between.certificate)
    assert status == 200, said
    token = said["auth"]["client_token"]
    assert (await store.ask("POST", "auth/token/renew-self", {}, token))[0] == 200


async def test_what_is_shown_beside_must_be_certificates(store, maker, responder) -> None:
    await role(store, maker.certificate)
    store.certificate, store.chain = maker.client().public_bytes(Encoding.DER), (b"none",)
    status, _ = await store.ask("POST", "auth/cert/login", {}, token="")
    assert status == 400


# OpenSSL's responder


def _key(folder: Path, name: str, key) -> Path:
    path = folder / name
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key.private_bytes(*form))
    return path


@pytest.mark.component
@pytest.mark.parametrize(
    ("delegated", "digest", "why"),
    [
        (False, "sha256", ""), (True, "sha384", ""),
        (False, "sha1", "not signed by anybody who may"), (True, "pss", "signed with RSA-PSS"),
    ],
)  # fmt: skip
async def test_the_responder_of_openssl(store, tmp_path, delegated, digest, why) -> None:
    await store.ask("POST", "sys/auth/cert", {"type": "cert"})
    real = SystemClock()
    store.clock.step_wall(real.now() - store.clock.now())
    maker, port = Maker(store.clock.now()), free_port()
    url = f"http://127.0.0.1:{port}"
    good, bad, missing = (maker.client(responders=[url]) for _ in range(3))
    (tmp_path / "ca.pem").write_text(pem(maker.certificate))
    key, signer = _key(tmp_path, "ca.key", maker.key), tmp_path / "ca.pem"
    if delegated:
        own = (
            rsa.generate_private_key(65537, 2048) if digest == "pss"
            else ec.generate_private_key(ec.SECP256R1())
        )  # fmt: skip
        usage = ExtendedKeyUsageOID.OCSP_SIGNING
        signer = tmp_path / "responder.pem"
        signer.write_text(pem(maker.client("responder", key=own, usage=usage)))
        key = _key(tmp_path, "responder.key", own)
    ends = good.not_valid_after_utc.strftime("%y%m%d%H%M%SZ")
    (tmp_path / "index.txt").write_text(
        f"V\t{ends}\t\t{good.serial_number:040X}\tunknown\t/CN=app\n"
        f"R\t{ends}\t{ends}\t{bad.serial_number:040X}\tunknown\t/CN=app\n"
    )
    process = subprocess.Popen(  # noqa: ASYNC220
        ["openssl", "ocsp", "-port", str(port), "-index", "index.txt", "-CA", "ca.pem",
         "-rsigner", str(signer), "-rkey", str(key), "-nmin", "5",
         *(["-rsigopt", "rsa_padding_mode:pss"] if digest == "pss" else ["-rmd", digest])],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:

        async def listens() -> bool | None:
            asked = question(good, maker.certificate)
            return bool(await fetch_over_http(url, asked, 10_000)) or None

        await until("the responder", listens, real, seconds=60)
        await role(store, maker.certificate, ocsp_enabled=True)
        if why:
            assert why in await said_to(store, good)
            return
        status, said = await login(store, good)
        assert status == 200, said
        assert "revoked, says its OCSP responder" in await said_to(store, bad)
        assert "does not know the certificate" in await said_to(store, missing)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
