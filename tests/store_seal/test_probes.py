"""What probes see when something is wrong, held against the table for operators."""

import asyncio
import re
from pathlib import Path
from typing import Any

from strongroom.app.background import Background
from strongroom.audit.kinds import Asked, enable
from strongroom.model.clock import SimulatedClock
from strongroom.store.engine._refusals import broken_off, writing_ended
from strongroom.store.notices import Notices

PAGE = Path(__file__).resolve().parents[2] / "docs" / "store-operations.md"
PROBES = ("/livez", "/readyz", "sys/health", "sys/seal-status")


def told(what: str) -> list[tuple[int, list[str]]]:
    """For each probe the status that the page names, and what it says in code: name, message."""
    table = PAGE.read_text().partition("What probes see then:")[2]
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {what} |")]
    cells = row.strip("| ").split(" | ")[1:]
    return [(int(each[:3]), re.findall("`([^`]+)`", each)) for each in cells]


async def seen(node: Any) -> list[tuple[int, Any]]:
    return [await node.ask("GET", path) for path in PROBES]


async def test_of_a_sealed_server(start) -> None:
    node = start()
    await node.init()
    await node.seal.follow()
    page, found = told("It is sealed"), await seen(node)
    assert [status for status, _ in found] == [status for status, _ in page]
    _, ready, health, seal = (body for _, body in found)
    (part, waits), (name, why) = page[1][1], page[2][1]
    assert ready == {"ready": False, "problems": {part: waits}}
    assert health[name] == why
    assert seal[page[3][1][0]] == why


async def test_of_one_device_of_several_that_fails(start, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    device = enable(Asked("file/", "file", {"file_path": str(path)}, ""), fixed=True)
    node = start(audit=(device,))
    keys, root = await node.init()
    await node.unseal(keys[:2])
    path.unlink()
    path.symlink_to("/dev/full")
    device.device.reopen()
    assert (await node.ask("GET", "auth/token/lookup-self", token=root))[0] == 200
    page, found = told("One audit device of several fails"), await seen(node)
    assert [status for status, _ in found] == [status for status, _ in page]
    name, message = page[2][1]
    assert found[1][1] == {"ready": True, "problems": {}}
    assert list(found[2][1][name].values()) == [message.replace("PATH", str(path))]


async def test_of_a_task_that_ended(start) -> None:
    clock = SimulatedClock()
    background = Background(clock, Notices())

    async def check_schema() -> None:
        raise TypeError

    node = start(background=lambda: background.failing)
    keys, _ = await node.init()
    await node.unseal(keys[:2])
    background.start("some watch", check_schema)
    await clock.advance(0)
    page, found = told("A task beside the requests ended"), await seen(node)
    background.stop()
    await asyncio.sleep(0)
    assert [status for status, _ in found] == [status for status, _ in page]
    name, message = page[2][1]
    assert found[1][1] == {"ready": True, "problems": {}}
    for body in (found[2][1], found[3][1]):
        (said,) = body[name].values()
        # The line is where it was that time.
        assert said.rpartition(":")[0] == message.rpartition(":")[0]
    assert page[3][1] == [name]


async def test_while_no_device_records(start) -> None:
    node = start()
    keys, root = await node.init()
    await node.unseal(keys[:2])
    node.device.broken = True
    assert (await node.ask("GET", "auth/token/lookup-self", token=root))[0] == 503
    page, found = told("No audit device records"), await seen(node)
    assert [status for status, _ in found] == [status for status, _ in page]
    part, message = page[1][1]
    assert found[1][1]["problems"][part].startswith(message.removesuffix("..."))
    assert list(found[2][1][page[2][1][0]].values()) == ["the audit device memory is broken"]


def test_what_writers_are_told_when_writing_ends_stands_on_the_page() -> None:
    for refusal in (broken_off(), writing_ended()):
        assert refusal.message in PAGE.read_text()
    message = told("Writing ended in this process")[1][1][1]
    assert writing_ended().message.startswith(message.removesuffix("..."))
