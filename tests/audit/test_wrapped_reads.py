"""Who unwraps an answer reads it, though the record of that names neither path nor fields."""

import pytest

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
