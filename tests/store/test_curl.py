"""What a tutorial does with curl."""

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).with_name("curl_tutorials.sh")
NAMES = [
    name
    for name in re.findall(r"^(\w+)\(\) \{ # ", TUTORIALS.read_text(), re.MULTILINE)
    if name not in ("api", "as")
]
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

SCRIPT = r"""
set -eu
say() { curl -s -H "X-Vault-Token: $VAULT_TOKEN" "$@"; }
say "$VAULT_ADDR/v1/sys/health" | grep -q '"sealed":false'
say -X POST -d '{"data":{"user":"u","password":"one"}}' "$VAULT_ADDR/v1/secret/data/app" | grep -q '"version":1'
say -X POST -d '{"data":{"user":"u","password":"two"},"options":{"cas":1}}' "$VAULT_ADDR/v1/secret/data/app" | grep -q '"version":2'
say "$VAULT_ADDR/v1/secret/data/app?version=1" | grep -q '"password":"one"'
say -X PATCH -H 'Content-Type: application/merge-patch+json' -d '{"data":{"extra":"x"}}' "$VAULT_ADDR/v1/secret/data/app" | grep -q '"version":3'
say -X LIST "$VAULT_ADDR/v1/secret/metadata" | grep -q '"app"'
say "$VAULT_ADDR/v1/secret/metadata?list=true" | grep -q '"app"'
say -X DELETE "$VAULT_ADDR/v1/secret/data/app"
test "$(say -o /dev/null -w '%{http_code}' "$VAULT_ADDR/v1/secret/data/app")" = 404
say -X POST -d '{"versions":[3]}' "$VAULT_ADDR/v1/secret/undelete/app"
say "$VAULT_ADDR/v1/secret/data/app" | grep -q '"extra":"x"'
say -X PUT -d '{"policy":"path \"secret/data/app\" { capabilities = [\"read\"] }"}' "$VAULT_ADDR/v1/sys/policies/acl/app"
child=$(say -X POST -d '{"policies":["app"],"ttl":"5m"}' "$VAULT_ADDR/v1/auth/token/create" | sed 's/.*"client_token":"\([^"]*\)".*/\1/')
curl -s -H "X-Vault-Token: $child" "$VAULT_ADDR/v1/secret/data/app" | grep -q '"user":"u"'
test "$(curl -s -o /dev/null -w '%{http_code}' -H "X-Vault-Token: $child" "$VAULT_ADDR/v1/secret/data/other")" = 403
test "$(curl -s -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $child" "$VAULT_ADDR/v1/secret/data/app")" = 200
echo finished
"""


@needs_curl
async def test_a_tutorial_works(store) -> None:
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", SCRIPT, env={"PATH": "/usr/bin:/bin", "VAULT_ADDR": store.address, "VAULT_TOKEN": store.root},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert out == b"finished\n", (err, json.dumps(store.records()[-1]))


@needs_curl
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.long
async def test_each_step_of_a_tutorial_answers_as_its_page_says(store, name, tmp_path) -> None:
    process = await asyncio.create_subprocess_exec(
        "bash", str(TUTORIALS), name, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "VAULT_ADDR": store.address, "VAULT_TOKEN": store.root},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert out.endswith(b"finished\n"), (err.decode(), json.dumps(store.records()[-1]))


def test_there_are_tutorials() -> None:
    assert len(NAMES) >= 8
