"""Two API servers one of which has no flag, and what else is found there before it does harm."""

import json

import pytest

from strongroom.app.encrypt.witness import KEPT
from strongroom.kube.resource import CONFIG_MAPS

IDENTITY = "{identity: {}}"
LOCAL = f"{{aescbc: {{keys: [{{name: k1, secret: {'A' * 43}=}}]}}}}"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


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
    # E04: a server without identity would not be ready with the one in plain text; E14: nor one
    # that gives the plugin another name.
    only = lab.encryption(("secrets", [lab.kms()]), name="only.yaml")
    assert (await lab.check(only))["E04"] == "error"
    renamed = lab.encryption(("secrets", [lab.kms("renamed"), IDENTITY]), name="renamed.yaml")
    assert (await lab.check(renamed))["E14"] == "error"


async def test_a_server_with_identity_in_front_does_not_undo_what_is_encrypted(lab) -> None:
    await lab.plugin()
    first = lab.encryption(("secrets", [lab.kms(), IDENTITY]), name="first.yaml")
    last = lab.encryption(("secrets", [IDENTITY, lab.kms()]), name="last.yaml")
    await lab.control.start(last)
    second = await lab.control.start_second(first)
    words = ("encrypt", "migrate", *lab.kubeconfig, "--kms-socket", str(lab.socket()))
    # It hears the key id, and what lies there in plain text is not stale to it.
    await lab.put("open")
    status, said = await lab.run(*words)
    assert (status, "Every object" in said) == (2, False), said
    # So does a server that has not loaded its new file yet: with more objects no pass is waited for.
    for number in range(KEPT):
        await lab.put(f"open-{number}")
    status, said = await lab.run(*words)
    assert (status, "pass 1" in said) == (2, False), said
    # By its own file there is nothing to be rewritten, which is no success.
    status, said = await lab.run(*words, "--covered-by", str(last))
    assert (status, "encrypts nothing" in said) == (2, True), said
    for number in range(5):
        await lab.put(f"a-sealed-{number}", second)  # What comes first is touched first.
    status, said = await lab.run(*words, "--api-server", second.server)
    assert (status, "different configurations" in said) == (2, True), said
    assert list((await lab.verdicts()).values()).count("ok") == 4


async def test_what_was_touched_while_identity_stood_first_counts_for_nothing(lab) -> None:
    await lab.plugin()
    names = "secrets, cronjobs.batch"
    first = lab.encryption((names, [lab.kms(), IDENTITY]), name="first.yaml")
    await lab.control.start(lab.encryption((names, [IDENTITY, lab.kms()]), name="last.yaml"))
    await lab.put("open")
    words = (
        "encrypt", "migrate", *lab.kubeconfig, "--kms-socket", str(lab.socket()),
        "--resume", str(lab.folder / "progress"),
        "--resource", "secrets", "--resource", "cronjobs.batch",
    )  # fmt: skip
    assert (await lab.run(*words))[0] == 2
    await lab.control.restart_apiserver(first)
    status, said = await lab.run(*words)
    assert (status, "going on after" in said, "Every object" in said) == (0, True, True), said
    assert await lab.verdicts() == {"open": "ok"}
    await prove_names_that_the_cluster_does_not_serve(lab)
    # What no entry covers is neither done nor proved because others beside it are.
    await lab.put("bare", resource=CONFIG_MAPS)
    both = ("--resource", "secrets", "--resource", "configmaps")
    kubeconfig, socket = lab.kubeconfig, ("--kms-socket", str(lab.socket()))
    status, said = await lab.run("encrypt", "migrate", *kubeconfig, *socket, *both)
    assert (status, "Every object" in said) == (2, False), said
    status, said = await lab.run("encrypt", "prove", "--two-pass", *kubeconfig, *both)
    assert (status, "no read of configmaps" in said) == (3, True), said
    assert (await lab.run("encrypt", "prove", "--two-pass", *kubeconfig))[0] == 0


async def test_local_keys_are_no_excuse_for_plain_text(lab) -> None:
    first = lab.encryption(("secrets", [LOCAL, IDENTITY]), name="first.yaml")
    last = lab.encryption(("secrets", [IDENTITY, LOCAL]), name="last.yaml")
    await lab.control.start(None)
    words = ("encrypt", "migrate", *lab.kubeconfig, "--no-barrier", "--covered-by", str(first))
    for name in ("s1", "s2", "s3"):
        await lab.put(name)
    # The file was not loaded: without a configuration, or with the one from before.
    status, said = await lab.run(*words)
    assert (status, "Every object" in said, "no barrier" in said) == (2, False, True), said
    await lab.control.restart_apiserver(last)
    assert (await lab.run(*words))[0] == 2
    await lab.control.restart_apiserver(first)
    status, said = await lab.run(*words)
    assert (status, "Every object" in said, "could not be told" in said) == (0, True, False), said
    covered = ("--covered-by", str(first))
    assert set((await lab.verdicts(*covered)).values()) == {"ok"}
    # Nor is what lies encrypted made plain text, but for the first that shows it.
    await lab.control.restart_apiserver(last)
    assert (await lab.run(*words))[0] == 2
    assert sorted((await lab.verdicts(*covered)).values()) == ["ok", "ok", "plaintext"]


async def prove_names_that_the_cluster_does_not_serve(lab) -> None:
    """Nothing lies under a misspelt name, and that is no proof; under a served one it may be so."""
    widgets = "widgets.example.com"
    for name, proved in (("cronjobs.batch", True), ("secret", False), (widgets, False)):
        status, proof = await lab.prove("--resource", "secrets", "--resource", name)
        assert (status, proof["holds"]) == ((0, True) if proved else (3, False)), name
        assert proof["not_served"] == ([] if proved else [name])
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget"}
    version = {"name": "v1", "served": True, "storage": True}
    version["schema"] = {"openAPIV3Schema": {"type": "object"}}
    spec = {"group": "example.com", "names": names, "scope": "Namespaced", "versions": [version]}
    lab.control.kubectl(
        "create", "-f", "-",
        stdin=json.dumps(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": widgets},
                "spec": spec,
            }
        ),
    )  # fmt: skip
    assert (await lab.prove("--resource", "secrets", "--resource", widgets))[0] == 0
