"""The agent's configuration file, read and checked whole.

{"address": "https://store:8200", "ca_file": "/etc/strongroom/ca.pem",
 "auth": {"mount": "kubernetes", "role": "app", "token_file": "/var/run/strongroom/token"},
 "output": "/secrets", "poll_seconds": 30,
 "secrets": [{"path": "secret/data/prod/db", "files": {"db-password": "password"}}]}
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from strongroom.model.errors import Invalid

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_TOP = {"address", "ca_file", "auth", "output", "poll_seconds", "secrets", "file_mode"}
_AUTH = {"mount", "role", "token_file"}
_SECRET = {"path", "files"}


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """One secret: its API path, and which field goes into which file (none: all, by name)."""

    path: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything the agent needs."""

    address: str
    ca_file: Path | None
    mount: str
    role: str
    token_file: Path
    output: Path
    secrets: tuple[SecretFiles, ...]
    poll_seconds: float = 30.0
    file_mode: int = 0o440


def load_config(path: Path) -> AgentConfig:
    """Read a configuration; raises Invalid(`bad-config`) naming what is wrong."""
    try:
        given = json.loads(path.read_text())
    except OSError as error:
        raise _bad(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise _bad(f"{path} is not JSON, and Vault Agent's HCL is not read") from None
    if not isinstance(given, dict):
        raise _bad("it must be an object")
    _check_keys(given, _TOP, "")
    address = _text(given, "address")
    _check_address(address)
    auth = given.get("auth")
    if not isinstance(auth, dict):
        raise _bad("auth must be an object")
    _check_keys(auth, _AUTH, " in auth")
    poll = given.get("poll_seconds", 30)
    if isinstance(poll, bool) or not isinstance(poll, int | float) or not 0 < poll < math.inf:
        raise _bad("poll_seconds must be a positive number")
    return AgentConfig(
        address=address.rstrip("/"),
        ca_file=Path(_text(given, "ca_file")) if given.get("ca_file") else None,
        mount=_text(auth, "mount") if auth.get("mount") else "kubernetes",
        role=_text(auth, "role"),
        token_file=Path(_text(auth, "token_file")),
        output=Path(_text(given, "output")),
        secrets=_secrets(given.get("secrets")),
        poll_seconds=float(poll),
        file_mode=_mode(given.get("file_mode", "0440")),
    )


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        if parts.port == 0:
            raise ValueError
    except ValueError:
        raise _bad("address is not a URL") from None
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise _bad("address has a host and a port alone, such as https://store:8200")
    if not parts.hostname or (parts.scheme, parts.hostname in LOOPBACK) not in (
        ("https", True),
        ("https", False),
        ("http", True),
    ):
        raise _bad("address must be https (or loopback)")


def _check_keys(given: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = set(given) - known
    if unknown:
        raise _bad(f"unknown key {min(unknown)!r}{where}")


def _mode(given: Any) -> int:  # noqa: ANN401 - JSON
    try:
        mode = int(str(given), 8)
    except ValueError:
        raise _bad("file_mode must be octal digits, such as 0440") from None
    if mode & ~0o777 or mode & 0o002:
        raise _bad("file_mode must be permission bits, and not writable by everybody")
    if not mode & 0o400:
        # The agent compares what is there with what is to be, and would change nothing any more.
        raise _bad("file_mode must let the agent itself read, such as 0440")
    return mode


def _secrets(given: Any) -> tuple[SecretFiles, ...]:  # noqa: ANN401 - JSON
    if not isinstance(given, list) or not given:
        raise _bad("secrets must be a list of at least one")
    found, names = [], set()
    for entry in given:
        if not isinstance(entry, dict):
            raise _bad("a secret must be an object")
        _check_keys(entry, _SECRET, " in a secret")
        files = entry.get("files") or {}
        if not isinstance(files, dict):
            raise _bad("files must be an object of file names and fields")
        for name, field in files.items():
            if not _FILE.fullmatch(name) or not isinstance(field, str):
                raise _bad(f"{name!r} cannot be a file name")
            if name in names:
                raise _bad(f"the file {name!r} is there twice")
            names.add(name)
        path = _text(entry, "path").strip("/")
        if not path:
            raise _bad("path is needed")
        found.append(SecretFiles(path, files))
    return tuple(found)


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise _bad(f"{name} is needed")
    return value


def _bad(what: str) -> Invalid:
    return Invalid(
        "bad-config", f"the agent's configuration: {what}", hint="see strongroom agent --help"
    )
