"""YAML from somebody else's hands."""

import contextlib
from typing import Any, Final

import orjson

# libyaml takes as long as the square of them, and beyond some ten thousand ends the process.
MOST_LEVELS: Final = 100


def plain_yaml(text: str, most: int) -> Any:  # noqa: ANN401 - YAML
    """A document of so many characters at most; raises ValueError.

    Aliases are refused: a few lines of them stand for more than a process can read. So is what is
    nested deeper than `MOST_LEVELS`.
    """
    if len(text) > most:
        raise ValueError("too large")
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    # JSON is YAML too, and needs no library that most processes never load.
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        levels = 0
        for each in yaml.parse(text, loader):
            levels += isinstance(each, yaml.CollectionStartEvent)
            levels -= isinstance(each, yaml.CollectionEndEvent)
            if levels > MOST_LEVELS or isinstance(each, yaml.AliasEvent):
                raise ValueError("aliases, or nested too deep")
        return yaml.load(text, loader)  # noqa: S506 - both are safe
    except (yaml.YAMLError, RecursionError, LookupError, AttributeError) as error:
        # A tag such as !!bool or !!int is believed, whatever stands behind it.
        raise ValueError(type(error).__name__) from None
