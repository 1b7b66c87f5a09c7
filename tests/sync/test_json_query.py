"""A path of a namespace's store ends, whatever it says and whatever is answered."""

import pytest

from strongroom.model.errors import Invalid
from strongroom.sync.json_query import first_found

ANSWER = {"a": [{"b": "one", "n": 1}, {"b": "Two", "n": 2}], "c": {"d": None}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$.a[1].b", "Two"), ("$..n", 1), ("$.a[?@.n > 1].b", "Two"), ("$.c.d", None),
        ("$.a[?match(@.b, 'T.o')].n", 2), ("$.a[?search(@.b, 'n')].n", 1),
        ("$.a[?@.b =~ /two/i].n", 2), ("$.a[?@.b].n", 1), ("$.a[?!match(@.n, '1')].n", 1),
    ],
)  # fmt: skip
def test_what_a_path_finds_first(path: str, found: object) -> None:
    assert first_found(path, ANSWER) == found


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("$.x", "no-result"), ("$[", "bad-json-path"), ("$.a[?@.b =~ /(?=o)/]", "bad-pattern"),
        ("$.a[?@.b =~ /two/]", "no-result"), ("$.a[?match(@.b, 'ne')]", "no-result"),
    ],
)  # fmt: skip
def test_what_finds_nothing(path: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        first_found(path, ANSWER)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "path",
    ["$[?@ =~ /(a+)+$/]", "$[?match(@, '(a|aa)+b')]", "$[?search(@, '(a|aa)+$')]"],
)
def test_a_pattern_takes_linear_time(path: str) -> None:
    with pytest.raises(Invalid, match="no-result"):
        first_found(path, ["a" * 5000 + "!"])


@pytest.mark.parametrize("path", ["$..[*]..[*]..[*]..[*]..[*].x", "$..[?@..[?@..[?@..[?@.x]]]]"])
def test_a_path_that_multiplies_what_is_there_comes_to_an_end(path: str) -> None:
    answer: object = 1
    for _ in range(90):
        answer = [answer]
    with pytest.raises(Invalid, match="steps"):
        first_found(path, answer)


@pytest.mark.parametrize("how", ["match(@, '{}')", "search(@, '{}')", "@ =~ /{}/"])
def test_a_large_pattern_does_not_walk_over_a_large_answer(how: str) -> None:
    pattern = "a{1,1000}a{1,1000}a{1,1000}b"
    with pytest.raises(Invalid, match="too large"):
        first_found(f"$[?{how.format(pattern)}]", ["a" * 200_000])
