"""Kubernetes logins of a real server process against a real API server."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import jwt as pyjwt
import pytest
from server_process import CLOCK, Server
from tests.conftest import serving

from strongroom.app.cluster.control_plane import ControlPlane, free_port
from strongroom.app.token_reviewer import ClusterReviewer
from strongroom.app.waiting import until
from strongroom.crypto.x509_dev import issue
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
)
from strongroom.kube.token_review import request_token
from strongroom.model.clock import SimulatedClock
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.wire.client import HttpClient

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
AUDIENCE = "strongroom"
DELEGATOR = "system:auth-delegator"


@dataclass
class Bed:
    """A server with a kubernetes mount, and a namespace of its own with accounts in it."""

    server: Server
    cluster: ControlPlane
    api: KubeClient
    namespace: str = field(default_factory=lambda: f"auth-{uuid.uuid4().hex[:8]}")

    async def account(self, name: str, **annotations: str) -> None:
        metadata = {"name": name, "namespace": self.namespace, "annotations": annotations}
        await self.api.create(SERVICE_ACCOUNTS, {"metadata": metadata})

    async def token(self, name: str, *audiences: str, pod: str = "") -> str:
        """A token of an account; with a pod it is bound to that one."""
        if not pod:
            made = await request_token(self.api, self.namespace, name, audiences, 600)
            return made.reveal_text()
        there = await self.api.get(PODS, pod, self.namespace)
        reference = {
            "kind": "Pod",
            "apiVersion": "v1",
            "name": pod,
            "uid": there["metadata"]["uid"],
        }
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"audiences": list(audiences), "boundObjectRef": reference},
        }
        return (await self.api.create(SERVICE_ACCOUNTS, body, "token"))["status"]["token"]

    async def may(self, account: str, role: str) -> None:
        """Bind an account to a cluster role."""
        subject = {"kind": "ServiceAccount", "name": account, "namespace": self.namespace}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        name = f"{self.namespace}-{account}-{role}".replace(":", "-")
        await self.api.create(
            CLUSTER_ROLE_BINDINGS,
            {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference},
        )

    async def reviewer(self) -> str:
        """A token of an account that may ask for reviews and for nothing else."""
        await self.account("reviewer")
        await self.may("reviewer", DELEGATOR)
        return await self.token("reviewer")

    async def configure(self, **fields: object) -> None:
        body = {
            "kubernetes_host": self.cluster.url,
            "kubernetes_ca_cert": self.cluster.ca_file.read_text(),
            **fields,
        }
        status, said = await self.server.ask("POST", "auth/kubernetes/config", body)
        assert status == 204, said

    async def role(self, **fields: object) -> None:
        body = {
            "bound_service_account_names": "app",
            "bound_service_account_namespaces": self.namespace,
            **fields,
        }
        status, said = await self.server.ask("POST", "auth/kubernetes/role/app", body)
        assert status == 204, said

    async def login(self, token: str) -> tuple[int, dict[str, Any]]:
        body = {"role": "app", "jwt": token}
        return await self.server.ask("POST", "auth/kubernetes/login", body)

    async def until_status(self, token: str, wanted: int) -> dict[str, Any]:
        """What a login answers once it has this status; the cluster remembers things a while."""

        async def attempt() -> dict[str, Any] | None:
            status, said = await self.login(token)
            return said if status == wanted else None

        return await until(f"a login with status {wanted}", attempt, CLOCK, seconds=120)

    def forge(self, token: str, **claims: object) -> str:
        """A token with other claims, signed with the cluster's own key."""
        key = (self.cluster.folder / "sa.key").read_text()
        said = pyjwt.decode(token, options={"verify_signature": False})
        head = {"kid": pyjwt.get_unverified_header(token)["kid"]}
        return pyjwt.encode({**said, **claims}, key, "ES256", headers=head)


@pytest.fixture
async def bed(cluster: ControlPlane, tmp_path: Path) -> AsyncIterator[Bed]:
    async with HttpClient() as http, KubeClient(cluster.config(), CLOCK) as api:
        server = Server(tmp_path, http)
        try:
            await server.start()
            made = Bed(server, cluster, api)
            await api.create(NAMESPACES, {"metadata": {"name": made.namespace}})
            await made.account("app")
            status, _ = await server.ask("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
            assert status == 204
            yield made
        finally:
            server.kill()
        await api.delete(NAMESPACES, made.namespace)


async def test_a_configured_reviewer_asks_and_audiences_are_kept_apart(bed: Bed) -> None:
    await bed.configure(token_reviewer_jwt=await bed.reviewer())
    await bed.role(audience=AUDIENCE)
    token = await bed.token("app", AUDIENCE)
    said = await bed.until_status(token, 200)
    metadata = said["auth"]["metadata"]
    assert metadata["service_account_name"] == "app"
    assert metadata["token_id"].startswith("JTI=")
    for other in (await bed.token("app", "another"), await bed.token("app")):
        assert (await bed.login(other))[0] == 403
    await bed.account("stranger")
    assert (await bed.login(await bed.token("stranger", AUDIENCE)))[0] == 403
    # Without an audience of its own a role takes the cluster's.
    await bed.role(audience="")
    assert (await bed.login(await bed.token("app")))[0] == 200
    assert (await bed.login(token))[0] == 403

    def by_hvac() -> str:
        with hvac.Client(url=bed.server.url("").removesuffix("/v1/")).session as session:
            client = hvac.Client(url=bed.server.url("").removesuffix("/v1/"), session=session)
            client.auth.kubernetes.login("app", own)
            return client.lookup_token()["data"]["meta"]["service_account_namespace"]

    own = await bed.token("app")
    assert await asyncio.to_thread(by_hvac) == bed.namespace


async def test_an_expired_or_altered_token_is_refused(bed: Bed) -> None:
    await bed.configure(token_reviewer_jwt=await bed.reviewer())
    await bed.role(audience=AUDIENCE)
    token = await bed.token("app", AUDIENCE)
    await bed.until_status(token, 200)
    now = int(CLOCK.now())
    expired = bed.forge(token, exp=now - 1, iat=now - 700, nbf=now - 700)
    assert (await bed.login(expired))[1]["errors"] == ["permission denied; jwt-expired"]
    assert (await bed.login(token[:-8] + "AAAAAAAA"))[0] == 403
    await bed.configure(
        token_validation="local", pem_keys=(bed.cluster.folder / "sa.crt").read_text()
    )
    assert (await bed.login(token))[0] == 200
    assert (await bed.login(expired))[0] == 403
    assert (await bed.login(token[:-8] + "AAAAAAAA"))[0] == 403


async def test_the_callers_own_token_asks_when_nobody_else_is_there_to(bed: Bed) -> None:
    await bed.configure(disable_local_ca_jwt=True)
    await bed.role()
    token = await bed.token("app")
    status, said = await bed.login(token)
    assert (status, "kube-forbidden" in said["errors"][0]) == (403, True)
    await bed.may("app", DELEGATOR)
    await bed.until_status(token, 200)


async def test_a_reviewer_that_may_not_ask_is_told_what_it_needs(bed: Bed) -> None:
    await bed.account("weak")
    await bed.configure(token_reviewer_jwt=await bed.token("weak"))
    await bed.role()
    status, said = await bed.login(await bed.token("app"))
    assert (status, "system:auth-delegator" in said["errors"][0]) == (403, True)
    await bed.configure(token_reviewer_jwt="no token")
    status, said = await bed.login(await bed.token("app"))
    assert (status, "does not accept the token that the store asks with" in said["errors"][0]) == (
        403,
        True,
    )


async def test_a_deleted_pod_or_account_ends_what_a_review_accepts(bed: Bed) -> None:
    reviewer = await bed.reviewer()
    await bed.configure(token_reviewer_jwt=reviewer)
    await bed.role(audience=AUDIENCE)
    spec = {"serviceAccountName": "app", "containers": [{"name": "c", "image": "none.invalid/x"}]}
    await bed.api.create(
        PODS, {"metadata": {"name": "p", "namespace": bed.namespace}, "spec": spec}
    )
    of_pod, of_account = await bed.token("app", AUDIENCE, pod="p"), await bed.token("app", AUDIENCE)
    said = await bed.until_status(of_pod, 200)
    assert said["auth"]["metadata"]["pod_name"] == "p"
    assert (await bed.login(of_account))[0] == 200
    bed.cluster.kubectl("delete", "pod", "p", "-n", bed.namespace, "--force", "--grace-period=0")
    await bed.until_status(of_pod, 403)
    assert (await bed.login(of_account))[0] == 200
    await bed.api.delete(SERVICE_ACCOUNTS, "app", bed.namespace)
    await bed.until_status(of_account, 403)
    # The keys alone know nothing of it, which is the price of not asking.
    await bed.configure(token_reviewer_jwt=reviewer, token_validation="local")
    for token in (of_pod, of_account):
        assert (await bed.login(token))[0] == 200


async def test_the_clusters_keys_are_found_and_nothing_else_is_asked(bed: Bed) -> None:
    await bed.configure(token_validation="local", disable_local_ca_jwt=True)
    await bed.role(audience=AUDIENCE)
    token = await bed.token("app", AUDIENCE)
    # This cluster shows its keys to service accounts only, as clusters do unless told otherwise.
    status, said = await bed.login(token)
    assert status == 503
    assert "/openid/v1/jwks answered with status 40" in said["errors"][0]
    await bed.configure(token_validation="local", token_reviewer_jwt=await bed.reviewer())
    said = await bed.until_status(token, 200)
    assert said["auth"]["metadata"]["service_account_namespace"] == bed.namespace
    assert (await bed.login(await bed.token("app", "another")))[0] == 403
    await bed.configure(
        token_validation="local", token_reviewer_jwt=await bed.token("reviewer"), issuer="https://x"
    )
    assert (await bed.login(token))[0] == 403


async def test_an_api_server_that_is_away_or_unknown_is_said_to_be(bed: Bed) -> None:
    await bed.role()
    token = await bed.token("app")
    await bed.configure(token_reviewer_jwt="t", kubernetes_host=f"https://127.0.0.1:{free_port()}")
    status, said = await bed.login(token)
    assert (status, "no answer from" in said["errors"][0]) == (503, True), said
    stranger = issue(("localhost",), CLOCK.now()).authority.decode()
    await bed.configure(token_reviewer_jwt="t", kubernetes_ca_cert=stranger)
    status, said = await bed.login(token)
    assert (status, "certificate" in said["errors"][0]) == (503, True), said
    assert token not in str(said)


async def test_labels_and_annotations_need_a_right_that_is_named(bed: Bed) -> None:
    reviewer = await bed.reviewer()
    await bed.configure(token_reviewer_jwt=reviewer)
    await bed.role(
        bound_service_account_namespaces="",
        bound_service_account_namespace_selector=f'{{"matchLabels":{{"kubernetes.io/metadata.name":"{bed.namespace}"}}}}',
    )
    token = await bed.token("app")
    said = await bed.until_status(token, 503)
    assert 'grant the reviewer "get" of namespaces' in said["errors"][0]
    rules = [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]
    name = f"{bed.namespace}-reads"
    await bed.api.create(CLUSTER_ROLES, {"metadata": {"name": name}, "rules": rules})
    await bed.may("reviewer", name)
    await bed.until_status(token, 200)
    await bed.role(
        bound_service_account_namespaces="",
        bound_service_account_namespace_selector='{"matchLabels":{"stage":"prod"}}',
    )
    assert (await bed.login(token))[0] == 403
    await bed.role(bound_service_account_namespaces=bed.namespace)
    await bed.configure(token_reviewer_jwt=reviewer, use_annotations_as_alias_metadata=True)
    said = await bed.until_status(token, 503)
    assert 'grant the reviewer "get" of serviceaccounts' in said["errors"][0]


async def test_the_stores_own_pod_asks(cluster: ControlPlane, tmp_path: Path) -> None:
    """With the files that Kubernetes mounts into a pod; the kubelet renews the token there."""
    async with KubeClient(cluster.config(), CLOCK) as api, HttpClient() as http:
        bed = Bed(Server(tmp_path, http), cluster, api)
        await api.create(NAMESPACES, {"metadata": {"name": bed.namespace}})
        await bed.account("app")
        folder, barrier = tmp_path / "serviceaccount", Barrier()
        folder.mkdir()
        (folder / "ca.crt").write_text(cluster.ca_file.read_text())
        (folder / "token").write_text("not yet renewed")
        engine = SqliteEngine(tmp_path / "db", barrier)
        reviewer = ClusterReviewer(CLOCK, folder)
        async with serving(
            engine, barrier, tmp_path / "key", SimulatedClock(), reviewer=reviewer
        ) as store:
            await store.ask("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
            config = {"kubernetes_host": cluster.url}
            assert (await store.ask("POST", "auth/kubernetes/config", config))[0] == 204
            role = {
                "bound_service_account_names": "app",
                "bound_service_account_namespaces": bed.namespace,
                "audience": AUDIENCE,
            }
            assert (await store.ask("POST", "auth/kubernetes/role/app", role))[0] == 204
            body = {"role": "app", "jwt": await bed.token("app", AUDIENCE)}

            async def accepted() -> bool | None:
                status, _ = await store.ask("POST", "auth/kubernetes/login", body, token="")
                return True if status == 200 else None

            assert await accepted() is None
            (folder / "token").write_text(await bed.reviewer())
            assert await until("a login", accepted, CLOCK, seconds=120)
        await api.delete(NAMESPACES, bed.namespace)
