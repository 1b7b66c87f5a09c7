"""A key goes when a proof shows that nothing is under it, and else only by a word of its own."""

import json
from dataclasses import replace
from typing import Any

import pytest

from strongroom.encrypt.coverage import Expected
from strongroom.encrypt.kms.retirement import check_proof
from strongroom.encrypt.kms.state import KmsState, WrappedKey
from strongroom.encrypt.rewrite import Progress
from strongroom.encrypt.two_pass import TwoPass
from strongroom.model.clock import rfc3339
from strongroom.model.errors import Conflict, Invalid

STATE = KmsState(
    3, "new", (WrappedKey("old", 1.0, 1, ()), WrappedKey("new", 2.0, 1, ())), promoted=100.0
)


def proof(began: float = 200.0, **expected: Expected) -> dict[str, Any]:
    said = {name: each.as_data() for name, each in expected.items()}
    return {"holds": True, "expected": said, "began": rfc3339(began), "still_under": {}}


def check(said: object, state: KmsState = STATE) -> tuple[str, ...]:
    return check_proof(json.dumps(said).encode(), state, "old")


NEW = Expected("strongroom", "new")


def test_a_proof_of_other_keys_lets_a_key_go() -> None:
    assert check(proof(secrets=NEW)) == ("secrets",)
    assert check(proof(100.0, secrets=NEW, configmaps=NEW)) == ("configmaps", "secrets")
    # What is under another provider is not under this one's key.
    beside = Expected("other"), Expected(form="aescbc")
    assert check(proof(secrets=NEW, leases=beside[0], events=beside[1])) == ("secrets",)
    assert check({**proof(secrets=NEW), "still_under": {"pods": ["new"]}}) == ("secrets",)
    # Also after it has been promoted again: what counts is that no value is under the old one.
    third = replace(STATE, current="third", keys=(*STATE.keys, WrappedKey("third", 3.0, 1, ())))
    assert check(proof(secrets=NEW), third) == ("secrets",)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({**proof(secrets=NEW), "holds": False}, "does not hold"),
        ({**proof(secrets=NEW), "holds": "false"}, "does not hold"),
        (proof(), "names no key"),
        (proof(secrets=Expected("strongroom")), "names no key"),
        (proof(secrets=Expected(form="aescbc")), "names no key"),
        (proof(secrets=Expected("strongroom", "new", "kms-v1")), "names no key"),
        (proof(secrets=NEW, configmaps=Expected("strongroom")), "no key of configmaps"),
        (proof(secrets=NEW, configmaps=Expected()), "no key of configmaps"),
        (proof(secrets=Expected("strongroom", "old")), "under the key old"),
        (proof(secrets=NEW, configmaps=Expected("strongroom", "old")), "under the key old"),
        (proof(secrets=Expected("strongroom", "of another cluster")), "of another cluster"),
        (proof(99.0, secrets=NEW), "before the last promotion"),
        ({**proof(secrets=NEW), "still_under": {"pods": ["x", "old"]}}, "pods .* and are under it"),
        ({**proof(secrets=NEW), "still_under": {"pods": [""]}}, "pods .* and may be under it"),
    ],
)
def test_a_proof_that_does_not_show_it_is_refused(said: object, why: str) -> None:
    with pytest.raises(Conflict, match=why) as refused:
        check(said)
    assert refused.value.code == "not-proved"


@pytest.mark.parametrize(
    "said",
    [
        None, [], "proof", {}, {**proof(secrets=NEW), "began": "yesterday"},
        {**proof(secrets=NEW), "still_under": []},
        # From before proofs named what is left, which says nothing of it.
        {name: each for name, each in proof(secrets=NEW).items() if name != "still_under"},
        {**proof(secrets=NEW), "expected": []}, {**proof(secrets=NEW), "expected": {"secrets": {}}},
    ],
)  # fmt: skip
def test_what_is_no_proof_is_refused(said: object) -> None:
    with pytest.raises(Invalid) as refused:
        check(said)
    assert refused.value.code == "bad-proof"


def test_what_is_no_json_is_refused() -> None:
    for said in (b"", b"PROVED: 3 ok, by reading etcd", b"\xff", b"[" * 100_000):
        with pytest.raises(Invalid, match="is not what"):
            check_proof(said, STATE, "old")


def test_two_passes_tell_of_which_key_they_are() -> None:
    shown = TwoPass(Progress(1), replace(Progress(2), done=3), (), keys={"secrets": NEW})
    said = {**shown.as_data(), "began": rfc3339(200.0)}
    assert check(said) == ("secrets",)
    beside = replace(shown, may_be_sealed=("pods",)).as_data()
    with pytest.raises(Conflict, match=r"pods .* may be under it"):
        check({**beside, "began": rfc3339(200.0)})
    with pytest.raises(Conflict, match="names no key"):
        check({**said, "expected": TwoPass(Progress(1), Progress(2), ()).as_data()["expected"]})
