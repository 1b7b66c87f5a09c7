"""`strongroom login -method=oidc` as a process: an issuer, a browser's requests, and what is said."""

import asyncio
import json
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
async def login(store, home: Path, *words: str) -> AsyncIterator[Login]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "strongroom", "login", "-method=oidc", "skip_browser=true",
        f"port={port}", *words, env=environment(home, VAULT_ADDR=store.address),
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


async def test_a_token_is_stored_nowhere_when_that_was_said(people, tmp_path: Path) -> None:
    async with login(people, tmp_path, "-no-store", "-format=json") as command:
        await browse(await command.address())
        status, out, err = await command.end()
    assert status == 0, err
    assert json.loads(out)["auth"]["token_policies"] == ["default", "team"]
    assert not (tmp_path / ".vault-token").exists()


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
    async with (
        login(people, tmp_path) as first,
    ):
        await first.address()
        async with login(people, tmp_path, f"port={first.port}") as second:
            status, _, err = await second.end()
        assert status == 1
        assert f"cannot listen on 127.0.0.1:{first.port} [port-taken]" in err
        # Interrupted at the terminal: no traceback, and the usual status.
        first.process.send_signal(signal.SIGINT)
        status, _, err = await first.end()
    assert (status, "Traceback" in err) == (130, False)
