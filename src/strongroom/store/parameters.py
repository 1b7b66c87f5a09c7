"""The parameters that an endpoint takes: what it is handed, and what is described of it.

What a request has beyond them is left out and named in a warning, in Vault's words: a misspelt
setting must not be a setting that nobody notices is missing.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

Kind = Literal["text", "number", "flag", "seconds", "texts", "object", "objects"]
# Names of parameters and what each is. `texts` is a list of strings or one with commas, `seconds`
# a number or a duration such as "30m".
Fields = Mapping[str, Kind]

# A listing that can be read in pages.
PAGE: Final[Fields] = {"after": "text", "limit": "number"}


def fields(*more: Fields, **names: str) -> Fields:
    """Names by their kind, as in `fields(text="role jwt", seconds="ttl")`, beside `more`."""
    found: dict[str, Kind] = {}
    for each in more:
        found.update(each)
    for kind, words in names.items():
        found.update(dict.fromkeys(words.split(), kind))  # type: ignore[arg-type]
    return found


def set_aside(
    takes: Fields, data: Mapping[str, Any], args: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Names in a request's data that are unknown, and those that its path gives already."""
    if takes.keys() >= data.keys() and args.keys().isdisjoint(data):
        return [], []
    replaced = sorted(name for name in data if args.get(name))
    return sorted(data.keys() - takes.keys() - args.keys()), replaced


def warnings_of(ignored: list[str], replaced: list[str]) -> tuple[str, ...]:
    """Vault's sentences about both."""
    said: tuple[str, ...] = ()
    if ignored:
        said = (f"Endpoint ignored these unrecognized parameters: [{' '.join(ignored)}]",)
    if replaced:
        said += (
            "Endpoint replaced the value of these parameters with the values captured from the"
            f" endpoint's path: [{' '.join(replaced)}]",
        )
    return said
