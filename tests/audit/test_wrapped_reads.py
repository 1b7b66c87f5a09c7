"""Who unwraps an answer reads it, though the record of that names neither path nor fields."""

import pytest

from strongroom.app.audit_sources import read_logs
from strongroom.audit.exposure import readers
from strongroom.audit.store_log import records_of
from strongroom.audit.timeline import Subject, timeline
from strongroom.model.reference import SecretRef

PATH = "secret/data/prod/db"
REF = SecretRef("secret", "prod/db")


@pytest.fixture
async def kv(store):
    await store.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    await store.ask("POST", PATH, {"data": {"password": "marked"}})
    return store


async def wrapped(store, path: str = PATH) -> str:
    _, said = await store.ask("GET", path, X_Vault_Wrap_TTL="60")
    return said["wrap_info"]["token"]


def touches(store):
    lines = [line + b"\n" for line in store.device.lines]
    records = [each for each in records_of(iter(lines), REF.mount, REF.path) if each]
    return timeline(Subject(REF, created={1: 1.0}), records, [])


async def test_the_wrapping_token_itself_unwraps(kv) -> None:
    token = await wrapped(kv)
    assert readers(touches(kv), 1) == ()
    await kv.ask("POST", "sys/wrapping/unwrap", token=token)
    (found,) = readers(touches(kv), 1)
    assert (found.actor, found.way, found.certain) == (
        "holder of what root wrapped", f"store unwrap {PATH}", False,
    )  # fmt: skip
    assert [each.action for each in touches(kv)] == ["create", "read, wrapped", "unwrap"]


async def test_who_comes_with_a_wrapping_token_that_was_used_is_seen(kv) -> None:
    """Somebody else had it: by its hash alone the record is known to be about this secret."""
    token = await wrapped(kv)
    await kv.ask("POST", "sys/wrapping/unwrap", token=token)
    assert (await kv.ask("POST", "sys/wrapping/unwrap", token=token))[0] == 400
    assert [(each.action, each.outcome) for each in touches(kv)][-2:] == [
        ("unwrap", "ok"), ("unwrap", "refused"),
    ]  # fmt: skip
    assert len(readers(touches(kv), 1)) == 1


async def test_another_token_unwraps_and_is_named(kv) -> None:
    other = await kv.token_with(
        'path "sys/wrapping/unwrap" { capabilities = ["update"] }', display_name="other"
    )
    token = await wrapped(kv)
    await kv.ask("POST", "sys/wrapping/unwrap", {"token": token}, token=other)
    assert [each.actor for each in readers(touches(kv), 1)] == ["token-other"]
    # It opens once; who comes later is refused, and has read nothing.
    await kv.ask("POST", "sys/wrapping/unwrap", {"token": token})
    assert len(readers(touches(kv), 1)) == 1


async def test_what_is_wrapped_anew_is_followed(kv) -> None:
    token = await wrapped(kv)
    _, said = await kv.ask("POST", "sys/wrapping/rewrap", {"token": token})
    await kv.ask("POST", "sys/wrapping/unwrap", token=said["wrap_info"]["token"])
    assert [each.action for each in touches(kv)][-2:] == ["rewrap", "unwrap"]
    assert len(readers(touches(kv), 1)) == 1


async def test_what_shows_no_value_is_no_read(kv) -> None:
    await kv.ask("POST", "sys/wrapping/unwrap", token=await wrapped(kv, "secret/metadata/prod/db"))
    assert touches(kv)[-1].action == "unwrap"
    assert readers(touches(kv), 1) == ()
    # An answer about another secret is none of this one's.
    await kv.ask("POST", "secret/data/other", {"data": {"password": "x"}})
    before = len(touches(kv))
    await kv.ask("POST", "sys/wrapping/unwrap", token=await wrapped(kv, "secret/data/other"))
    assert len(touches(kv)) == before


async def test_another_server_unwraps_and_its_log_is_read_first(kv, tmp_path) -> None:
    token = await wrapped(kv)
    _, said = await kv.ask("POST", "sys/wrapping/rewrap", {"token": token})
    await kv.ask("POST", "sys/wrapping/unwrap", token=said["wrap_info"]["token"])
    await kv.ask("POST", "secret/data/other", {"data": {"password": "x"}})
    await kv.ask("POST", "sys/wrapping/unwrap", token=await wrapped(kv, "secret/data/other"))
    logs = [tmp_path / name for name in ("unwrap", "rewrap", "read")]
    for line in kv.device.lines:
        name = next(
            (each.name for each in logs if f"wrapping/{each.name}".encode() in line), "read"
        )
        with (tmp_path / name).open("ab") as log:
            log.write(line + b"\n")
    for order in (logs, logs[::-1]):
        entries = timeline(Subject(REF, created={1: 1.0}), read_logs(order, [], REF).records, [])
        actions = sorted(each.action for each in entries)
        assert actions == ["create", "read, wrapped", "rewrap", "unwrap"]
        assert [each.count for each in readers(entries, 1)] == [1]


async def test_a_version_that_was_asked_for_may_be_any(kv) -> None:
    await kv.ask("POST", PATH, {"data": {"password": "two"}})
    await kv.ask("POST", "sys/wrapping/unwrap", token=await wrapped(kv, f"{PATH}?version=1"))
    entries = touches(kv)
    assert (entries[-1].action, entries[-1].version) == ("unwrap", 0)
    for version in (1, 2):
        assert [each.certain for each in readers(entries, version)] == [False]
