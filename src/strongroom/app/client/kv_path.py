"""Which mount a KV path is in, and of which version: asked of the store, as Vault's client does.

A path that no mount begins is refused: a misspelt mount must not become a folder of another one.
API: https://developer.hashicorp.com/vault/api-docs/system/internal-ui-mounts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.client.paths import no_value
from strongroom.model.errors import Invalid
from strongroom.model.spelling import nearest

if TYPE_CHECKING:
    from strongroom.app.client.session import Reply, Session

# So many mounts are named in a hint.
NAMED: Final = 5
USUAL_MOUNT: Final = "secret"
ENGINES: Final = frozenset({"kv", "generic", "cubbyhole"})
# How the store begins the sentence that no mount is there, or none that the token may use.
PREFLIGHT: Final = "preflight capability check"


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
        # Servers before 0.10 had no such path, and no version of KV but the first.
        if error.is_absence:
            return KvPath("", whole, 1)
        if error.status == 403 and any(PREFLIGHT in each for each in error.errors):
            error.hint = missing_mount(typed, (mount or "").strip("/"), await _mounts(session))
        raise
    found = str(reply.data["path"]).strip("/")
    kind = str(reply.data.get("type"))
    if kind not in ENGINES:
        session.hint = f"{found}/ is a mount of {kind}, not of KV: strongroom path-help {found}"
    version = int((reply.data.get("options") or {}).get("version") or 1)
    return KvPath(found, _without_kind(whole[len(found) :].strip("/"), version), version)


async def asked(
    session: "Session", place: KvPath, kind: str, query: Mapping[str, str] | None = None
) -> "Reply":
    """What the store has of a kind there; raises NotFound(`no-value`)."""
    from strongroom.app.client.session import ApiError

    try:
        return await session.ask("GET", place.api(kind), query=query)
    except ApiError as error:
        if error.is_absence:
            raise no_value(place.api(kind)) from None
        raise


async def _mounts(session: "Session") -> Mapping[str, Mapping[str, Any]]:
    """The secrets engines that the token may use; none where the store will not say."""
    from strongroom.app.client.session import ApiError

    try:
        reply = await session.preflight("sys/internal/ui/mounts")
    except ApiError:
        return {}
    return reply.data.get("secret") or {}


def missing_mount(typed: str, mount: str, mounts: Mapping[str, Mapping[str, Any]]) -> str:
    """What to do about a path that is in none of the mounts; `mount` is what `-mount` said.

    `mounts` are names with a slash at the end, and what the store says of each.
    """
    names = [name.strip("/") for name, each in mounts.items() if each.get("type") == "kv"]
    wanted, _, rest = typed.partition("/")
    if mount:
        wanted, rest = mount, typed
    near = nearest(wanted, names)
    head = f"no KV engine that this token may use is at {wanted}/"
    if near:
        meant = f"-mount={near} {rest}" if mount else "/".join(filter(None, (near, rest)))
        return f"{head}; did you mean {meant.strip()}?"
    if names:
        there = ", ".join(f"{name}/" for name in sorted(names)[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        first = sorted(names)[0] if USUAL_MOUNT not in names else USUAL_MOUNT
        example = f"-mount={first} {rest}" if mount else f"{first}/{typed}"
        return f"{head}; there are {there}{more}, as in {example.strip()}"
    return (
        f"{head}, nor anywhere else: either its policies grant nothing there (strongroom token"
        f" lookup), or nothing is mounted (strongroom secrets enable -path={wanted} kv-v2)"
    )


def _without_kind(path: str, version: int) -> str:
    """`data/` and `metadata/` belong to the API's form of a path, and people paste it."""
    if version == 2:
        for kind in ("data/", "metadata/"):
            if path.startswith(kind):
                return path.removeprefix(kind)
    return path
