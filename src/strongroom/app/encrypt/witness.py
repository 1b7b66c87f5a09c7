"""What API servers' metrics say around a migration: the key they use, and who writes."""

import argparse
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from strongroom.encrypt.rewrite import name_of
from strongroom.model.errors import Conflict, Denied, Refusal, Unavailable

if TYPE_CHECKING:
    from strongroom.encrypt.check.api_metrics import Sample
    from strongroom.kube.client import KubeClient
    from strongroom.model.clock import Clock

LOOK_EVERY: Final = 1000
HINT: Final = "put the kms provider first on every API server, then migrate again"


async def wait_at_barrier(
    servers: Mapping[str, "KubeClient"], args: argparse.Namespace, key_id: str, clock: "Clock"
) -> None:
    """Wait until every server uses the key; raises Unavailable(`barrier`)."""
    from strongroom.encrypt.barrier import barrier, differ

    deadline, told = clock.monotonic() + args.barrier_timeout, ""
    while True:
        samples, away = await _measured(servers)
        state = barrier(samples, args.provider, key_id, 0.0)
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
    """Ends a migration to a key when the server turns out to write with identity."""

    def __init__(self, api: "KubeClient", resources: list[Any]) -> None:
        self._api = api
        self._names = [name_of(each) for each in resources]
        self._before: tuple[Sample, ...] = ()
        self._rewrites = 0

    async def begin(self) -> None:
        """Before a pass."""
        self._before, self._rewrites = await self._look(), 0

    async def after_a_rewrite(self) -> None:
        """After the first, and then now and then; raises Conflict(`writes-plaintext`)."""
        from strongroom.encrypt.plain_writes import wrote_plain

        self._rewrites += 1
        if self._rewrites % LOOK_EVERY != 1:
            return
        plain = wrote_plain(self._before, await self._look(), self._names)
        if plain:
            raise Conflict(
                "writes-plaintext",
                f"the API server writes {', '.join(plain)} in plain text: it knows the key, and"
                " identity stands first in its configuration",
                hint=HINT,
            )

    async def end(self, *, again: bool) -> bool:
        """After a pass that may be the last: whether nothing was read in plain text.

        Raises Conflict(`reads-plaintext`), unless there is to be one more pass `again`, for what
        this one rewrote it read in plain text itself.
        """
        from strongroom.encrypt.plain_writes import read_plain

        reads = read_plain(self._before, await self._look(), self._names)
        if reads > 0 and not again:
            raise Conflict(
                "reads-plaintext",
                f"{reads:g} reads of the last pass were of values in plain text: identity stands"
                " first in the API server's configuration, or on another server",
                hint=HINT,
            )
        return reads <= 0

    async def _look(self) -> "tuple[Sample, ...]":
        from strongroom.encrypt.check.api_metrics import parse

        try:
            return parse((await self._api.raw("/metrics")).decode(errors="replace"))
        except (Denied, Unavailable):
            return ()
