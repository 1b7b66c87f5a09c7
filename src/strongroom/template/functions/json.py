"""JSON. Source: https://masterminds.github.io/sprig/defaults.html."""

from typing import Final

from strongroom.template.errors import CallFailed
from strongroom.template.json_text import NotJson, from_json, to_json
from strongroom.template.registry import Run, Table
from strongroom.template.values import Value, any_map
from strongroom.template.yaml_text import NotYaml, from_yaml, to_yaml

JSON: Final = Table("JSON and YAML")


@JSON("fromJson", "string")
def _from_json(run: Run, text: bytes) -> Value:
    """The value of a JSON text; nil if it is none. Numbers are float64."""
    try:
        return from_json(text, run.budget)[0]
    except NotJson:
        return None


@JSON("mustFromJson", "string")
def _must_from_json(run: Run, text: bytes) -> Value:
    """The value of a JSON text."""
    try:
        value, whole = from_json(text, run.budget)
    except NotJson as error:
        raise CallFailed(str(error)) from None
    if not whole:
        raise CallFailed("a number of the JSON is too large")
    return value


def _tried(run: Run, value: Value, indent: str) -> bytes:
    try:
        return to_json(value, run.budget, indent=indent)
    except NotJson:
        return b""


def _demanded(run: Run, value: Value, indent: str = "", *, escape_html: bool = True) -> bytes:
    try:
        return to_json(value, run.budget, indent=indent, escape_html=escape_html)
    except NotJson as error:
        raise CallFailed(str(error)) from None


@JSON("toJson", "any")
def _to_json(run: Run, value: Value) -> bytes:
    """The value as JSON, with <, > and & escaped; "" if it cannot be."""
    return _tried(run, value, "")


@JSON("mustToJson", "any")
def _must_to_json(run: Run, value: Value) -> bytes:
    """The value as JSON, with <, > and & escaped."""
    return _demanded(run, value)


@JSON("toPrettyJson", "any")
def _to_pretty_json(run: Run, value: Value) -> bytes:
    """The value as indented JSON; "" if it cannot be."""
    return _tried(run, value, "  ")


@JSON("mustToPrettyJson", "any")
def _must_to_pretty_json(run: Run, value: Value) -> bytes:
    """The value as indented JSON."""
    return _demanded(run, value, "  ")


@JSON("toRawJson mustToRawJson", "any")
def _to_raw_json(run: Run, value: Value) -> bytes:
    """The value as JSON with <, > and & as they are."""
    return _demanded(run, value, escape_html=False)


@JSON("toYaml", "any")
def _to_yaml(run: Run, value: Value) -> bytes:
    """The value as YAML; "" if it cannot be."""
    try:
        return to_yaml(value, run.budget)
    except NotJson:
        return b""


@JSON("fromYaml", "string")
def _from_yaml(run: Run, text: bytes) -> Value:
    """The map of a YAML text; a text that is none gives a map with the key Error."""
    try:
        return from_yaml(text, run.budget)
    except NotYaml as error:
        return any_map({b"Error": str(error).encode()})
