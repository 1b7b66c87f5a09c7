"""Key-value arguments in the forms users type."""

import io

import pytest

from strongroom.app.kv_values import parse_pairs
from strongroom.model.errors import Invalid


def test_pairs_files_and_standard_input(tmp_path) -> None:
    """Each form gives its text; a file's text keeps its newline."""
    secret_file = tmp_path / "password.txt"
    secret_file.write_text("s3cret\n")
    data = parse_pairs(
        ["user=app", f"password=@{secret_file}", "key=-", "a=b=c", r"at=\@home"], io.StringIO("pem")
    )
    assert data == {"user": "app", "password": "s3cret\n", "key": "pem", "a": "b=c", "at": "@home"}


def test_a_json_object_from_file_or_standard_input(tmp_path) -> None:
    """What is given again makes a list, as in Vault."""
    whole = tmp_path / "all.json"
    whole.write_text('{"user": "a", "port": 5432}')
    assert parse_pairs([f"@{whole}", "user=b"], io.StringIO()) == {
        "user": ["a", "b"], "port": 5432,
    }  # fmt: skip
    assert parse_pairs(["-"], io.StringIO('{"x": null}')) == {"x": None}


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [
        (["canary-novalue"], "", "bad-pair"),
        ([], "", "no-data"),
        (["-"], "canary {", "bad-json"),
        (["-"], "[1]", "bad-json"),
        (["p=@/nonexistent/file"], "", "bad-file"),
    ],
)
def test_bad_arguments_are_refused_without_their_values(words, stdin, code) -> None:
    """A value typed in the wrong place is not printed back into a terminal log."""
    with pytest.raises(Invalid) as caught:
        parse_pairs(words, io.StringIO(stdin))
    assert caught.value.code == code
    assert "canary" not in str(caught.value)
