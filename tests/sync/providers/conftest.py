"""A Strongroom server process for the tests of this folder."""

from collections.abc import AsyncIterator, Iterator, Mapping

import pytest
from tests.sync.conftest import Given
from tests.sync.providers.store_process import CLOCK, StoreProcess, store_process

from strongroom.model.secret import Secret
from strongroom.sync.providers.vault import VaultProvider, VaultSettings
from strongroom.wire.vault import VaultClient


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """One server for all; each test makes its own mounts and auth methods."""
    yield from store_process(tmp_path_factory.mktemp("store"))


async def _given(server: StoreProcess, version: str, lacks: set[str]) -> AsyncIterator[Given]:
    mount = await server.mount(version)
    token = await server.token(mount)

    async def put(key: str, data: dict | bytes, tags: Mapping[str, str] | None = None) -> None:
        if version == "1":
            await server.tell(f"{mount}/{key}", **data)  # type: ignore[arg-type]
            return
        await server.tell(f"{mount}/data/{key}", data=data)
        if tags is not None:
            await server.tell(f"{mount}/metadata/{key}", custom_metadata=dict(tags))

    async def login(_client: VaultClient) -> tuple[Secret, float]:
        return Secret(token), 0

    async def shut_out() -> None:
        await server.tell("auth/token/revoke", token=token)

    settings = VaultSettings(server.address, mount, f"v{version}", ca=server.authority)
    provider = VaultProvider(settings, login, CLOCK)
    yield Given(provider, put, shut_out, frozenset(lacks))
    await provider.close()


@pytest.fixture
async def vault_process_given(server: StoreProcess) -> AsyncIterator[Given]:
    async for given in _given(server, "2", {"binary"}):
        yield given


@pytest.fixture
async def vault_process_v1_given(server: StoreProcess) -> AsyncIterator[Given]:
    async for given in _given(server, "1", {"binary", "versions", "tags"}):
        yield given
