"""One reading of booleans, for the API, the command line, configuration files and audit devices."""

import pytest

from strongroom.model.truth import truth


@pytest.mark.parametrize("word", [True, 1, "1", "t", "T", "true", "True", "TRUE"])
def test_what_is_true(word) -> None:
    assert truth(word) is True


@pytest.mark.parametrize("word", [False, 0, "0", "f", "F", "false", "False", "FALSE"])
def test_what_is_false(word) -> None:
    assert truth(word) is False


@pytest.mark.parametrize("word", ["", "ture", "yes", "on", " true", 2, 1.5, None, [], {}, [True]])
def test_what_is_neither_is_refused_and_not_false(word) -> None:
    with pytest.raises(ValueError, match="true or false"):
        truth(word)
