"""`sys/loggers`: how much the server says in its own log.

API: https://developer.hashicorp.com/vault/api-docs/system/loggers. A level that is set holds in
every process of the cluster, and over restarts, until it is deleted; Vault's ends with the process.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import nothing_here
from strongroom.store.parameters import fields

MOUNT, KIND = "system", "loggers"
ROOT: Final = "strongroom"
LEVEL: Final = fields(text="level")
LEVELS: Final[Mapping[str, int]] = {
    "trace": logging.DEBUG, "debug": logging.DEBUG, "info": logging.INFO, "notice": logging.INFO,
    "warn": logging.WARNING, "warning": logging.WARNING, "error": logging.ERROR,
    "err": logging.ERROR,
}  # fmt: skip
_NAMES: Final = {
    logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error",
    logging.CRITICAL: "error",
}  # fmt: skip


class Loggers:
    """The endpoints. A name is a module's, such as `strongroom.store.feed`, or a part of it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._set: dict[str, int] = {}

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        every = {"read": self._all, "update": self._set_all, "delete": self._revert_all}
        one = {"read": self._one, "update": self._set_one, "delete": self._revert_one}
        return (
            Endpoint("loggers", every, sudo=True, takes=LEVEL),  # type: ignore[arg-type]
            Endpoint("loggers/{name}", one, sudo=True, takes=LEVEL),  # type: ignore[arg-type]
        )

    def reload(self) -> None:
        """Take the levels that are stored now; what is no longer among them is as before."""
        wanted = {
            name: LEVELS[level]
            for name, level in (self._context.view.document(MOUNT, KIND, "") or {}).items()
        }
        for name, before in list(self._set.items()):
            if name not in wanted:
                logging.getLogger(name).setLevel(before)
                del self._set[name]
        for name, level in wanted.items():
            logger = logging.getLogger(name)
            self._set.setdefault(name, logger.level)
            logger.setLevel(level)

    def _all(self, call: Call) -> Result:  # noqa: ARG002 - the handler's shape
        known = [ROOT, *(name for name in logging.root.manager.loggerDict if _is_ours(name))]
        return Result({name: _level(name) for name in sorted(set(known))})

    def _one(self, call: Call) -> Result:
        name = call.args["name"]
        if not _is_ours(name):
            raise nothing_here()
        return Result({name: _level(name)})

    async def _set_all(self, call: Call) -> None:
        await self._change({ROOT: _asked(call)})

    async def _set_one(self, call: Call) -> None:
        await self._change({_name(call): _asked(call)})

    async def _revert_all(self, call: Call) -> None:  # noqa: ARG002 - the handler's shape
        await self._change({}, keep=False)

    async def _revert_one(self, call: Call) -> None:
        await self._change({_name(call): ""})

    async def _change(self, levels: Mapping[str, str], *, keep: bool = True) -> None:
        def write(transaction: Transaction) -> None:
            before = (transaction.document(MOUNT, KIND, "") or {}) if keep else {}
            after = {name: level for name, level in {**before, **levels}.items() if level}
            transaction.put_document(MOUNT, KIND, "", after)
            # Other processes read the levels anew when the generation moves.
            transaction.move_generation()

        await self._context.engine.transact(write)
        self.reload()


def _is_ours(name: str) -> bool:
    return name == ROOT or name.startswith(f"{ROOT}.")


def _level(name: str) -> str:
    return _NAMES.get(logging.getLogger(name).getEffectiveLevel(), "info")


def _name(call: Call) -> str:
    name = call.args["name"]
    if not _is_ours(name):
        raise Invalid("no-logger", f"there is no logger {name!r}", hint=f"names begin with {ROOT}")
    return name


def _asked(call: Call) -> str:
    level = call.text("level").lower()
    if level not in LEVELS:
        raise Invalid("bad-level", "the log level is one of " + ", ".join(LEVELS))
    return level
