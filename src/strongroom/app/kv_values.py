"""Key-value pairs as Vault's users type them: `k=v`, `k=@file`, `k=-`, `@file.json`, `-`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from strongroom.model.errors import Invalid


def parse_pairs(words: Sequence[str], stdin: TextIO) -> dict[str, Any]:
    """Turn arguments into the data of a secret.

    `-` alone and `@file` alone are a whole JSON object; in a pair, `@file` is the file's text
    and `-` is standard input. A key that is given again makes a list. Raises Invalid for anything
    else, never repeating a value.
    """
    data: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key:
            text = _value(value, stdin)
            data[key] = _both(data[key], text) if key in data else text
        elif word == "-":
            data |= _json_object(stdin.read(), "standard input")
        elif word.startswith("@"):
            data |= _json_object(_read(word[1:]), word[1:])
        else:
            raise Invalid(
                "bad-pair", "an argument is not key=value", hint="write key=value, key=@file"
            )
    if not data:
        raise Invalid("no-data", "there is nothing to write", hint="add key=value")
    return data


def _both(before: Any, value: str) -> list[Any]:  # noqa: ANN401 - JSON
    return [*before, value] if isinstance(before, list) else [before, value]


def parse_metadata(words: Sequence[str]) -> dict[str, str]:
    """`key=value` words alone; raises Invalid for anything else."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise Invalid("bad-pair", "metadata and options are KEY=VALUE")
        found[key] = value
    return found


def _value(value: str, stdin: TextIO) -> str:
    if value == "-":
        return stdin.read()
    if value.startswith("@"):
        return _read(value[1:])
    return value.removeprefix("\\") if value.startswith("\\@") else value


_AT = "@ means a file's content; a value that begins with one is written \\@..."


def _read(name: str) -> str:
    try:
        return Path(name).read_text()
    except OSError as error:
        why = error.strerror
        raise Invalid("bad-file", f"cannot read {name}: {why}", hint=_AT) from error
    except UnicodeDecodeError:
        raise Invalid("bad-file", f"{name} is not text", hint="write it as base64") from None


def _no_json(word: str) -> None:
    raise ValueError(word)


def _json_object(text: str, source: str) -> dict[str, Any]:
    try:
        # NaN and the infinities are Python's alone: they would be written as null.
        value = json.loads(text, parse_constant=_no_json)
    except ValueError as error:
        raise Invalid("bad-json", f"{source} is not JSON", hint="give a JSON object") from error
    if not isinstance(value, dict):
        raise Invalid("bad-json", f"{source} is not a JSON object", hint='such as {"key": "value"}')
    return value
