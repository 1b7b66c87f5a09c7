"""Paths of Vault's that mean nothing here: each is refused with its reason, and hidden from nobody.

A client that asks for one learns why it will never be there, instead of a path that is unknown.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from strongroom.model.errors import Invalid, NotFound
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.call import Handler as EndpointHandler
from strongroom.store.normalise import Operation

EVERY: Final[tuple[Operation, ...]] = ("read", "list", "update", "patch", "delete")
REASONS: Final[Mapping[str, str]] = {
    "pprof": "profiles of a running server show what is in its memory; they are taken on the"
    " machine, by who may do so there (py-spy)",
    "storage/raft": "the storage is a database, not Raft; its snapshots are served, and the"
    " rest is for the tools of the database",
    "raw": "it would go round every policy",
    "internal/inspect": "it would go round every policy",
    "plugins": "engines and auth methods are part of the program; there are no plugins",
    "license": "there is no licence to install",
    "replication": "nodes share one database; there is nothing to replicate",
    "config/ui/headers": "no web page is served",
    "policies/egp": "Sentinel policies are Vault Enterprise's",
    "policies/rgp": "Sentinel policies are Vault Enterprise's",
    "namespaces": "there is only the root namespace",
    "monitor": "the log goes to standard error, and sys/loggers says how much of it",
    "config/reload": "SIGHUP reopens audit files and reloads certificates",
    "rekey/backup": "shares are not sealed for PGP keys, so none are kept",
}


# A client of Raft takes 404 for an older server, and tries on; one that asks for shares kept for it
# knows 400 as that there are none.
_WRONG_REQUEST: Final = frozenset({"storage/raft", "rekey/backup"})


class NotServed:
    """The endpoints; they need a policy like any other."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        # Monitors ask for this one of servers that replicate nothing too.
        found = [Endpoint("replication/status", {"read": _replication}, public=True)]
        for path, reason in REASONS.items():
            handlers = dict.fromkeys(EVERY, _refuses(path, reason))
            found += [
                Endpoint(path, handlers, published=False),
                Endpoint(f"{path}/{{rest*}}", handlers, published=False),
            ]
        return found


def _replication(call: Call) -> Result:  # noqa: ARG001 - the handler's shape
    return Result({"mode": "disabled"})


def _refuses(path: str, reason: str) -> EndpointHandler:
    def refuse(call: Call) -> None:  # noqa: ARG001 - the handler's shape
        said = f"unsupported path: sys/{path} is not served, because {reason}"
        raise (Invalid if path in _WRONG_REQUEST else NotFound)("not-served", said)

    return refuse
