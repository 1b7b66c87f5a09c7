"""Every method of hvac about init, seal, keys, health, leader and audit, from an empty database."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hvac
import pytest
from hvac.api.system_backend import Audit, Health, Init, Key, Leader, Seal

from strongroom.model.clock import SystemClock
from strongroom.store.seal.ceremony import decode_token
from strongroom.wire.keywrap.fake import FakeWrapper
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Listener


class Driven:
    """hvac's `sys`, run beside the loop, that remembers what was called."""

    def __init__(self, client: hvac.Client) -> None:
        self.client = client
        self.called: set[str] = set()

    async def __call__(self, name: str, /, *args: Any, **more: Any) -> Any:
        self.called.add(name)
        found = getattr(self.client.sys, name)
        if callable(found):
            return await asyncio.to_thread(found, *args, **more)
        return found


@pytest.fixture
async def serving(start) -> AsyncIterator[Any]:
    """Puts a node behind a port; gives hvac for it."""
    listeners, clients = [], []

    async def serve(node: Any) -> Driven:
        listener = Listener(node.front, Limits(), SystemClock())
        listeners.append(listener)
        _, port = await listener.start("127.0.0.1", 0)
        clients.append(hvac.Client(url=f"http://127.0.0.1:{port}"))
        return Driven(clients[-1])

    yield serve
    for client in clients:
        client.adapter.close()
    for listener in listeners:
        await listener.drain(0.1)


def methods(*kinds: type) -> set[str]:
    return {
        name
        for kind in kinds
        for name, each in vars(kind).items()
        if not name.startswith("_") and inspect.isfunction(each)
    }


async def test_every_method_of_seal_and_keys(start, serving) -> None:
    node = start()
    run = await serving(node)
    assert (await run("read_init_status")) == {"initialized": False}
    assert await run("is_initialized") is False
    assert (await run("read_health_status", method="GET")).status_code == 501
    made = await run("initialize", secret_shares=3, secret_threshold=2)
    keys = made["keys_base64"]
    assert await run("is_sealed") is True
    assert (await run("submit_unseal_key", keys[0]))["progress"] == 1
    assert (await run("submit_unseal_key", reset=True))["progress"] == 0
    assert (await run("submit_unseal_keys", keys[:2]))["sealed"] is False
    run.client.token = made["root_token"]
    assert (await run("read_seal_status"))["t"] == 2
    assert (await run("read_health_status")).status_code == 200
    assert (await run("read_leader_status"))["is_self"] is True
    # A root token for who has the keys.
    assert (await run("read_root_generation_progress"))["started"] is False
    begun = await run("start_root_token_generation")
    await run("cancel_root_generation")
    begun = await run("start_root_token_generation")
    for key in keys[:2]:
        done = await run("generate_root", key, begun["nonce"])
    token = decode_token(done["encoded_root_token"], begun["otp"])
    assert (await node.ask("GET", "auth/token/lookup-self", token=token))[0] == 200
    # New terms and new shares.
    assert (await run("get_encryption_key_status"))["term"] == 1
    await run("rotate_encryption_key")
    assert (await run("get_encryption_key_status"))["data"]["term"] == 2
    assert (await run("read_rekey_progress"))["started"] is False
    await run("start_rekey", 2, 2)
    await run("cancel_rekey")
    begun = await run("start_rekey", 3, 2, require_verification=True)
    await run("rekey", keys[0], begun["nonce"])
    done = await run("rekey_multi", keys[1:2], begun["nonce"])
    fresh, nonce = done["keys_base64"], done["verification_nonce"]
    assert (await run("read_rekey_verify_progress"))["progress"] == 0
    await run("rekey_verify", fresh[0], nonce)
    await run("cancel_rekey_verify")
    nonce = (await run("read_rekey_verify_progress"))["nonce"]
    assert (await run("rekey_verify_multi", fresh[:2], nonce))["complete"] is True
    with pytest.raises(hvac.exceptions.VaultError):
        await run("read_backup_keys")  # Shares are never kept, as they are not sealed for PGP keys.
    assert (await run("step_down")).status_code == 204
    assert (await run("read_leader_status"))["is_self"] is True  # Every node is active.
    await run("seal")
    assert await run("is_sealed") is True
    assert (await run("submit_unseal_keys", fresh[1:]))["sealed"] is False
    assert methods(Health, Init, Key, Leader, Seal) - run.called == set()


async def test_every_method_of_audit(start, serving, tmp_path: Path) -> None:
    node = start(FakeWrapper("transit"), audit=())
    run = await serving(node)
    made = await run("initialize", recovery_shares=1, recovery_threshold=1)
    run.client.token = made["root_token"]
    options = {"file_path": str(tmp_path / "a.log")}
    with pytest.raises(hvac.exceptions.InvalidRequest, match="cannot enable an audit device"):
        await run("enable_audit_device", "file", options=options, path="file")
    assert (await run("list_enabled_audit_devices"))["data"]
    assert (await run("calculate_hash", "memory", "x"))["data"]["hash"].startswith("hmac-sha256:")
    await run("disable_audit_device", "absent")
    assert methods(Audit) - run.called == set()
