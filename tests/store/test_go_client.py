"""Vault's own Go client, which Terraform, Vault Agent and most operators are made with."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from tests.go_program import built

MODULE = Path(__file__).with_name("go")


@pytest.mark.component
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_every_part_of_the_go_client_works(store: Any) -> None:
    program = await asyncio.to_thread(built, MODULE, "go-client")
    clean = {name: each for name, each in os.environ.items() if not name.startswith("VAULT_")}
    asking = await asyncio.create_subprocess_exec(
        program,
        env={**clean, "VAULT_ADDR": store.address, "VAULT_TOKEN": store.root},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asking.communicate()
    assert out.decode() == "done\n"
