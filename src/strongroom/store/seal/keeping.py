"""Keeping what the seal's backend is asked with: a token that ends is renewed while we serve.

An open store does not need its backend, so nobody would notice until the next start. What is
wrong is said in the log, in `sys/seal-status`, in `sys/health` and in a metric.
"""

import logging
from typing import Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal
from strongroom.store.seal.backends import BACKEND_SECONDS, AutoSeal, in_time
from strongroom.store.seal.cluster import RETRY_SECONDS, ClusterSeal
from strongroom.wire.keywrap.contract import Perishable

AGAIN_SECONDS: Final = BACKEND_SECONDS

_log = logging.getLogger(__name__)


async def keep_backend(seal: ClusterSeal, clock: Clock) -> None:
    """Renew for ever; returns at once for a backend with nothing to renew."""
    auto = seal.setting.auto
    if auto is None or not isinstance(auto.wrapper, Perishable):
        return
    while True:
        # A sealed store asks its backend anyway, and says in `waiting_for` what it answers.
        wait = RETRY_SECONDS if seal.sealed else await renew_once(seal, auto, auto.wrapper)
        await clock.sleep(wait)


async def renew_once(seal: ClusterSeal, auto: AutoSeal, backend: Perishable) -> float:
    """Renew and note in `seal.backend_problem` how it went; returns when to come back."""
    try:
        async with in_time(auto):
            seconds = await backend.renew()
    except Refusal as refusal:
        said = f"{refusal.message}; {refusal.hint}" if refusal.hint else refusal.message
        if said != seal.backend_problem:
            _log.error("the next start will not unseal by itself: the %s seal: %s", auto.type, said)
        seal.backend_problem = said
        return AGAIN_SECONDS
    if seal.backend_problem:
        _log.info("the %s seal answers again", auto.type)
    seal.backend_problem = ""
    return seconds
