"""A migration to a key ends where the server turns out to write in plain text, and waits for one that is busy."""

import argparse
import asyncio
from functools import partial

import pytest

from strongroom.app.encrypt.witness import LOOK_EVERY, Witness, wait_at_barrier
from strongroom.encrypt.check.api_metrics import key_hash
from strongroom.kube.api import Busy
from strongroom.kube.resource import SECRETS
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Conflict, Denied, Unavailable

ARGUMENTS = argparse.Namespace(barrier_timeout=60.0, provider="a")
HEARD = (
    "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds"
    f'{{key_id_hash="{key_hash("new")}",provider_name="a"}} 9'
)


def counted(kind: str, prefix: str, count: int, resource: str = "secrets") -> str:
    return (
        f'apiserver_storage_transformation_operations_total{{resource="{resource}",status="OK",'
        f'transformation_type="{kind}",transformer_prefix="{prefix}"}} {count}'
    )


def loaded(digest: str) -> str:
    name = "apiserver_encryption_config_controller_last_config_info"
    return f'{name}{{apiserver_id_hash="x",hash="{digest}"}} 1'


def page(*lines: str, process: int = 1) -> bytes:
    return "\n".join([f"process_start_time_seconds {process}", *lines]).encode()


class Server:
    """Answers /metrics with one page after another, the last one for ever; a refusal is raised."""

    def __init__(self, *pages: bytes | Exception) -> None:
        self.pages = list(pages)
        self.looked = 0

    async def raw(self, path: str) -> bytes:
        if path != "/metrics":
            return b"ok"
        self.looked += 1
        said = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        if isinstance(said, Exception):
            raise said
        return said


BEFORE = page(counted("to_storage", "", 5), counted("from_storage", "identity", 7))


@pytest.mark.parametrize(
    ("after", "wrote", "read"),
    [
        (BEFORE, False, False),
        (page(counted("to_storage", "", 6), counted("from_storage", "identity", 7)), True, False),
        (page(counted("to_storage", "", 5), counted("from_storage", "identity", 9)), False, True),
        (page(counted("to_storage", "", 5), counted("to_storage", "", 9, "pods")), False, False),
        # A balancer led to another server: its counters say nothing of the first.
        (page(counted("to_storage", "", 50), process=2), False, False),
        (Denied("kube-forbidden", "no"), False, False),
    ],
)
async def test_a_server_that_writes_in_plain_text_is_found_out(after, wrote, read) -> None:
    for ends, expected in ((False, wrote), (True, read)):
        witness = Witness(Server(BEFORE, after), [SECRETS])
        await witness.begin()
        look = partial(witness.end, again=False) if ends else witness.after_a_rewrite
        if expected:
            with pytest.raises(Conflict) as caught:
                await look()
            assert caught.value.code == ("reads-plaintext" if ends else "writes-plaintext")
        else:
            await look()
        if ends:
            # What a pass rewrites it reads in plain text itself: the next one tells.
            witness = Witness(Server(BEFORE, after), [SECRETS])
            await witness.begin()
            assert await witness.end(again=True) is not expected


async def test_the_first_rewrite_is_looked_at_and_then_few() -> None:
    server = Server(BEFORE)
    witness = Witness(server, [SECRETS])
    await witness.begin()
    for _ in range(LOOK_EVERY + 1):
        await witness.after_a_rewrite()
    assert server.looked == 3


async def reached(clock: SimulatedClock, *servers: Server) -> None:
    named = {f"s{number}": server for number, server in enumerate(servers)}
    task = asyncio.ensure_future(wait_at_barrier(named, ARGUMENTS, "new", clock))
    while not task.done():
        await clock.advance(1.0)
    await task


async def test_a_busy_or_restarting_server_is_asked_again(capsys) -> None:
    away = Unavailable("kube-unavailable", "starting")
    await reached(SimulatedClock(), Server(Busy("busy"), away, page(HEARD)), Server(page(HEARD)))
    said = capsys.readouterr().out
    assert "waiting: s0 does not show its metrics: busy" in said
    assert "every API server uses the key new" in said
    with pytest.raises(Unavailable) as caught:
        await reached(SimulatedClock(), Server(away))
    assert (caught.value.code, "starting" in caught.value.message) == ("barrier", True)
    with pytest.raises(Denied):
        await reached(SimulatedClock(), Server(Denied("kube-forbidden", "no")))


async def test_servers_with_different_files_are_told(capsys) -> None:
    for other, warned in (("one", False), ("two", True)):
        pages = (page(HEARD, loaded("one")), page(HEARD, loaded(other)))
        await reached(SimulatedClock(), *(Server(each) for each in pages))
        assert ("different configurations" in capsys.readouterr().out) is warned
