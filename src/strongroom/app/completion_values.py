"""Words that only the store knows, for completion in a shell: paths, mounts, policies.

`strongroom __complete WORD...` is called by the scripts of `completion`, with the words up to the
cursor, the last one as far as it is typed. It prints a word a line, within a short deadline, and
nothing where the store is away, refuses, or is not named by VAULT_ADDR. Names alone are asked for.
COMP_LINE in the environment asks for commands and flags as well.
"""

import argparse
import asyncio
import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from strongroom.model.errors import Refusal

if TYPE_CHECKING:
    from strongroom.app.client.session import Session

DEADLINE_SECONDS: Final = 1.0
Kind = Literal["kv", "path", "mount", "kv mount", "auth", "policy"]
# What the words after a command are; the last one holds for those that follow as well.
_KV: Final = (
    "get", "put", "patch", "list", "scan", "delete", "undelete", "destroy", "rollback", "copy",
    "move", "diff", "metadata get", "metadata put", "metadata patch", "metadata delete",
)  # fmt: skip
_WORDS: Final[Mapping[str, Kind]] = {
    **{f"kv {name}": "kv" for name in _KV},
    "kv enable-versioning": "kv mount",
    **dict.fromkeys(("read", "write", "patch", "delete", "list", "path-help"), "path"),
    **{f"policy {name}": "policy" for name in ("read", "write", "delete")},
    **{f"secrets {name}": "mount" for name in ("disable", "tune", "move")},
    **{f"auth {name}": "auth" for name in ("disable", "tune", "move", "help")},
}
FLAGS: Final[Mapping[str, Kind]] = {"-policy": "policy", "-mount": "kv mount"}
# Commands whose later words are something else: KEY=VALUE, a file.
ONE_WORD: Final = frozenset({"kv put", "kv patch", "write", "patch", "read", "delete",
                              "policy write"})  # fmt: skip
COMPLETED: Final = frozenset(_WORDS)
# With those that have a flag to complete alone.
ASKING: Final = COMPLETED | {"token create"}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the store: names of a kind that begin with `begun`.

    `before` stands before each in what is offered, as in `-policy=NAME`; `mount` is what `-mount`
    says.
    """

    kind: Kind
    begun: str
    before: str = ""
    mount: str = ""


def question(words: Sequence[str]) -> Question | None:
    """What the last of the words may be, or None where no store is needed to tell. Pure."""
    *earlier, current = _joined(words)
    command, rest = _command(earlier)
    if not command:
        return None
    flags = _valued(command)
    positions, mount, open_flag = _read(rest, flags)
    if open_flag:
        kind = FLAGS.get(open_flag)
        return Question(kind, current) if kind else None
    if current.startswith("-"):
        name, equals, value = current.partition("=")
        kind = FLAGS.get(_single(name)) if equals and name in flags else None
        # A shell that takes `=` for the end of a word replaces what is after it alone.
        before = "" if "=" in words[-2:] else f"{name}="
        return Question(kind, value, before) if kind else None
    kind = _WORDS.get(command)
    if kind is None or (positions and command in ONE_WORD):
        return None
    return Question(kind, current, mount=mount.strip("/"))


def _read(rest: Sequence[str], flags: frozenset[str]) -> tuple[int, str, str]:
    """How many words are no flags, what `-mount` says, and the flag that lacks its value."""
    positions, mount, open_flag = 0, "", ""
    for word in rest:
        name, equals, value = word.partition("=")
        if open_flag:
            mount = word if open_flag == "-mount" else mount
            open_flag = ""
        elif word.startswith("-") and len(word) > 1:
            mount = value if equals and _single(name) == "-mount" else mount
            open_flag = "" if equals or name not in flags else _single(name)
        else:
            positions += 1
    return positions, mount, open_flag


def _joined(words: Sequence[str]) -> list[str]:
    """Bash has `-policy=app` as three words."""
    joined: list[str] = []
    for word in words:
        before = joined[-1] if joined else ""
        if before.startswith("-") and (word == "=" or before.endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined or [""]


def _single(flag: str) -> str:
    return "-" + flag.lstrip("-")


def _command(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The longest command that the words begin with, and the words after it."""
    for length in (3, 2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in ASKING:
            return name, words[length:]
    return "", ()


def _valued(command: str) -> frozenset[str]:
    """Spellings of a command's flags that take a value."""
    from strongroom.app.main import build_parser

    verb, *below = command.split()
    found: Any = build_parser(verb)
    for word in (verb, *below):
        action = next(each for each in found._actions if each.nargs == argparse.PARSER)  # noqa: SLF001
        found = action.choices[word]
    flags = [each for each in found._actions if each.nargs is None]  # noqa: SLF001
    return frozenset(name for each in flags for name in each.option_strings)


def offer(words: Sequence[str]) -> int:
    """Print what the last word may be; 0, whatever happens."""
    from strongroom.app.client.session import ApiError, Wrapped

    asked = question(words) if os.environ.get("VAULT_ADDR") else None
    if asked is None:
        return 0
    with contextlib.suppress(Refusal, ApiError, Wrapped, TimeoutError, OSError):
        for name in asyncio.run(_within_deadline(asked)):
            print(asked.before + name)
    return 0


def offer_line(line: str, point: int) -> int:
    """Print what may follow a line up to the cursor; 0, whatever happens.

    Bash asks so for `complete -C vault vault`, the line that Vault's own installation leaves in
    `~/.bashrc`.
    """
    from strongroom.app.command_tree import tree

    typed = line[:point]
    *earlier, current = [*typed.split()[1:], *([""] if typed[-1:].isspace() else [])] or [""]
    children, flags = tree(), list[str]()
    for word in (each for each in earlier if not each.startswith("-")):
        node = next((each for each in children if each.words[-1] == word), None)
        if node is None:
            children = []
            break
        children, flags = list(node.children), [name for names, _ in node.flags for name in names]
    if current.startswith("-"):
        offered = [name for name in flags if current[:2] == "--" or name[:2] != "--"]
    else:
        offered = [node.words[-1] for node in children]
    found = sorted(name for name in offered if name.startswith(current))
    if not found:
        return offer([*earlier, current])
    print("\n".join(found))
    return 0


async def _within_deadline(asked: Question) -> list[str]:
    from strongroom.app.client.session import Session
    from strongroom.app.main import build_parser
    from strongroom.app.store_address import store_address
    from strongroom.wire.client import load

    where = store_address(build_parser("read").parse_args(["read", "any"]))
    if not where.token:
        return []
    # The time is the store's: on a busy machine these modules alone take as long to load.
    load()
    client = where.client()
    async with asyncio.timeout(DEADLINE_SECONDS), client as http:
        found = await _names(Session(where, http), asked)
    return sorted({name for name in found if name.startswith(asked.begun) and name.isprintable()})


async def _names(session: "Session", asked: Question) -> Iterable[str]:
    if asked.kind == "policy":
        return _keys(await session.list("sys/policies/acl"))
    mounts = (await session.preflight("sys/internal/ui/mounts")).data
    secret, auth = mounts.get("secret") or {}, mounts.get("auth") or {}
    versions = {
        name: (each.get("options") or {}).get("version") or "1"
        for name, each in secret.items()
        if each.get("type") == "kv"
    }
    if asked.kind == "auth":
        return auth
    if asked.kind == "mount":
        return secret
    if asked.kind == "kv mount":
        return [name.strip("/") if asked.before else name for name in versions]
    if asked.kind == "kv":
        return await _secrets(session, asked, versions)
    return await _paths(
        session, asked.begun, [*secret, *(f"auth/{each}" for each in auth)], versions
    )


def _keys(reply: Any) -> list[str]:  # noqa: ANN401 - a Reply
    return [str(each) for each in reply.data.get("keys") or []]


async def _secrets(
    session: "Session", asked: Question, versions: Mapping[str, str]
) -> Iterable[str]:
    """Mounts, or the names in the folder that is typed so far."""
    folder = asked.begun[: asked.begun.rfind("/") + 1]
    whole = f"{asked.mount}/{folder}" if asked.mount else folder
    mount = next((name for name in versions if whole.startswith(name)), "")
    if not mount:
        return [] if asked.mount else versions
    kind = "metadata/" if versions[mount] == "2" else ""
    listed = await session.list(f"{mount}{kind}{whole.removeprefix(mount)}")
    return [folder + name for name in _keys(listed)]


async def _paths(
    session: "Session", begun: str, mounts: Sequence[str], versions: Mapping[str, str]
) -> Iterable[str]:
    """Paths of the API: mounts, what is between KV's mount and its paths, and what a LIST names."""
    folder = begun[: begun.rfind("/") + 1]
    mount = next((name for name in mounts if folder.startswith(name)), "")
    if not mount:
        return mounts
    if versions.get(mount) == "2":
        if folder == mount:
            return [mount + "data/", mount + "metadata/"]
        return [
            folder + name
            for name in _keys(await session.list(folder.replace("/data/", "/metadata/", 1)))
        ]
    return [folder + name for name in _keys(await session.list(folder))]
