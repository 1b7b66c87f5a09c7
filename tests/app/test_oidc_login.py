"""`strongroom login -method=oidc` as a process: an issuer, a browser's requests, and what is said."""

import asyncio
import html
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from tests.app.transcript import environment
from tests.openid_issuer import Issuer, issuer  # noqa: F401 - a fixture

from strongroom.app.client.oidc_login import ExpectedLogin, serve
from strongroom.app.cluster.control_plane import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
REDIRECT = "http://localhost:8250/oidc/callback"


@pytest.fixture
async def people(store, issuer: Issuer):  # noqa: F811
    """The store with an issuer and a role."""
    await store.ask("POST", "sys/auth/oidc", {"type": "oidc"})
    body = {
        "oidc_discovery_url": issuer.url, "oidc_client_id": issuer.client,
        "oidc_client_secret": issuer.secret, "default_role": "people",
        "jwt_supported_algs": ["ES256"],
    }  # fmt: skip
    assert (await store.ask("POST", "auth/oidc/config", body))[0] == 204
    body = {"user_claim": "sub", "allowed_redirect_uris": REDIRECT, "token_policies": "team"}
    assert (await store.ask("POST", "auth/oidc/role/people", body))[0] == 204
    return store


class Login:
    """The running command: the address it shows, and how it ends."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port, self.said = process, port, ""

    async def address(self) -> str:
        """Where a person is to go, once it is waited for."""
        assert self.process.stderr
        while "Waiting for OIDC" not in self.said:
            line = await asyncio.wait_for(self.process.stderr.readline(), 60)
            assert line, self.said
            self.said += line.decode()
        found = re.search(r"^ +(http://\S+)$", self.said, re.M)
        assert found, self.said
        return found[1]

    async def end(self) -> tuple[int, str, str]:
        out, err = await asyncio.wait_for(self.process.communicate(), 60)
        return self.process.returncode or 0, out.decode(), self.said + err.decode()


@asynccontextmanager
async def login(
    store, home: Path, *words: str, port: int = 0, browser: Path | None = None
) -> AsyncIterator[Login]:
    port = port or free_port()
    own = {"BROWSER": str(browser)} if browser else {}
    words = words if browser else ("skip_browser=true", *words)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "strongroom", "login", "-method=oidc", f"port={port}", *words,
        env=environment(home, VAULT_ADDR=store.address, **own),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    running = Login(process, port)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def browse(url: str) -> tuple[int, str]:
    """What a browser shows at the end of all redirects."""
    async with aiohttp.ClientSession() as browser, browser.get(url) as reply:
        return reply.status, await reply.text()


async def test_a_person_logs_in_and_the_token_is_kept(people, tmp_path: Path) -> None:
    async with login(people, tmp_path, "role=people") as command:
        url = await command.address()
        asked = parse_qs(urlsplit(url).query)
        assert asked["redirect_uri"] == [f"http://localhost:{command.port}/oidc/callback"]
        status, page = await browse(url)
        assert (status, "Go back to the terminal" in page) == (200, True)
        status, out, err = await command.end()
    assert status == 0, err
    assert "Open in a browser" in err
    assert re.search(r'^token_policies +\["default" "team"\]$', out, re.M)
    kept = (tmp_path / ".vault-token").read_text()
    assert (tmp_path / ".vault-token").stat().st_mode & 0o777 == 0o600
    _, looked = await people.ask("GET", "auth/token/lookup-self", token=kept)
    assert looked["data"]["path"] == "auth/oidc/oidc/callback"
    assert looked["data"]["display_name"] == "oidc-ada"


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    """One that stays in the foreground until it is closed, as many do."""
    os.mkfifo(tmp_path / "closed")
    script = tmp_path / "browser"
    script.write_text(
        f"#!{sys.executable}\nimport os, sys, urllib.request\n"
        "page = urllib.request.urlopen(sys.argv[1], timeout=60)\n"
        "assert b'Go back to the terminal' in page.read()\n"
        "os.close(1), os.close(2)\n"
        f"open({str(tmp_path / 'closed')!r}).read()\n"
    )
    script.chmod(0o755)
    return script


async def test_a_browser_that_stays_open_comes_back(people, tmp_path: Path, browser: Path) -> None:
    async with login(people, tmp_path, "-no-store", "-field=token", browser=browser) as command:
        assert await command.address()
        status, out, err = await command.end()
    # It would be waited for here if it were waited for.
    (tmp_path / "closed").write_text("")
    assert (status, out.startswith("hvs.")) == (0, True), err
    assert "Launching browser to:" in err


@pytest.mark.parametrize(
    ("word", "status", "said"),
    [
        ("timeout=300ms", 2, "No browser can be opened here: open the address yourself."),
        ("abort_on_error=true", 2, "error: no browser can be opened [no-browser]"),
        ("skip_browser=yes", 1, "error: skip_browser is true or false [bad-flag]"),
        ("callbackmethod=https", 2, "* unauthorized redirect_uri: https://localhost:"),
        ("mount=elsewhere", 2, "hint: either no oidc method is mounted at elsewhere/"),
    ],
)
async def test_words_of_vault_are_heeded(
    people, tmp_path: Path, word: str, status: int, said: str
) -> None:
    async with login(people, tmp_path, word, browser=Path("/bin/false")) as command:
        found, _, err = await command.end()
    assert found == status
    assert said in err


async def test_a_token_is_stored_nowhere_when_that_was_said(people, tmp_path: Path) -> None:
    async with login(people, tmp_path, "-no-store", "-format=json") as command:
        await browse(await command.address())
        status, out, err = await command.end()
    assert status == 0, err
    assert json.loads(out)["auth"]["token_policies"] == ["default", "team"]
    assert not (tmp_path / ".vault-token").exists()


async def test_a_wrap_ttl_is_meant_for_the_token_and_not_for_the_address(
    people, tmp_path: Path
) -> None:
    words = ("-no-store", "-wrap-ttl=5m", "-format=json")
    async with login(people, tmp_path, *words) as command:
        await browse(await command.address())
        status, out, err = await command.end()
    assert status == 0, err
    assert json.loads(out)["wrap_info"]["creation_path"] == "auth/oidc/oidc/callback"


async def test_a_forged_way_back_ends_nothing(people, tmp_path: Path) -> None:
    """A page that a person happens to have open sends the browser to the listener."""
    async with login(people, tmp_path, "-no-store", "-field=token") as command:
        url = await command.address()
        here = f"http://127.0.0.1:{command.port}"
        for forged in ("?code=x&state=forged", "?error=no", "?code=x", ""):
            status, page = await browse(f"{here}/oidc/callback{forged}")
            assert (status, "Another login" in page) == (400, True)
        assert (await browse(f"{here}/other"))[0] == 404
        assert command.process.returncode is None
        assert (await browse(url))[0] == 200
        status, out, err = await command.end()
    assert (status, out.startswith("hvs.")) == (0, True), err


async def test_denied_consent_is_said_at_both_ends(people, issuer, tmp_path: Path) -> None:  # noqa: F811
    issuer.denies = "access_denied\x1b[2J"
    async with login(people, tmp_path) as command:
        status, page = await browse(await command.address())
        assert (status, "The login failed" in page, "the person said no" in page) == (
            400, True, True,
        )  # fmt: skip
        status, out, err = await command.end()
    assert (status, out) == (2, "")
    said = "error: the issuer let nobody in: access_denied?[2J (the person said no) [login-refused]"
    assert err.endswith(said + "\n")
    assert not (tmp_path / ".vault-token").exists()


@pytest.fixture
async def by_form(people, issuer):  # noqa: F811
    """The same people, whose issuer answers in a form."""
    body = {
        "oidc_discovery_url": issuer.url, "oidc_client_id": issuer.client,
        "oidc_client_secret": issuer.secret, "default_role": "people",
        "jwt_supported_algs": ["ES256"], "oidc_response_mode": "form_post",
    }  # fmt: skip
    assert (await people.ask("POST", "auth/oidc/config", body))[0] == 204
    return people


async def submit(url: str) -> tuple[int, str]:
    """What a browser shows that sends the issuer's form, as the issuer's page."""
    status, text = await browse(url)
    assert status == 200
    where = re.search(r'action="([^"]+)"', text)
    assert where, text
    pairs = re.findall(r'name="([^"]+)" value="([^"]*)"', text)
    form = {name: html.unescape(value) for name, value in pairs}
    origin = {"Origin": "null"}
    async with (
        aiohttp.ClientSession() as browser,
        browser.post(where[1], data=form, headers=origin) as reply,
    ):
        return reply.status, await reply.text()


async def raw(port: int, sent: bytes) -> bytes:
    """What the listener says to bytes as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    said = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return said


async def test_a_code_comes_in_a_form(by_form, tmp_path: Path) -> None:
    async with login(by_form, tmp_path, "-no-store", "-field=token") as command:
        url = await command.address()
        assert parse_qs(urlsplit(url).query)["response_mode"] == ["form_post"]
        # A connection that a browser opened and says nothing on holds up nobody.
        _, silent = await asyncio.open_connection("127.0.0.1", command.port)
        status, page = await submit(url)
        assert (status, "Go back to the terminal" in page) == (200, True)
        status, out, err = await command.end()
        silent.close()
    assert (status, out.startswith("hvs.")) == (0, True), err


async def test_a_forged_form_ends_nothing(by_form, tmp_path: Path) -> None:
    async with login(by_form, tmp_path, "-no-store", "-field=token") as command:
        url = await command.address()
        state = parse_qs(urlsplit(url).query)["state"][0].encode()
        head = b"POST /oidc/callback HTTP/1.1\r\nHost: x\r\n"
        form = b"Content-Type: application/x-www-form-urlencoded\r\n"
        right = b"code=x&state=" + state
        sized = b"Content-Length: %d\r\n\r\n"
        for sent, status in (
            (head + form + sized % 19 + b"code=x&state=forged", 400),
            (head + form + sized % 6 + b"code=x", 400),
            # The right state counts where it is asked for: not beside the form, nor elsewhere.
            (head.replace(b"callback", b"callback?" + right) + form + sized % 0, 400),
            (head.replace(b"callback", b"other") + form + sized % len(right) + right, 404),
            (head + b"Content-Type: text/plain\r\n" + sized % len(right) + right, 415),
            (head + form + b"\r\n" + right, 411),
            (head + form + b"Transfer-Encoding: chunked\r\n" + sized % len(right) + right, 411),
            (head + form + sized % (64 * 1024 + 1), 413),
            (head + form + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
            (head.replace(b"POST", b"PUT") + form + sized % len(right) + right, 405),
        ):
            said = await raw(command.port, sent)
            assert said.startswith(b"HTTP/1.1 %d " % status), (sent, said)
        many = b"&".join([b"a=b"] * 60)
        assert await raw(command.port, head + form + sized % len(many) + many) == b""
        assert command.process.returncode is None
        assert (await submit(url))[0] == 200
        status, out, err = await command.end()
    assert (status, out.startswith("hvs.")) == (0, True), err


async def test_a_form_that_does_not_come_to_its_end_is_given_up() -> None:
    expected = ExpectedLogin(asyncio.get_running_loop().create_future(), "right")
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, expected, seconds=0.05), "127.0.0.1", 0
    )
    head = b"POST /oidc/callback HTTP/1.1\r\nContent-Length: 99\r\n"
    kind = b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    for sent in (b"", head, head + kind + b"code=x&state=right"):
        assert await raw(server.sockets[0].getsockname()[1], sent) == b""
    assert not expected.back.done()
    server.close()


async def test_nothing_counts_before_the_state_is_known() -> None:
    expected = ExpectedLogin(asyncio.get_running_loop().create_future())
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, expected), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    said = await raw(port, b"GET /oidc/callback?error=no HTTP/1.1\r\n\r\n")
    assert (said[:13], expected.back.done()) == (b"HTTP/1.1 400 ", False)
    server.close()


async def test_consent_denied_in_a_form(by_form, issuer, tmp_path: Path) -> None:  # noqa: F811
    issuer.denies = "access_denied"
    async with login(by_form, tmp_path) as command:
        assert (await submit(await command.address()))[0] == 400
        status, out, err = await command.end()
    assert (status, out) == (2, "")
    assert "the issuer let nobody in: access_denied (the person said no) [login-refused]" in err


async def test_nobody_comes_back(people, tmp_path: Path) -> None:
    async with login(people, tmp_path, "timeout=300ms") as command:
        status, _, err = await command.end()
    assert status == 2
    assert "timed out: nobody came back from the issuer within 0.3 seconds [nobody-came]" in err
    assert "hint: log in again; timeout=10m waits longer\n" in err


async def test_a_code_that_the_issuer_takes_back(people, issuer, tmp_path: Path) -> None:  # noqa: F811
    """The store's own sentence is shown, and the listener is gone with the command."""
    issuer.nonce = "another"
    async with login(people, tmp_path) as command:
        await browse(await command.address())
        status, out, err = await command.end()
        with pytest.raises(aiohttp.ClientConnectionError):
            await browse(f"http://127.0.0.1:{command.port}/oidc/callback")
    assert (status, out) == (2, "")
    assert "Error making API request." in err


async def test_what_cannot_begin_says_why(people, tmp_path: Path) -> None:
    async with login(people, tmp_path, "role=nobody") as command:
        status, _, err = await command.end()
    assert (status, "Error making API request." in err) == (2, True)
    async with login(people, tmp_path, "port=1") as command:
        status, _, err = await command.end()
    assert (status, "port is given more than once [given-twice]" in err) == (1, True)
    async with (
        login(people, tmp_path) as first,
    ):
        await first.address()
        async with login(people, tmp_path, port=first.port) as second:
            status, _, err = await second.end()
        assert status == 1
        assert f"cannot listen on 127.0.0.1:{first.port} [port-taken]" in err
        # Interrupted at the terminal: no traceback, and the usual status.
        first.process.send_signal(signal.SIGINT)
        status, _, err = await first.end()
    assert (status, "Traceback" in err) == (130, False)
