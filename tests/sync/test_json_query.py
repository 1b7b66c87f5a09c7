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


_BEFORE = "!startswith($.text, $.same)"


@pytest.mark.parametrize(
    "path",
    [
        # Each of these is one go of C code for each of a thousand values.
        "$.few[?$.many contains @]", "$.few[?@ in $.many]", "$.few[?@ in $.text]",
        "$.one[*][?$.many != $.alike]", "$.one[*][?$.text < $.same]", f"$.one[*][?{_BEFORE}]",
        # One pattern, or one for each, over a text that is the same or not.
        "$.few[?search($.text, @)]", "$.one[*][?$.text =~ /[ab]*c/]",
        # A slice makes a node of each.
        "$.many[" + ",".join(["::"] * 500) + "].x",
        # So much takes its time before anything is looked at.
        "$" + ".a" * 60_000,
    ],
)  # fmt: skip
def test_what_is_looked_at_in_one_go_is_charged_by_its_size(path: str) -> None:
    answer = {
        "few": ["b" * 100 + str(number) for number in range(1000)],
        "one": [[[number]] for number in range(1000)],
        "many": list(range(1000, 200_000)), "alike": list(range(1000, 200_000)),
        "text": "a" * 400_000, "same": "a" * 399_999 + "a",
    }  # fmt: skip
    with pytest.raises(Invalid, match="steps"):
        first_found(path, answer)


def test_each_of_a_few_hundred_is_looked_for_in_a_list() -> None:
    answer = {"items": [{"id": f"item-{n}"} for n in range(500)], "wanted": ["item-499"] * 300}
    assert first_found("$.items[?@.id in $.wanted].id", answer) == "item-499"
    assert first_found("$.items[?search(@.id, '-49[0-9]$')].id", answer) == "item-490"
    assert first_found("$.items[?startswith(@.id, 'item-7')].id", answer) == "item-7"
    assert first_found("$.items[-2:].id", answer) == "item-498"
