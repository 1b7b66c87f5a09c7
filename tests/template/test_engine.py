"""Templates: what comes out, what is refused and where, and that everything ends."""

import random

import pytest

from strongroom.model.clock import SimulatedClock
from strongroom.template import engine
from strongroom.template.errors import BudgetSpent, TemplateRefused


def render(text: str, **values: bytes) -> bytes:
    return engine.compile(text, "test").render(values, clock=SimulatedClock(1_700_000_000))


def test_bytes_that_are_no_text_survive_every_way_through() -> None:
    """Straight, through variables and maps, through base64 and back, and in their hash."""
    every = bytes(range(256))
    assert render("{{ .v }}", v=every) == every
    assert render("{{ $x := dict `k` .v }}{{ $x.k | b64enc | b64dec }}", v=every) == every
    assert render("{{ len .v }} {{ .v | sha256sum }}", v=every) == (
        b"256 40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880"
    )


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("a\n  {{ .missing }}", 2, 6, 'map has no entry for key "missing"'),
        ("{{ .v.w }}", 1, 4, "can't evaluate field w in type string"),
        ("{{ nosuch .v }}", 1, 4, "function 'nosuch' not defined"),
        ("{{ if .v }}", 1, 12, "an {{end}} is missing"),
        ("{{ $x }}", 1, 4, "undefined variable '$x'"),
        ("{{ upper 1 }}", 1, 10, "expected string; found another constant"),
        ("{{ .v | int64 | upper }}", 1, 17, "expected string; got int64"),
        ("{{ mustFromJson .v }}", 1, 4, "error calling mustFromJson: the text is not JSON"),
        ('{{ template "t" }}', 1, 13, "template 't' not defined"),
        ('{{ fail "no host given" }}', 1, 4, "no host given"),
    ],
)
def test_a_refusal_names_the_place_and_not_the_value(
    text: str, line: int, column: int, said: str
) -> None:
    """Line and column count from 1."""
    with pytest.raises(TemplateRefused) as caught:
        render(text, v=b"hunter2-hunter2")
    refused = caught.value
    assert (refused.line, refused.column) == (line, column)
    assert said in str(refused)
    assert "hunter2" not in str(refused)


def test_a_computed_failure_message_is_not_told() -> None:
    """fail with a value in its message would put the value into an Event."""
    with pytest.raises(TemplateRefused) as caught:
        render('{{ fail (printf "bad: %s" .v) }}', v=b"hunter2-hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}',
        "{{ range until 1000000000 }}{{ end }}",
        "{{ range 1000000000 }}{{ end }}",
        '{{ repeat 1000000000 "x" }}',
        '{{ printf "%999999d" 1 | repeat 99999 }}',
        "{{ untilStep 0 9223372036854775807 1 }}",
        '{{ $x := "x" }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}{{ $x }}',
        "{{ $x := list }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}{{ $x }}",
        "{{ $x := list }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}{{ toYaml $x }}",
        "{{ $x := list }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}{{ deepCopy $x }}",
        "{{ $d := dict }}{{ $_ := set $d `me` $d }}{{ $d }}",
        "{{ $d := dict }}{{ $_ := set $d `me` $d }}{{ toJson $d }}",
        "{{ indent 1000000000 `x` }}",
        "{{ nindent 1000000 (repeat 100000 `\n`) }}",
        "{{ wrapWith 1 (repeat 100000 `x`) (repeat 100000 `y`) }}",
        "{{ regexReplaceAll `` (repeat 100000 `x`) (repeat 100000 `y`) }}",
        "{{ regexMatch `a{1,1000}a{1,1000}a{1,1000}b` (repeat 200000 `a`) }}",
        "{{ regexFindAll `a(?:.*z)?` (repeat 100000 `a`) -1 }}",
        "{{ replace `` (repeat 100000 `x`) (repeat 100000 `y`) }}",
        "{{ join (repeat 1000000 `x`) (until 1000) }}",
        "{{ range until 100 }}{{ $_ := bcrypt `x` }}{{ end }}",
        "{{ randBytes 1000000000 }}",
        "{{ fromYaml .bomb }}",
        "{{ snakecase (repeat 500000 `aB`) }}",
        "{{ kebabcase (repeat 500000 `a `) }}",
        "{{ initials (repeat 500000 `a `) }}",
        "{{ $x := repeat 1000000 `x` }}{{ range until 300 }}{{ $_ := sha512sum $x }}{{ end }}",
        "{{ $x := repeat 1000000 `é` }}{{ range until 30 }}{{ $_ := upper $x | len }}{{ end }}",
        "{{ toYaml (repeat 500000 `a\n`) }}",
        "{{ toYaml (until 150000) }}",
        "{{ fromYaml (repeat 60000 `- a\n`) }}",
        "{{ date (repeat 300000 `2`) now }}",
        "{{ toDate (repeat 30000 `2 `) (repeat 30000 `2 `) }}",
        "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
        "{{ if 1 }}" * 500 + "{{ end }}" * 500,
        "{{ range until 390000 }}0123456789012345678901234567890{{ end }}",
        "x" * 2_000_000,
    ],
)
@pytest.mark.long
def test_a_hostile_template_is_ended(text: str) -> None:
    """By counting, so it ends at the same place on every machine."""
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 110)
    )
    with pytest.raises(BudgetSpent):
        render(text, bomb=bomb)


def test_a_hostile_regular_expression_takes_linear_time() -> None:
    """Where Python's own engine would go on for years."""
    assert render("{{ regexMatch `^(a+)+$` .v }}", v=b"a" * 5000 + b"!") == b"false"


def test_of_several_yaml_documents_the_first_is_read() -> None:
    """As with Go, whatever comes after it."""
    assert render("{{ (fromYaml .v).a }}", v=b"a: x\n---\nb: {") == b"x"


def test_what_is_random_comes_from_the_source_given() -> None:
    """So that a test, or a generator, decides it."""
    template = engine.compile("{{ randAlphaNum 12 }} {{ uuidv4 }} {{ randInt 5 9 }}", "random")

    def drawn(seed: int) -> bytes:
        return template.render({}, random=random.Random(seed).randbytes)

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(drawn(1)) == 12 + 1 + 36 + 1 + 1


def test_now_is_the_time_given() -> None:
    """And dates are shown after Go's layouts."""
    assert render('{{ now | date "2006-01-02 15:04" }}') == b"2023-11-14 22:13"
    assert render('{{ now | dateModify "-1.5h" | unixEpoch }}') == b"1699994600"


def test_a_template_can_be_rendered_again() -> None:
    """Nothing is kept from one rendering to the next."""
    template = engine.compile(
        "{{ $x := dict }}{{ range list 1 2 }}{{ set $x `k` . | len }}{{ end }}", "t"
    )
    assert template.render({}) == template.render({}) == b"11"


def test_other_delimiters() -> None:
    """As the operator's flag sets them."""
    assert engine.compile("{{ x }} [[ .a ]]", "t", delimiters=("[[", "]]")).render({"a": b"1"}) == (
        b"{{ x }} 1"
    )
