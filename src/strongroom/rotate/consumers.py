"""Who holds which version of a secret, and why we think so. Pure over what was read."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from strongroom.kube.resource import Object
from strongroom.model.clock import parse_rfc3339
from strongroom.model.digits import whole_number

SOURCE_VERSIONS: Final = "strongroom.dev/source-versions"


@dataclass(frozen=True, slots=True)
class Consumer:
    """One holder. `evidence` says how it is known, `remedy` what moves it when it stays behind."""

    kind: str
    name: str
    version: int
    evidence: str
    remedy: str = ""

    def behind(self, new: int) -> bool:
        """Whether it still holds an older version."""
        return self.version < new


@dataclass(frozen=True, slots=True)
class Ledger:
    """All consumers of one secret."""

    consumers: tuple[Consumer, ...]

    def behind(self, new: int) -> tuple[Consumer, ...]:
        """Who blocks the retirement of what is older than `new`."""
        return tuple(each for each in self.consumers if each.behind(new))


def from_secrets(path: str, secrets: Iterable[Object]) -> list[Consumer]:
    """Synced Secrets, by the versions recorded on them."""
    found = []
    for item in secrets:
        metadata = item["metadata"]
        version = source_version(metadata, path)
        if version:
            name = f"{metadata['namespace']}/{metadata['name']}"
            remedy = f"see kubectl describe externalsecret -n {metadata['namespace']}"
            found.append(
                Consumer("Secret", name, version, "version recorded on the Secret", remedy)
            )
    return found


def source_version(metadata: Mapping[str, Any], path: str) -> int:
    """The version of a path a Secret was made of, 0 when it was not."""
    try:
        versions = json.loads((metadata.get("annotations") or {}).get(SOURCE_VERSIONS, "{}"))
        return int(versions.get(path, 0))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return 0


@dataclass(frozen=True, slots=True)
class Made:
    """A target of an ExternalSecret (`by`) that does not tell its versions, or not all of them."""

    kind: str
    namespace: str
    name: str
    version: int
    by: str


def made_of(path: str, items: Iterable[Object]) -> list[Made]:
    """The targets made of a path whose versions their ExternalSecrets alone tell.

    A Secret into which several are merged records the versions of who wrote it last, and what is
    no Secret records none.
    """
    found = []
    for item in items:
        metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
        target = spec.get("target") or {}
        manifest, policy = target.get("manifest") or {}, target.get("creationPolicy")
        version = _version_in(str(status.get("sourceVersions") or ""), path)
        if version and policy != "None" and (manifest or policy == "Merge"):
            kind, by = str(manifest.get("kind") or "Secret"), str(metadata["name"])
            name = str(target.get("name") or by)
            found.append(Made(kind, str(metadata["namespace"]), name, version, by))
    return found


def _version_in(said: str, path: str) -> int:
    """The version of a path in `PATH@3, OTHER@7`, 0 where it does not stand there."""
    for each in said.split(", "):
        named, _, number = each.rpartition("@")
        if named == path and (version := whole_number(number)) is not None:
            return version
    return 0


def from_external_secrets(made: Iterable[Made], known: Collection[Consumer]) -> list[Consumer]:
    """Targets by what their ExternalSecrets say, but for those that say the same themselves."""
    told = {(each.kind, each.name, each.version) for each in known}
    found = []
    for each in made:
        name = f"{each.namespace}/{each.name}"
        if (each.kind, name, each.version) not in told:
            evidence = f"version in the status of ExternalSecret {each.by}"
            remedy = f"see kubectl describe externalsecret -n {each.namespace} {each.by}"
            found.append(Consumer(each.kind, name, each.version, evidence, remedy))
    return found


def from_acknowledgements(
    rows: Sequence[Mapping[str, Any]], alive: Collection[str] | None
) -> list[Consumer]:
    """Readers, by what they acknowledged. `alive` are the uids of pods, None when nobody knows.

    A pod holds what it acknowledged until it is gone, whether or not its token still lives; where
    pods cannot be seen, and for other readers, the end of the token is the end of the claim.
    """
    found = []
    for row in rows:
        gone = bool(row.get("lapsed"))
        if row["kind"] == "pod" and alive is not None:
            gone = row["pod_uid"] not in alive
        if gone:
            continue
        name = row["actor"]
        # It is called by its accessor, and of a process that was killed the token lives on.
        remedy = (
            "wait until that token has ended, or if nobody uses it any more:"
            f" strongroom token revoke -accessor {name}"
        )
        if row["kind"] == "batch":
            remedy = "wait until that token has ended: a batch token cannot be revoked"
        if row["kind"] == "pod":
            name = f"{row['namespace']}/{row['pod']}"
            remedy = f"see kubectl logs of the agent in {name}"
        evidence = f"acknowledged {row['acknowledged']}"
        found.append(Consumer(row["kind"], name, int(row["version"]), evidence, remedy))
    return found


def from_environment(
    path: str,
    pods: Iterable[Object],
    secrets: Iterable[Object],
    written: float,
    made: Iterable[Made] = (),
) -> list[Consumer]:
    """Pods that took a synced Secret at their start and keep what they got.

    The environment of a process never changes, and neither does a file that is mounted by subPath,
    so such a pod stays on what it started with. A pod that started before the new version was
    written (`written`, 0 when there is none yet), or before the Secret was brought to its version,
    counts as one version behind it.
    """
    versions, synced = {}, {}
    for item in secrets:
        where = (item["metadata"]["namespace"], item["metadata"]["name"])
        versions[where] = source_version(item["metadata"], path)
        synced[where] = _last_written(item["metadata"])
    for each in made:
        where = (each.namespace, each.name)
        if each.kind == "Secret" and where in versions:
            versions[where] = max(versions[where], each.version)
    found = []
    for pod in pods:
        if finished(pod):
            continue
        for kind, evidence, names in (
            ("environment", "environment set at its start", environment_secrets(pod)),
            ("subPath", "mounted by subPath at its start", subpath_secrets(pod)),
        ):
            namespace = pod["metadata"]["namespace"]
            used = [(namespace, name) for name in names if versions.get((namespace, name))]
            if not used:
                continue
            newest = max(versions[where] for where in used)
            since = max(written, *(synced[where] for where in used))
            version = newest if not written or _started(pod) > since else newest - 1
            name = f"{namespace}/{pod['metadata']['name']}"
            remedy = f"restart it: kubectl delete pod -n {namespace} {pod['metadata']['name']}"
            found.append(Consumer(kind, name, version, evidence, remedy))
    return found


def environment_secrets(pod: Object) -> set[str]:
    """Names of Secrets a pod's containers take environment variables from."""
    names: set[str] = set()
    for container in _containers(pod):
        for source in container.get("envFrom") or []:
            names.add((source.get("secretRef") or {}).get("name", ""))
        for variable in container.get("env") or []:
            ref = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
            names.add(ref.get("name", ""))
    return names - {""}


def subpath_secrets(pod: Object) -> set[str]:
    """Names of Secrets of which a container mounts a part, which a kubelet never brings up to date.

    https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets-as-files-from-a-pod
    """
    parts = {
        mount.get("name")
        for container in _containers(pod)
        for mount in container.get("volumeMounts") or []
        if mount.get("subPath") or mount.get("subPathExpr")
    }
    names: set[str] = set()
    for volume in (pod.get("spec") or {}).get("volumes") or []:
        if volume.get("name") in parts:
            names.add((volume.get("secret") or {}).get("secretName", ""))
            for source in (volume.get("projected") or {}).get("sources") or []:
                names.add((source.get("secret") or {}).get("name", ""))
    return names - {""}


def _containers(pod: Object) -> list[Mapping[str, Any]]:
    spec = pod.get("spec") or {}
    kinds = ("containers", "initContainers", "ephemeralContainers")
    return [container for kind in kinds for container in spec.get(kind) or []]


def finished(pod: Object) -> bool:
    """Whether a pod has ended and holds nothing."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _last_written(metadata: Mapping[str, Any]) -> float:
    times = [entry.get("time") for entry in metadata.get("managedFields") or []]
    return max((parse_rfc3339(text) for text in times if text), default=0.0)


def _started(pod: Object) -> float:
    text = (pod.get("status") or {}).get("startTime") or pod["metadata"].get("creationTimestamp")
    return parse_rfc3339(text) if text else 0.0
