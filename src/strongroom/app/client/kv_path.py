"""Which mount a KV path is in, and of which version: asked of the store, as Vault's client does.

Where the preflight is not allowed or finds no such mount, `secret/` of version 2 is meant, so that
`strongroom kv get prod/db` says what it seems to say.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.app.client.session import Session

USUAL_MOUNT = "secret"


@dataclass(frozen=True, slots=True)
class KvPath:
    """A mount without its slash, the path under it, and the version of the engine."""

    mount: str
    path: str
    version: int

    def api(self, kind: str) -> str:
        """The API path of a kind, "data" or "metadata"; version 1 has one path for everything."""
        parts = [self.mount, kind if self.version == 2 else "", self.path]
        return "/".join(each for each in parts if each)

    def needs_v2(self) -> None:
        """Raises Invalid on version 1."""
        if self.version != 2:
            raise Invalid(
                "kv-version-1",
                "this needs version 2 of the KV engine",
                hint=f"strongroom kv enable-versioning {self.mount}",
            )


async def find(session: "Session", path: str, mount: str | None) -> KvPath:
    """The place of a path as it was typed; `mount` is what `-mount` says."""
    from strongroom.app.client.session import ApiError

    typed = path.strip("/")
    whole = "/".join(each for each in ((mount or "").strip("/"), typed) if each)
    if not whole:
        raise Invalid(
            "no-path", "a path is needed", hint="secret/prod/db, or -mount=secret prod/db"
        )
    try:
        reply = await session.preflight(f"sys/internal/ui/mounts/{whole}")
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        usual = (mount or USUAL_MOUNT).strip("/")
        return KvPath(usual, _under(typed, usual, whole if mount else ""), 2)
    found = str(reply.data["path"]).strip("/")
    version = int((reply.data.get("options") or {}).get("version") or 1)
    return KvPath(found, _without_kind(whole[len(found) :].strip("/"), version), version)


def _under(typed: str, mount: str, whole: str) -> str:
    if whole:
        return _without_kind(whole[len(mount) :].strip("/"), 2)
    return _without_kind(typed.removeprefix(mount + "/") if typed != mount else "", 2)


def _without_kind(path: str, version: int) -> str:
    """`data/` and `metadata/` belong to the API's form of a path, and people paste it."""
    if version == 2:
        for kind in ("data/", "metadata/"):
            if path.startswith(kind):
                return path.removeprefix(kind)
    return path
