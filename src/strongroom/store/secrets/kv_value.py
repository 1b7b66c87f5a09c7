"""What a KV secret may be: how long its path, how large its value."""

from typing import Any, Final

import orjson

from strongroom.model.errors import Invalid
from strongroom.store.call import Call

MAX_PATH_CHARACTERS: Final = 1024
MAX_VALUE_BYTES: Final = 1024 * 1024


def checked_path(path: str) -> str:
    """A path that can be a secret's; raises Invalid."""
    if not path:
        raise Invalid("no-path", "missing path")
    if len(path) > MAX_PATH_CHARACTERS:
        raise Invalid("path-too-long", f"a path has at most {MAX_PATH_CHARACTERS} characters")
    return path


def secret_path(call: Call) -> str:
    """The secret that a call names."""
    return checked_path(call.args["path"])


def encoded(data: dict[str, Any], what: str = "a secret") -> bytes:
    """The JSON text of a value; raises Invalid(`value-too-large`)."""
    body = orjson.dumps(data)
    if len(body) > MAX_VALUE_BYTES:
        raise Invalid("value-too-large", f"{what} has at most {MAX_VALUE_BYTES} bytes")
    return body


def positive(value: int) -> int:
    """A number that is not negative; raises Invalid."""
    if value < 0:
        raise Invalid("bad-parameter", "the number must not be negative")
    return value
