"""`sys/plugins/catalog`: the engines and auth methods of the program, to be read and never changed.

Clients list them before they enable one; in Vault's words each is a built-in plugin. API:
https://developer.hashicorp.com/vault/api-docs/system/plugins-catalog.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.envelope import listed, nothing_here

AT: Final = "plugins/catalog"
READ_ONLY: Final = "engines and auth methods are part of the program; there are no plugins"


class PluginCatalog:
    """The endpoints. `types` are the mountable types by "auth" and "secret"."""

    def __init__(self, types: Mapping[str, Collection[str]], program_version: str) -> None:
        self._types = {"auth": types["auth"], "database": (), "secret": types["secret"]}
        self._version = f"v{program_version or '0'}+builtin"

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            # Of these paths the one that Vault gives without sudo.
            Endpoint(AT, {"read": self._all}),
            Endpoint(f"{AT}/{{type}}", {"list": self._names}, sudo=True),
            Endpoint(
                f"{AT}/{{type}}/{{name}}",
                {"read": self._one, "update": _refuse, "delete": _refuse},
                sudo=True,
            ),
        )

    def _all(self, call: Call) -> Result:  # noqa: ARG002 - the handler's shape
        names = {kind: sorted(types) for kind, types in self._types.items()}
        detailed = [
            {"type": kind, **self._described(name)} for kind in names for name in names[kind]
        ]
        return Result({**names, "detailed": detailed})

    def _names(self, call: Call) -> Result:
        found = self._types.get(call.args["type"])
        if found is None:
            raise Invalid("bad-type", "unsupported plugin type", hint="auth, database or secret")
        return listed(sorted(found))

    def _one(self, call: Call) -> Result:
        name = call.args["name"]
        if name not in self._types.get(call.args["type"], ()):
            raise nothing_here()
        return Result({"args": [], "command": "", "sha256": "", **self._described(name)})

    def _described(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "builtin": True,
            "deprecation_status": "supported",
            "version": self._version,
        }


def _refuse(call: Call) -> None:  # noqa: ARG001 - the handler's shape
    raise Invalid("not-served", f"the catalog cannot be changed: {READ_ONLY}")
