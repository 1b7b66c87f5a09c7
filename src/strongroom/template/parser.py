"""From tokens to a tree. Rules: https://pkg.go.dev/text/template (Actions, Pipelines)."""

from collections.abc import Container
from typing import Final

from strongroom.template.budget import DEPTH, TEMPLATE_BYTES
from strongroom.template.errors import SYNTAX, BudgetSpent, TemplateRefused, position
from strongroom.template.lexer import Token, tokens
from strongroom.template.literals import number, unquote
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
    is_empty,
)

_TERMS: Final = frozenset(
    {"bool", "rune", "complex", "dot", "field", "identifier", "number", "nil", "raw"}
    | {"string", "variable", "("}
)
_NOT_EXECUTABLE: Final = (Constant, Dot, Nil, NumberTerm)


def parse(
    name: str, text: str, functions: Container[str], delimiters: tuple[str, str] = ("{{", "}}")
) -> Tree:
    """The tree of a template; raises TemplateRefused(`template-syntax`) or BudgetSpent."""
    if len(text) > TEMPLATE_BYTES:
        raise BudgetSpent(f"a template has at most {TEMPLATE_BYTES} bytes")
    return _Parser(name, text, functions, tokens(name, text, delimiters)).template()


class _Parser:
    def __init__(self, name: str, text: str, functions: Container[str], found: list[Token]) -> None:
        self.name = name
        self.source = text
        self.functions = functions
        self.tokens = found
        self.at = 0
        self.variables = ["$"]
        self.ranges = 0
        self.depth = 0
        self.defined: dict[str, Nodes] = {}

    # Tokens

    def next(self) -> Token:
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def peek(self) -> Token:
        return self.tokens[self.at]

    def skip_space(self) -> Token:
        while self.peek().kind == "space":
            self.next()
        return self.peek()

    def next_solid(self) -> Token:
        self.skip_space()
        return self.next()

    def refusal(self, reason: str, offset: int) -> TemplateRefused:
        return TemplateRefused(SYNTAX, self.name, position(self.source, offset), reason)

    def unexpected(self, token: Token, context: str) -> TemplateRefused:
        shown = "end of template" if token.kind == "eof" else repr(token.text[:20])
        return self.refusal(f"unexpected {shown} in {context}", token.offset)

    def expect(self, kind: str, context: str) -> Token:
        token = self.next_solid()
        if token.kind != kind:
            raise self.unexpected(token, context)
        return token

    # Nodes

    def template(self) -> Tree:
        body: list[Node] = []
        while self.peek().kind != "eof":
            if self._definition():
                continue
            found = self.node()
            if isinstance(found, Token):
                raise self.refusal(f"unexpected {{{{{found.kind}}}}}", found.offset)
            body.append(found)
        self._define(self.name, tuple(body), 0)
        return Tree(self.name, self.source, self.defined[self.name], self.defined)

    def _definition(self) -> bool:
        start = self.at
        if self.next().kind != "left" or self.next_solid().kind != "define":
            self.at = start
            return False
        name = self.template_name("define clause")
        self.expect("right", "define clause")
        self._separate(name, "define clause")
        return True

    def _separate(self, name: str, context: str) -> None:
        """A body of its own: it sees neither the variables nor the range around it."""
        outside = self.variables, self.ranges
        self.variables, self.ranges = ["$"], 0
        offset = self.peek().offset
        body, ending = self.nodes()
        if ending.kind != "end":
            raise self.refusal(f"unexpected {{{{{ending.kind}}}}} in {context}", ending.offset)
        self._define(name, body, offset)
        self.variables, self.ranges = outside

    def _define(self, name: str, body: Nodes, offset: int) -> None:
        known = self.defined.get(name)
        if known is None or is_empty(known):
            self.defined[name] = body
        elif not is_empty(body):
            raise self.refusal(f"multiple definition of template {name!r}", offset)

    def nodes(self) -> tuple[Nodes, Token]:
        """Nodes up to an end or else, and that token."""
        self.depth += 1
        if self.depth > DEPTH:
            raise BudgetSpent(f"actions are nested deeper than {DEPTH}")
        body: list[Node] = []
        while self.skip_space().kind != "eof":
            found = self.node()
            if isinstance(found, Token):
                self.depth -= 1
                return tuple(body), found
            body.append(found)
        raise self.refusal("unexpected end of template: an {{end}} is missing", self.peek().offset)

    def node(self) -> Node | Token:
        token = self.next_solid()
        if token.kind == "text":
            return Text(token.offset, token.text.encode("utf-8", "surrogateescape"))
        if token.kind != "left":
            raise self.unexpected(token, "input")
        word = self.skip_space()
        if word.kind in ("if", "with", "range"):
            self.next()
            return self.branch(word.kind)
        if word.kind in ("break", "continue"):
            return self.jump()
        if word.kind in ("block", "template"):
            return self.call()
        if word.kind == "end":
            self.next()
            self.expect("right", "end")
            return word
        if word.kind == "else":
            return self.otherwise()
        return Action(word.offset, self.pipeline("command", "right"))

    def otherwise(self) -> Token:
        word = self.next()
        if self.skip_space().kind not in ("if", "with"):
            self.expect("right", "else")
        return word

    def jump(self) -> Jump:
        word = self.next()
        if self.next_solid().kind != "right":
            raise self.refusal(f"unexpected argument of {{{{{word.kind}}}}}", word.offset)
        if not self.ranges:
            raise self.refusal(f"{{{{{word.kind}}}}} outside {{{{range}}}}", word.offset)
        return Jump(word.offset, word.kind)

    def call(self) -> Call:
        word = self.next()
        context = f"{word.kind} clause"
        offset = self.skip_space().offset
        name = self.template_name(context)
        pipeline = None
        if word.kind == "block" or self.skip_space().kind != "right":
            pipeline = self.pipeline(context, "right")
        else:
            self.next()
        if word.kind == "block":
            self._separate(name, context)
        return Call(offset, name, pipeline)

    def template_name(self, context: str) -> str:
        token = self.next_solid()
        if token.kind not in ("string", "raw"):
            raise self.unexpected(token, context)
        return self.unquoted(token).decode("utf-8", "surrogateescape")

    def branch(self, kind: str) -> Branch:
        scope = len(self.variables)
        offset = self.skip_space().offset
        pipeline = self.pipeline(kind, "right")
        self.ranges += kind == "range"
        body, ending = self.nodes()
        self.ranges -= kind == "range"
        otherwise: Nodes | None = None
        if ending.kind == "else":
            if self.peek().kind == kind and kind != "range":
                self.next()
                self.depth += 1
                otherwise = (self.branch(kind),)
                self.depth -= 1
            else:
                otherwise, ending = self.nodes()
                if ending.kind != "end":
                    raise self.refusal("expected {{end}}, found {{else}}", ending.offset)
        del self.variables[scope:]
        return Branch(offset, kind, pipeline, body, otherwise)

    # Pipelines

    def pipeline(self, context: str, end: str) -> Pipeline:
        offset = self.skip_space().offset
        variables, assigns = self.declaration(context)
        commands: list[Command] = []
        while True:
            token = self.skip_space()
            if token.kind == end:
                self.next()
                break
            if token.kind not in _TERMS:
                raise self.unexpected(token, context)
            commands.append(self.command())
        if not commands:
            raise self.refusal(f"missing value for {context}", offset)
        for place, command in enumerate(commands[1:], 2):
            if isinstance(command.terms[0], _NOT_EXECUTABLE):
                raise self.refusal(
                    f"non executable command in pipeline stage {place}", command.offset
                )
        return Pipeline(offset, tuple(commands), variables, assigns)

    def declaration(self, context: str) -> tuple[tuple[str, ...], bool]:
        """`$x :=`, `$x =`, or `$i, $x :=` of a range; nothing is consumed when it is neither."""
        names: list[str] = []
        while self.skip_space().kind == "variable":
            start = self.at
            variable = self.next()
            follow = self.skip_space()
            if follow.kind in ("assign", "declare"):
                self.next()
                names.append(variable.text)
                self.variables.append(variable.text)
                return tuple(names), follow.kind == "assign"
            if follow.kind != "char" or follow.text != ",":
                self.at = start
                break
            self.next()
            names.append(variable.text)
            self.variables.append(variable.text)
            if context != "range" or len(names) > 1:
                raise self.refusal(f"too many declarations in {context}", variable.offset)
            if self.skip_space().kind not in ("variable", "right", ")"):
                raise self.refusal("range can only initialize variables", variable.offset)
        return tuple(names), False

    def command(self) -> Command:
        offset = self.skip_space().offset
        terms: list[Term] = []
        while True:
            self.skip_space()
            operand = self.operand()
            if operand is not None:
                terms.append(operand)
            token = self.next()
            if token.kind == "space":
                continue
            if token.kind in ("right", ")"):
                self.at -= 1
            elif token.kind != "pipe":
                raise self.unexpected(token, "operand")
            break
        if not terms:
            raise self.refusal("empty command", offset)
        return Command(offset, tuple(terms))

    def operand(self) -> Term | None:
        term = self.term()
        if term is None or self.peek().kind != "field":
            return term
        offset = self.peek().offset
        names: list[str] = []
        while self.peek().kind == "field":
            names.append(self.next().text[1:])
        if isinstance(term, Field):
            return Field(term.offset, term.names + tuple(names))
        if isinstance(term, Variable):
            return Variable(term.offset, term.name, term.names + tuple(names))
        if isinstance(term, _NOT_EXECUTABLE):
            raise self.refusal("unexpected . after a constant", offset)
        return Chain(offset, term, tuple(names))

    def term(self) -> Term | None:
        token = self.skip_space()
        if token.kind not in _TERMS:
            return None
        self.next()
        if token.kind == "(":
            return self.parenthesised()
        if token.kind in ("identifier", "variable"):
            return self.named(token)
        return self.literal(token)

    def parenthesised(self) -> Pipeline:
        self.depth += 1
        if self.depth > DEPTH:
            raise BudgetSpent(f"expressions are nested deeper than {DEPTH}")
        inner = self.pipeline("parenthesized pipeline", ")")
        self.depth -= 1
        return inner

    def named(self, token: Token) -> Identifier | Variable:
        if token.kind == "identifier":
            if token.text not in self.functions:
                raise self.refusal(f"function {token.text!r} not defined", token.offset)
            return Identifier(token.offset, token.text)
        if token.text not in self.variables:
            raise self.refusal(f"undefined variable {token.text!r}", token.offset)
        return Variable(token.offset, token.text, ())

    def literal(self, token: Token) -> Term:
        kind, offset = token.kind, token.offset
        if kind == "dot":
            return Dot(offset)
        if kind == "nil":
            return Nil(offset)
        if kind == "field":
            return Field(offset, (token.text[1:],))
        if kind == "bool":
            return Constant(offset, token.text == "true")
        if kind in ("string", "raw"):
            return Constant(offset, self.unquoted(token))
        try:
            return NumberTerm(offset, number(token.text, kind))
        except ValueError as error:
            raise self.refusal(str(error), offset) from None

    def unquoted(self, token: Token) -> bytes:
        try:
            return unquote(token.text)
        except ValueError as error:
            raise self.refusal(str(error), token.offset) from None
