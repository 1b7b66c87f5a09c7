"""The plugin's configuration file (YAML), read and checked whole before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strongroom.encrypt.kms.keys import Place
from strongroom.encrypt.kms.standing import OnLoss, Policy
from strongroom.encrypt.spelling import meant
from strongroom.model.errors import Invalid
from strongroom.wire.keywrap.kinds import KINDS

_TOP: Final = {
    "socket", "state", "provider", "cluster", "listen", "on_backend_loss", "max_offline_age",
    "offline_cache", "offline_key_file", "threshold", "backends", "escrow",
}  # fmt: skip
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_SOCKET: Final = 107


@dataclass(frozen=True, slots=True)
class KmsConfig:
    """Everything the plugin needs. `listen` is "" for no HTTP page."""

    socket: Path
    state: Path
    place: Place
    policy: Policy
    backends: tuple[Mapping[str, str], ...]
    threshold: int = 1
    escrow: tuple[Mapping[str, str], ...] = ()
    listen: str = ""
    offline: tuple[Path, Path] | None = None


def load_config(path: Path) -> KmsConfig:
    """Read a file; raises Invalid(`bad-kms-config`) naming what is wrong."""
    import yaml

    try:
        given = yaml.safe_load(path.read_text())
    except OSError as error:
        raise _bad(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise _bad(f"{path} is not YAML") from None
    return read_config(given)


def read_config(given: Any) -> KmsConfig:  # noqa: ANN401 - YAML
    """The configuration of its parsed form."""
    if not isinstance(given, dict):
        raise _bad("it must be a mapping")
    for name in given:
        if name not in _TOP:
            raise _bad(f"an unknown key{meant(name, _TOP)}; there are {', '.join(sorted(_TOP))}")
    socket = Path(_text(given, "socket"))
    if len(str(socket)) > LONGEST_SOCKET:
        raise _bad("the socket's path is longer than a unix socket's may be")
    threshold = given.get("threshold", 1)
    if isinstance(threshold, bool) or not isinstance(threshold, int):
        raise _bad("threshold must be a number")
    try:
        on_loss = OnLoss(given.get("on_backend_loss", "coast"))
    except ValueError:
        raise _bad("on_backend_loss must be coast or stop") from None
    cache, key = given.get("offline_cache"), given.get("offline_key_file")
    if bool(cache) != bool(key):
        raise _bad("offline_cache and offline_key_file belong together")
    return KmsConfig(
        socket=socket,
        state=Path(_text(given, "state")),
        place=Place(_text(given, "provider", "strongroom"), _text(given, "cluster", "default")),
        policy=Policy(on_loss, _seconds(given.get("max_offline_age", "72h"))),
        backends=_backends(given.get("backends")),
        threshold=threshold,
        escrow=_escrow(given.get("escrow") or []),
        listen=_text(given, "listen", ""),
        offline=(Path(str(cache)), Path(str(key))) if cache else None,
    )


def _backends(given: Any) -> tuple[Mapping[str, str], ...]:  # noqa: ANN401 - YAML
    if not isinstance(given, list) or not given:
        raise _bad("backends must be a list of at least one")
    return tuple(_checked(each) for each in given)


def _checked(entry: Any) -> Mapping[str, str]:  # noqa: ANN401 - YAML
    if not isinstance(entry, dict) or not all(
        isinstance(name, str) and isinstance(value, str | int | float)
        for name, value in entry.items()
    ):
        raise _bad("a backend is a mapping of names to texts")
    fields = {name: str(value) for name, value in entry.items()}
    kind = KINDS.get(fields.get("type", ""))
    if kind is None:
        raise _bad(f"a backend's type is one of {', '.join(sorted(KINDS))}")
    known = ("name", "type", *kind.needed, *kind.optional)
    unknown = [name for name in fields if name not in known]
    missing = [name for name in ("name", *kind.needed) if not fields.get(name)]
    if unknown or missing:
        what = f"needs {', '.join(missing)}"
        if unknown:
            what = f"an unknown key{meant(unknown[0], known)}; it has {', '.join(known)}"
        raise _bad(f"the backend {fields.get('name', '')!r} of type {fields['type']}: {what}")
    return fields


def _escrow(given: Any) -> tuple[Mapping[str, str], ...]:  # noqa: ANN401 - YAML
    if not isinstance(given, list) or not all(
        isinstance(each, dict) and set(each) == {"name", "public_key"} for each in given
    ):
        raise _bad("escrow is a list of mappings with name and public_key")
    return tuple({name: str(value) for name, value in each.items()} for each in given)


def _text(given: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = given.get(name, default)
    if not isinstance(value, str) or (not value and default is None):
        raise _bad(f"{name} is needed, as text")
    return value


def _seconds(value: Any) -> float:  # noqa: ANN401 - YAML
    text = str(value)
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        seconds = float(number) * _UNITS[unit]
    except ValueError:
        seconds = -1.0
    if seconds < 0:
        raise _bad("max_offline_age is a duration such as 72h")
    return seconds


def _bad(what: str) -> Invalid:
    return Invalid(
        "bad-kms-config", f"the plugin's configuration: {what}", hint="strongroom kms serve --help"
    )
