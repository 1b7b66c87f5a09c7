"""The JSON objects of a store's reply, where what is missing is a refusal and no bug of ours."""

from typing import Any, Final

import orjson

from strongroom.model.errors import Unavailable

# What an envelope's members are, wherever they are anything.
_FORMS: Final = {"data": dict, "auth": dict, "wrap_info": dict, "warnings": list}


class Fields(dict[str, Any]):
    """An object of the reply to a path; so are all objects in one that `read_fields` has read.

    A member that is asked for by `[]` and is not there raises Unavailable(`bad-reply`).
    """

    __slots__ = ("path",)

    def __init__(self, members: dict[str, Any], path: str) -> None:
        super().__init__(members)
        self.path = path

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - never returns
        raise self._bad(f"has no {name}")

    def within(self, name: str) -> "Fields":
        """A member that is an object; raises Unavailable where it is something else or nothing."""
        found = self[name]
        if not isinstance(found, Fields):
            raise self._bad(f"has no object {name}")
        return found

    def listed(self, name: str) -> list[Any]:
        """A member that is a list; raises Unavailable where it is something else or nothing."""
        found = self[name]
        if not isinstance(found, list):
            raise self._bad(f"has no list {name}")
        return found

    def _bad(self, what: str) -> Unavailable:
        return Unavailable(
            "bad-reply",
            f"the reply to {self.path} {what}",
            hint="is the address the store's, and does nothing before it answer in its place?",
        )


def _with_inner(members: dict[str, Any], path: str) -> Fields:
    """Step by step: a secret may be nested deeper than a function may call itself."""
    whole = Fields(members, path)
    left: list[Any] = [whole]
    while left:
        each = left.pop()
        for place, value in each.items() if isinstance(each, dict) else enumerate(each):
            if isinstance(value, dict):
                each[place] = Fields(value, path)
            if isinstance(value, dict | list):
                left.append(each[place])
    return whole


def read_fields(body: bytes, path: str) -> Fields | None:
    """The object of a reply; None for what is no JSON object, or no envelope of a store's."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    for name, form in _FORMS.items():
        if value.get(name) is not None and not isinstance(value[name], form):
            return None
    return _with_inner(value, path)
