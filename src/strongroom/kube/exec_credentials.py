"""Credentials that a kubeconfig has a program make, as those of EKS, GKE and AKS do.

Format: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
(`client.authentication.k8s.io/v1` and v1beta1). The program is run with the rights of whoever reads
the kubeconfig, so only one of one's own is read this way.
"""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from strongroom.model.clock import Clock, parse_rfc3339
from strongroom.model.errors import Invalid, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.tls import ClientPem

SECONDS: Final = 60.0
# A token is asked for anew this long before it ends.
EARLY_SECONDS: Final = 10.0
VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


@dataclass(slots=True)
class ExecCredentials:
    """What the program gave last; `ends` in epoch seconds, None for never."""

    spec: dict[str, Any] = field(repr=False)
    folder: Path
    clock: Clock
    environment: dict[str, str] = field(repr=False)
    pem: ClientPem | None = None
    _token: Secret | None = None
    _ends: float | None = None

    def token(self) -> Secret | None:
        """The token now; the program is run again when it ends. Raises Unavailable, Invalid."""
        if self._ends is not None and self.clock.now() >= self._ends - EARLY_SECONDS:
            self.ask()
        return self._token

    def ask(self) -> None:
        """Run the program and keep what it gives."""
        version = str(self.spec.get("apiVersion") or "")
        if version not in VERSIONS:
            raise Invalid(
                "exec-version", f"credentials of {version or 'no version'} are not understood",
                hint=f"exec.apiVersion in the kubeconfig is one of {', '.join(VERSIONS)}",
            )  # fmt: skip
        status = self._status(version)
        certificate, key = (status.get(f"client{name}Data") for name in ("Certificate", "Key"))
        self._token = Secret(status["token"]) if status.get("token") else None
        self.pem = ClientPem(certificate, Secret(key)) if certificate and key else None
        if self._token is None and self.pem is None:
            raise self._failed("gave neither token nor certificate")
        ends = status.get("expirationTimestamp")
        self._ends = parse_rfc3339(ends) if ends else None

    def _status(self, version: str) -> dict[str, Any]:
        asked = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
        given = {each["name"]: each["value"] for each in self.spec.get("env") or []}
        environment = {**self.environment, **given, "KUBERNETES_EXEC_INFO": json.dumps(asked)}
        try:
            done = subprocess.run(
                [self._program(), *map(str, self.spec.get("args") or [])], env=environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            why = getattr(error, "strerror", "") or "no answer in time"
            raise self._failed(f"cannot be run: {why}") from None
        if done.returncode:
            raise self._failed(f"ended with status {done.returncode}")
        try:
            reply = json.loads(done.stdout)
            status = reply["status"] if reply["kind"] == "ExecCredential" else None
        except (ValueError, KeyError, TypeError):
            status = None
        if not isinstance(status, dict):
            raise self._failed("did not answer with an ExecCredential")
        return status

    def _program(self) -> str:
        """As client-go finds it: a path with a slash is one beside the kubeconfig."""
        command = str(self.spec.get("command") or "")
        return str(self.folder / command) if os.sep in command else command

    def _failed(self, what: str) -> Unavailable:
        name = self.spec.get("command") or "the program"
        said = self.spec.get("installHint") or "kubectl runs the same program: does it work there?"
        return Unavailable("exec-credentials", f"{name}, which the kubeconfig names, {what}",
                           hint=" ".join(str(said).split()))  # fmt: skip
