"""A kube-apiserver's flags, mounts and probes from its static pod manifest or its command line."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import yaml

from strongroom.model.errors import Invalid

CONFIG_FLAG: Final = "encryption-provider-config"
SERVICES_FLAG: Final = "service-cluster-ip-range"
RELOAD_FLAG: Final = "encryption-provider-config-automatic-reload"
# They start another program, which stands behind their own flags: kops and kube-up use the first.
_STARTERS: Final = ("go-runner", "tini", "dumb-init")


@dataclass(frozen=True, slots=True)
class Mount:
    """A path in the container, the host's path behind it and the type of the hostPath."""

    path: str
    host_path: str
    kind: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says."""

    flags: Mapping[str, str]
    mounts: tuple[Mount, ...] = ()
    liveness_path: str = ""
    readiness_path: str = ""
    references: tuple[str, ...] = ()
    host_network: bool = False
    static: bool = True
    # Whether it is kube-apiserver's; of another program's a missing flag says nothing.
    of_server: bool = True

    def host_path(self, path: str) -> tuple[str, Mount | None]:
        """Where a file of the container lies on the host, and by which mount."""
        best = max(
            (each for each in self.mounts if _below(path, each.path)),
            key=lambda each: len(each.path),
            default=None,
        )
        if best is None:
            return path, None
        rest = path[len(best.path.rstrip("/")) :]
        return best.host_path.rstrip("/") + rest, best


def _below(path: str, folder: str) -> bool:
    return path == folder or PurePosixPath(folder) in PurePosixPath(path).parents


def parse_flags(words: Sequence[str]) -> dict[str, str]:
    """`--name=value`, `--name value` and bare `--name` (true)."""
    found: dict[str, str] = {}
    waiting = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name] = value if equals else "true"
            waiting = "" if equals else name
        elif waiting:
            found[waiting], waiting = word, ""
    return found


def parse_command_line(text: str) -> Manifest:
    """Flags as `ps` shows them, with NULs between as /proc has them, or alone one on each line.

    Raises Invalid(`bad-manifest`).
    """
    try:
        words = text.split("\0") if "\0" in text else shlex.split(text)
    except ValueError:
        raise Invalid("bad-manifest", "a quote of the command line is not closed") from None
    bare = bool(words) and words[0].startswith("--")
    return Manifest(parse_flags(words), of_server=bare or _is_api_server(words))


def parse_manifest(content: bytes) -> Manifest:
    """A Pod, or a workload with a pod template; raises Invalid(`bad-manifest`)."""
    try:
        given = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Invalid("bad-manifest", "the manifest is not YAML") from None
    if not isinstance(given, dict):
        raise Invalid("bad-manifest", "the manifest is no object")
    spec = given.get("spec") or {}
    template = (spec.get("template") or {}).get("spec") if isinstance(spec, dict) else None
    pod = template or spec
    try:
        return _of_pod(pod, static=given.get("kind") == "Pod")
    except (AttributeError, TypeError, KeyError, IndexError, ValueError):
        raise Invalid("bad-manifest", "the manifest is no pod") from None


def _words(container: Mapping[str, Any]) -> list[str]:
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    found: list[str] = []
    for word in map(str, words):
        # What a shell is given as one word.
        found += shlex.split(word) if found[-1:] == ["-c"] else [word]
    return found


def _is_api_server(words: Sequence[str]) -> bool:
    """Whether kube-apiserver is what runs, by itself or started by another program."""
    if PurePosixPath((*words, "")[0]).name in _STARTERS:
        words = [word for word in words[1:] if not word.startswith("-")][:1]
    return any(
        PurePosixPath(word).name == "kube-apiserver" and before in ("", "-c", "exec")
        for before, word in zip(("", *words), words, strict=False)
    )


def _of_pod(pod: Mapping[str, Any], *, static: bool) -> Manifest:
    # Something else may run beside it, and come first.
    servers = [each for each in pod["containers"] if _is_api_server(_words(each))]
    container = (servers or pod["containers"])[0]
    words = _words(container)
    volumes = {each["name"]: each for each in pod.get("volumes") or []}
    mounts, references = [], []
    for name, volume in volumes.items():
        references += [
            f"{kind} volume {name}"
            for kind in ("secret", "configMap", "projected")
            if kind in volume
        ]
    for each in container.get("volumeMounts") or []:
        host = (volumes.get(each["name"]) or {}).get("hostPath")
        if host:
            part = str(each.get("subPath") or "").strip("/")
            place = f"{host['path'].rstrip('/')}/{part}" if part else host["path"]
            mounts.append(Mount(each["mountPath"], place, str(host.get("type") or "")))
    for source in container.get("envFrom") or []:
        references += [
            f"environment from a {kind}" for kind in ("secretRef", "configMapRef") if kind in source
        ]
    for variable in container.get("env") or []:
        if (variable.get("valueFrom") or {}).get("secretKeyRef"):
            references.append(f"environment variable {variable['name']} of a Secret")
    if pod.get("serviceAccountName"):
        references.append(f"service account {pod['serviceAccountName']}")
    return Manifest(
        flags=parse_flags(words),
        mounts=tuple(mounts),
        liveness_path=_probe(container, "livenessProbe"),
        readiness_path=_probe(container, "readinessProbe"),
        references=tuple(references),
        host_network=bool(pod.get("hostNetwork")),
        static=static,
        of_server=bool(servers),
    )


def _probe(container: Mapping[str, Any], name: str) -> str:
    return str(((container.get(name) or {}).get("httpGet") or {}).get("path") or "")
