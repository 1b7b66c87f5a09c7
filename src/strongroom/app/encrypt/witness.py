"""What API servers' metrics say around a migration: the key they use, and who writes."""

import argparse
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from strongroom.encrypt.rewrite import name_of
from strongroom.model.errors import Conflict, Refusal, Unavailable

if TYPE_CHECKING:
    from strongroom.encrypt.check.api_metrics import Sample
    from strongroom.encrypt.coverage import Coverage, Expected
    from strongroom.kube.client import KubeClient
    from strongroom.model.clock import Clock

LOOK_EVERY: Final = 1000
# Touches that change nothing, after which it is looked whether what they left is encrypted.
KEPT: Final = 20
HINT: Final = (
    "put the provider that encrypts first on every API server, which reloads its file within a"
    " minute if it does at all, then migrate again"
)


async def wait_at_barrier(
    servers: Mapping[str, "KubeClient"], args: argparse.Namespace, key_id: str, clock: "Clock"
) -> None:
    """Wait until every server uses the key; raises Unavailable(`barrier`)."""
    from strongroom.encrypt.barrier import barrier, differ

    deadline, told = clock.monotonic() + args.barrier_timeout, ""
    while True:
        samples, away = await _measured(servers)
        state = barrier(samples, args.provider, key_id)
        behind = {**state.behind, **away}
        if not behind:
            print(f"every API server uses the key {key_id}", flush=True)
            if differ(samples):
                print(
                    "warning: they have loaded different configurations, so one may still write in"
                    " plain text: strongroom encrypt check --live tells them apart",
                    flush=True,
                )
            return
        said = "; ".join(f"{name} {reason}" for name, reason in behind.items())
        if said != told:
            told = said
            print(f"waiting: {said}", flush=True)
        if clock.monotonic() >= deadline:
            raise Unavailable(
                "barrier", f"not every API server uses the key: {said}",
                hint="nothing was rewritten; API servers poll their plugin once a minute",
            )  # fmt: skip
        await clock.sleep(2.0)


async def _measured(
    servers: Mapping[str, "KubeClient"],
) -> "tuple[dict[str, tuple[Sample, ...]], dict[str, str]]":
    """What each measures, and who does not say; a busy or restarting server is asked again."""
    from strongroom.encrypt.check.api_metrics import parse

    samples, away = {}, {}
    for name, api in servers.items():
        try:
            samples[name] = parse((await api.raw("/metrics")).decode(errors="replace"))
        except Unavailable as refusal:
            away[name] = f"does not show its metrics: {refusal.message}"
    # A probe older than twenty seconds has the server ask its plugin now, not once a minute.
    for name in samples:
        with contextlib.suppress(Refusal):
            await servers[name].raw("/readyz")
    return samples, away


class Witness:
    """Ends a migration to a key when a server turns out to write with identity or another key.

    The first of the servers is the one that rewrites; it counts the reads of what is `counted`.
    Local keys have no key id, and of them plain text alone is told. `blind` says that not even
    that could be, as of servers behind a balancer or whose metrics are not shown.
    """

    def __init__(
        self,
        servers: Mapping[str, "KubeClient"],
        resources: list[Any],
        coverage: "Coverage",
        key: "Expected",
    ) -> None:
        self._servers = servers
        self._names = [name_of(each) for each in resources]
        self._counted = [each for each in self._names if coverage.counted(each)]
        self._key = key
        self._keyed = [each for each in self._counted if coverage.expected(each) == key]
        self.blind = False
        self._before: dict[str, tuple[Sample, ...]] = {}
        self._rewrites = self._kept = 0

    async def begin(self) -> None:
        """Before a pass."""
        self._before, self._rewrites, self._kept = await self._look(), 0, 0

    async def after_a_touch(self, resource: str, changed: bool) -> None:  # noqa: FBT001 - as Look
        """After the first rewrite and then now and then; and after some touches without one.

        Raises Conflict(`writes-plaintext`).
        """
        from strongroom.encrypt.plain_writes import kept_plain

        self._rewrites += changed
        kept = not changed and resource in self._counted
        self._kept += kept
        if changed and self._rewrites % LOOK_EVERY == 1:
            self._nobody_writes_plain(await self._look())
        elif kept and self._kept == KEPT and not self._rewrites:
            after = await self._look()
            rewrites = next(iter(self._servers))
            if kept_plain(self._before[rewrites], after[rewrites], self._counted, KEPT):
                raise _plain(rewrites, self._counted)

    async def end(self, touched: Mapping[str, int], *, again: bool) -> bool:
        """After a pass that may be the last: whether nothing was read in plain text.

        Raises Conflict(`reads-plaintext`), unless there is to be one more pass `again`, for what
        this one rewrote it read in plain text itself; Conflict(`writes-plaintext`) when another
        server did; Conflict(`not-encrypted`) when nothing covers what was touched; and
        Conflict(`another-key`) when it is under another key, or a server has gone back to one.
        """
        from strongroom.encrypt.plain_writes import never_sealed, read_plain, tells

        after = await self._look()
        self._nobody_writes_plain(after)
        rewrites = next(iter(self._servers))
        pair = self._before[rewrites], after[rewrites]
        self.blind = not tells(*pair)
        reads = read_plain(*pair, self._names)
        if reads > 0 and not again:
            raise Conflict(
                "reads-plaintext",
                f"{reads:g} reads of the last pass were of values in plain text: identity stands"
                " first in the API server's configuration, or on another server",
                hint=HINT,
            )
        bare = never_sealed(*pair, [each for each in self._counted if touched.get(each)])
        if bare and reads <= 0:
            raise Conflict(
                "not-encrypted",
                f"no value of {', '.join(bare)} that was read in the last pass is encrypted: no"
                " entry of the configuration that the API server has loaded covers them",
                hint="strongroom encrypt check --config F says what it covers, and --live whether"
                " it is loaded",
            )
        settled = reads <= 0 and not (again and self._missed(touched, *pair))
        if settled and self._key.key_id:
            self._nobody_has_another_key(touched, after)
        return settled

    def _missed(
        self,
        touched: Mapping[str, int],
        before: "tuple[Sample, ...]",
        after: "tuple[Sample, ...]",
    ) -> bool:
        from strongroom.encrypt.plain_writes import under_another_key

        touches = sum(touched.get(each, 0) for each in self._keyed)
        return bool(self._key.key_id) and under_another_key(
            before, after, self._keyed, self._key, touches
        )

    def _nobody_has_another_key(
        self, touched: Mapping[str, int], after: "Mapping[str, tuple[Sample, ...]]"
    ) -> None:
        """What the barrier said holds no longer after a plugin that was swapped or put back."""
        from strongroom.encrypt.barrier import barrier
        from strongroom.encrypt.check.api_metrics import STATUS_TIME, of

        provider, rewrites = self._key.provider, next(iter(self._servers))
        told = {
            name: each
            for name, each in after.items()
            # Started anew with a file without the provider, it shows nothing of it any more.
            if each and of((*self._before[name], *each), STATUS_TIME, provider_name=provider)
        }
        wrong = dict(barrier(told, provider, self._key.key_id).behind)
        if self._missed(touched, self._before[rewrites], after[rewrites]):
            wrong.setdefault(rewrites, "read values under another key in the last pass")
        if wrong:
            raise Conflict(
                "another-key",
                f"not everything is under the key {self._key.key_id}: "
                + "; ".join(f"{name} {reason}" for name, reason in wrong.items()),
                hint="retire no key; see that strongroom kms status names this key on every node,"
                " and that /readyz of every API server is well, then migrate again",
            )

    def _nobody_writes_plain(self, after: "Mapping[str, tuple[Sample, ...]]") -> None:
        from strongroom.encrypt.plain_writes import wrote_plain

        for name, samples in after.items():
            written = wrote_plain(self._before[name], samples, self._names)
            if written:
                raise _plain(name, written)

    async def _look(self) -> "dict[str, tuple[Sample, ...]]":
        return {name: await _samples(api) for name, api in self._servers.items()}


async def _samples(api: "KubeClient") -> "tuple[Sample, ...]":
    from strongroom.encrypt.check.api_metrics import parse

    try:
        return parse((await api.raw("/metrics")).decode(errors="replace"))
    except Refusal:  # Nor does what stands in front of the server always lead to them.
        return ()


def _plain(server: str, names: list[str]) -> Conflict:
    return Conflict(
        "writes-plaintext",
        f"the API server {server} writes {', '.join(names)} in plain text: identity stands first"
        " in the configuration that it has loaded",
        hint=HINT,
    )
