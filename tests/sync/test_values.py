"""Values, keys and decoding: the pure parts between a provider and a Secret."""

from time import process_time

import pytest

from strongroom.model.errors import Invalid, NotFound, Refusal
from strongroom.sync.json_path import ABSENT, lookup
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.vault import VaultSettings, split_key
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import (
    Escaped,
    Marks,
    Parsed,
    Tags,
    as_bytes,
    convert,
    decode,
    extract,
    finish,
    pick,
)

DATA = {"a.b": "exact", "a": {"b": "nested"}, "text": '{"x": ["y", "z"]}', "n": 5, "t": True}
# The example document of GJSON's own syntax page.
PEOPLE = {
    "name": {"first": "Tom", "last": "Anderson"},
    "age": 37,
    "children": ["Sara", "Alex", "Jack"],
    "fav.movie": "Deer Hunter",
    "marks": {"#": "sharp", "@this": "at", "[x]": "bracket"},
    "friends": [
        {"first": "Dale", "last": "Murphy", "age": 44, "nets": ["ig", "fb", "tw"]},
        {"first": "Roger", "last": "Craig", "age": 68, "nets": ["fb", "tw"]},
        {"first": "Jane", "last": "Murphy", "age": 47, "nets": ["ig", "tw"]},
    ],
}


def test_properties_exact_first_then_path_into_json_text() -> None:
    assert pick(DATA, RemoteRef("k", "a.b")) == b"exact"
    assert pick({"a": {"b": "nested"}}, RemoteRef("k", "a.b")) == b"nested"
    assert pick(DATA, RemoteRef("k", "text.x.1")) == b"z"
    assert pick(DATA, RemoteRef("k", "n")) == b"5"
    assert pick(DATA, RemoteRef("k", "t")) == b"true"
    assert pick({"x": "y"}, RemoteRef("k")) == b'{"x":"y"}'
    assert pick(b"\xff\0raw", RemoteRef("k")) == b"\xff\0raw"
    assert pick(b'{"x": {"y": 1}}', RemoteRef("k", "x.y")) == b"1"
    for data in (DATA, b"no json"):
        with pytest.raises(NotFound):
            pick(data, RemoteRef("k", "missing"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("name.last", "Anderson"),
        ("age", 37),
        ("children.#", 3),
        ("children.1", "Alex"),
        ("child*.2", "Jack"),
        ("c?ildren.0", "Sara"),
        (r"fav\.movie", "Deer Hunter"),
        ("friends.#.first", ["Dale", "Roger", "Jane"]),
        ("friends.1.last", "Craig"),
        ('friends.#(last=="Murphy").first', "Dale"),
        ('friends.#(last=="Murphy")#.first', ["Dale", "Jane"]),
        ("friends.#(age>45)#.last", ["Craig", "Murphy"]),
        ('friends.#(first%"D*").last', "Murphy"),
        ('friends.#(first!%"D*").last', "Craig"),
        ('friends.#(nets.#(=="fb"))#.first', ["Dale", "Roger"]),
        ("children|@reverse", ["Jack", "Alex", "Sara"]),
        ("children.@reverse.0", "Jack"),
        ("friends.#.nets|@flatten|#", 7),
        ("name.@keys", ["first", "last"]),
        ("name.@ugly", {"first": "Tom", "last": "Anderson"}),
        ("children.@tostr", '["Sara","Alex","Jack"]'),
        ("children.@tostr|@fromstr|1", "Alex"),
        ("age.@fromstr", 37),
        ("name.first.@fromstr", ABSENT),
        ("children.7", ABSENT),
        ("children.²", ABSENT),
        ("nobody.x", ABSENT),
        ('friends.#(last=="X").first', ABSENT),
        (r"marks.\#", "sharp"),
        ("marks.#", "sharp"),
        (r"marks.\@this", "at"),
        (r"marks.\[x]", "bracket"),
        (r"friends.\#", ABSENT),
        (r"children.\@this", ABSENT),
        ("name.@flatten", {"first": "Tom", "last": "Anderson"}),
        ("children.@values", ["Sara", "Alex", "Jack"]),
        ("age.@values", [37]),
        ("children.@keys", [None, None, None]),
    ],
)
def test_paths_as_gjson_reads_them(path: str, expected: object) -> None:
    assert lookup(PEOPLE, path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "friends.#(a", "a.@nosuch", "a" * 3000, "{a,friends}", "a.[b,c]", "a|{b}",
        "friends.#(on==~true)", "a" + "|@tostr" * 6, "friends.#(x" + ".@ugly" * 6 + "==1)",
        "friends" + ".#(a==1)#" * 11, "deep" + ".#" * 800,
    ],
)  # fmt: skip
def test_paths_that_are_not_served_are_refused(path: str) -> None:
    deep: list[object] = []
    for _ in range(900):
        deep = [deep]
    with pytest.raises(Invalid):
        lookup({"a": {}, "friends": [{"on": 1}], "deep": deep}, path)


def test_extract_makes_keys_and_refuses_collisions() -> None:
    found = extract({"a b": "1", "c": {"d": 2}}, RemoteRef("k"))
    assert finish(found, RemoteRef("k"), "k", rewritten=False) == {"a_b": b"1", "c": b'{"d":2}'}
    with pytest.raises(Invalid):
        finish({"a b": b"1", "a/b": b"2"}, RemoteRef("k"), "k", rewritten=False)
    with pytest.raises(Invalid) as error:
        finish({"a b": b"1"}, RemoteRef("k"), "k", rewritten=True)
    assert "a b" in str(error.value)
    for data in ({"x": "text"}, b'{"x": "text"}'):
        with pytest.raises(Invalid):
            extract(data, RemoteRef("k", "x"))
    assert extract(b'{"x": {"y": null}}', RemoteRef("k", "x")) == {"y": b""}
    assert convert("a b", "Unicode") == "a_U0020_b"


@pytest.mark.parametrize("rewritten", [True, False])
def test_a_key_of_which_nothing_is_left_is_left_out_but_not_every_key(rewritten: bool) -> None:
    found = {"": b"1", "a": b"2"}
    assert finish(found, RemoteRef("k"), "k", rewritten=rewritten) == {"a": b"2"}
    assert finish({}, RemoteRef("k"), "k", rewritten=rewritten) == {}
    with pytest.raises(Invalid, match="nothing of any key"):
        finish({"": b"1"}, RemoteRef("k"), "k", rewritten=rewritten)


def test_scalars_are_the_bytes_the_other_controller_makes() -> None:
    given = ["text", 5, 1.5, True, None, ["a", 1], {"b": "c"}, b"\xff"]
    made = [b"text", b"5", b"1.5", b"true", b"", b'["a",1]', b'{"b":"c"}', b"\xff"]
    assert [as_bytes(each) for each in given] == made


def test_a_modifier_sees_the_text_as_it_was_written() -> None:
    held = b'{"a": {"x": 1.50, "y": "\\u00e9"}}'
    assert pick(held, RemoteRef("k", "a.@tostr")) == b'{"x": 1.50, "y": "\\u00e9"}'


def test_what_is_nested_deeper_than_can_be_written_is_refused_and_not_a_bug() -> None:
    deep: dict[str, object] = {}
    for _ in range(400):
        deep = {"a": deep}
    for work in (pick, extract):
        with pytest.raises(Invalid, match="too deep"):
            work(deep, RemoteRef("k"))


SPACED = b"""{
  "z": {"b": [1, 2.50,  {"x": "<&>"}], "a" : null},
  "f": 1.50, "e": 1e3, "big": 123456789012345678901234567890, "u": "\\u003c", "t": true
}"""


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("z", b'{"b": [1, 2.50,  {"x": "<&>"}], "a" : null}'),
        ("z.b", b'[1, 2.50,  {"x": "<&>"}]'),
        ("z.b.2", b'{"x": "<&>"}'),
        ("z|@ugly", b'{"b":[1,2.50,{"x":"<&>"}],"a":null}'),
        ("z.@values", b'[[1, 2.50,  {"x": "<&>"}],null]'),
        ("z.b.1", b"2.5"),
        ("f", b"1.5"),
        ("e", b"1000"),
        ("big", b"123456789012345678901234567890"),
        ("u", b"<"),
        ("z.a", b""),
    ],
)
def test_a_part_of_a_json_text_is_what_stands_there(path: str, wanted: bytes) -> None:
    """As the other controller gives it, whose Secrets are not to be written anew for a space."""
    assert pick(SPACED, RemoteRef("k", path)) == wanted


def test_keys_of_a_json_text_are_as_they_stand_there() -> None:
    assert extract(SPACED, RemoteRef("k")) == {
        "z": b'{"b": [1, 2.50,  {"x": "<&>"}], "a" : null}',
        "f": b"1.50", "e": b"1e3", "big": b"123456789012345678901234567890", "u": b"<",
        "t": b"true",
    }  # fmt: skip
    assert extract(SPACED, RemoteRef("k", "z")) == {"b": b'[1, 2.50,  {"x": "<&>"}]', "a": b""}


def test_a_text_that_is_nested_deep_is_read_or_refused() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":%b}' % (b"[" * depth + b"]" * depth)

    assert extract(nested(100), RemoteRef("k")) == {"a": b"[" * 100 + b"]" * 100}
    for read in (extract, pick):
        with pytest.raises(Invalid, match="nested too deep"):
            read(nested(1000), RemoteRef("k", "a" if read is pick else ""))


OBJECT = {"z": {"y": ["<&>", 1e21, 0.5], "x": None}, "a": "\u2028<"}


def test_an_object_of_a_vault_is_written_as_its_client_writes_it() -> None:
    """Keys in order, and what an HTML page could trip over escaped."""
    inner = b'{"x":null,"y":["\\u003c\\u0026\\u003e",1e+21,0.5]}'
    data = Escaped(OBJECT)
    assert pick(data, RemoteRef("k")) == b'{"a":"\\u2028\\u003c","z":%b}' % inner
    assert pick(data, RemoteRef("k", "z")) == inner
    assert pick(data, RemoteRef("k", "z.y.1")) == b"1000000000000000000000"
    assert pick(data, RemoteRef("k", "a")) == "\u2028<".encode()
    assert extract(data, RemoteRef("k")) == {"z": inner, "a": "\u2028<".encode()}
    assert extract(data, RemoteRef("k", "z"))["y"] == b'["\\u003c\\u0026\\u003e",1e+21,0.5]'
    # Other stores' objects have their keys in order and nothing escaped.
    plain = {"b": "<&>", "a": b"1"}
    assert pick(plain, RemoteRef("k")) == b'{"a":"1","b":"<&>"}'


def test_a_key_of_a_secret_that_holds_json_is_looked_into() -> None:
    """Of the provider `kubernetes`, whose values are bytes."""
    data = {"json": b'{"k": {"d": "<v>"}, "f": 1.50}', "file.json": b"[1]", "bin": b"\xff{"}
    assert pick(data, RemoteRef("s", "json.k.d")) == b"<v>"
    assert pick(data, RemoteRef("s", "json.k")) == b'{"d": "<v>"}'
    assert pick(data, RemoteRef("s", "file.json")) == b"[1]"
    assert extract(data, RemoteRef("s", "json")) == {"k": b'{"d":"<v>"}', "f": b"1.5"}
    with pytest.raises(NotFound):
        pick(data, RemoteRef("s", "bin.x"))


def test_an_answer_that_is_parsed_is_written_anew() -> None:
    """Of a webhook: its keys are values by then, while all of it is what was answered."""
    answer = Parsed(b'{ "b": {"d": 1.50, "c": "<"}, "f": 1e3 }')
    assert pick(answer, RemoteRef("k")) == answer
    assert extract(answer, RemoteRef("k")) == {"b": b'{"c":"\\u003c","d":1.5}', "f": b"1000"}


def test_decoding_never_shows_the_value() -> None:
    def how(decoding: str) -> RemoteRef:
        return RemoteRef("k", decoding=decoding)

    assert decode(b"dg==", how("Base64"), "k") == b"v"
    assert decode(b"-_-_", how("Base64URL"), "k") == b"\xfb\xff\xbf"
    assert decode(b"not base64!", how("Auto"), "k") == b"not base64!"
    assert decode(b"-_-_", how("Auto"), "k") == b"\xfb\xff\xbf"
    # Go's decoders pass over line ends, and neither of its alphabets holds all four signs.
    for decoding in ("Base64", "Base64URL", "Auto"):
        assert decode(b"d\r\ng==\n", how(decoding), "k") == b"v"
    assert decode(b"a+-_", how("Auto"), "k") == b"a+-_"
    # Padding that nothing needs: a password, and no base64.
    for plain in (b"secret12=", b"secret12====", b"abcdABCD="):
        assert decode(plain, how("Auto"), "k") == plain
    for refused in (how("Base64"), RemoteRef("k", refuse_null_bytes=True)):
        with pytest.raises(Invalid) as error:
            decode(b"marked!\0", refused, "k")
        assert "marked" not in str(error.value)


@pytest.mark.parametrize(
    ("strategy", "value"),
    [
        ("Base64", b"dg"), ("Base64", b"dg="), ("Base64", b"dg===="), ("Base64", b"-_-_"),
        ("Base64", b"dg==dg=="), ("Base64", b"d g=="), ("Base64URL", b"dg"),
        ("Base64URL", b"+/+/"), ("Base64URL", b"a+-_"), ("Base64", b"dGVzdDEy="),
        ("Base64", b"dGVzdDEy===="), ("Base64URL", b"dGVz="), ("Base64", b"dGVz\r\n="),
    ],
)  # fmt: skip
def test_what_gos_decoder_refuses_is_refused(strategy: str, value: bytes) -> None:
    with pytest.raises(Invalid, match="is not base64"):
        decode(value, RemoteRef("k", decoding=strategy), "k")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("labels.app.kubernetes.io/name", b"web"), ("labels.team", b"x"),
        ("annotations.of.a", b"b"), ("labels", b'{"app.kubernetes.io/name":"web","team":"x"}'),
    ],
)  # fmt: skip
def test_a_label_whose_name_has_dots(place: str, value: bytes) -> None:
    labels = {"app.kubernetes.io/name": "web", "team": "x"}
    marks = Marks({"labels": labels, "annotations": {"of": '{"a": "b"}'}})
    assert pick(marks, RemoteRef("db", place)) == value
    with pytest.raises(NotFound, match="no-property"):
        pick(marks, RemoteRef("db", f"{place}.absent"))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("env", b"prod"), ("of.team", b"x"), ("of", b'{"team": "x", "a.b": "c"}'),
        ("of.a.b", b"c"), ("deep.in.x", b"1"), ("deep.in", b'{"x":1}'), ("a.b", b"dotted"),
    ],
)  # fmt: skip
def test_a_tag_of_azure_and_what_it_holds(place: str, value: bytes) -> None:
    held = {"env": "prod", "of": '{"team": "x", "a.b": "c"}', "deep": '{"in": {"x":1}}'}
    tags = Tags("db", {**held, "a.b": "dotted"})
    assert pick(tags, RemoteRef("db", place)) == value
    assert extract(tags, RemoteRef("db")) == {
        "db_env": b"prod", "db_of_team": b"x", "db_of_a.b": b"c",
        "db_deep": b'{"in": {"x":1}}', "db_a.b": b"dotted",
    }  # fmt: skip
    with pytest.raises(NotFound, match="no-property"):
        pick(tags, RemoteRef("db", f"{place}.absent"))


@pytest.mark.parametrize(
    ("mount", "key", "expected"),
    [
        ("secret", "prod/db", ("secret", "prod/db")),
        ("secret", "secret/data/prod/db", ("secret", "prod/db")),
        ("secret", "secret/prod/db", ("secret", "prod/db")),
        ("secret", "/prod/db/", ("secret", "prod/db")),
        ("", "secret/data/prod/db", ("secret", "prod/db")),
        ("", "secret/prod/db", ("secret", "prod/db")),
        ("secret", "data/x", ("secret", "data/x")),
        # Without a mount in the store the mount may have several segments.
        ("", "kv/team/data/prod/db", ("kv/team", "prod/db")),
        ("", "secret/data/app/data/twice", ("secret", "app/data/twice")),
        ("", "secret/database/x", ("secret", "database/x")),
    ],
)
def test_keys_in_every_form_users_write(mount: str, key: str, expected: tuple[str, str]) -> None:
    assert split_key(key, VaultSettings("https://s", mount, "v2", "", "")) == expected


def test_a_key_without_a_path_and_a_bad_store_are_refused() -> None:
    with pytest.raises(Invalid):
        split_key("secret", VaultSettings("https://s", "", "v2", "", ""))
    for spec in (
        {},
        {"server": "nowhere"},
        {"server": "https://s", "version": "v3"},
    ):
        with pytest.raises(Refusal):
            VaultSettings.from_spec(Fields(spec, "spec.provider.vault"))


@pytest.mark.parametrize(
    "path",
    ["#(" + "a" * 2000 + "==1)#", '#(%"' + "*a" * 900 + 'b")#', "#." + "a." * 1000 + "b"],
)
def test_a_long_path_is_read_once_and_not_for_each_element(path: str) -> None:
    """With hundreds of thousands of them that would be minutes."""
    begun = process_time()
    pick(b"[" + b'"aaaa",' * 20_000 + b'{"a":1}]', RemoteRef("k", path))
    assert process_time() - begun < 4
