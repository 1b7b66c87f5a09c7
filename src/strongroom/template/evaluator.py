"""From a tree and values to output. Rules: https://pkg.go.dev/text/template (Arguments, Actions).

As in external-secrets, a key that a map does not have is an error (`missingkey=error`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from strongroom.template.budget import check_depth
from strongroom.template.constants import constant
from strongroom.template.errors import (
    FAILED,
    BudgetSpent,
    CallFailed,
    TemplateRefused,
    position,
)
from strongroom.template.formatting import sprint
from strongroom.template.registry import Function, Run
from strongroom.template.syntax import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Constant,
    Dot,
    Field,
    Identifier,
    Jump,
    Nil,
    Node,
    Nodes,
    NumberTerm,
    Pipeline,
    Term,
    Text,
    Tree,
    Variable,
)
from strongroom.template.values import (
    ANY,
    Map,
    Method,
    NamedInt,
    Object,
    Slice,
    Value,
    can_be_nil,
    is_integer,
    sorted_keys,
    truth,
    type_name,
    zero,
)

_NOTHING: Final[Any] = object()  # no value was piped in


def evaluate(tree: Tree, data: Value, functions: Mapping[str, Function], run: Run) -> bytes:
    """The output; raises TemplateRefused(`template-failed`) or BudgetSpent."""
    state = _State(tree, functions, run)
    try:
        state.body(data, tree.body, [("$", data)])
    except RecursionError:
        raise BudgetSpent("the template is nested too deep") from None
    return b"".join(state.output)


class _State:
    def __init__(self, tree: Tree, functions: Mapping[str, Function], run: Run) -> None:
        self.tree = tree
        self.functions = functions
        self.run = run
        self.output: list[bytes] = []
        self.variables: list[tuple[str, Value]] = []
        self.depth = 0

    def failure(self, offset: int, reason: str) -> TemplateRefused:
        return TemplateRefused(FAILED, self.tree.name, position(self.tree.text, offset), reason)

    def write(self, content: bytes) -> None:
        self.run.budget.write(len(content))
        self.output.append(content)

    # Nodes

    def body(self, dot: Value, nodes: Nodes, variables: list[tuple[str, Value]]) -> None:
        """Run a template's body with variables of its own."""
        outside, self.variables = self.variables, variables
        self.walk(dot, nodes)
        self.variables = outside

    def walk(self, dot: Value, nodes: Nodes) -> str:
        """Run nodes; "break" or "continue" when one of these ended them."""
        for node in nodes:
            self.run.budget.step()
            jump = self.node(dot, node)
            if jump:
                return jump
        return ""

    def node(self, dot: Value, node: Node) -> str:
        match node:
            case Text():
                self.write(node.content)
            case Action():
                value = self.pipeline(dot, node.pipeline)
                if not node.pipeline.variables:
                    self.write(self.printed(value))
            case Branch():
                return self.range(dot, node) if node.kind == "range" else self.choose(dot, node)
            case Jump():
                return node.kind
            case Call():
                self.call(dot, node)
        return ""

    def printed(self, value: Value) -> bytes:
        if isinstance(value, bytes):
            return value
        return b"<no value>" if value is None else sprint([value], self.run.budget)

    def choose(self, dot: Value, node: Branch) -> str:
        mark = len(self.variables)
        value = self.pipeline(dot, node.pipeline)
        jump = ""
        if truth(value):
            jump = self.walk(value if node.kind == "with" else dot, node.body)
        elif node.otherwise is not None:
            jump = self.walk(dot, node.otherwise)
        del self.variables[mark:]
        return jump

    def range(self, dot: Value, node: Branch) -> str:
        mark = len(self.variables)
        value = self.pipeline(dot, node.pipeline)
        jump = ""
        pairs = self.pairs(value, node)
        if pairs:
            self.iterate(node, pairs)
        elif node.otherwise is not None:
            jump = self.walk(dot, node.otherwise)
        del self.variables[mark:]
        return jump

    def pairs(self, value: Value, node: Branch) -> Sequence[tuple[Value, Value]]:
        if value is None:
            return ()
        if isinstance(value, Slice):
            return list(enumerate(value.items))
        if isinstance(value, Map):
            return [(key, value.items[key]) for key in sorted_keys(value.items)]
        if is_integer(value):
            if len(node.pipeline.variables) > 1:
                raise self.failure(node.offset, "range over a number has one variable, not two")
            self.run.budget.step(max(0, int(value)))
            return [(None, type(value)(each)) for each in range(int(value))]
        raise self.failure(node.offset, f"range can't iterate over a {type_name(value)}")

    def iterate(self, node: Branch, pairs: Sequence[tuple[Value, Value]]) -> None:
        names = node.pipeline.variables
        mark = len(self.variables)
        for key, item in pairs:
            self.run.budget.step()
            if node.pipeline.assigns:
                if names:
                    self.assign(names[0], key if len(names) > 1 else item, node.offset)
                if len(names) > 1:
                    self.assign(names[1], item, node.offset)
            elif names:
                # The pipeline itself has declared them; each round sets them anew.
                self.variables[mark - 1] = (names[-1], item)
                if len(names) > 1:
                    self.variables[mark - 2] = (names[0], key)
            jump = self.walk(item, node.body)
            del self.variables[mark:]
            if jump == "break":
                return

    def call(self, dot: Value, node: Call) -> None:
        body = self.tree.defined.get(node.name)
        if body is None:
            raise self.failure(node.offset, f"template {node.name!r} not defined")
        value = self.pipeline(dot, node.pipeline) if node.pipeline else None
        self.depth += 1
        check_depth(self.depth)
        self.body(value, body, [("$", value)])
        self.depth -= 1

    # Variables

    def assign(self, name: str, value: Value, offset: int) -> None:
        for at in range(len(self.variables) - 1, -1, -1):
            if self.variables[at][0] == name:
                self.variables[at] = (name, value)
                return
        raise self.failure(offset, f"undefined variable: {name}")

    def lookup(self, node: Variable) -> Value:
        for name, value in reversed(self.variables):
            if name == node.name:
                return value
        raise self.failure(node.offset, f"undefined variable: {node.name}")

    # Pipelines and commands

    def pipeline(self, dot: Value, node: Pipeline) -> Value:
        self.run.budget.step()
        value: Value = _NOTHING
        for command in node.commands:
            value = self.command(dot, command, value)
        for name in node.variables:
            if node.assigns:
                self.assign(name, value, node.offset)
            else:
                self.variables.append((name, value))
        return value

    def command(self, dot: Value, node: Command, piped: Value) -> Value:
        first, arguments = node.terms[0], node.terms[1:]
        if isinstance(first, Identifier):
            return self.function(dot, first, arguments, piped)
        if isinstance(first, Field | Chain | Variable):
            return self.fields(dot, first, arguments, piped)
        if arguments or piped is not _NOTHING:
            raise self.failure(first.offset, "can't give an argument to what is no function")
        if isinstance(first, Nil):
            raise self.failure(first.offset, "nil is not a command")
        return self.operand(dot, first, ANY)

    def fields(
        self,
        dot: Value,
        node: Field | Chain | Variable,
        arguments: Sequence[Term] = (),
        piped: Value = _NOTHING,
    ) -> Value:
        if isinstance(node, Field):
            value = dot
        elif isinstance(node, Variable):
            value = self.lookup(node)
        elif isinstance(node.term, Nil):
            raise self.failure(node.offset, "indirection through nil")
        else:
            value = self.operand(dot, node.term, ANY)
        if not node.names and (arguments or piped is not _NOTHING):
            raise self.failure(node.offset, "can't give an argument to what is no function")
        for name in node.names[:-1]:
            value = self.field(dot, value, name, node.offset)
        if node.names:
            method = self.method(value, node.names[-1])
            if method is not None:
                return self.apply(dot, method, node.offset, arguments, piped)
            if arguments or piped is not _NOTHING:
                raise self.failure(
                    node.offset, f"{node.names[-1]} is not a method but has arguments"
                )
            value = self.field(dot, value, node.names[-1], node.offset)
        return value

    def method(self, value: Value, name: str) -> Function | None:
        if not isinstance(value, Object | NamedInt):
            return None
        found: Method | None = value.methods().get(name)
        if found is None:
            return None
        return Function(name, found.parameters, False, found.call, False, "")

    def field(self, dot: Value, value: Value, name: str, offset: int) -> Value:
        if value is None:
            raise self.failure(offset, f'nil data; no entry for key "{name}"')
        method = self.method(value, name)
        if method is not None:
            return self.apply(dot, method, offset, (), _NOTHING)
        if isinstance(value, Map):
            key = name.encode("utf-8", "surrogateescape")
            if key not in value.items:
                raise self.failure(offset, f'map has no entry for key "{name}"')
            return value.items[key]
        if isinstance(value, Object) and name in value.fields():
            return value.fields()[name]
        raise self.failure(offset, f"can't evaluate field {name} in type {type_name(value)}")

    # Functions

    def function(
        self, dot: Value, node: Identifier, arguments: Sequence[Term], piped: Value
    ) -> Value:
        function = self.functions[node.name]
        if node.name in ("and", "or"):
            return self.shortcut(dot, node, arguments, piped)
        return self.apply(dot, function, node.offset, arguments, piped)

    def shortcut(
        self, dot: Value, node: Identifier, arguments: Sequence[Term], piped: Value
    ) -> Value:
        """and, or: the first operand that decides; what comes after it is not evaluated."""
        if not arguments and piped is _NOTHING:
            raise self.failure(
                node.offset, f"wrong number of args for {node.name}: want at least 1 got 0"
            )
        value: Value = None
        for argument in arguments:
            value = self.operand(dot, argument, "value")
            if truth(value) == (node.name == "or"):
                return value
        return value if piped is _NOTHING else piped

    def apply(
        self,
        dot: Value,
        function: Function,
        offset: int,
        arguments: Sequence[Term],
        piped: Value,
    ) -> Value:
        count = len(arguments) + (piped is not _NOTHING)
        if count < function.fixed or (count > function.fixed and not function.variadic):
            least = "at least " if function.variadic else ""
            raise self.failure(
                offset,
                f"wrong number of args for {function.name}:"
                f" want {least}{function.fixed} got {count}",
            )
        values = [
            self.operand(dot, term, function.parameter(place))
            for place, term in enumerate(arguments)
        ]
        if piped is not _NOTHING:
            values.append(self.fit(piped, function.parameter(len(arguments)), offset))
        return self.invoke(function.call, function, values, offset)

    def invoke(
        self,
        code: Callable[..., Value],
        function: Function,
        values: list[Value],
        offset: int,
    ) -> Value:
        taken = sum(len(each) for each in values if isinstance(each, bytes))
        self.run.budget.step(1 + taken // function.bytes_in_a_step)
        if function.wants_run:
            values.insert(0, self.run)
        try:
            value = code(*values)
        except CallFailed as failure:
            raise self.failure(offset, f"error calling {function.name}: {failure}") from None
        if isinstance(value, bytes):
            self.run.budget.produce(len(value))
        elif isinstance(value, Slice | Map):
            self.run.budget.produce(len(value.items))
        return value

    def operand(self, dot: Value, node: Term, wanted: str) -> Value:
        """A term as an argument of a type."""
        self.run.budget.step()
        match node:
            case Dot():
                value = dot
            case Nil():
                if not can_be_nil(wanted):
                    raise self.failure(node.offset, f"cannot assign nil to {wanted}")
                return zero(wanted)
            case Field() | Variable() | Chain():
                value = self.fields(dot, node)
            case Pipeline():
                value = self.nested(dot, node)
            case Identifier():
                value = self.function(dot, node, (), _NOTHING)
            case Constant() | NumberTerm():
                try:
                    return constant(node, wanted)
                except ValueError as error:
                    raise self.failure(node.offset, str(error)) from None
        return self.fit(value, wanted, node.offset)

    def nested(self, dot: Value, node: Pipeline) -> Value:
        self.depth += 1
        check_depth(self.depth)
        value = self.pipeline(dot, node)
        self.depth -= 1
        return value

    def fit(self, value: Value, wanted: str, offset: int) -> Value:
        """The value if it may be passed for the type."""
        if wanted in (ANY, "value"):
            return value
        if value is None:
            if can_be_nil(wanted):
                return zero(wanted)
            raise self.failure(offset, f"invalid value; expected {wanted}")
        if type_name(value) != wanted:
            raise self.failure(
                offset, f"wrong type for value; expected {wanted}; got {type_name(value)}"
            )
        return value
