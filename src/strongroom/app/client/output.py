"""What commands print: Vault's tables, JSON, YAML or one field; colour on a terminal alone."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

from strongroom.model.errors import Invalid

# What a reply's envelope says where there is nothing to say.
BARE: Final[Mapping[str, Any]] = {
    "request_id": "", "lease_id": "", "renewable": False, "lease_duration": 0,
}  # fmt: skip
_RED: Final = "31"
_GREEN: Final = "32"
_DIM: Final = "2"
# A name that is one of these, or ends in one, is of a time in seconds.
_DURATIONS: Final = frozenset({"period", "ttl", "duration"})


def painted(text: str, colour: str, stream: TextIO) -> str:
    """The text in a colour where the stream is a terminal and nobody set NO_COLOR."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("VAULT_CLI_NO_COLOR")
    if plain or not stream.isatty():
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def error_text(text: str) -> str:
    """An error as it is written to standard error."""
    return painted(text, _RED, sys.stderr)


def success(text: str, form: str) -> None:
    """A sentence that something was done, for people alone.

    In the forms for programs standard output has what the store answered, and here it was nothing.
    """
    if form == "table":
        print(painted(f"Success! {text}", _GREEN, sys.stdout))


def print_value(value: Any, form: str = "table") -> None:  # noqa: ANN401 - JSON
    """One field alone: as JSON or YAML where that was asked for, else as Vault prints it.

    So a list is `[a b]`, a map `map[a:1]`. It has a line's end on a terminal and none in a pipe.
    """
    if form in ("json", "yaml"):
        print_document(value, form)
        return
    sys.stdout.write(go_text(value))
    if sys.stdout.isatty():
        sys.stdout.write("\n")


def pick(fields: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - JSON
    """A field by its name; raises Invalid naming those there are. One that is null is not there."""
    if fields.get(name) is None:
        there = sorted(each for each, value in fields.items() if value is not None)
        raise Invalid(
            "no-field",
            f'Field "{name}" not present in secret',
            hint=f"it has {', '.join(there) or 'none'}",
        )
    return fields[name]


def print_raw(body: bytes) -> None:
    """A reply's bytes as they came; they need not be text."""
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


def print_document(value: Any, form: str) -> None:  # noqa: ANN401 - JSON
    """The whole of it as JSON or YAML."""
    if form == "yaml":
        import yaml

        # It writes the types of JSON, and none made of them.
        plain = json.loads(json.dumps(value))
        sys.stdout.write(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    else:
        print(json.dumps(value, indent=2, ensure_ascii=False))


def print_rows(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> None:
    """A table with columns as wide as they need to be."""
    cells = [[go_text(each) for each in row] for row in rows]
    rules = ["-" * len(name) for name in header]
    widths = [max(len(row[at]) for row in [list(header), *cells]) for at in range(len(header))]
    for number, row in enumerate([list(header), rules, *cells]):
        padded = (each.ljust(width) for each, width in zip(row, widths, strict=True))
        line = "    ".join(padded).rstrip()
        print(painted(line, _DIM, sys.stdout) if number < 2 else line)


def print_pairs(fields: Mapping[str, Any]) -> None:
    """A table of names and values, as Vault's: what is empty is "n/a", a time "1h30m"."""
    print_rows([(name, _cell(name, value)) for name, value in fields.items()], ("Key", "Value"))


def _cell(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, int) and not isinstance(value, bool) and _is_duration(name):
        return human_duration(value) if value else "0s"
    return "n/a" if value == "" else value


def _is_duration(name: str) -> bool:
    return name in ("lease_max", "ttl_max") or name.rpartition("_")[2] in _DURATIONS


def print_names(names: Sequence[str]) -> None:
    """A table of names."""
    print_rows([[each] for each in names], ["Keys"])


def print_heading(title: str, width: int) -> None:
    """A title between equals signs, as wide as the table under it."""
    side = "=" * max((width - len(title) - 1) // 2, 2)
    line = f"{side} {title} {side}"
    print(painted(line, _DIM, sys.stdout))


def section(title: str, fields: Mapping[str, Any]) -> None:
    """A heading and the table under it."""
    key = max([len("Key"), *map(len, fields)])
    print_heading(title, key + 4 + len("Value"))
    print_pairs(fields)


def go_text(value: Any) -> str:  # noqa: ANN401 - JSON
    """A value the way Vault's tables show it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(go_text, value)) + "]"
    return str(value)


def human_duration(seconds: int) -> str:
    """768h, 1h30m, 45s; nothing at all is for ever."""
    if seconds <= 0:
        return "∞" if seconds == 0 else f"{seconds}s"
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return "".join(
        f"{number}{unit}" for number, unit in ((hours, "h"), (minutes, "m"), (left, "s")) if number
    )


def print_reply(body: Mapping[str, Any], form: str, name: str | None, raw: bytes = b"") -> int:
    """A whole reply in the form that was asked for; returns the exit status."""
    body = _enveloped(body) if form != "raw" else body
    if name:
        print_value(field_of(body, name), form)
    elif form == "raw":
        print_raw(raw)
    elif form == "table":
        mark = ":" if body.get("wrap_info") else ""
        print_pairs({f"{key}{mark}": each for key, each in fields_of(body).items()})
    else:
        print_document(body, form)
    return 0


def _enveloped(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The reply of a path that answers without the envelope, such as `sys/health`, put in one."""
    if not body or "data" in body or "request_id" in body or body.get("auth"):
        return body
    return {**BARE, "data": body, "wrap_info": None, "warnings": None, "auth": None}


def field_of(body: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - JSON
    """One field for a program, as Vault has it: a time in seconds, names as a list.

    Raises Invalid naming the fields there are.
    """
    found = _raw_fields(body).get(name)
    return pick(fields_of(body), name) if found is None else found


def _raw_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    if body.get("wrap_info"):
        return {"wrapping_token_ttl": body["wrap_info"].get("ttl")}
    if body.get("auth"):
        return _raw_auth_fields(body["auth"])
    data = body.get("data") if isinstance(body.get("data"), Mapping) else {}
    duration = body.get("lease_duration")
    envelope = {name: body.get(name) for name in ("lease_id", "renewable", "request_id")}
    return {
        "data": data,
        "lease_duration": duration,
        "refresh_interval": duration,
        **envelope,
        **(data or {}),
    }


def _raw_auth_fields(auth: Mapping[str, Any]) -> dict[str, Any]:
    lists = ("token_policies", "identity_policies", "policies")
    names = {each: auth.get(each) for each in lists}
    return {"token_duration": auth.get("lease_duration"), **names}


def fields_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a reply says, for people, in the order of Vault's tables."""
    if body.get("wrap_info"):
        return _wrapping_fields(body["wrap_info"])
    if body.get("auth"):
        return auth_fields(body["auth"])
    found: dict[str, Any] = {}
    if body.get("lease_id"):
        found["lease_id"] = body["lease_id"]
    if body.get("lease_duration"):
        name = "lease_duration" if body.get("lease_id") else "refresh_interval"
        found[name] = human_duration(int(body["lease_duration"]))
    if body.get("lease_id"):
        found["lease_renewable"] = bool(body.get("renewable"))
    data = body.get("data")
    if isinstance(data, Mapping):
        found |= {key: data[key] for key in sorted(data)}
    return found


def auth_fields(auth: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a token that was given."""
    found: dict[str, Any] = {
        "token": auth.get("client_token"),
        "token_accessor": auth.get("accessor"),
        "token_duration": human_duration(int(auth.get("lease_duration") or 0)),
        "token_renewable": auth.get("renewable"),
        "token_policies": _quoted(auth.get("token_policies")),
        "identity_policies": _quoted(auth.get("identity_policies")),
        "policies": _quoted(auth.get("policies")),
    }
    metadata = auth.get("metadata") or {}
    return found | {f"token_meta_{key}": metadata[key] for key in sorted(metadata)}


def _quoted(names: Any) -> str:  # noqa: ANN401 - JSON
    return "[" + " ".join(f'"{each}"' for each in names or []) + "]"


def _wrapping_fields(wrap: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "wrapping_token": wrap.get("token"),
        "wrapping_accessor": wrap.get("accessor"),
        "wrapping_token_ttl": human_duration(int(wrap.get("ttl") or 0)),
        "wrapping_token_creation_time": wrap.get("creation_time"),
        "wrapping_token_creation_path": wrap.get("creation_path"),
    }
    if wrap.get("wrapped_accessor"):
        found["wrapped_accessor"] = wrap["wrapped_accessor"]
    return found
