"""The tour: the store first, then the cluster, then six steps, each with its evidence."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from strongroom.app.dev.bed import Bed
from strongroom.app.dev.evidence import Evidence, show
from strongroom.app.dev.steps.audit import show_audit
from strongroom.app.dev.steps.deliver import show_deliver
from strongroom.app.dev.steps.encrypt import show_encrypt
from strongroom.app.dev.steps.rotate import show_rotate
from strongroom.app.dev.steps.store import show_store
from strongroom.app.dev.steps.sync import show_sync
from strongroom.model.errors import Unavailable

Step = Callable[[Bed], Awaitable[Evidence]]
STEPS: Final[tuple[Step, ...]] = (
    show_store,
    show_encrypt,
    show_sync,
    show_deliver,
    show_rotate,
    show_audit,
)


def introduce(bed: Bed) -> None:
    """Print where the store is, and three lines to copy."""
    print(f"\nThe store is up at {bed.address}; the root token is in {bed.root_token_file}\n")
    print(f"  export VAULT_ADDR={bed.address}")
    print(f"  export VAULT_TOKEN=$(cat {bed.root_token_file})")
    print(
        f"  {sys.executable} -m strongroom kv put secret/prod/first password=s3cret\n", flush=True
    )


async def tour(bed: Bed) -> bool:
    """Start the cluster and show every step; True when all six were shown.

    Raises Unavailable when a step does not hold.
    """
    _say("making the cluster ready")
    await bed.build()
    await bed.start_cluster()
    _say(f"API server up at {bed.control.url}")
    await bed.connect_store()
    missing = bed.missing_for_node()
    node = None if missing else asyncio.create_task(bed.start_node())
    shown = 0
    try:
        for number, step in enumerate(STEPS, 1):
            if step is show_encrypt and node is not None:
                # It restarts the API server, which the node must not meet while it starts.
                await node
            if step is show_sync:
                await bed.start_operator()
            if step is show_deliver and missing:
                print(f"\n{number}. Deliver: not shown; this machine cannot host a node:")
                for line in missing:
                    print(f"  - {line}")
                continue
            show(number, await step(bed))
            shown += 1
    finally:
        if node is not None and not node.done():
            node.cancel()
            await asyncio.gather(node, return_exceptions=True)
    return shown == len(STEPS)


def farewell(bed: Bed) -> None:
    """Print what stays up and how it ends."""
    print(f"\nEverything stays up. export KUBECONFIG={bed.control.kubeconfig}")
    print(f"kubectl: {bed.control.binaries.path('kubectl')}; logs: {bed.folder / 'logs'}")
    print("Ctrl-C ends it all.", flush=True)


def _say(line: str) -> None:
    print(f"== {line}", file=sys.stderr, flush=True)


def explain(refusal: Unavailable, bed: Bed) -> None:
    """Print where to look when a step did not hold."""
    print(f"\nThe tour stopped: {refusal}", file=sys.stderr)
    print(f"logs: {bed.folder / 'logs'}", file=sys.stderr, flush=True)
