"""Rewrites of found keys, and templates applied to values."""

import pytest

from strongroom.model.errors import Invalid, NotFound
from strongroom.sync.render import render_target
from strongroom.sync.rewrite import rewrite
from strongroom.sync.rewrite_spec import parse_rewrites
from strongroom.sync.spec import parse_spec


def shout(text: str, values) -> bytes:
    """A template engine of one word: NAME stands for the value of `name`, upper-cased."""
    made = text.encode()
    for key, value in values.items():
        made = made.replace(key.upper().encode(), value.upper())
    if b"MISSING" in made:
        raise Invalid("template-failed", "1:1: no entry for key missing")
    return made


def rewritten(entries: list, found: dict) -> dict:
    return rewrite(parse_rewrites(entries), found, shout)


def test_keys_are_rewritten_in_order() -> None:
    entries = [
        {"regexp": {"source": "^prod-", "target": ""}},
        {"transform": {"template": "app-VALUE"}},
    ]
    assert rewritten(entries, {"prod-a": b"1", "b": b"2"}) == {"app-A": b"1", "app-B": b"2"}
    with pytest.raises(Invalid) as error:
        rewritten([{"transform": {"template": "MISSING"}}], {"a": b"marked-value"})
    assert "marked-value" not in str(error.value)


def test_the_patterns_of_all_keys_come_to_an_end_together() -> None:
    names = {"ab" * 10_000 + str(number): b"x" for number in range(50)}
    with pytest.raises(Invalid, match="cannot be applied"):
        rewritten([{"regexp": {"source": "a[ab]{250}c", "target": ""}}], names)
    assert len(rewritten([{"regexp": {"source": "^ab", "target": ""}}], names)) == 50


def test_merge_lets_priority_win_and_refuses_conflicts_else() -> None:
    found = {"a": b'{"x": 1, "y": "a"}', "b": b'{"x": 2}'}
    with pytest.raises(Invalid) as error:
        rewritten([{"merge": {}}], found)
    assert error.value.code == "merge-conflict"
    ignore = {"conflictPolicy": "Ignore"}
    assert rewritten([{"merge": ignore}], found) == {"x": b"2", "y": b"a"}
    assert rewritten([{"merge": {**ignore, "priority": ["a"]}}], found)["x"] == b"1"
    with pytest.raises(Invalid):
        rewritten([{"merge": {**ignore, "priority": ["c"]}}], found)
    lenient = {**ignore, "priority": ["c"], "priorityPolicy": "IgnoreNotFound"}
    assert rewritten([{"merge": lenient}], found)["y"] == b"a"
    into = {**ignore, "strategy": "JSON", "into": "all"}
    assert rewritten([{"merge": into}], found)["all"] == b'{"x":2,"y":"a"}'
    assert rewritten([{"merge": into}], found)["b"] == found["b"]
    with pytest.raises(Invalid):
        rewritten([{"merge": {}}], {"a": b"no object"})


def target(template: dict | None, values: dict, inputs: dict | None = None, **more):
    item = {
        "metadata": {
            "name": "db",
            "namespace": "n",
            "labels": {"team": "x", "argocd.argoproj.io/instance": "a"},
            "annotations": {"note": "y", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
        },
        "spec": {
            "secretStoreRef": {"name": "s"},
            "dataFrom": [{"extract": {"key": "k"}}],
            "target": {"template": template, **more} if template is not None else more,
        },
    }
    return render_target(item, parse_spec(item), values, inputs or {}, shout)


VALUES = {"user": b"ann", "raw": b"\xff\0"}


def test_without_a_template_values_and_the_objects_own_metadata_are_taken() -> None:
    made = target(None, VALUES)
    assert made.data == VALUES
    assert (made.labels, made.annotations) == ({"team": "x"}, {"note": "y"})


def test_a_template_replaces_values_or_is_laid_over_them() -> None:
    template = {"data": {"url": "db://USER"}, "type": "example.com/t"}
    made = target(template, VALUES)
    assert (made.data, made.type) == ({"url": b"db://ANN"}, "example.com/t")
    assert made.labels == {}
    merged = target({**template, "mergePolicy": "Merge"}, VALUES)
    assert merged.data == {**VALUES, "url": b"db://ANN"}
    only_metadata = target({"metadata": {"labels": {"who": "USER"}}}, VALUES)
    assert (only_metadata.data, only_metadata.labels) == (VALUES, {"who": "ANN"})


def test_template_data_wins_over_template_from_in_order() -> None:
    inputs = {
        ("ConfigMap", "c"): {"a": b"from USER", "map": b"b: one\nc: USER\n"},
        ("Secret", "t"): {"a": b"secret USER"},
    }
    sources = [
        {"configMap": {"name": "c", "items": [{"key": "a"}, {"key": "map", "templateAs": "KeysAndValues"}]}},
        {"secret": {"name": "t", "items": [{"key": "a"}]}},
        {"literal": "c: literal\nd: '4'"},
        {"literal": "who: USER", "target": "labels"},
        {"literal": "note: USER", "target": "Annotations"},
    ]  # fmt: skip
    made = target({"templateFrom": sources, "data": {"d": "explicit"}}, VALUES, inputs)
    assert made.data == {"a": b"secret ANN", "b": b"one", "c": b"literal", "d": b"explicit"}
    assert (made.labels, made.annotations) == ({"who": "ANN"}, {"note": "ANN"})


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("0123", b"0123"),
        ("1.10", b"1.10"),
        ("yes", b"yes"),
        ("2026-01-02", b"2026-01-02"),
        ("12:30:45", b"12:30:45"),
        ("12345678901234567890123", b"12345678901234567890123"),
        ("'quoted'", b"quoted"),
        ("|\n  two\n  lines", b"two\nlines"),
        ("~", b""),
        ("!!binary /wA=", b"\xff\0"),
        ("[1, 2026-01-02, {a: b}]", b'[1,"2026-01-02",{"a":"b"}]'),
    ],
)
def test_a_scalar_of_a_rendered_map_is_what_was_written(written: str, value: bytes) -> None:
    source = {"literal": f"yes: {written}"}
    assert target({"templateFrom": [source]}, VALUES).data == {"yes": value}


@pytest.mark.parametrize(
    "text",
    ["a: [12345678901234567890123]", "a: &x [*x]", "[1]: x", "a: 1\n---\nb: 2"],
)
def test_what_is_no_map_of_texts_is_refused_and_not_a_bug(text: str) -> None:
    with pytest.raises(Invalid, match="YAML map"):
        target({"templateFrom": [{"literal": text}]}, VALUES)


def test_values_of_a_rendered_map_can_be_decoded() -> None:
    source = {"literal": "k: /wA=", "valuesDecodingStrategy": "Base64"}
    assert target({"templateFrom": [source]}, VALUES).data == {"k": b"\xff\0"}


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({"data": {"url": "MISSING"}}, "template.data[url]"),
        ({"metadata": {"labels": {"l": "RAW"}}}, "labels[l]"),
        ({"templateFrom": [{"literal": "no map"}]}, "YAML map"),
        ({"templateFrom": [{"configMap": {"name": "gone", "items": [{"key": "a"}]}}]}, "gone"),
        (
            {"templateFrom": [{"configMap": {"name": "c", "items": [{"key": "gone"}]}}]},
            "no key gone",
        ),
    ],
)
def test_a_template_that_fails_names_its_place_and_no_value(template: dict, said: str) -> None:
    with pytest.raises((Invalid, NotFound)) as error:
        target(template, {**VALUES, "secret": b"marked-value"}, {("ConfigMap", "c"): {}})
    assert said in str(error.value)
    assert "marked-value" not in str(error.value)
