"""YAML from somebody else's hands."""

import contextlib
from typing import Any

import orjson


def plain_yaml(text: str, most: int) -> Any:  # noqa: ANN401 - YAML
    """A document of so many characters at most; raises ValueError.

    Aliases are refused: a few lines of them stand for more than a process can read.
    """
    if len(text) > most:
        raise ValueError("too large")
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    # JSON is YAML too, and needs no library that most processes never load.
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text, loader)):
            raise ValueError("aliases")
        return yaml.load(text, loader)  # noqa: S506 - both are safe
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(type(error).__name__) from None
