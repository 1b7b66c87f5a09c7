"""Property: the path that is authorised is the path that is executed, and the one that is recorded.

Raw request targets go over a socket to an engine that notes what it is asked to do. What it noted
is judged by rules written down here once more, which share nothing with the normaliser.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from strongroom.store.call import Call, Endpoint, Result

EXAMPLES = 400
POLICY = """
path "spy/open/*" { capabilities = ["read", "list", "scan", "update", "delete"] }
path "spy/open/closed" { capabilities = ["deny"] }
path "spy/open/closed/*" { capabilities = ["deny"] }
path "sys/policies/acl/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/policies/acl/closed" { capabilities = ["deny"] }
path "auth/userpass/users/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "auth/userpass/users/closed" { capabilities = ["deny"] }
path "auth/userpass/users/closed/*" { capabilities = ["deny"] }
"""
PIECES = st.sampled_from(
    [
        "open", "closed", "OPEN", "Closed", "x", "/", "//", "/", "/", ".", "..", "/../", "/./",
        "%2e", "%2E%2e", ".%2e", "%2f", "%2F", "%5c", "\\", "%00", "%0a", "%20", "+", ";a=b", "*",
        "%2a", "%252e%252e", "%252f", "%c0%ae", "%c0%af", "%e2%80%ae", "%ef%bc%8f", "é", "%C3%A9",
        "?", "?list=true", "&list=true", "#", "%23", "%3f", "spy", "v1", "/v1/spy/open/", "%63losed",
        "clos%65d", "%", "%z", "\x7f", "~", "closed/", "closed%2f",
    ]
)  # fmt: skip
TARGETS = st.tuples(
    st.sampled_from(["/v1/spy/open/", "/v1/spy/", "/v1//spy/open/", "/v1/spy/open", "/", "/v1/"]),
    st.lists(PIECES | st.text(max_size=3), max_size=6).map("".join),
).map("".join)
METHODS = st.sampled_from(["GET", "LIST", "POST", "PUT", "DELETE", "SCAN"])
NAMESPACES = st.sampled_from([None, None, None, "", "root", "root/", "ROOT", "team", "..", "/"])


@dataclass
class Spy:
    """An engine with one endpoint for every path and operation."""

    done: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def endpoints(self) -> list[Endpoint]:
        operations: Any = ("read", "list", "scan", "update", "delete")
        return [Endpoint("{path*}", dict.fromkeys(operations, self._note))]

    def exists(self, call: Call) -> bool:
        return True

    def _note(self, call: Call) -> Result:
        self.done.append((call.operation, call.path, call.args["path"]))
        return Result({"path": call.args["path"]})


async def send(port: int, method: str, target: str, token: str, namespace: str | None) -> int:
    """The status of one request with this target, byte for byte; 0 when there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"X-Vault-Namespace: {namespace}\r\n" if namespace is not None else ""
    head += f"Host: x\r\nX-Vault-Token: {token}\r\nContent-Length: 0\r\nConnection: close\r\n"
    line = f"{method} ".encode() + target.encode("utf-8") + b" HTTP/1.1\r\n"
    writer.write(line + head.encode() + b"\r\n")
    try:
        async with asyncio.timeout(60):
            answer = await reader.read(64 * 1024)
    except ConnectionResetError:
        return 0
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1]) if answer else 0


def meant(target: str) -> str | None:
    """What a target names, said once more: decoded once, slashes joined; None if it is refused."""
    raw = target.split("?", 1)[0]
    if not raw.startswith("/v1/"):
        return None
    try:
        decoded = unquote_to_bytes(raw[4:].encode()).decode()
    except UnicodeDecodeError:
        return None
    parts = [each for each in decoded.split("/") if each]
    return None if {".", ".."} & set(parts) else "/".join(parts)


def allowed(path: str) -> bool:
    """The policy, said once more, for a path without a final slash."""
    parts = path.split("/")
    return parts[:2] == ["spy", "open"] and parts[2:3] != ["closed"]


def drawn(strategy: Any, number: int) -> list[Any]:
    """Examples, drawn outside the loop that serves them."""
    found: list[Any] = []

    @settings(
        max_examples=number, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    @example(("GET", "/v1/spy/open/x", None))
    @example(("GET", "/v1/spy/open/closed", None))
    @example(("LIST", "/v1/spy/open/closed", None))
    @example(("LIST", "/v1/spy/open", None))
    @example(("GET", "/v1/spy/open/../closed", None))
    @example(("GET", "/v1/spy/open//closed", None))
    @example(("GET", "/v1/spy/open/%63losed", None))
    @example(("GET", "/v1/spy/open/x?list=true", None))
    def note(case: Any) -> None:
        found.append(case)

    note()
    return found


@pytest.mark.long
async def test_what_is_executed_is_what_was_asked_authorised_and_recorded(serve_with) -> None:
    spy = Spy()
    executed = 0
    async with serve_with(spy=lambda context, leases: spy) as store:
        assert (await store.ask("POST", "sys/mounts/spy", {"type": "spy"}))[0] == 204
        token = await store.token_with(POLICY)
        for method, target, namespace in drawn(st.tuples(METHODS, TARGETS, NAMESPACES), EXAMPLES):
            spy.done.clear()
            store.device.lines.clear()
            status = await send(store.port, method, target, token, namespace)
            case = (method, target, namespace, status, spy.done)
            assert status < 500, case
            if not spy.done:
                assert status != 200, case
                continue
            executed += 1
            ((operation, path, rest),) = spy.done
            listed = operation in ("list", "scan")
            assert status == 200, case
            assert namespace is None or namespace.strip("/") in ("", "root"), case
            assert path.rstrip("/") == meant(target), case
            assert path == f"spy/{rest}" or (
                listed and path.rstrip("/") == f"spy/{rest}".rstrip("/")
            )
            # A listing of the folder itself is granted by the rule about what is in it.
            assert allowed(path.rstrip("/")), case
            assert path.endswith("/") is listed, case
            for record in store.records():
                assert record["request"]["path"] == path, case
                assert record["request"]["operation"] == operation, case
    # Most targets are meant to lead nowhere; a run without any that leads somewhere says nothing.
    assert executed >= EXAMPLES // 40


CASES = st.sampled_from(
    ["closed", "CLOSED", "Closed", "%63losed", "c%4Cosed", "clo%C5%BFed", "closed%20", "%20closed",
     "closed%09", "closed%00", "closed%2f", "/closed", "./closed", "x/../closed", "closed?a=b",
     "closed/password", "Closed/policies", "%EF%BC%A3losed", "closed.", "%EF%BB%BFclosed"]
)  # fmt: skip


async def test_names_that_mean_the_same_are_closed_in_every_spelling(store) -> None:
    """Where a backend folds case, what is denied under one spelling is reached by none."""
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("PUT", "sys/policies/acl/closed", {"policy": "# mine"})
    await store.ask("POST", "auth/userpass/users/closed", {"password": "right"})
    token = await store.token_with(POLICY)
    _, user = await store.ask("GET", "auth/userpass/users/closed")
    cases = st.tuples(st.sampled_from(["POST", "DELETE", "GET"]), CASES, NAMESPACES)
    for method, name, namespace in drawn(cases, 120):
        if name.startswith("/v1/"):
            continue
        for folder in ("sys/policies/acl", "auth/userpass/users"):
            await send(store.port, method, f"/v1/{folder}/{name}", token, namespace)
    assert await store.read(lambda view: view.policy("closed")) == "# mine"
    assert (await store.ask("GET", "auth/userpass/users/closed"))[1]["data"] == user["data"]
    said = await store.ask("POST", "auth/userpass/login/closed", {"password": "right"}, token="")
    assert said[0] == 200
