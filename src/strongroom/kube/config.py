"""How to reach an API server: from a kubeconfig file, or from inside a pod.

Kubeconfig: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/.
"""

import base64
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, NotFound
from strongroom.model.secret import Secret
from strongroom.wire.plain_yaml import plain_yaml
from strongroom.wire.tls import ClientPem

if TYPE_CHECKING:
    from strongroom.kube.exec_credentials import ExecCredentials

NO_CREDENTIALS: Final = "no credentials"
# Of a kubeconfig that somebody else wrote: some dozens of clusters with their certificates.
MOST_CHARACTERS: Final = 256 * 1024


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


def load_kubeconfig(
    path: Path,
    context: str = "",
    *,
    clock: Clock | None = None,
    environment: Mapping[str, str] | None = None,
) -> KubeConfig:
    """Read a kubeconfig; raises NotFound(`no-kubeconfig`) or Invalid(`bad-kubeconfig`).

    A program that makes the credentials is run under the clock and environment, and refused
    without them; what it raises is told in `exec_credentials`.
    """
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
        made = None
        if user.get("exec") and clock is not None:
            from strongroom.kube.exec_credentials import ExecCredentials

            made = ExecCredentials(user["exec"], path.parent, clock, dict(environment or {}))
            made.ask()
        return _config(path.parent, cluster, user, entry.get("namespace", "default"), made)
    except OSError as error:
        raise Invalid(
            "bad-kubeconfig", f"{path} names a file that cannot be read: {error.strerror}",
            hint="kubectl config view --flatten puts everything into one file",
        ) from None  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(
            "bad-kubeconfig",
            f"{path} is no usable kubeconfig ({_told(error)})",
            hint="its user has a token, a client certificate or an exec program; kubectl config"
            " get-contexts names the contexts",
        ) from None


def _told(error: Exception) -> str:
    """What is missing by its name; values are never shown."""
    if isinstance(error, KeyError):
        return f"there is no {error.args[0]}"
    return str(error) if str(error) == NO_CREDENTIALS else type(error).__name__


def embedded_kubeconfig(text: str) -> KubeConfig:
    """A kubeconfig from somebody else's hands, so nothing it names is read or run.

    Certificates, keys and tokens must stand in it; raises Invalid(`bad-kubeconfig`).
    """
    try:
        parsed = plain_yaml(text, MOST_CHARACTERS)
        entry = _named(parsed["contexts"], parsed["current-context"])["context"]
        cluster = _named(parsed["clusters"], entry["cluster"])["cluster"]
        user = _named(parsed["users"], entry["user"])["user"]
        pem = _embedded_pem(user) if "client-certificate-data" in user else None
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
    folder: Path,
    cluster: dict[str, Any],
    user: dict[str, Any],
    namespace: str,
    made: "ExecCredentials | None",
) -> KubeConfig:
    ca = ""
    if "certificate-authority-data" in cluster:
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
    elif "certificate-authority" in cluster:
        ca = (folder / cluster["certificate-authority"]).read_text()
    certificate, pem = None, made.pem if made else None
    # What stands in the file goes before what it names, as in kubectl.
    if "client-certificate-data" in user:
        pem = _embedded_pem(user)
    elif "client-certificate" in user:
        certificate = (folder / user["client-certificate"], folder / user["client-key"])
    token_file = folder / user["tokenFile"] if "tokenFile" in user else None
    if not (certificate or pem or token_file or made or "token" in user):
        raise ValueError(NO_CREDENTIALS)
    return KubeConfig(
        server=str(cluster["server"]).rstrip("/"),
        ca_data=ca,
        token=Secret(user["token"]) if "token" in user else None,
        token_file=token_file,
        client_certificate=certificate,
        client_pem=pem,
        token_source=made.token if made else None,
        namespace=namespace,
    )


def _embedded_pem(user: dict[str, Any]) -> ClientPem:
    certificate = base64.b64decode(user["client-certificate-data"]).decode()
    return ClientPem(certificate, Secret(base64.b64decode(user["client-key-data"])))


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
