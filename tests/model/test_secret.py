"""A Secret leaves only through reveal()."""

import copy
import json
import logging
import pickle

import pytest

from strongroom.model.secret import Secret

VALUE = "canary-3f9a"


@pytest.mark.parametrize(
    "leak",
    [
        str,
        lambda s: f"{s}",
        lambda s: "%s" % s,
        lambda s: "{}".format(s),
        pickle.dumps,
        hash,
        json.dumps,
        copy.deepcopy,
        lambda s: {s: 1},
    ],
    ids=["str", "f-string", "percent", "format", "pickle", "hash", "json", "deepcopy", "dict-key"],
)
def test_accidental_ways_out_raise(leak) -> None:
    """Each raises TypeError, and the error does not carry the value."""
    with pytest.raises(TypeError) as caught:
        leak(Secret(VALUE))
    assert VALUE not in str(caught.value)


def test_repr_is_masked_and_reveal_gives_the_value() -> None:
    """repr is for debuggers and says nothing."""
    secret = Secret(VALUE)
    assert repr(secret) == "Secret(***)"
    assert repr([secret]) == "[Secret(***)]"
    assert (secret.reveal(), secret.reveal_text()) == (VALUE.encode(), VALUE)


def test_logging_a_secret_prints_no_value(capsys, caplog) -> None:
    """A logging call with a Secret reports an error without the value."""
    logger = logging.getLogger("secret-test")
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    logger.propagate = False
    logger.error("token is %s", Secret(VALUE))
    logger.removeHandler(handler)
    captured = capsys.readouterr()
    assert VALUE not in captured.err + captured.out


def test_equality_compares_values() -> None:
    """Equal values are equal; other types are not."""
    assert Secret("a") == Secret(b"a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert (len(Secret("abc")), bool(Secret(""))) == (3, False)


@pytest.mark.parametrize("value", [1_000_000, 0, True, None, [104, 105], {"a": 1}, 1.5])
def test_what_is_neither_bytes_nor_text_is_no_secret(value) -> None:
    """Of a number where a reply has its token, `bytes` makes as many zeros: gigabytes of them."""
    with pytest.raises(TypeError, match="bytes or text"):
        Secret(value)
