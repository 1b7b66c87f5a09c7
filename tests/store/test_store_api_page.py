"""docs/store-api.md lists what is served: neither more nor less than the API's own description."""

import re
from pathlib import Path

from strongroom.store.system.not_served import REASONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "store-api.md"
ROW = re.compile(r"^\| `([^`]+)` \| ([A-Z ]+) \| ([a-z, ]*?) ?\|$", re.MULTILINE)
REFUSED = re.compile(r"^\| `sys/([^`]+)` \| (.+) \|$", re.MULTILINE)
VERBS = {"post": "POST", "patch": "PATCH", "delete": "DELETE"}
MOUNTS = {
    "mounts/kv": "kv-v1", "mounts/transit": "transit", "auth/approle": "approle",
    "auth/cert": "cert", "auth/jwt": "jwt", "auth/kubernetes": "kubernetes",
    "auth/userpass": "userpass",
}  # fmt: skip


def served(document: dict) -> dict[str, tuple[str, str]]:
    """Verbs and remarks by path, as the page writes them."""
    found = {}
    for path, item in document["paths"].items():
        verbs = []
        if "get" in item:
            flags = {each["name"]: each["required"] for each in item["get"].get("parameters", [])}
            verbs += [] if any(flags.values()) else ["GET"]
            verbs += [each.upper() for each in ("list", "scan") if each in flags]
        verbs += [name for verb, name in VERBS.items() if verb in item]
        remarks = ["no token"] * ("x-vault-unauthenticated" in item)
        remarks += ["sudo"] * ("x-vault-sudo" in item)
        found[path.removeprefix("/")] = " ".join(verbs), ", ".join(remarks)
    return found


async def test_the_page_lists_what_the_description_describes(store) -> None:
    for path, kind in MOUNTS.items():
        assert (await store.ask("POST", f"sys/{path}", {"type": kind}))[0] == 204
    _, document = await store.ask("GET", "sys/internal/specs/openapi")
    wanted = served(document)
    listed = {path: (verbs, remarks) for path, verbs, remarks in ROW.findall(PAGE.read_text())}
    missing = [
        f"| `{path}` | {verbs} | {remarks} |"
        for path, (verbs, remarks) in wanted.items()
        if listed.get(path) != (verbs, remarks)
    ]
    assert missing == [], "\n".join(missing)
    assert sorted(listed.keys() - wanted.keys()) == []


def test_the_page_gives_the_reason_of_each_path_that_is_refused() -> None:
    given = dict(REFUSED.findall(PAGE.read_text()))
    assert {path: given.get(path) for path in REASONS} == dict(REASONS)
