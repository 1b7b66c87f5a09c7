"""What an audit question is answered from: log files, the store's own state, the cluster's."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from strongroom.access.grants import Holder, role_holder
from strongroom.access.grants import who_can_read as who_can_read_path
from strongroom.access.nodes import nodes_that_read, secrets_of
from strongroom.access.rbac import RbacObjects
from strongroom.access.rbac import who_can_read as who_can_read_secret
from strongroom.audit.exposure import LogCoverage
from strongroom.audit.kubernetes_log import KubeEvent, events_of, times_of
from strongroom.audit.log_files import lines_of
from strongroom.audit.store_log import StoreRecord, parse_record, records_of, unwrappings_of
from strongroom.kube.api import KubeApi, Scope
from strongroom.kube.resource import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    Object,
)
from strongroom.model.errors import Denied, Refusal
from strongroom.model.reach import Reach
from strongroom.model.reference import SecretRef
from strongroom.rotate.consumers import made_of, source_version
from strongroom.rotate.evidence import external_secrets
from strongroom.wire.vault import VaultClient

MANAGED = "reconcile.external-secrets.io/managed=true"
TOKENS_ASKED = 2000
WHOLE = (b"}\n", b"}\r\n", b"}")
# A cheap look before parsing: what a line has that a timeline may have.
KUBE_MARKS = (b'"secrets"', b'"pods"', b"issued-credential-id")


@dataclass(slots=True)
class Read:
    """What the logs held, and what they cover."""

    records: list[StoreRecord] = field(default_factory=list)
    events: list[KubeEvent] = field(default_factory=list)
    coverage: list[LogCoverage] = field(default_factory=list)


def read_logs(store_logs: Sequence[Path], kube_logs: Sequence[Path], ref: SecretRef) -> Read:
    """Read both kinds of log, each once where nothing was wrapped.

    Raises NotFound for a file that is not there.
    """
    read = Read()
    ends: list[bytes] = []
    wraps: set[str] = set()
    unreadable = 0
    for record in records_of(
        _noting(lines_of(store_logs), ends, _record_times), ref.mount, ref.path, wraps
    ):
        if record is None:
            unreadable += 1
        else:
            read.records.append(record)
    read.records = _with_unwrappings(read.records, store_logs, wraps)
    if store_logs:
        times = [time for line in ends for time in _record_times(line)]
        read.coverage.append(_covered("the store's log", times, unreadable))
    ends, unreadable = [], 0
    for line in _noting(lines_of(kube_logs), ends, times_of):
        if line.endswith(WHOLE) and not any(mark in line for mark in KUBE_MARKS):
            continue
        try:
            read.events += [event for event in events_of(line) if _tells(event)]
        except ValueError:
            unreadable += 1
    if kube_logs:
        times = [time for line in ends for time in times_of(line)]
        read.coverage.append(_covered("the API server's log", times, unreadable))
    return read


def _with_unwrappings(
    records: list[StoreRecord], store_logs: Sequence[Path], wraps: set[str]
) -> list[StoreRecord]:
    """In order of time. Another server may have unwrapped it, and its log have come before."""
    known = -1 if wraps and len(store_logs) > 1 else len(wraps)
    more: list[StoreRecord] = []
    while len(wraps) > known:
        known = len(wraps)
        more = list(unwrappings_of(lines_of(store_logs), wraps))
    return sorted([*records, *more], key=lambda each: each.time)


def _tells(event: KubeEvent) -> bool:
    """Whether a timeline may have it: of pods only what goes into them, and not each status."""
    return (
        event.resource == "secrets"
        or bool(event.issued_token_id)
        or (event.resource == "pods" and bool(event.subresource))
    )


def _noting(
    lines: Iterable[bytes], ends: list[bytes], times: Callable[[bytes], Sequence[float]]
) -> Iterator[bytes]:
    """The lines as they are; the first that has a time and the last whole one stay in `ends`."""
    for line in lines:
        if line.endswith(WHOLE):
            if ends:
                ends[1:] = [line]
            elif times(line):
                ends.append(line)
        yield line


def _record_times(line: bytes) -> list[float]:
    record = parse_record(line)
    return [record.time] if record else []


def _covered(name: str, times: Sequence[float], unreadable: int) -> LogCoverage:
    return LogCoverage(name, min(times, default=None), max(times, default=None), unreadable)


async def secrets_made_of(
    api: KubeApi, ref: SecretRef
) -> tuple[frozenset[tuple[str, str]], list[str]]:
    """Namespace and name of every synced Secret that records this path, or is merged from it.

    Also what else is made of it, at whose readers nobody looks, and what could not be asked.
    """
    scope = Scope(label_selector=MANAGED, metadata_only=True)
    found = set()
    for item in (await api.list(SECRETS, scope)).items:
        metadata = item["metadata"]
        if source_version(metadata, ref.api_path):
            found.add((metadata["namespace"], metadata["name"]))
    try:
        made = made_of(ref.api_path, await external_secrets(api))
    except Denied as refusal:
        said = f"ExternalSecrets, for what is merged from them, could not be read: {refusal.code}"
        return frozenset(found), [said]
    found |= {(each.namespace, each.name) for each in made if each.kind == SECRETS.kind}
    others = sorted({
        f"{each.kind} {each.namespace}/{each.name}" for each in made if each.kind != SECRETS.kind
    })  # fmt: skip
    blind = [f"{name} is made of it as well: who reads or could read that" for name in others]
    return frozenset(found), blind


def pods_that_name(
    pods: Iterable[Object], secrets: frozenset[tuple[str, str]]
) -> frozenset[tuple[str, str]]:
    """Namespace and name of those that name one of the Secrets. Pure."""
    found = set()
    for pod in pods:
        namespace, name = str(pod["metadata"]["namespace"]), str(pod["metadata"]["name"])
        if any((namespace, each) in secrets for each in secrets_of(pod.get("spec"))):
            found.add((namespace, name))
    return frozenset(found)


async def pods_beside(
    api: KubeApi, secrets: frozenset[tuple[str, str]]
) -> tuple[list[Object], list[str]]:
    """The pods of now in the namespaces of the Secrets; and what could not be asked."""
    pods: list[Object] = []
    blind: list[str] = []
    for namespace in sorted({each for each, _ in secrets}):
        try:
            pods += (await api.list(PODS, Scope(namespace))).items
        except Refusal as refusal:
            blind.append(
                f"pods of {namespace}, for who went into them and for their nodes, could not be"
                f" read: {refusal.code}"
            )
    return pods, blind


async def cluster_reach(
    api: KubeApi, secrets: frozenset[tuple[str, str]], pods: Sequence[Object]
) -> tuple[list[Reach], list[str]]:
    """Who can read the Secrets by RBAC, and the nodes of the pods; and what could not be asked."""
    try:
        objects = RbacObjects(
            *[
                tuple((await api.list(kind)).items)
                for kind in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)
            ]
        )
    except Refusal as refusal:
        return [], [f"roles and bindings of the cluster could not be read: {refusal.code}"]
    found: list[Reach] = []
    for namespace, name in sorted(secrets):
        reach = who_can_read_secret(objects, namespace, name)
        for each in (*reach, *nodes_that_read(pods, namespace, name)):
            how = f"{each.how} (Secret {namespace}/{name})"
            found.append(Reach(each.kind, each.subject, how, each.rule, each.direct))
    return found, []


async def store_reach(store: VaultClient, ref: SecretRef) -> tuple[list[Reach], list[str]]:
    """Who can read the path in the store; and what could not be asked."""
    blind: list[str] = []
    try:
        names = await store.list("sys/policies/acl")
        policies = {name: await _policy(store, name) for name in names if name != "root"}
    except Refusal as refusal:
        return [], [f"policies of the store could not be read: {refusal.code}"]
    holders: list[Holder] = []
    for name, gather in (("roles", _roles(store)), ("tokens", _tokens(store, ref.api_path))):
        try:
            found, missed = await gather
            holders += found
            blind += missed
        except Refusal as refusal:
            blind.append(f"{name} of the store could not be read: {refusal.code}")
    reach, unreadable, undecided = who_can_read_path(ref.api_path, policies, holders)
    blind += [f"the policy {name} could not be read" for name in unreadable]
    blind += [
        f"the policy {name} allows it to some of those who get it (templates); to whom a role"
        " would give it was not decided"
        for name in undecided
    ]
    blind.append(
        "what entities and groups allow counts for tokens that live, and not for who logs in later"
    )
    return reach, blind


async def _policy(store: VaultClient, name: str) -> str:
    reply = await store.request("GET", f"sys/policies/acl/{name}")
    return str(reply.within("data")["policy"] or "")


async def _roles(store: VaultClient) -> tuple[list[Holder], list[str]]:
    mounts = (await store.request("GET", "sys/auth")).within("data")
    found, blind = [], []
    for path in mounts:
        mount = mounts.within(path)
        if mount["type"] == "kubernetes":
            name = path.rstrip("/")
            for role in await store.list(f"auth/{name}/role"):
                reply = await store.request("GET", f"auth/{name}/role/{role}")
                found.append(role_holder(name, role, reply.within("data")))
        elif mount["type"] != "token":
            blind.append(f"roles of auth/{path} ({mount['type']}) were not asked")
    return found, blind


async def _tokens(store: VaultClient, path: str) -> tuple[list[Holder], list[str]]:
    accessors = await store.list("auth/token/accessors")
    found, blind = [], []
    if len(accessors) > TOKENS_ASKED:
        blind.append(f"{len(accessors) - TOKENS_ASKED} live tokens were not asked")
    for accessor in accessors[:TOKENS_ASKED]:
        try:
            body = {"accessor": accessor}
            reply = await store.request("POST", "auth/token/lookup-accessor", body)
        except Refusal:
            continue  # It ended between the list and the question.
        data = reply.within("data")
        meta = data.get("meta") or {}
        pod = f" pod {meta['pod_name']}" if meta.get("pod_name") else ""
        name = f"{data['display_name']}{pod} (accessor {accessor})"
        policies = (*data["policies"], *(data.get("identity_policies") or ()))
        reads = await _reads(store, accessor, path)
        found.append(Holder("token", name, policies, reads))
    return found, blind


async def _reads(store: VaultClient, accessor: str, path: str) -> bool | None:
    """Whether the store lets a token read a path; None where it does not say."""
    body = {"accessor": accessor, "paths": [path]}
    try:
        reply = await store.request("POST", "sys/capabilities-accessor", body)
    except Refusal:
        return None
    return not {"read", "root"}.isdisjoint((reply.get("data") or reply).get(path) or ())
