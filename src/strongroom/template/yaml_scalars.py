"""What a plain YAML scalar means to the Go library that Kubernetes uses (YAML 1.1 with exceptions).

Source: https://pkg.go.dev/sigs.k8s.io/yaml and https://yaml.org/type/.
"""

import re
from typing import Final

from strongroom.template.numbers import parse_float, parse_int
from strongroom.template.time_reading import parse_time

_WORDS: Final[dict[str, object]] = {
    **dict.fromkeys(
        ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True
    ),
    **dict.fromkeys(
        ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False
    ),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_SPECIAL: Final = {
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BASE60: Final = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_DATE: Final = re.compile(r"[0-9]{4}-")
_TIMESTAMPS: Final = (
    "2006-1-2T15:4:5.999999999Z07:00",
    "2006-1-2t15:4:5.999999999Z07:00",
    "2006-1-2 15:4:5.999999999",
    "2006-1-2",
)


def resolve(text: str) -> object:
    """True, False, None, an int or float; the text itself where it is a string."""
    if text in _WORDS:
        return _WORDS[text]
    if text in _SPECIAL:
        return _SPECIAL[text]
    if text[0] == ".":
        try:
            return parse_float(text)
        except ValueError:
            return text
    if text[0] in "+-0123456789" and not is_timestamp(text):
        return _number(text)
    return text


def _number(text: str) -> object:
    plain = text.replace("_", "")
    try:
        return parse_int(plain, 0)
    except ValueError:
        pass
    if _FLOAT.fullmatch(plain):
        try:
            return parse_float(plain) if not plain.isdigit() else _unsigned(plain)
        except ValueError:
            return text
    return text


def _unsigned(plain: str) -> int | float:
    whole = int(plain)
    return whole if whole < 1 << 64 else float(whole)


def is_timestamp(text: str) -> bool:
    """Whether it looks like a date, which stays a string but is quoted when written."""
    if not _DATE.match(text):
        return False
    for layout in _TIMESTAMPS:
        try:
            parse_time(layout, text)
        except ValueError:
            continue
        return True
    return False


def reads_as_string(text: str) -> bool:
    """Whether a text may be written without quotes and be a string again."""
    if not text or _BASE60.fullmatch(text) or is_timestamp(text):
        return False
    return isinstance(resolve(text), str)
