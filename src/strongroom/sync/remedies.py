"""What to do about a broken link of a chain, in the words of the objects at hand. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from strongroom.kube.resource import Object
from strongroom.model.clock import parse_rfc3339, rfc3339
from strongroom.model.errors import Denied, Refusal, Unavailable
from strongroom.model.spelling import nearest
from strongroom.sync.spec import StoreRef

# The API server's path, which says less than the sentence that follows it.
_API_PATH: Final = re.compile(r"(?:^|(?<=: ))/apis?/\S+: ")
_STATUS: Final = re.compile(r" \(status \d{3}\)$")
# So many times its own length a Lease may be old before its holder is taken for gone.
_LAPSED: Final = 2


def plain(message: str) -> str:
    """A message without the path and number of a request to the API server."""
    short = _API_PATH.sub("", message)
    return _STATUS.sub("", short) if short != message else message


def worded(refusal: Refusal) -> str:
    """A refusal in one line, with its code and hint, as conditions and Events tell it."""
    said = f"{plain(refusal.message)} [{refusal.code}]"
    return f"{said}; {refusal.hint}" if refusal.hint else said


def for_reader(refusal: Denied, plural: str) -> Denied:
    """For a person whose kubeconfig may not read what a command looks at."""
    hint = f"the command reads {plural}, stores and targets: name a kubeconfig that may"
    return Denied(refusal.code, plain(refusal.message), hint=hint)


def for_missing_store(ref: StoreRef, stores: Iterable[str], cluster_stores: Iterable[str]) -> str:
    """For a reference to nothing; the names that there are, of each kind."""
    here, wide = sorted(stores), sorted(cluster_stores)
    own, other = (here, wide) if ref.kind == "SecretStore" else (wide, here)
    if ref.name in other:
        kind = "ClusterSecretStore" if ref.kind == "SecretStore" else "SecretStore"
        return f"there is a {kind} of this name: set secretStoreRef.kind to {kind}"
    near = nearest(ref.name, own)
    if near:
        return f"create it, or did you mean {near}?"
    there = f"of this kind there are {', '.join(own[:10])}" if own else "there is none of this kind"
    return f"create it, or name another: {there}"


def for_conditions(store: Object, namespace: str, labels: Mapping[str, str]) -> str:
    """For a namespace that a cluster store's conditions leave out."""
    said = []
    for each in (store.get("spec") or {}).get("conditions") or []:
        if each.get("namespaces"):
            said.append(f"the namespaces {', '.join(each['namespaces'])}")
        if each.get("namespaceRegexes"):
            said.append(f"names like {', '.join(each['namespaceRegexes'])}")
        if each.get("namespaceSelector") is not None:
            said.append(f"labels {_selector(each['namespaceSelector'])}")
    own = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "no labels"
    return f"its conditions allow {'; or '.join(said)}; {namespace} has {own}"


def _selector(selector: Mapping[str, Any]) -> str:
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or []:
        values = ",".join(each.get("values") or [])
        parts.append(f"{each.get('key')} {each.get('operator')} {values}".strip())
    return " and ".join(parts) or "of any kind"


def for_identity(refusal: Refusal, store: Object) -> str:
    """For a login that failed, by what the store logs in with."""
    if isinstance(refusal, Unavailable):
        return "check that the store runs, its address, and network policies on the way"
    if refusal.code == "credential-missing":
        return "create what the store's auth refers to; what was synced stays until then"
    provider = (store.get("spec") or {}).get("provider") or {}
    part = next(iter(provider.values()), None) or {}
    auth = part.get("auth") if isinstance(part, Mapping) else None
    for kind, given in (auth or {}).items():
        if kind == "tokenSecretRef":
            return (
                f"the token in the Secret {given.get('name')} has ended or is not this store's; "
                "write a valid one there"
            )
        if kind == "kubernetes":
            account = (given.get("serviceAccountRef") or {}).get("name", "of the operator")
            return (
                f"check that the role {given.get('role')} of the auth mount "
                f"{given.get('mountPath', 'kubernetes')} is bound to the service account {account} "
                "and its namespace"
            )
        if kind == "appRole":
            return "check the role id, and whether the secret id has ended or was used up"
    return "check the role, its bound service accounts, and what the store's auth refers to"


def for_refused(message: str) -> str:
    """For a target that the operator could not write, by what it said at the object."""
    said = f"the operator was refused: {plain(message)}"
    if "[kube-forbidden]" in message:
        said += (
            "; give it the right: `strongroom install rbac` prints what it needs, "
            "with `--manifest PLURAL` for targets that are no Secrets"
        )
    return said


def for_operator(leases: list[Object], now: float) -> str:
    """For an object that nobody has brought in order, by the operator's Leases."""
    for lease in leases:
        spec = lease.get("spec") or {}
        place = f"{lease['metadata'].get('namespace')}/{lease['metadata']['name']}"
        holder = spec.get("holderIdentity")
        if not holder:
            return f"no operator leads: nobody holds the Lease {place}; start one"
        try:
            renewed = parse_rfc3339(str(spec["renewTime"]))
        except (KeyError, ValueError):
            continue
        if now - renewed > _LAPSED * float(spec.get("leaseDurationSeconds") or 0):
            when = rfc3339(renewed).partition(".")[0]
            return f"no operator leads: {holder} held the Lease {place} last, at {when}; start one"
        return f"{holder} leads; wait a moment, then look at its log"
    return "no operator has led in this cluster: start one (unless it runs without election)"
