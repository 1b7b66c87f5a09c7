"""A part of a manifest with its place in it, so that a refusal names the field at fault. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from strongroom.model.errors import Invalid


class Fields:
    """An object of the spec; every reader raises Invalid for a value of the wrong kind."""

    def __init__(self, value: Any, where: str) -> None:  # noqa: ANN401 - a manifest's value
        if not isinstance(value, Mapping):
            raise Invalid("bad-field", f"{where} must be an object")
        self._value: Mapping[str, Any] = value
        self.where = where

    def bad(self, name: str, why: str) -> Invalid:
        """A refusal about one field."""
        return Invalid("bad-field", f"{self.where}.{name} {why}")

    def text(self, name: str, default: str = "") -> str:
        """A string; numbers and booleans count as the text they are written in."""
        value = self._value.get(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return str(value).lower()
        if not isinstance(value, str | int | float):
            raise self.bad(name, "must be a string")
        return str(value)

    def required(self, name: str) -> str:
        """A string that must be there."""
        found = self.text(name)
        if not found:
            raise self.bad(name, "is needed")
        return found

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        """One of a few words."""
        found = self.text(name, default)
        if found not in options:
            raise self.bad(name, f"must be one of {', '.join(options)}")
        return found

    def flag(self, name: str) -> bool:
        """True or false, false when absent."""
        value = self._value.get(name, False)
        if not isinstance(value, bool):
            raise self.bad(name, "must be true or false")
        return value

    def number(self, name: str, default: int) -> int:
        """A whole number."""
        value = self._value.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.bad(name, "must be a whole number")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._value.get(name) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.bad(name, "must be a list of strings")
        return tuple(value)

    def labels(self, name: str) -> dict[str, str]:
        """An object of strings."""
        value = self._value.get(name) or {}
        if not isinstance(value, Mapping) or not all(
            isinstance(each, str) for each in value.values()
        ):
            raise self.bad(name, "must be an object of strings")
        return dict(value)

    def part(self, name: str) -> "Fields | None":
        """An object within; None when absent. An empty one is there."""
        value = self._value.get(name)
        return None if value is None else Fields(value, f"{self.where}.{name}")

    def needed(self, name: str) -> "Fields":
        """An object that must be there."""
        found = self.part(name)
        if found is None:
            raise self.bad(name, "is needed")
        return found

    def parts(self, name: str) -> list["Fields"]:
        """A list of objects."""
        value = self._value.get(name) or []
        if not isinstance(value, list):
            raise self.bad(name, "must be a list")
        return [Fields(each, f"{self.where}.{name}[{at}]") for at, each in enumerate(value)]

    def one_of(self, *names: str, default: str = "") -> str:
        """The one name of several that is there; `default` when none is, if there is one."""
        found = [name for name in names if self._value.get(name) is not None]
        if len(found) == 1:
            return found[0]
        if not found and default:
            return default
        said = f"has {' and '.join(found)}" if found else "has none"
        raise Invalid("bad-field", f"{self.where} {said} of: {', '.join(names)}; one is needed")

    def first_of(self, *names: str, default: str = "") -> str:
        """The first name in order that is there, whatever else is; `default` when none is."""
        found = next((name for name in names if self._value.get(name) is not None), default)
        return found or self.one_of(*names)

    def passed_over(self, *names: str) -> tuple[str, ...]:
        """A sentence when more than one of several is there, of which `first_of` takes one."""
        given = [each for each in names if self._value.get(each) not in (None, "")]
        if len(given) < 2:
            return ()
        return (f"{self.where} has {' and '.join(given[1:])} besides {given[0]}, which is used",)

    def names(self) -> tuple[str, ...]:
        """The names of what is there."""
        return tuple(name for name, value in self._value.items() if value is not None)

    def raw(self) -> Mapping[str, Any]:
        """The object as it came."""
        return self._value
