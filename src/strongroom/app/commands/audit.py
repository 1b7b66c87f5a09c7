"""`strongroom audit`: the timeline of a secret, and how far one of its versions is known.

With `list`, `enable`, `disable` or `hash` behind it, it is about the store's audit devices.
"""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.client.audit_devices import register_devices
from strongroom.app.commands.operator import add_cluster_arguments, cluster_config
from strongroom.app.store_address import add_store_arguments, open_store
from strongroom.app.tables import Sheet, say, show
from strongroom.model.clock import SystemClock, parse_rfc3339, rfc3339
from strongroom.model.errors import Invalid, NotFound
from strongroom.model.reference import SecretRef, parse_secret_ref

if TYPE_CHECKING:
    from strongroom.audit.exposure import Exposure, LogCoverage, Reader
    from strongroom.audit.timeline import Entry, Subject
    from strongroom.kube.api import KubeApi
    from strongroom.kube.resource import Object
    from strongroom.model.reach import Reach
    from strongroom.wire.vault import VaultClient

SHOWN_ADDRESSES: Final = 3
EXAMPLE: Final = """example:
  strongroom audit timeline prod/db --store-log audit.log --kube-log kube-audit.log
  strongroom audit exposure prod/db --version 3 --store-log audit.log --kube-log kube-audit.log
  strongroom audit timeline prod/db --offline --secret shop/db --store-log audit.log.1.gz \\
      --store-log audit.log --format json
  strongroom audit enable file file_path=/var/log/audit.log
  strongroom audit timeline prod/db --since 24h --store-log audit.log --kube-log kube-audit.log

exit status: 0 answered, 2 refused
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its verbs."""
    parser = commands.add_parser(
        "audit",
        help="who touched a secret, who could, from when to when; audit devices",
        epilog=EXAMPLE,
    )
    verbs = parser.add_subparsers(dest="audit_verb", metavar="VERB", required=True)
    timeline = verbs.add_parser("timeline", help="every touch of a secret, oldest first")
    exposure = verbs.add_parser("exposure", help="who did and could read a version")
    exposure.add_argument(
        "--version", type=int, default=0, help="the version (default: the newest)"
    )
    exposure.add_argument(
        "--all", action="store_true", help="list Kubernetes' own components one by one"
    )
    for verb in (timeline, exposure):
        verb.epilog = EXAMPLE
        verb.add_argument("path", help="prod/db, secret/prod/db")
        verb.add_argument("--mount", default="secret", metavar="PATH", help="of the KV engine")
        verb.add_argument(
            "--store-log", type=Path, action="append", default=[], metavar="F",
            help="the store's audit log; again for each rotated file, oldest first",
        )  # fmt: skip
        verb.add_argument(
            "--kube-log", type=Path, action="append", default=[], metavar="F",
            help="the API server's audit log; again for each rotated file, oldest first",
        )  # fmt: skip
        verb.add_argument(
            "--secret", action="append", default=[], metavar="NS/NAME",
            help="a Kubernetes Secret made of it, beside those the cluster knows",
        )  # fmt: skip
        verb.add_argument("--no-cluster", action="store_true", help="do not ask a cluster")
        verb.add_argument(
            "--format", choices=("table", "json"), default="table", help="default: table"
        )
        add_cluster_arguments(verb)
        add_store_arguments(verb)
    timeline.add_argument(
        "--offline", action="store_true", help="the logs alone: ask neither store nor cluster"
    )
    timeline.add_argument(
        "--since", default="", metavar="T",
        help="what came later alone: 24h, 2d, or a time such as 2026-11-27T08:00:00Z",
    )  # fmt: skip
    timeline.set_defaults(run=run_timeline)
    exposure.set_defaults(run=run_exposure, offline=False)
    register_devices(verbs)


def run_timeline(args: argparse.Namespace) -> int:
    """Print the timeline."""
    from strongroom.audit.exposure import unreadable_lines

    since = since_of(args.since, SystemClock().now())
    subject, entries, coverage, blind = asyncio.run(_timeline(args, since))
    if args.format == "json":
        said = {
            "secret": str(subject.ref),
            "entries": [each.as_data() for each in entries],
            "unreadable_lines": {each.name: each.unreadable for each in coverage},
            "blind_spots": blind,
        }
        print(json.dumps(said, indent=2))
    else:
        _print_timeline(subject.ref, entries, since)
        for line in (*unreadable_lines(coverage), *(f"not in it: {each}" for each in blind)):
            say(line)
    return 0


def since_of(text: str, now: float) -> float:
    """The time that `--since` names, 0 when it names none; raises Invalid. Pure."""
    if not text:
        return 0.0
    try:
        if text[:4].isdigit() and text[4:5] == "-":
            return parse_rfc3339(text)
        from strongroom.store.call import parse_seconds

        ago = parse_seconds(text)
        if ago <= 0:
            raise ValueError
        return now - ago
    except (ValueError, Invalid):
        raise Invalid(
            "bad-since",
            f"neither a time nor how long ago: {text!r}",
            hint="--since 24h, or --since 2026-11-27T08:00:00Z",
        ) from None


def run_exposure(args: argparse.Namespace) -> int:
    """Print the answer."""
    exposure = asyncio.run(_exposure(args))
    if args.format == "json":
        print(json.dumps(exposure.as_data(), indent=2))
    else:
        _print_exposure(exposure, every=args.all)
    return 0


async def _open(
    args: argparse.Namespace, stack: AsyncExitStack
) -> "tuple[VaultClient | None, KubeApi | None]":
    from strongroom.kube.client import KubeClient

    if args.offline:
        return None, None
    store = await stack.enter_async_context(open_store(args))
    if args.no_cluster:
        return store, None
    return store, await stack.enter_async_context(KubeClient(cluster_config(args), SystemClock()))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What store and cluster say of a secret: its versions, the pods beside its Secrets.

    `blind` is what could not be asked.
    """

    subject: "Subject"
    versions: Mapping[str, Any]
    pods: "Sequence[Object]"
    blind: Sequence[str]


async def _subject(
    args: argparse.Namespace, store: "VaultClient | None", api: "KubeApi | None"
) -> _Asked:
    from strongroom.app.audit_sources import pods_beside, pods_that_name, secrets_made_of
    from strongroom.audit.timeline import Subject

    ref = asked_of(args)
    ref = SecretRef(ref.mount, ref.path)
    secrets = _named(args.secret)
    pods: list[Object] = []
    blind: list[str] = []
    if api is not None:
        made, unmade = await secrets_made_of(api, ref)
        secrets |= made
        pods, unlisted = await pods_beside(api, secrets)
        blind = unmade + unlisted
    versions: dict[str, Any] = {}
    if store is not None:
        try:
            versions = (await store.kv2_metadata(ref.mount, ref.path)).get("versions") or {}
        except NotFound:
            # Of a secret that was removed altogether the logs still tell.
            if args.audit_verb != "timeline":
                raise
    created = {
        int(number): parse_rfc3339(entry["created_time"]) for number, entry in versions.items()
    }
    subject = Subject(ref, secrets, created, pods_that_name(pods, secrets))
    return _Asked(subject, versions, pods, blind)


def asked_of(args: argparse.Namespace) -> SecretRef:
    """The secret and the version that is asked about, 0 for none; raises Invalid."""
    ref = parse_secret_ref(args.path, args.mount)
    if args.audit_verb == "timeline":
        if ref.version:
            raise Invalid(
                "version-given",
                "a timeline is of all versions",
                hint=f"strongroom audit exposure {args.path}",
            )
        return ref
    if args.version < 0 or (args.version and ref.version and args.version != ref.version):
        raise Invalid("bad-version", f"--version {args.version} and {args.path} do not go together")
    return SecretRef(ref.mount, ref.path, args.version or ref.version)


def _named(words: Sequence[str]) -> frozenset[tuple[str, str]]:
    found = set()
    for word in words:
        namespace, slash, name = word.partition("/")
        if not slash or not namespace or not name:
            raise Invalid("bad-secret", f"not NAMESPACE/NAME: {word!r}", hint="--secret shop/db")
        found.add((namespace, name))
    return frozenset(found)


def _check_logs(args: argparse.Namespace) -> None:
    if not args.store_log and not args.kube_log:
        raise Invalid(
            "no-log",
            "a timeline is made of logs, and none was given",
            hint="--store-log audit.log --kube-log kube-audit.log",
        )


async def _timeline(
    args: argparse.Namespace, since: float
) -> "tuple[Subject, list[Entry], list[LogCoverage], list[str]]":
    from strongroom.app.audit_sources import read_logs
    from strongroom.audit.timeline import timeline

    _check_logs(args)
    async with AsyncExitStack() as stack:
        store, api = await _open(args, stack)
        asked = await _subject(args, store, api)
    subject = asked.subject
    read = read_logs(args.store_log, args.kube_log, subject.ref)
    # What came before is read all the same: it says whose token a later touch was by.
    entries = timeline(subject, read.records, read.events)
    later = [each for each in entries if each.time >= since]
    return subject, later, read.coverage, list(asked.blind)


async def _exposure(args: argparse.Namespace) -> "Exposure":
    from strongroom.app.audit_sources import cluster_reach, read_logs, store_reach
    from strongroom.audit.exposure import Exposure, blind_spots, readers, window_of
    from strongroom.audit.timeline import timeline

    _check_logs(args)
    async with AsyncExitStack() as stack:
        store, api = await _open(args, stack)
        asked = await _subject(args, store, api)
        subject, versions = asked.subject, asked.versions
        number = asked_of(args).version or max(subject.created, default=0)
        if str(number) not in versions:
            raise NotFound(
                "no-version",
                f"{subject.ref} has no version {number}",
                hint="strongroom kv metadata",
            )
        could: list[Reach] = []
        blind: list[str] = []
        if store is not None:
            could, blind = await store_reach(store, subject.ref)
        if api is not None:
            reach, missed = await cluster_reach(api, subject.secrets, asked.pods)
            could, blind = could + reach, blind + missed + list(asked.blind)
    window = window_of(number, versions[str(number)])
    read = read_logs(args.store_log, args.kube_log, subject.ref)
    entries = timeline(subject, read.records, read.events)
    now = SystemClock().now()
    blind = blind_spots(window, read.coverage, cluster=api is not None, now=now) + blind
    return Exposure(subject, window, readers(entries, number), tuple(could), tuple(blind))


def _clock(time: float) -> str:
    return rfc3339(time)[:23].replace("T", " ")


def timeline_sheet(ref: SecretRef, entries: "Sequence[Entry]") -> Sheet:
    """Every touch, equal ones that follow each other on one line."""
    from strongroom.audit.timeline import fold, short_accessor

    rows = []
    # Tokens that their names do not tell apart.
    tokens = {(each.actor.name, each.actor.accessor) for each in entries if each.actor.accessor}
    alike = Counter(name for name, _ in tokens)
    for folded in fold(entries):
        each = folded.entry
        accessor = short_accessor(each.actor.accessor) if alike[each.actor.name] > 1 else ""
        times = f" x{folded.count}" if folded.count > 1 else ""
        version = _versions(each)
        action = f"{each.action} {each.target}" if each.source == "kubernetes" else each.action
        rows.append((
            _clock(each.time), each.actor.shown,
            accessor, each.actor.pod, each.actor.node, each.address,
            action + times, " ".join(each.keys), version, each.outcome, each.joined_by,
        ))  # fmt: skip
    count = "1 touch" if len(entries) == 1 else f"{len(entries):,} touches"
    return Sheet(
        f"{ref}: {count}",
        (
            "time (UTC)",
            "actor",
            "accessor",
            "pod",
            "node",
            "from",
            "action",
            "keys",
            "version",
            "outcome",
            "joined by",
        ),
        rows,
        lead=("time (UTC)", "actor", "action", "outcome"),
        whole=("time (UTC)", "outcome"),
    )


def _versions(entry: "Entry") -> str:
    """Of a watch the first and the last that it may have shown."""
    seen = [each for each in (entry.version, *(later for later, _ in entry.later)) if each]
    ends = "-".join(map(str, dict.fromkeys((seen[0], seen[-1])))) if seen else ""
    return f"~{ends}" if ends and entry.inferred else ends


def _print_timeline(ref: SecretRef, entries: "Sequence[Entry]", since: float) -> None:
    if not entries and since:
        say(f"{ref}: no touch in these logs since {_clock(since)}.")
        return
    if not entries:
        say(f"{ref}: no touch in these logs. Is the path right, and are these all of its logs?")
        return
    show(timeline_sheet(ref, entries))
    if any(each.inferred for each in entries):
        say("~ the cluster does not log versions; inferred from when they were made")


def _print_exposure(exposure: "Exposure", *, every: bool) -> None:
    window = exposure.window
    ended = "still readable"
    if window.ended is not None:
        past = window.ended <= SystemClock().now()
        ended = f"{'deleted' if past else 'readable until'} {_clock(window.ended)}"
    if window.destroyed:
        ended = "destroyed"
    say(f"{exposure.subject.ref} version {window.version}: made {_clock(window.created)}, {ended}")
    if exposure.did:
        show(readers_sheet(exposure.did))
    else:
        say("Nobody is seen to have read it.")
    could = reach_sheet(exposure.could, every=every)
    if could.rows:
        show(could)
    else:
        say("Nobody is known who could read it, as things are now.")
    say("What this does not see:")
    for line in exposure.blind:
        say(f"  - {line}")


def readers_sheet(did: "Sequence[Reader]") -> Sheet:
    """Who did, and from where."""
    from strongroom.audit.timeline import Actor, short_accessor

    rows = [
        (
            Actor(each.actor, acting_as=each.acting_as).shown, short_accessor(each.accessor),
            each.pod, each.node,
            _some(each.addresses), each.way, _clock(each.first), _clock(each.last),
            str(each.count) if each.certain else f"~{each.count}",
        )
        for each in did
    ]  # fmt: skip
    columns = ("actor", "accessor", "pod", "node", "from", "way", "first", "last", "times")
    return Sheet("Who did read it", columns, rows, lead=("actor", "way"), whole=("first", "last"))


def _some(addresses: "Sequence[str]") -> str:
    """The first of them; the JSON has all."""
    more = len(addresses) - SHOWN_ADDRESSES
    return ", ".join(addresses[:SHOWN_ADDRESSES]) + (f" and {more:,} more" if more > 0 else "")


def _together(hows: "Sequence[str]") -> str:
    """Ways to the same Secret name it once, after the last of them."""
    said = []
    for at, how in enumerate(hows):
        way, bracket, secret = how.partition(" (Secret ")
        following = hows[at + 1] if at + 1 < len(hows) else ""
        said.append(way if bracket and following.endswith(bracket + secret) else how)
    return "; ".join(said)


def reach_sheet(reach: "Sequence[Reach]", *, every: bool) -> Sheet:
    """Who could; the components Kubernetes brings are one row unless every one is asked for."""
    rows = []
    own = [] if every else [each for each in reach if each.built_in]
    ways: dict[tuple[str, str, bool], list[str]] = {}
    for way in reach:
        if every or not way.built_in:
            key = (f"{way.kind} {way.subject}", way.rule, way.direct)
            ways.setdefault(key, []).append(way.how)
    for (who, rule, direct), hows in ways.items():
        rows.append((who, ("" if direct else "by one more step: ") + _together(hows), rule))
    if own:
        count = len({(each.kind, each.subject) for each in own})
        rows.append((
            f"{count} of Kubernetes' own components", "--all lists them",
            "ClusterRoleBindings system:*",
        ))  # fmt: skip
    title = "Who could read it, as things are now"
    return Sheet(title, ("who", "how", "granted by"), rows, lead=("who",))
