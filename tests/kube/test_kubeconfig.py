"""Kubeconfigs as kubeadm, kind, k3s and the clouds write them."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from strongroom.kube.config import load_kubeconfig
from strongroom.model.clock import SimulatedClock, rfc3339
from strongroom.model.errors import Invalid, Refusal, Unavailable

CANARY = "marked-a1b2c3"
V1 = "client.authentication.k8s.io/v1"


def written(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    """A kubeconfig with this user."""
    path = folder / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": "https://x:6443", **cluster}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


def program(folder: Path, status: dict[str, Any], name: str = "login") -> str:
    """A program that makes credentials, and counts in a file how often it was asked."""
    reply = json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": status})
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "asked = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "assert asked['kind'] == 'ExecCredential'\n"
        f"open({str(folder / 'asked')!r}, 'a').write(os.environ['REGION'] + sys.argv[1] + ' ')\n"
        f"print({reply!r})\n"
    )
    path.chmod(0o700)
    return f"./{name}"


def by_program(command: str, **more: Any) -> dict[str, Any]:
    env = [{"name": "REGION", "value": "eu"}]
    return {"exec": {"apiVersion": V1, "command": command, "args": ["-x"], "env": env, **more}}


def test_a_certificate_that_stands_in_the_file_is_shown(tmp_path: Path) -> None:
    data = {f"client-{name}-data": base64.b64encode(name.encode()).decode()
            for name in ("certificate", "key")}  # fmt: skip
    config = load_kubeconfig(written(tmp_path, data))
    assert config.client_pem is not None
    assert config.client_pem.certificate == "certificate"
    assert config.client_pem.key.reveal() == b"key"


def test_a_program_makes_the_token_and_is_run_again_when_it_ends(tmp_path: Path) -> None:
    clock = SimulatedClock()
    ends = rfc3339(clock.now() + 600)
    command = program(tmp_path, {"token": CANARY, "expirationTimestamp": ends})
    path = written(tmp_path, by_program(command))
    config = load_kubeconfig(path, clock=clock, environment={})
    token = config.bearer()
    assert token is not None
    assert token.reveal_text() == CANARY
    assert CANARY not in repr(config)
    config.bearer()
    assert (tmp_path / "asked").read_text() == "eu-x "
    clock.step_wall(595)
    config.bearer()
    assert (tmp_path / "asked").read_text() == "eu-x eu-x "


def test_a_program_may_make_a_certificate(tmp_path: Path) -> None:
    made = {"clientCertificateData": "pem", "clientKeyData": CANARY}
    path = written(tmp_path, by_program(program(tmp_path, made)))
    config = load_kubeconfig(path, clock=SimulatedClock(), environment={})
    assert config.client_pem is not None
    assert config.bearer() is None


@pytest.mark.parametrize(
    ("user", "code", "said"),
    [
        (by_program("./absent", installHint="get it"), "exec-credentials", "cannot be run"),
        (by_program("false"), "exec-credentials", "ended with status 1"),
        (by_program("echo"), "exec-credentials", "did not answer with an ExecCredential"),
        (by_program("./empty"), "exec-credentials", "neither token nor certificate"),
        (by_program("./empty", apiVersion="v9"), "exec-version", "v9"),
        ({}, "bad-kubeconfig", "no credentials"),
        ({"client-certificate": "a"}, "bad-kubeconfig", "there is no client-key"),
        ({"client-certificate-data": CANARY}, "bad-kubeconfig", ""),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_next_step(user, code, said, tmp_path) -> None:
    program(tmp_path, {"token": ""}, "empty")
    with pytest.raises(Refusal) as refused:
        load_kubeconfig(
            written(tmp_path, user), clock=SimulatedClock(), environment={"PATH": "/bin:/usr/bin"}
        )
    assert refused.value.code == code
    assert said in refused.value.message
    assert refused.value.hint
    assert CANARY not in str(refused.value)
    assert isinstance(refused.value, Unavailable) == (code == "exec-credentials")


def test_without_a_clock_no_program_is_run(tmp_path: Path) -> None:
    path = written(tmp_path, by_program(program(tmp_path, {"token": "t"})))
    with pytest.raises(Invalid, match="no credentials"):
        load_kubeconfig(path)
    assert not (tmp_path / "asked").exists()


def test_a_file_that_is_named_and_not_there_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, {"token": "t"}, **{"certificate-authority": "absent.crt"})
    with pytest.raises(Invalid, match="names a file that cannot be read"):
        load_kubeconfig(path)
