"""A Vault store on bad days: every call is a refusal of its family, and nothing looks absent."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from strongroom.kube.resource import SECRETS
from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Throttled, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import Find, Provider, PushTarget
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.providers.vault_fake import VaultFake
from strongroom.sync.spec import RemoteRef
from strongroom.wire.http import Response

Make = Callable[..., Any]


@pytest.fixture
async def bed(api, clock, plain) -> AsyncIterator[tuple[VaultFake, Make]]:
    fake = VaultFake()
    made: list[Provider] = []
    await api.create(
        SECRETS, {"metadata": {"name": "auth", "namespace": "n"}, "data": {"t": "ZmFrZS1yb290"}}
    )
    async with plain(fake) as address:

        async def make(**spec: Any) -> Provider:
            auth = {"tokenSecretRef": {"name": "auth", "key": "t"}}
            vault = {"server": address, "path": "secret", "auth": auth, **spec}
            metadata = {"name": "s", "namespace": "n"}
            store = {"metadata": metadata, "spec": {"provider": {"vault": vault}}}
            made.append(await Providers(Surroundings(api, clock))(store, "n"))
            return made[-1]

        yield fake, make
        for each in made:
            await each.close()


CALLS: dict[str, Callable[[Provider], Any]] = {
    "validate": lambda store: store.validate(),
    "fetch": lambda store: store.fetch(RemoteRef("db")),
    "find": lambda store: store.find(Find()),
    "push": lambda store: store.push(PushTarget("db", "p"), Secret("one")),
    "delete": lambda store: store.delete(PushTarget("db", "p")),
    "exists": lambda store: store.exists(PushTarget("db")),
}
PAGE = b"<html>default backend - 404</html>"
DAYS: dict[str, tuple[Response, type[Refusal]]] = {
    "denied": (Response(403, b'{"errors": ["permission denied"]}'), Denied),
    "throttled": (Response(429, b'{"errors": []}', headers=(("Retry-After", "7"),)), Throttled),
    "failing": (Response(500, b'{"errors": ["internal error"]}'), Unavailable),
    "sealed": (Response(503, b'{"errors": ["Vault is sealed"]}'), Unavailable),
    "garbage": (Response(200, b"\xff\xfe garbage"), Unavailable),
    "a list": (Response(200, b"[]"), Unavailable),
    "a proxy's page": (Response(404, PAGE), Unavailable),
    "nothing at all": (Response(404, b""), Unavailable),
}


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("day", DAYS)
async def test_bad_days_are_refusals_of_their_family(bed, version, call: str, day: str) -> None:
    fake, make = bed
    store = await make(version=version, path={"v1": "old", "v2": "secret"}[version])
    fake.answer_with, family = DAYS[day]
    with pytest.raises(family) as caught:
        await CALLS[call](store)
    assert not isinstance(caught.value, NotFound)
    if isinstance(caught.value, Throttled):
        assert caught.value.retry_after == 7


@pytest.mark.parametrize("call", ["fetch", "find", "push"])
@pytest.mark.parametrize("body", [b"{}", b'{"data": {}}', b'{"data": 5}', b'{"data": {"data": 1}}'])
async def test_a_reply_without_what_it_must_have_is_no_answer(bed, call: str, body: bytes) -> None:
    fake, make = bed
    store = await make()
    fake.answer_with = Response(200, body)
    with pytest.raises(Unavailable):
        await CALLS[call](store)


@pytest.mark.parametrize("call", [each for each in CALLS if each != "validate"])
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_mount_that_is_gone_is_never_a_secret_that_is_gone(bed, version, call) -> None:
    """Policies delete on what is not there; the store's token is still good."""
    _, make = bed
    store = await make(version=version, path="taken-away")
    await store.validate()
    with pytest.raises(Invalid, match="no handler for route") as caught:
        await CALLS[call](store)
    assert caught.value.code == "store-no-route"
    assert "mount" in (caught.value.hint or "")


async def test_a_mount_of_the_other_version_is_told(bed) -> None:
    """Vault answers a KV v1 read of a KV v2 mount with a 404 that warns."""
    fake, make = bed
    store = await make(version="v1")
    said = "Invalid path for a versioned K/V secrets engine. See the API docs"
    fake.answer_with = Response(404, b'{"data": null, "warnings": ["%s"]}' % said.encode())
    with pytest.raises(Invalid, match=re.escape(said)):
        await store.fetch(RemoteRef("db"))


@pytest.mark.parametrize(
    "auth",
    [
        {"appRole": {"path": "away", "roleId": "r", "secretRef": {"name": "auth", "key": "t"}}},
        {"userPass": {"path": "away", "username": "u", "secretRef": {"name": "auth", "key": "t"}}},
        {"ldap": {"path": "away", "username": "u", "secretRef": {"name": "auth", "key": "t"}}},
        {"jwt": {"path": "away", "role": "r", "secretRef": {"name": "auth", "key": "t"}}},
        {"kubernetes": {"mountPath": "away", "role": "r", "secretRef": {"name": "auth", "key": "t"}}},
    ],
    ids=lambda auth: next(iter(auth)),
)  # fmt: skip
async def test_a_login_that_is_gone_is_never_a_secret_that_is_gone(bed, auth: dict) -> None:
    fake, make = bed
    fake.absent.add("away")
    store = await make(auth=auth)
    for call in CALLS.values():
        with pytest.raises((Invalid, Unavailable)):
            await call(store)


async def test_what_the_store_says_is_not_there_is_not_found(bed) -> None:
    _, make = bed
    for version, path in (("v1", "old"), ("v2", "secret")):
        store = await make(version=version, path=path)
        with pytest.raises(NotFound):
            await store.fetch(RemoteRef("never"))
        with pytest.raises(NotFound, match="nothing is below"):
            await store.find(Find())
