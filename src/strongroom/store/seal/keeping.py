"""Whether the seal's backend would open the next start, and its token renewed while we serve.

An open store does not need its backend, so nobody would notice until the next start that a key was
disabled, an identity lost a right, or a token ended. What is wrong is said in the log, in
`sys/seal-status`, in `sys/health` and in a metric.
"""

import logging
from typing import Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal
from strongroom.store.engine.contract import Engine
from strongroom.store.seal.backends import BACKEND_SECONDS, in_time
from strongroom.store.seal.cluster import RETRY_SECONDS, ClusterSeal
from strongroom.wire.keywrap.contract import Perishable

AGAIN_SECONDS: Final = BACKEND_SECONDS
# How often the backend is asked to open the root key that is open already.
LOOK_SECONDS: Final = 600.0

_log = logging.getLogger(__name__)


async def keep_backend(engine: Engine, seal: ClusterSeal, clock: Clock) -> None:
    """Look after it for ever. Where people hold the key, others may have migrated the seal."""
    while True:
        # A sealed store asks its backend anyway, and says in `waiting_for` what it answers.
        wait = RETRY_SECONDS if seal.sealed else await look_once(engine, seal)
        await clock.sleep(wait)


async def look_once(engine: Engine, seal: ClusterSeal) -> float:
    """Note in `seal.backend_problem` whether it would open again; returns when to come back."""
    seconds, auto, name = LOOK_SECONDS, seal.setting.auto, seal.setting.type
    try:
        if auto is not None and isinstance(auto.wrapper, Perishable):
            async with in_time(auto):
                seconds = await auto.wrapper.renew()
        await engine.waiting(seal.opens_again())
    except Refusal as refusal:
        said = f"{refusal.message}; {refusal.hint}" if refusal.hint else refusal.message
        if said != seal.backend_problem:
            _log.error("the next start will not unseal by itself: the %s seal: %s", name, said)
        seal.backend_problem = said
        return AGAIN_SECONDS
    if seal.backend_problem:
        _log.info("the %s seal answers again", name)
    seal.backend_problem = ""
    return seconds
