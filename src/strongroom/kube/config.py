"""How to reach an API server: from a kubeconfig file, or from inside a pod.

Kubeconfig: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/.
"""

import base64
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from strongroom.model.errors import Invalid, NotFound
from strongroom.model.secret import Secret
from strongroom.wire.tls import ClientPem


@dataclass(frozen=True, slots=True)
class KubeConfig:
    """Server, trust and credentials. A token file is read again for every connection's request."""

    server: str
    ca_data: str = ""
    token: Secret | None = None
    token_file: Path | None = None
    client_certificate: tuple[Path, Path] | None = None
    client_pem: ClientPem | None = None
    # Asked for every request; for a token that somebody else renews.
    token_source: Callable[[], Secret | None] | None = None
    namespace: str = field(default="default")

    def at(self, server: str) -> "KubeConfig":
        """The same identity at another address."""
        return replace(self, server=server)

    def bearer(self) -> Secret | None:
        """The token now; a projected token is renewed in its file by the kubelet."""
        if self.token_source is not None:
            return self.token_source()
        if self.token_file is not None:
            return Secret(self.token_file.read_text().strip())
        return self.token


def load_kubeconfig(path: Path, context: str = "") -> KubeConfig:
    """Read a kubeconfig; raises NotFound(`no-kubeconfig`) or Invalid(`bad-kubeconfig`)."""
    try:
        text = path.read_text()
    except OSError as error:
        raise NotFound(
            "no-kubeconfig",
            f"cannot read {path}: {error.strerror}",
            hint="set KUBECONFIG or pass --kubeconfig",
        ) from error
    try:
        parsed = _parsed(text)
        chosen = context or parsed["current-context"]
        entry = _named(parsed["contexts"], chosen)["context"]
        cluster = _named(parsed["clusters"], entry["cluster"])["cluster"]
        user = _named(parsed.get("users") or [], entry.get("user", ""))["user"] or {}
        return _config(path.parent, cluster, user, entry.get("namespace", "default"))
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(
            "bad-kubeconfig",
            f"{path} is no usable kubeconfig ({type(error).__name__})",
            hint="a token or client certificate is needed; exec plugins are not supported",
        ) from None


def embedded_kubeconfig(text: str) -> KubeConfig:
    """A kubeconfig from somebody else's hands, so nothing it names is read or run.

    Certificates, keys and tokens must stand in it; raises Invalid(`bad-kubeconfig`).
    """
    try:
        parsed = _parsed(text)
        entry = _named(parsed["contexts"], parsed["current-context"])["context"]
        cluster = _named(parsed["clusters"], entry["cluster"])["cluster"]
        user = _named(parsed["users"], entry["user"])["user"]
        pem = None
        if "client-certificate-data" in user:
            certificate = base64.b64decode(user["client-certificate-data"]).decode()
            pem = ClientPem(certificate, Secret(base64.b64decode(user["client-key-data"])))
        if pem is None and "token" not in user:
            raise ValueError("no credentials")
        return KubeConfig(
            server=str(cluster["server"]).rstrip("/"),
            ca_data=base64.b64decode(cluster.get("certificate-authority-data", "")).decode(),
            token=Secret(user["token"]) if "token" in user else None,
            client_pem=pem,
            namespace=entry.get("namespace", "default"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(
            "bad-kubeconfig",
            f"the kubeconfig cannot be used ({type(error).__name__})",
            hint="a token, or client-certificate-data with client-key-data, must stand in it",
        ) from None


def _parsed(text: str) -> Any:  # noqa: ANN401 - YAML
    """JSON is YAML too, and needs no library that an operator in a pod never loads."""
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(type(error).__name__) from None


def _config(
    folder: Path, cluster: dict[str, Any], user: dict[str, Any], namespace: str
) -> KubeConfig:
    ca = ""
    if "certificate-authority-data" in cluster:
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
    elif "certificate-authority" in cluster:
        ca = (folder / cluster["certificate-authority"]).read_text()
    certificate = None
    if "client-certificate" in user:
        certificate = (folder / user["client-certificate"], folder / user["client-key"])
    token_file = folder / user["tokenFile"] if "tokenFile" in user else None
    if certificate is None and token_file is None and "token" not in user:
        raise ValueError("no credentials")
    return KubeConfig(
        server=str(cluster["server"]).rstrip("/"),
        ca_data=ca,
        token=Secret(user["token"]) if "token" in user else None,
        token_file=token_file,
        client_certificate=certificate,
        namespace=namespace,
    )


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for entry in entries:
        if entry.get("name") == name:
            return entry
    raise KeyError(name)


def in_cluster(
    host: str, port: str, root: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
) -> KubeConfig:
    """The configuration of a pod; host and port are its KUBERNETES_SERVICE_* variables."""
    if not host or not (root / "token").exists():
        raise NotFound(
            "not-in-cluster", "this is no pod with a service account", hint="pass --kubeconfig"
        )
    host = f"[{host}]" if ":" in host else host
    return KubeConfig(
        server=f"https://{host}:{port or '443'}",
        ca_data=(root / "ca.crt").read_text(),
        token_file=root / "token",
        namespace=(root / "namespace").read_text().strip(),
    )
