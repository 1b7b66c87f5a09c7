"""Size and shape budgets of the source, so that a file stays one thing that can be read."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
FILE_LINES, FUNCTION_LINES, PARAMETERS, PATCHES_PER_100_TESTS = 600, 60, 6, 5
FORBIDDEN_NAMES = {"core", "common", "utils", "util", "helpers", "helper", "manager"}
PATCH = re.compile(r"\b(mock\.patch|mocker\.patch|patch\.object|monkeypatch\.setattr)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def parameter_count(function: Function) -> int:
    arguments = function.args
    every = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
    return len([name for name in every if name.arg not in ("self", "cls")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_source_file_keeps_its_budgets(path: Path) -> None:
    """Files, functions and parameter lists stay within their bounds and carry a docstring."""
    text = path.read_text()
    tree = ast.parse(text)
    over = [f"{text.count(chr(10))} lines"] if text.count("\n") > FILE_LINES else []
    if ast.get_docstring(tree) is None:
        over.append("no module docstring")
    for function in functions(tree):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_LINES:
            over.append(f"{function.name}: {length} lines")
        if parameter_count(function) > PARAMETERS:
            over.append(f"{function.name}: {parameter_count(function)} parameters")
    assert over == []


def test_no_module_is_named_for_nothing() -> None:
    """A name like utils says nothing about what is inside."""
    names = {path.stem for path in SOURCES} | {path.parent.name for path in SOURCES}
    assert names & FORBIDDEN_NAMES == set()


def test_tests_use_fakes_rather_than_patches() -> None:
    """At most five patches for a hundred tests."""
    patches = tests = 0
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text()
        if path != Path(__file__):
            patches += len(PATCH.findall(text))
        tests += len(re.findall(r"^\s*(?:async )?def test_", text, re.M))
    assert patches * 100 <= PATCHES_PER_100_TESTS * tests


def test_no_test_sleeps_for_a_fixed_time() -> None:
    """Tests wait for conditions with a deadline; only `wait_for`-like polls may pause briefly."""
    # Anything from half a second on is a wait for a duration, not a poll of a condition.
    long_sleep = re.compile(r"\bsleep\((?:[1-9]\d*(?:\.\d+)?|0?\.[5-9]\d*)\)")
    offenders = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if long_sleep.search(path.read_text()) and path != Path(__file__)
        if not re.search(r"# a process that only waits", path.read_text())
    ]
    assert offenders == []
