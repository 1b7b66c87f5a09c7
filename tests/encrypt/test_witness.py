"""A migration to a key ends where the server turns out to write in plain text, and waits for one that is busy."""

import argparse
import asyncio
from dataclasses import replace
from functools import partial

import pytest

from strongroom.app.encrypt.witness import KEPT, LOOK_EVERY, Witness, wait_at_barrier
from strongroom.encrypt.check.api_metrics import key_hash
from strongroom.encrypt.coverage import Coverage, Expected
from strongroom.kube.api import Busy
from strongroom.kube.resource import SECRETS
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Conflict, Denied, NotFound, Unavailable

KEY = Expected("a", "new")
COVERAGE = Coverage(("secrets",), KEY)
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
    for ends, expected in ((False, wrote), (True, wrote or read)):
        witness = Witness({"s": Server(BEFORE, after)}, [SECRETS], COVERAGE, KEY)
        await witness.begin()
        look = partial(witness.end, {}, again=False)
        look = look if ends else partial(witness.after_a_touch, "secrets", changed=True)
        if expected:
            with pytest.raises(Conflict) as caught:
                await look()
            assert caught.value.code == ("reads-plaintext" if read else "writes-plaintext")
        else:
            await look()
        if ends and not wrote:
            # What a pass rewrites it reads in plain text itself: the next one tells.
            witness = Witness({"s": Server(BEFORE, after)}, [SECRETS], COVERAGE, KEY)
            await witness.begin()
            assert await witness.end({}, again=True) is not read


async def test_the_first_rewrite_is_looked_at_and_then_few() -> None:
    server = Server(BEFORE)
    witness = Witness({"s": server}, [SECRETS], COVERAGE, KEY)
    await witness.begin()
    for _ in range(LOOK_EVERY + 1):
        await witness.after_a_touch("secrets", changed=True)
    assert server.looked == 3


async def test_a_server_beside_the_one_that_rewrites_is_watched_too() -> None:
    """It hears the key, and what comes to it is written in plain text."""
    servers = {"s1": Server(BEFORE), "s2": Server(BEFORE, page(counted("to_storage", "", 6)))}
    witness = Witness(servers, [SECRETS], COVERAGE, KEY)
    await witness.begin()
    with pytest.raises(Conflict, match="API server s2 writes secrets in plain text"):
        await witness.end({}, again=True)


def reads(plain: int, sealed: int, resource: str = "secrets") -> bytes:
    return page(
        counted("from_storage", "identity", plain, resource),
        counted("from_storage", "k8s:enc:kms:v2:a:", sealed, resource),
    )


STATUS_TIME = "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds"


def keyed(new: int, old: int, sealed: int, heard: str = "new", process: int = 1) -> bytes:
    """Reads under each key and of sealed secrets, and the key that the plugin said last."""
    uses = "apiserver_envelope_encryption_key_id_hash_total"
    labels = 'provider_name="a",transformation_type="from_storage"'
    return page(
        f'{uses}{{key_id_hash="{key_hash("new")}",{labels}}} {new}',
        f'{uses}{{key_id_hash="{key_hash("old")}",{labels}}} {old}',
        f'{STATUS_TIME}{{key_id_hash="{key_hash("new")}",provider_name="a"}} 5',
        f'{STATUS_TIME}{{key_id_hash="{key_hash(heard)}",provider_name="a"}} 9',
        counted("from_storage", "k8s:enc:kms:v2:a:", sealed),
        process=process,
    )


@pytest.mark.parametrize(
    ("plain", "sealed", "found"),
    [
        (KEPT, 0, True),
        (KEPT + 9, KEPT - 1, True),  # Others read what is encrypted.
        (KEPT, KEPT, False),  # All were encrypted, and others read plain text.
        (KEPT - 1, 0, False),  # A balancer led elsewhere.
    ],
)
async def test_a_file_that_is_not_loaded_yet_is_noticed_after_a_few_touches(
    plain, sealed, found
) -> None:
    """Identity in front leaves plain text as it is: a whole pass would change nothing."""
    server = Server(reads(100, 100), reads(100 + plain, 100 + sealed))
    witness = Witness({"s": server}, [SECRETS], COVERAGE, KEY)
    await witness.begin()
    for _ in range(KEPT):  # Of what is stored elsewhere nothing is counted here.
        await witness.after_a_touch("things.example.com", changed=False)
    for _ in range(KEPT - 1):
        await witness.after_a_touch("secrets", changed=False)
    assert server.looked == 1
    if found:
        with pytest.raises(Conflict, match="in plain text"):
            await witness.after_a_touch("secrets", changed=False)
        return
    for _ in range(KEPT):
        await witness.after_a_touch("secrets", changed=False)
    assert server.looked == 2


async def test_what_no_entry_covers_is_not_called_done() -> None:
    """Its reads are counted nowhere, as if there were none."""
    for name, touched, bare in (
        ("pods", {"pods": 1}, True),
        ("pods", {}, False),
        ("secrets", {"secrets": 1}, False),
    ):
        server = Server(reads(0, 1), reads(0, 2))
        witness = Witness({"s": server}, [replace(SECRETS, plural=name)], COVERAGE, KEY)
        await witness.begin()
        if bare:
            with pytest.raises(Conflict, match="no value of pods"):
                await witness.end(touched, again=False)
        else:
            assert await witness.end(touched, again=False)
    # Nor is anything said of what a wildcard led to and an aggregated server may store.
    things = replace(SECRETS, group="example.com", plural="things")
    witness = Witness({"s": Server(reads(0, 1), reads(0, 2))}, [things], COVERAGE, KEY)
    await witness.begin()
    assert await witness.end({"things.example.com": 1}, again=False)
    # A server without any configuration counts nothing at all.
    witness = Witness({"s": Server(page())}, [SECRETS], COVERAGE, KEY)
    await witness.begin()
    with pytest.raises(Conflict, match="no value of secrets"):
        await witness.end({"secrets": 1}, again=False)


@pytest.mark.parametrize(
    "blind",
    [
        Denied("kube-forbidden", "no"),
        page(counted("from_storage", "k8s:enc:aescbc:v1:k:", 1), process=2),
        page(counted("from_storage", "identity", 1).replace('resource="secrets",', "")),
    ],
)
async def test_what_is_not_shown_says_nothing_and_that_is_said(blind) -> None:
    for answer, expected in ((blind, True), (reads(0, 9), False)):
        witness = Witness({"s": Server(reads(0, 1), answer)}, [SECRETS], COVERAGE, Expected())
        await witness.begin()
        assert await witness.end({"secrets": 1}, again=False)
        assert witness.blind is expected


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (reads(9, 1), "reads-plaintext"),
        (reads(0, 1), "not-encrypted"),
        (page(counted("to_storage", "", 1)), "writes-plaintext"),
        (keyed(1, 9, 9, heard="old"), ""),
    ],
)
async def test_of_local_keys_plain_text_alone_is_told(after, code) -> None:
    witness = Witness({"s": Server(reads(0, 1), after)}, [SECRETS], COVERAGE, Expected("a"))
    await witness.begin()
    if not code:
        assert await witness.end({"secrets": 4}, again=False)
        return
    with pytest.raises(Conflict) as caught:
        await witness.end({"secrets": 4}, again=False)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("after", "again", "outcome"),
    [
        (keyed(14, 5, 14), False, True),
        # The plugin said the new key, and hung before it sealed a seed under it.
        (keyed(10, 9, 14), False, "read values under another key"),
        (keyed(13, 5, 14), False, "read values under another key"),
        # In a pass that others wrote in there is one more to tell.
        (keyed(13, 5, 14), True, False),
        (keyed(14, 5, 14), True, True),
        # Others read an older value; and a balancer led the touches elsewhere.
        (keyed(14, 9, 18), False, True),
        (keyed(11, 5, 13), False, True),
        (keyed(0, 0, 14, process=2), False, True),
        # The plugin came back with an older file.
        (keyed(14, 5, 14, heard="old"), False, "s has not heard the new key"),
        # The provider is gone from what a server shows, as after a start with another file.
        (page(counted("from_storage", "k8s:enc:kms:v2:a:", 14)), False, "s has not heard of the"),
    ],
)
async def test_what_ends_under_another_key_is_not_called_done(after, again, outcome) -> None:
    witness = Witness({"s": Server(keyed(10, 5, 10), after)}, [SECRETS], COVERAGE, KEY)
    await witness.begin()
    if isinstance(outcome, bool):
        assert await witness.end({"secrets": 4}, again=again) is outcome
        return
    with pytest.raises(Conflict, match=outcome) as caught:
        await witness.end({"secrets": 4}, again=again)
    assert caught.value.code == "another-key"


async def test_of_other_keys_and_servers_only_what_concerns_them_is_asked() -> None:
    # What belongs under another provider is not looked for under this key.
    other = Coverage(("secrets",), Expected("b", "other"))
    witness = Witness({"s": Server(keyed(1, 1, 1), keyed(1, 9, 9))}, [SECRETS], other, KEY)
    await witness.begin()
    assert await witness.end({"secrets": 4}, again=False)
    # A server beside the one that rewrites has gone back; one that says nothing is passed over.
    beside = {"s2": Server(keyed(1, 1, 1, heard="old")), "s3": Server(page())}
    servers = {"s1": Server(keyed(1, 1, 1), keyed(5, 1, 5)), **beside}
    witness = Witness(servers, [SECRETS], COVERAGE, KEY)
    await witness.begin()
    with pytest.raises(Conflict, match="key new: s2 has not heard"):
        await witness.end({"secrets": 4}, again=False)


async def test_a_server_that_loads_another_file_meanwhile_is_told() -> None:
    """It may be one without the provider, of which the server goes on to show what it heard."""
    loads = (
        b"apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds"
        b'{status="success"} 10\n'
    )
    for answer, fine in (
        (keyed(1, 1, 1), True),
        (loads + keyed(1, 1, 1), False),
        (Denied("kube-forbidden", "no"), True),
        (NotFound("kube-not-found", "a proxy has none"), True),
        # It was started anew, with a file that has the provider no longer.
        (page(process=2), False),
    ):
        beside = Server(keyed(1, 1, 1), answer)
        servers = {"s1": Server(keyed(1, 1, 1), keyed(5, 1, 5)), "s2": beside}
        witness = Witness(servers, [SECRETS], COVERAGE, KEY)
        await witness.begin()
        if fine:
            assert await witness.end({"secrets": 4}, again=False)
            continue
        with pytest.raises(Conflict, match="s2 has not heard of the provider"):
            await witness.end({"secrets": 4}, again=False)


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
