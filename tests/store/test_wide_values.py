"""Values that no column and no clock holds are refused in words, wherever they come in."""

import math
from typing import Any

import pytest

from strongroom.model.errors import Invalid
from strongroom.store.call import parse_seconds, whole_number


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("", 0), (None, 0), ("90", 90), ("1.5h", 5400), ("1h30m", 5400), (2.9, 2), ("-1", -1)],
)
def test_durations(value: Any, seconds: int) -> None:
    assert parse_seconds(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["h", "1x", "²h", "²", "٣", "1-2h", "-", ".", "1..2", "9" * 400, "9" * 400 + "d", "nan", "inf",
     10**30, 1e308, 2**63, "9223372037", [], {}, True],
)  # fmt: skip
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(Invalid) as refused:
        parse_seconds(value, "ttl")
    assert refused.value.code == "bad-parameter"


@pytest.mark.parametrize(
    "value",
    ["²", "٣", "1_0", "1.0", "", "x", "9" * 19, "9" * 5000, 2**63, -(2**63) - 1, 1e308, 1.5,
     math.inf, math.nan, True, None, [], {}],
)  # fmt: skip
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        whole_number(value)


def test_whole_numbers() -> None:
    # The ids of events have zeros before them, and are given back as positions.
    given = (7, 7.0, "7", " -7 ", f"{7:020d}", 2**63 - 1)
    assert [whole_number(each) for each in given] == [7, 7, 7, -7, 7, 2**63 - 1]


async def test_numbers_that_no_column_holds_are_refused_and_no_bug(store: Any) -> None:
    status, said = await store.ask("GET", "sys/mounts", X_Vault_Wrap_TTL="99999999999999999999")
    assert (status, said["errors"]) == (400, ["X-Vault-Wrap-TTL must not be longer than 292 years"])
    # A status that is none would make a reply that no client can read.
    for value, answered in ((1, 400), (199, 400), (600, 400), (10**25, 400), (299, 299)):
        assert (await store.ask("GET", f"sys/health?activecode={value}"))[0] == answered
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    await store.ask("POST", "auth/approle/role/a", {})
    for value in (1e308, "9" * 25, "²"):
        path = "auth/approle/role/a/secret-id-num-uses"
        status, said = await store.ask("POST", path, {"secret_id_num_uses": value})
        assert (status, said["errors"]) == (400, ["secret_id_num_uses must be a whole number"])
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    await store.ask("POST", "transit/keys/r", {"type": "rsa-2048", "exportable": True})
    for text in ("²", "9" * 5000):
        body = {"ciphertext": f"vault:v{text}:AAAA"}
        assert (await store.ask("POST", "transit/decrypt/r", body))[0] == 400
        assert (await store.ask("GET", f"transit/export/signing-key/r/{text[:20]}"))[0] == 400
        body = {"input": "AAAA", "salt_length": text}
        assert (await store.ask("POST", "transit/sign/r", body))[0] in (200, 400)
    policy = {"policy": 'path "a" { capabilities = ["read"] min_wrapping_ttl = "²h" }'}
    assert (await store.ask("PUT", "sys/policies/acl/a", policy))[0] == 400
    # A part of a number names no version, and destroys none.
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    for value in ([1.5], [True], ["²"]):
        status, said = await store.ask("PUT", "secret/destroy/a", {"versions": value})
        assert (status, said["errors"]) == (400, ["versions must be whole numbers"])
    for value in (1.5, True):
        body = {"options": {"cas": value}, "data": {}}
        assert (await store.ask("POST", "secret/data/a", body))[0] == 400
    assert (await store.ask("GET", "secret/data/a"))[1]["data"]["data"] == {"k": "v"}
