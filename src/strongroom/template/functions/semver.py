"""Semantic versions and constraints. Source: https://github.com/Masterminds/semver (v3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import re2

from strongroom.template.errors import CallFailed
from strongroom.template.registry import Table
from strongroom.template.values import Method, Object, Uint64

SEMVER: Final = Table("Versions")
_TAIL: Final = r"(-([0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*))?(\+([0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*))?"
_VERSION: Final = re2.compile(r"v?([0-9]+)(\.[0-9]+)?(\.[0-9]+)?" + _TAIL)
_PART: Final = r"v?([0-9|x|X|\*]+)(\.[0-9|x|X|\*]+)?(\.[0-9|x|X|\*]+)?" + _TAIL
_OPERATORS: Final = r"=||!=|>|<|>=|=>|<=|=<|~|~>|\^"
_ONE: Final = re2.compile(rf"\s*({_OPERATORS})\s*({_PART})\s*")
_FIND: Final = re2.compile(rf"({_OPERATORS})\s*({_PART})")
_RANGE: Final = re2.compile(rf"\s*({_PART})\s+-\s+({_PART})\s*")
_VALID: Final = re2.compile(
    rf"(\s*({_OPERATORS})\s*({_PART})\s*)((?:\s+|,\s*)({_OPERATORS})\s*({_PART})\s*)*"
)
LONGEST: Final = 4096  # bytes of a version or constraint


class Version(Object):
    """*semver.Version."""

    go_type = "*semver.Version"
    kind = "ptr"

    def __init__(self, text: str) -> None:
        """Raises ValueError for what is no version."""
        match = _VERSION.fullmatch(text) if text.isascii() else None
        if match is None or len(text) > LONGEST:
            raise ValueError("invalid semantic version")
        self.original = text
        parts = [int((match[at] or "0").lstrip(".")) for at in (1, 2, 3)]
        if max(parts) >= 1 << 64:
            raise ValueError("version segment out of range")
        self.major, self.minor, self.patch = parts
        self.prerelease, self.metadata = match[5] or "", match[8] or ""
        if any(_leads_with_zero(part) for part in self.prerelease.split(".")):
            raise ValueError("a number of the prerelease begins with 0")

    def text(self) -> bytes:
        """Major.minor.patch-prerelease+metadata."""
        tail = f"-{self.prerelease}" if self.prerelease else ""
        tail += f"+{self.metadata}" if self.metadata else ""
        return f"{self.major}.{self.minor}.{self.patch}{tail}".encode()

    def identity(self) -> object:
        """All of it."""
        return self.original, self.text()

    def methods(self) -> Mapping[str, Method]:
        """What a template may call."""
        other = (self.go_type,)
        return {
            "Major": Method((), lambda: Uint64(self.major)),
            "Minor": Method((), lambda: Uint64(self.minor)),
            "Patch": Method((), lambda: Uint64(self.patch)),
            "Prerelease": Method((), self.prerelease.encode),
            "Metadata": Method((), self.metadata.encode),
            "Original": Method((), self.original.encode),
            "String": Method((), self.text),
            "Compare": Method(other, lambda to: compare(self, to)),
            "Equal": Method(other, lambda to: compare(self, to) == 0),
            "LessThan": Method(other, lambda to: compare(self, to) < 0),
            "LessThanEqual": Method(other, lambda to: compare(self, to) <= 0),
            "GreaterThan": Method(other, lambda to: compare(self, to) > 0),
            "GreaterThanEqual": Method(other, lambda to: compare(self, to) >= 0),
        }


def _leads_with_zero(part: str) -> bool:
    return part.isdigit() and len(part) > 1 and part[0] == "0"


def compare(one: Version, other: Version) -> int:
    """-1, 0 or 1; a prerelease comes before its release."""
    left, right = (one.major, one.minor, one.patch), (other.major, other.minor, other.patch)
    if left != right:
        return -1 if left < right else 1
    return _compare_prereleases(one.prerelease, other.prerelease)


def _compare_prereleases(one: str, other: str) -> int:
    if not one or not other:
        return (not one) - (not other)  # the one without is the later
    left, right = one.split("."), other.split(".")
    for first, second in zip(left, right, strict=False):
        order = _compare_parts(first, second)
        if order:
            return order
    return (len(left) > len(right)) - (len(left) < len(right))


def _compare_parts(one: str, other: str) -> int:
    if one.isdigit() and other.isdigit():
        return (int(one) > int(other)) - (int(one) < int(other))
    if one.isdigit() != other.isdigit():
        return -1 if one.isdigit() else 1
    return (one > other) - (one < other)


@dataclass(frozen=True, slots=True)
class Constraint:
    """An operator and a version, parts of which may be open."""

    operator: str
    version: Version
    dirty: bool
    minor_dirty: bool
    patch_dirty: bool

    def allows(self, version: Version) -> bool:
        """Whether a version satisfies it; prereleases only where one is named."""
        if version.prerelease and not self.version.prerelease and (
            self.operator != "!=" or self.dirty
        ):  # fmt: skip
            return False
        return _CHECKS[self.operator](self, version)


def _not_equal(constraint: Constraint, version: Version) -> bool:
    wanted = constraint.version
    if constraint.dirty:
        if wanted.major != version.major:
            return True
        if constraint.minor_dirty:
            return False
        if wanted.minor != version.minor:
            return True
        if constraint.patch_dirty:
            return _compare_prereleases(version.prerelease, wanted.prerelease) != 0
    return compare(version, wanted) != 0


def _greater(constraint: Constraint, version: Version) -> bool:
    wanted = constraint.version
    if not constraint.dirty:
        return compare(version, wanted) > 0
    if version.major != wanted.major:
        return version.major > wanted.major
    if constraint.minor_dirty:
        return False
    if constraint.patch_dirty:
        return version.minor > wanted.minor
    return compare(version, wanted) > 0


def _less_or_equal(constraint: Constraint, version: Version) -> bool:
    wanted = constraint.version
    if not constraint.dirty:
        return compare(version, wanted) <= 0
    if version.major > wanted.major:
        return False
    return not (
        version.major == wanted.major
        and version.minor > wanted.minor
        and not constraint.minor_dirty
    )


def _tilde(constraint: Constraint, version: Version) -> bool:
    wanted = constraint.version
    if compare(version, wanted) < 0:
        return False
    anything = not (wanted.major or wanted.minor or wanted.patch)
    if anything and not constraint.minor_dirty and not constraint.patch_dirty:
        return True
    if version.major != wanted.major:
        return False
    return version.minor == wanted.minor or constraint.minor_dirty


def _equal(constraint: Constraint, version: Version) -> bool:
    if constraint.dirty:
        return _tilde(constraint, version)
    return compare(version, constraint.version) == 0


def _caret(constraint: Constraint, version: Version) -> bool:
    wanted = constraint.version
    if compare(version, wanted) < 0:
        return False
    if wanted.major > 0 or constraint.minor_dirty:
        return version.major == wanted.major
    if version.major > 0:
        return False
    if wanted.minor > 0 or constraint.patch_dirty:
        return version.minor == wanted.minor
    return version.minor == 0 and version.patch == wanted.patch


_CHECKS: Final = {
    "": _equal,
    "=": _equal,
    "!=": _not_equal,
    ">": _greater,
    "<": lambda constraint, version: compare(version, constraint.version) < 0,
    ">=": lambda constraint, version: compare(version, constraint.version) >= 0,
    "=>": lambda constraint, version: compare(version, constraint.version) >= 0,
    "<=": _less_or_equal,
    "=<": _less_or_equal,
    "~": _tilde,
    "~>": _tilde,
    "^": _caret,
}


def constraints(text: str) -> list[list[Constraint]]:
    """Alternatives, each a list that must hold together; raises ValueError."""
    if len(text) > LONGEST or not text.isascii():
        raise ValueError("improper constraint")
    for match in _RANGE.finditer(text):
        text = text.replace(match[0], f">= {match[1]}, <= {match[11]} ", 1)
    alternatives = []
    for alternative in text.split("||"):
        if not _VALID.fullmatch(alternative):
            raise ValueError("improper constraint")
        found = [match[0] for match in _FIND.finditer(alternative)] or [alternative]
        alternatives.append([_constraint(each) for each in found])
    return alternatives


def _constraint(text: str) -> Constraint:
    match = _ONE.fullmatch(text)
    if match is None:
        raise ValueError("improper constraint")
    major, minor, patch, tail = match[3], match[4] or "", match[5] or "", match[6] or ""
    open_part = ("", "x", "X", "*")
    if major in open_part:
        return Constraint(match[1], Version(f"0.0.0{tail}"), True, False, False)
    if minor.removeprefix(".") in open_part:
        return Constraint(match[1], Version(f"{major}.0.0{tail}"), True, True, False)
    if patch.removeprefix(".") in open_part:
        return Constraint(match[1], Version(f"{major}{minor}.0{tail}"), True, False, True)
    return Constraint(match[1], Version(match[2]), False, False, False)


@SEMVER("semver", "string")
def _semver(text: bytes) -> Version:
    """A version, with Major, Minor, Patch, Prerelease, Metadata, Original and Compare."""
    try:
        return Version(text.decode("latin-1"))
    except ValueError as error:
        raise CallFailed(str(error)) from None


@SEMVER("semverCompare", "string, string")
def _semver_compare(constraint: bytes, text: bytes) -> bool:
    """Whether a version satisfies a constraint such as ^1.2 or >=1.0 <3."""
    try:
        alternatives = constraints(constraint.decode("latin-1"))
        version = Version(text.decode("latin-1"))
    except ValueError as error:
        raise CallFailed(str(error)) from None
    return any(all(each.allows(version) for each in together) for together in alternatives)
