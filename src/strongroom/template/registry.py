"""How a function is made known to templates, and what a rendering lends to it.

A signature is written as Go has it, without names: `"int, string"`, `"string, any..."`.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from strongroom.model.clock import Clock
from strongroom.template.budget import Budget
from strongroom.template.values import ANY, Value

Code = TypeVar("Code", bound=Callable[..., Value])
_TYPES: Final = {
    "any": ANY,
    "map": f"map[string]{ANY}",
    "list": f"[]{ANY}",
    "time": "time.Time",
    "certificate": "sprig.certificate",
}


# How many bytes of its arguments a function goes through in the time of a step: C code, code that
# does little with each character, and code that does much.
FAST: Final = 512
BY_BYTES: Final = 16
BY_CHARACTERS: Final = 2


@dataclass(frozen=True, slots=True)
class Run:
    """What one rendering has at hand: its budget, the time and a source of random bytes."""

    budget: Budget
    clock: Clock
    random: Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Function:
    """Parameter types (the last one repeats when `variadic`), the code, and a line of help."""

    name: str
    parameters: tuple[str, ...]
    variadic: bool
    call: Callable[..., Value]
    wants_run: bool
    help: str
    bytes_in_a_step: int = FAST

    @property
    def fixed(self) -> int:
        """How many arguments there must be at least."""
        return len(self.parameters) - self.variadic

    @property
    def signature(self) -> str:
        """The parameters as Go writes them, without names."""
        words = [each.replace("interface {}", "any") for each in self.parameters]
        if self.variadic:
            words[-1] = f"...{words[-1]}"
        return f"({', '.join(words)})"

    def parameter(self, place: int) -> str:
        """The type an argument must have."""
        return self.parameters[min(place, len(self.parameters) - 1)]


class Table:
    """Functions by name; used as a decorator, with one or more names and the signature."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._functions: dict[str, Function] = {}

    def __call__(
        self, names: str, signature: str = "", *, bytes_in_a_step: int = FAST
    ) -> Callable[[Code], Code]:
        words = [word.strip() for word in signature.split(",")] if signature else []
        variadic = bool(words) and words[-1].endswith("...")
        types = tuple(_TYPES.get(word, word) for word in (each.rstrip(".") for each in words))

        def register(code: Code) -> Code:
            wants_run = next(iter(inspect.signature(code).parameters), "") == "run"
            said = (inspect.getdoc(code) or "").split("\n")[0]
            for name in names.split():
                function = Function(name, types, variadic, code, wants_run, said, bytes_in_a_step)
                self._functions[name] = function
            return code

        return register

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())
