"""The tree of a parsed template. Every node knows its offset in the text."""

from dataclasses import dataclass, field
from typing import TypeAlias

from strongroom.template.literals import Number


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes to write as they are."""

    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Constant:
    """true, false, or a string."""

    offset: int
    value: bool | bytes


@dataclass(frozen=True, slots=True)
class NumberTerm:
    """A number, whose type depends on where it stands."""

    offset: int
    number: Number


@dataclass(frozen=True, slots=True)
class Dot:
    """`.`"""

    offset: int


@dataclass(frozen=True, slots=True)
class Nil:
    """`nil`"""

    offset: int


@dataclass(frozen=True, slots=True)
class Field:
    """`.a.b`, starting at dot."""

    offset: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x.a.b`; `name` has its dollar."""

    offset: int
    name: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """`(pipeline).a.b` or `function.a.b`."""

    offset: int
    term: "Term"
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identifier:
    """The name of a function."""

    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class Command:
    """A term and its arguments."""

    offset: int
    terms: tuple["Term", ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each given the result of the one before; and the variables it is kept in."""

    offset: int
    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    assigns: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline whose result is written."""

    offset: int
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """if, with or range, and what else."""

    offset: int
    kind: str
    pipeline: Pipeline
    body: "Nodes"
    otherwise: "Nodes | None"


@dataclass(frozen=True, slots=True)
class Jump:
    """break or continue."""

    offset: int
    kind: str


@dataclass(frozen=True, slots=True)
class Call:
    """`{{template "name" pipeline}}`"""

    offset: int
    name: str
    pipeline: Pipeline | None


Term: TypeAlias = (
    Constant | NumberTerm | Dot | Nil | Field | Variable | Chain | Identifier | Pipeline
)
Node: TypeAlias = Text | Action | Branch | Jump | Call
Nodes: TypeAlias = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """A template and those it defines, by name."""

    name: str
    text: str = field(repr=False)
    body: Nodes = field(repr=False)
    defined: dict[str, Nodes] = field(repr=False)


def is_empty(nodes: Nodes) -> bool:
    """Whether it is nothing but white space; an empty definition does not replace another."""
    return all(isinstance(node, Text) and not node.content.strip() for node in nodes)
