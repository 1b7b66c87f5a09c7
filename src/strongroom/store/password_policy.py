"""Password policies: what their text says, and passwords that satisfy it. Pure but for chance.

    length = 20
    rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz" min-chars = 1 }

or the same in JSON. Form: https://developer.hashicorp.com/vault/docs/concepts/password-policies.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from strongroom.access.hcl import Attribute, Block, Body, parse
from strongroom.model.errors import Invalid

CODE: Final = "bad-password-policy"
SHORTEST, LONGEST = 4, 1024
ATTEMPTS: Final = 10_000
# Characters that are drawn and looked at for one password: less than a second.
MOST_WORK: Final = 4_000_000
LEAST_BITS: Final = 20.0

# Draws that many characters evenly from an alphabet.
Draw = Callable[[int, str], str]


@dataclass(frozen=True, slots=True)
class CharsetRule:
    """At least `least` characters of the set."""

    charset: frozenset[str]
    least: int = 0


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """How long passwords are and what they hold."""

    length: int
    rules: tuple[CharsetRule, ...]

    @property
    def alphabet(self) -> str:
        """Every character a password may have."""
        return "".join(sorted({each for rule in self.rules for each in rule.charset}))

    def satisfied(self, password: str) -> bool:
        """Whether every rule has its characters."""
        counts = Counter(password)
        return all(
            sum(number for each, number in counts.items() if each in rule.charset) >= rule.least
            for rule in self.rules
            if rule.least
        )

    def generate(self, draw: Draw) -> str:
        """A password, drawn evenly from those that satisfy the rules.

        Raises Invalid when chance does not find one: the rules ask for nearly every character.
        """
        alphabet = self.alphabet
        work = self.length * (1 + len(self.rules))
        for _ in range(min(ATTEMPTS, 1 + MOST_WORK // work)):
            password = draw(self.length, alphabet)
            if self.satisfied(password):
                return password
        raise Invalid(
            CODE,
            "no password of this policy was found",
            hint="make length larger or min-chars smaller",
        )


def parse_password_policy(text: str) -> PasswordPolicy:
    """Read a policy in HCL or JSON; raises Invalid(`bad-password-policy`)."""
    length, rules = 0, []
    for item in parse(text, code=CODE).items:
        if isinstance(item, Attribute) and item.name == "length":
            length = _number(item)
        elif isinstance(item, Block) and item.kind == "rule" and item.labels == ("charset",):
            rules.append(_charset(item.body))
        elif isinstance(item, Attribute) and item.name == "rule":
            rules += _charsets(item)
        else:
            name = item.name if isinstance(item, Attribute) else item.kind
            raise Invalid(CODE, f"line {max(item.line, 1)}: unknown key {name!r}")
    return _checked(PasswordPolicy(length, tuple(rules)))


def _charsets(item: Attribute) -> list[CharsetRule]:
    """Rules as JSON has them: `{"charset": {...}}`, or a list of such objects."""
    rules = []
    for outer in _bodies(item):
        for inner in outer.items:
            if not isinstance(inner, Attribute) or inner.name != "charset":
                raise Invalid(CODE, "line 1: the only kind of rule is charset")
            rules += [_charset(body) for body in _bodies(inner)]
    return rules


def _bodies(item: Attribute) -> list[Body]:
    values = item.value if isinstance(item.value, list) else [item.value]
    if not all(isinstance(each, Body) for each in values):
        raise Invalid(CODE, f"line {max(item.line, 1)}: {item.name} holds an object")
    return values


def _charset(body: Body) -> CharsetRule:
    charset, least = "", 0
    for item in body.items:
        if isinstance(item, Attribute) and item.name == "charset" and isinstance(item.value, str):
            charset = item.value
        elif isinstance(item, Attribute) and item.name == "min-chars":
            least = _number(item)
        else:
            raise Invalid(CODE, f"line {max(item.line, 1)}: a charset rule has charset, min-chars")
    if not charset or not charset.isprintable():
        raise Invalid(CODE, "a charset rule needs printable characters")
    return CharsetRule(frozenset(charset), least)


def _number(item: Attribute) -> int:
    if isinstance(item.value, bool) or not isinstance(item.value, int) or item.value < 0:
        raise Invalid(CODE, f"line {max(item.line, 1)}: {item.name} is a whole number")
    return item.value


def _checked(policy: PasswordPolicy) -> PasswordPolicy:
    if not SHORTEST <= policy.length <= LONGEST:
        raise Invalid(CODE, f"length is between {SHORTEST} and {LONGEST}")
    if not policy.rules:
        raise Invalid(CODE, "a policy needs at least one charset rule")
    if sum(rule.least for rule in policy.rules) > policy.length:
        raise Invalid(CODE, "the rules ask for more characters than the length")
    if policy.length * math.log2(max(len(policy.alphabet), 1)) < LEAST_BITS:
        raise Invalid(CODE, "the passwords would be guessable", hint="more characters, or longer")
    return policy
