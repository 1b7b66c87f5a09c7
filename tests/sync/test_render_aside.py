"""Templates that make keys: the operator goes on meanwhile."""

import asyncio
from itertools import pairwise

import pytest

from strongroom.model.clock import SystemClock
from strongroom.model.errors import Invalid
from strongroom.sync.render import Rendered
from strongroom.sync.render_aside import rendered, rewritten
from strongroom.sync.rewrite_spec import TransformRewrite
from strongroom.sync.spec import parse_spec
from strongroom.sync.templates import GoTemplates

RENDER = GoTemplates(SystemClock())
KEY = '{{ genPrivateKey "rsa" }}'


async def turns_of(template: dict, inputs: dict | None = None) -> tuple[Rendered, int]:
    """What is rendered, and how often others had their turn meanwhile."""
    spec = {"secretStoreRef": {"name": "s"}, "dataFrom": [{"extract": {"key": "k"}}]}
    item = {"metadata": {"name": "e", "namespace": "n"}, "spec": spec}
    spec["target"] = {"template": template}
    work = rendered(item, parse_spec(item), {"a": b"1"}, inputs or {}, RENDER)
    making, turns = asyncio.create_task(work), 0
    while not making.done():
        await asyncio.sleep(0)
        turns += 1
    return await making, turns


@pytest.mark.parametrize(
    ("template", "inputs"),
    [
        ({"data": {"key": KEY}}, {}),
        ({"templateFrom": [{"literal": 'key: |\n  {{ genPrivateKey "rsa" | nindent 2 }}'}]}, {}),
        (
            {"templateFrom": [{"configMap": {"name": "c", "items": [{"key": "key"}]}}]},
            {("ConfigMap", "c"): {"key": KEY.encode()}},
        ),
    ],
    ids=["data", "literal", "config-map"],
)
async def test_nobody_waits_for_a_key(template: dict, inputs: dict) -> None:
    made, turns = await turns_of(template, inputs)
    assert b"PRIVATE KEY" in made.data["key"]
    assert turns > 10


async def test_what_is_quick_is_done_at_once() -> None:
    made, turns = await turns_of({"data": {"b": "{{ .a }}2"}})
    assert (made.data, turns) == ({"b": b"12"}, 1)


async def test_a_template_that_fails_is_refused_all_the_same() -> None:
    with pytest.raises(Invalid) as refused:
        await turns_of({"data": {"b": '{{ htpasswd "a" .nosuch }}'}})
    assert refused.value.code == "bad-template"


async def test_nobody_waits_for_a_key_of_which_a_name_is_made() -> None:
    transform = TransformRewrite('{{ genPrivateKey "rsa" | sha256sum }}')
    making, turns = asyncio.create_task(rewritten((transform,), {"a": b"1"}, RENDER)), 0
    while not making.done():
        await asyncio.sleep(0)
        turns += 1
    assert list((await making).values()) == [b"1"]
    assert turns > 10


def of_aliases(merged: str) -> str:
    """Some hundred bytes that stand for more than any machine holds."""
    lines = ["a: &a {x: y}"]
    for before, name in pairwise("abcdefghijklmnop"):
        lines.append(f"{name}: &{name} {merged % ','.join([f'*{before}'] * 9)}")
    return "\n".join(lines)


@pytest.mark.parametrize("target", ["Data", "Annotations"])
@pytest.mark.parametrize(
    "text",
    [
        of_aliases("[%s]"),
        of_aliases("{<<: [%s]}"),
        "a: &a [*a]",
        "{{ repeat 60000 `k: v\n` }}",
        "a: [{{ range until 60000 }}b,{{ end }}]",
        "a: " + "[" * 12_000,
    ],
    ids=["lists", "merged", "itself", "many-keys", "many-items", "deep"],
)  # fmt: skip
async def test_a_map_that_stands_for_too_much_is_refused(text: str, target: str) -> None:
    source = {"literal": text, "target": target}
    with pytest.raises(Invalid, match="a YAML map that is too large"):
        await turns_of({"templateFrom": [source]})


async def test_the_maps_of_an_object_have_a_bound_together() -> None:
    text = "\n".join(f"k{number}: v" for number in range(5000))
    assert len((await turns_of({"templateFrom": [{"literal": text}] * 2}))[0].data) == 5000
    with pytest.raises(Invalid, match="too large"):
        await turns_of({"templateFrom": [{"literal": text}] * 20})


async def test_an_alias_and_a_merged_map_are_read_all_the_same() -> None:
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\nd: |\n  tab\there\ne: with\ttab"
    made, _ = await turns_of({"templateFrom": [{"literal": text}]})
    assert made.data == {
        "a": b'{"x":1}', "b": b'{"x":1,"y":2}', "c": b'{"x":1}', "d": b"tab\there\n",
        "e": b"with\ttab",
    }  # fmt: skip


async def test_the_texts_of_an_object_have_a_bound_together() -> None:
    long = "{{ range until 50000 }}{{ $x := . }}{{ end }}"
    some, many = ({"data": {f"k{n}": long for n in range(count)}} for count in (3, 40))
    assert len((await turns_of(some))[0].data) == 3
    with pytest.raises(Invalid, match="within its steps"):
        await turns_of(many)
    keys = {f"k{n}": b"" for n in range(40)}
    with pytest.raises(Invalid, match="within its steps"):
        await rewritten((TransformRewrite(long + "{{ .value }}"),), keys, RENDER)
    # Another object's have theirs.
    assert len((await turns_of(some))[0].data) == 3
