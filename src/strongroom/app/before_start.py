"""What is looked at and made before the workers of a server start."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from strongroom.app.server import Worker, device, open_engine, seal_setting, tls_context
from strongroom.app.store_config.settings import POSTGRESQL, AuditSetting, ServerSettings
from strongroom.app.store_config.storage_place import check_url, made_folder
from strongroom.crypto.keyfile import create_key_file
from strongroom.model.clock import Clock
from strongroom.model.errors import Conflict
from strongroom.model.secret import Secret
from strongroom.store.assembly import open_cluster
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Engine
from strongroom.store.seal.cluster import ClusterSeal
from strongroom.store.snapshots import forget_drills


def check(
    settings: ServerSettings, environment: Mapping[str, str], clock: Clock, *, dry: bool = False
) -> None:
    """What would not work later is refused now: seals, audit devices, certificates.

    `dry`: nothing is made, and no audit file is opened.
    """
    seal_setting(settings, Worker(environment=environment), clock)
    if settings.storage.path is not None and not dry:
        made_folder(settings.storage.path)
    if settings.storage.engine == POSTGRESQL:
        check_url(settings.storage.url)
    for setting in settings.audit:
        # An audit file that cannot be opened is a reason not to start, not to serve unrecorded.
        device(_discarding(setting) if dry else setting).device.close()
    for listener in settings.listeners:
        tls_context(listener)


def _discarding(setting: AuditSetting) -> AuditSetting:
    named = setting.type == "file" and {"file_path", "path"} & {*setting.options}
    options = {**setting.options, "file_path": "discard"}
    return dataclasses.replace(setting, options=options) if named else setting


def clear(settings: ServerSettings) -> None:
    """Remove what a server that was killed left beside the database."""
    if settings.storage.path is not None:
        forget_drills(settings.storage.path)


async def make_schema(settings: ServerSettings) -> None:
    """Bring the database up to date before several workers open it at once.

    SQLite does not wait for another process that makes the file a WAL one; it refuses.
    """
    engine = await open_engine(settings.storage, Barrier())
    await engine.close()


async def prepare(settings: ServerSettings, clock: Clock) -> Secret | None:
    """Initialise by itself, with the static seal's key file; the root token of a new cluster."""
    key_file = Path(settings.seal.fields["key_file"]) if settings.seal else None
    barrier = Barrier()
    engine = await open_engine(settings.storage, barrier)
    try:
        if key_file and not key_file.exists() and not await engine.waiting(_has_cluster(engine)):
            # Nodes that start together on one machine share the file of whoever was first.
            with contextlib.suppress(Conflict):
                create_key_file(key_file)
        check(settings, {}, clock)
        seal = ClusterSeal(engine, barrier, seal_setting(settings, Worker(), clock), clock)
        return await open_cluster(engine, seal, barrier, clock)
    finally:
        await engine.close()


async def _has_cluster(engine: Engine) -> bool:
    return engine.view.cluster() is not None
