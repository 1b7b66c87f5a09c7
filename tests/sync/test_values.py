"""Values, keys and decoding: the pure parts between a provider and a Secret."""

import pytest

from strongroom.model.errors import Invalid, NotFound, Refusal
from strongroom.sync.json_path import ABSENT, lookup
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.vault import VaultSettings, split_key
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import as_bytes, convert, decode, extract, finish, pick

DATA = {"a.b": "exact", "a": {"b": "nested"}, "text": '{"x": ["y", "z"]}', "n": 5, "t": True}
# The example document of GJSON's own syntax page.
PEOPLE = {
    "name": {"first": "Tom", "last": "Anderson"},
    "age": 37,
    "children": ["Sara", "Alex", "Jack"],
    "fav.movie": "Deer Hunter",
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
        ("children.7", ABSENT),
        ("nobody.x", ABSENT),
        ('friends.#(last=="X").first', ABSENT),
    ],
)
def test_paths_as_gjson_reads_them(path: str, expected: object) -> None:
    assert lookup(PEOPLE, path) == expected


@pytest.mark.parametrize("path", ["friends.#(a", "a.@nosuch", "a" * 3000])
def test_paths_that_are_not_served_are_refused(path: str) -> None:
    with pytest.raises(Invalid):
        lookup({"a": {}, "friends": []}, path)


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


def test_scalars_are_the_bytes_the_other_controller_makes() -> None:
    given = ["text", 5, 1.5, True, None, ["a", 1], {"b": "c"}, b"\xff"]
    made = [b"text", b"5", b"1.5", b"true", b"", b'["a",1]', b'{"b":"c"}', b"\xff"]
    assert [as_bytes(each) for each in given] == made


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
    for refused in (how("Base64"), RemoteRef("k", refuse_null_bytes=True)):
        with pytest.raises(Invalid) as error:
            decode(b"marked!\0", refused, "k")
        assert "marked" not in str(error.value)


@pytest.mark.parametrize(
    ("strategy", "value"),
    [
        ("Base64", b"dg"), ("Base64", b"dg="), ("Base64", b"dg===="), ("Base64", b"-_-_"),
        ("Base64", b"dg==dg=="), ("Base64", b"d g=="), ("Base64URL", b"dg"),
        ("Base64URL", b"+/+/"), ("Base64URL", b"a+-_"),
    ],
)  # fmt: skip
def test_what_gos_decoder_refuses_is_refused(strategy: str, value: bytes) -> None:
    with pytest.raises(Invalid, match="is not base64"):
        decode(value, RemoteRef("k", decoding=strategy), "k")


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
