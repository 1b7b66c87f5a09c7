"""What the API server refuses is told without the values that it repeats."""

import json
from collections.abc import AsyncIterator

import pytest

from strongroom.kube.client import KubeClient
from strongroom.kube.refusals import LONGEST_BODY, LONGEST_TOLD, refusal_of
from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Invalid, Unavailable

SERVICES = "/api/v1/namespaces/n/services"


def told(status: int, message: str, *causes: tuple[str, str], reason: str = "Invalid") -> str:
    """The refusal of a Status object, which is an Invalid."""
    listed = [{"reason": "x", "message": text, "field": field} for field, text in causes]
    said = {"kind": "Status", "message": message, "reason": reason, "details": {"causes": listed}}
    refusal = refusal_of(status, json.dumps(said).encode(), f"{SERVICES}?fieldManager=x")
    assert isinstance(refusal, Invalid)
    assert refusal.code == "kube-invalid"
    return refusal.message.removeprefix(f"{SERVICES}: ").removesuffix(f" (status {status})")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('Invalid value: "mark:ed \\"x\\": y": must be lower case', "Invalid value: must be lower case"),
        ('Unsupported value: "marked": supported values: "A", "B"',
         'Unsupported value: supported values: "A", "B"'),
        ('Duplicate value: "marked"', "Duplicate value"),
        ("Invalid value: 4711: must be at most 9", "Invalid value: must be at most 9"),
        ('Invalid value: {"a":"marked: x"}: field is immutable', "Invalid value: field is immutable"),
        ('Invalid value: ["marked"]: may not change once set', "Invalid value: may not change once set"),
        ('Invalid value: "marked": a in body must be of type date-time: "marked"',
         'Invalid value: a in body must be of type date-time: "..."'),
        ('Invalid value: "": "a" must validate', 'Invalid value: "a" must validate'),
        ('Invalid value: 5marked: no', "Invalid value"),
        ('Invalid value: "marked\\', "Invalid value"),
        (f"Invalid value: {'[' * 100_000}", "Invalid value"),
        (f"Invalid value: {'4' * 100_000}: no", "Invalid value"),
        ('Invalid value: map[string]string{"a":"marked: x"}: no', "Invalid value"),
        ("Required value", "Required value"),
        ("Too long: may not be more than 9 bytes", "Too long: may not be more than 9 bytes"),
        ("Forbidden: field is immutable", "Forbidden: field is immutable"),
        ('Forbidden: may not change `a`, `b`\n@@ -1 +1 @@\n-     "Value": "marked",', "Forbidden: may not change `a`, `b`"),
    ],
)  # fmt: skip
def test_fields_and_rules_are_told_and_values_are_not(text: str, left: str) -> None:
    said = told(422, f'Secret "s" is invalid: metadata.labels: {text}', ("metadata.labels", text))
    assert said == f'Secret "s" is invalid: metadata.labels: {left}'


def test_of_several_fields_each_is_told() -> None:
    causes = (("a", 'Invalid value: "marked": no'), ("b", "Required value"))
    message = 'X "s" is invalid: [a: Invalid value: "marked": no, b: Required value]'
    assert (
        told(422, message, *causes) == 'X "s" is invalid: a: Invalid value: no, b: Required value'
    )


def test_a_rule_of_no_field_is_told_beside_those_of_fields() -> None:
    causes = (("a", "Required value"), ("", "some rules were not checked"))
    said = told(422, 'X "s" is invalid: all', *causes)
    assert said == 'X "s" is invalid: a: Required value, some rules were not checked'


def test_what_is_told_has_an_end() -> None:
    assert len(told(422, "m" * 1_000_000)) == LONGEST_TOLD
    body = json.dumps({"kind": "Status", "message": "m" * LONGEST_BODY}).encode()
    assert refusal_of(400, body, "/x").message == "/x: refused (status 400)"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ['\\"', '"', "\\", ", got ", "\n  .a: ", "number 1", "[", "1"])
def test_a_long_message_takes_no_time(part: str) -> None:
    """The server of a namespace's own store says what it wants to."""
    many = f'"{part * 300_000}'
    told(500, f"failed to create typed patch object (n/x): {many}", reason="")
    told(422, many, ("a", f"Invalid value: {many}"))
    told(422, many, ("a", f"Invalid value: {many[1:]}"))


@pytest.mark.parametrize(
    ("status", "message", "left"),
    [
        (500, 'failed to create typed patch object (n/x; /v1, Kind=Service): .spec.ports[port="marked"'
         ',protocol="TCP"].port: expected numeric (int or float), got string',
         'failed to create typed patch object (n/x; /v1, Kind=Service): .spec.ports[port="..."'
         ',protocol="..."].port: expected numeric (int or float)'),
        (500, "failed to create typed patch object (n/x; v1, Kind=X): errors:\n"
         "  .a: expected string, got &value.valueUnstructured{Value:1}\n  .b: expected boolean, got &{marked}",
         "failed to create typed patch object (n/x; v1, Kind=X): errors:\n"
         "  .a: expected string\n  .b: expected boolean"),
        (500, "failed to create typed patch object (n/x; v1, Kind=X): errors:\n"
         "  .a: expected list, got &{marked\n  .y: marked\nmarked}\n"
         '  .b[c="mar ked"]: duplicate entries for key [c="mar ked"]',
         "failed to create typed patch object (n/x; v1, Kind=X): errors:\n"
         '  .a: expected list\n  .b[c="..."]: duplicate entries for key [c="..."]'),
        (500, "failed to create typed patch object (n/x; v1, Kind=X): .a: expected map, got &{line\nmarked}",
         "failed to create typed patch object (n/x; v1, Kind=X): .a: expected map"),
        (500, "failed to convert new object (n/q; /v1, Kind=ResourceQuota) to proper version: odd",
         "failed to convert new object (n/q; /v1, Kind=ResourceQuota) to proper version: odd"),
        (400, 'Q in version "v1" cannot be handled as a Q: must be one, error found in #10 byte of ...|"a":"marked"|',
         'Q in version "..." cannot be handled as a Q: must be one'),
        (400, 'Q in version "v1" cannot be handled as a Q: json: cannot unmarshal number 4711 into Go struct',
         'Q in version "..." cannot be handled as a Q: json: cannot unmarshal number into Go struct'),
    ],
)  # fmt: skip
def test_types_that_do_not_fit_are_told_without_the_value(
    status: int, message: str, left: str
) -> None:
    """Server-side apply answers 500, which is no server that is away."""
    assert told(status, message, reason="") == left


def test_what_others_say_stays() -> None:
    message = 'admission webhook "w" denied the request: it is invalid: say "why"'
    assert told(400, message, reason="BadRequest") == message
    assert isinstance(refusal_of(500, b'{"message": "etcdserver: timed out"}', "/x"), Unavailable)
    assert isinstance(refusal_of(500, b"[]", "/x"), Unavailable)
    for causes in (b"[1]", b"1", b"{}", b"null"):
        said = b'{"reason": "Invalid", "details": {"causes": %b}}' % causes
        assert isinstance(refusal_of(422, said, "/x"), Invalid)


@pytest.fixture
async def api(cluster) -> AsyncIterator[KubeClient]:
    async with KubeClient(cluster.config(), SystemClock()) as client:
        yield client


@pytest.mark.cluster
@pytest.mark.parametrize("part", ["labels", "annotations"])
async def test_a_real_server_is_quoted_without_values(api: KubeClient, part: str) -> None:
    names = {"marked x!": "v"} if part == "annotations" else {"a": "marked x!"}
    item = {"metadata": {"name": "s", "namespace": "default", part: names}, "data": {"k": "eA=="}}
    with pytest.raises(Invalid, match=rf"metadata\.{part}: Invalid value: .* must ") as caught:
        await api.create(SECRETS, item)
    assert "marked" not in caught.value.message


@pytest.mark.cluster
async def test_a_real_servers_apply_says_which_type_is_wrong(api: KubeClient) -> None:
    where = {"name": "s", "namespace": "default"}
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": where, "immutable": "marked x"}
    with pytest.raises(Invalid, match=r"\.immutable: expected boolean") as caught:
        await api.apply(CONFIG_MAPS, item, "me")
    assert "marked" not in caught.value.message
