"""Traps that cost more than secrecy, on a real API server: what the check finds there happens."""

import pytest

from strongroom.kube.client import KubeClient
from strongroom.kube.resource import SECRETS
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Refusal

IDENTITY = "{identity: {}}"
MARKED = "marked-value"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


async def test_a_server_without_the_flag_a_missing_identity_a_renamed_provider(lab) -> None:
    await lab.plugin()
    good = lab.encryption(("secrets", [lab.kms(), IDENTITY]), name="good.yaml")
    await lab.control.start(good)
    # At once, since it would not be ready any more with a Secret that it cannot read.
    second = await lab.control.start_second(None)
    await lab.put("sealed")
    clean = await lab.check(good)
    assert not {"E01", "E04", "E14", "E23"} & set(clean)
    # E01 on one of two servers: what goes through that one is in plain text.
    await lab.put("open", second)
    assert await lab.verdicts() == {"sealed": "ok", "open": "plaintext"}
    urls = (lab.control.url, second.server)
    assert (await lab.check(good, None, urls=urls))["E01"] == "error"
    # E23: somebody may delete what cannot be read.
    verbs, role = "--verb=delete,unsafe-delete-ignore-read-errors", "--clusterrole=breaker"
    lab.control.kubectl("create", "clusterrole", "breaker", verbs, "--resource=secrets")
    lab.control.kubectl("create", "clusterrolebinding", "breaker", role, "--user=u")
    assert (await lab.check(good))["E23"] == "warning"
    # The plan of a migration changes nothing.
    plan = ("migrate", *lab.kubeconfig, "--kms-socket", str(lab.socket()), "--dry-run")
    status, said = await lab.run("encrypt", *plan)
    assert (status, "rewrite 2 secrets" in said) == (0, True), said
    status, proof = await lab.prove()
    assert (status, proof["method"], proof["counts"]) == (3, "etcd", {"ok": 1, "plaintext": 1})
    assert any("older revisions" in line for line in proof["cannot_see"])
    # E04: without identity nobody lists Secrets any more while one is in plain text.
    only = lab.encryption(("secrets", [lab.kms()]), name="only.yaml")
    assert (await lab.check(only))["E04"] == "error"
    await lab.control.restart_apiserver(only)
    assert await lab.get("sealed") == MARKED
    async with KubeClient(lab.control.config(), SystemClock()) as api:
        with pytest.raises(Refusal):
            await api.list(SECRETS)
    # E14: under another name the same plugin reads nothing of what was written before.
    renamed = lab.encryption(("secrets", [lab.kms("renamed"), IDENTITY]), name="renamed.yaml")
    assert (await lab.check(renamed))["E14"] == "error"
    await lab.control.restart_apiserver(renamed)
    with pytest.raises(Refusal):
        await lab.get("sealed")
