"""References in the forms users write them."""

import pytest

from strongroom.model.errors import Invalid
from strongroom.model.reference import SecretRef, parse_secret_ref


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prod/db", SecretRef("secret", "prod/db")),
        ("secret/prod/db", SecretRef("secret", "prod/db")),
        ("secret/data/prod/db", SecretRef("secret", "prod/db")),
        ("/prod/db/", SecretRef("secret", "prod/db")),
        ("prod/db@3", SecretRef("secret", "prod/db", 3)),
        ("data/prod", SecretRef("secret", "data/prod")),
    ],
)
def test_forms_users_write(text: str, expected: SecretRef) -> None:
    """All name the same secret."""
    assert parse_secret_ref(text) == expected


@pytest.mark.parametrize("text", ["", "/", "prod/db@x", "@1", "prod/db@²"])
def test_forms_that_name_nothing_are_refused(text: str) -> None:
    """Rather than guessed at."""
    with pytest.raises(Invalid, match=r"path|version"):
        parse_secret_ref(text)


def test_api_path_and_text() -> None:
    """What the store's records say, and what people read."""
    ref = SecretRef("secret", "prod/db", 2)
    assert (ref.api_path, str(ref)) == ("secret/data/prod/db", "secret/prod/db@2")
