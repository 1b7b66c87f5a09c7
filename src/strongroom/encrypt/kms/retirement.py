"""Whether a key may go: only when a proof shows that nothing lies under it any more. Pure."""

import json
from typing import Any, Final

from strongroom.encrypt.coverage import UNKNOWN, Expected
from strongroom.encrypt.kms.state import KmsState
from strongroom.model.clock import parse_rfc3339
from strongroom.model.errors import Conflict, Invalid

AGAIN: Final = (
    "strongroom encrypt prove --etcd URL --covered-by F --kms-socket PATH --format json"
    " > proof.json"
)
PLAIN: Final = (
    "write them anew so that they lie in plain text (kubectl replace), or encrypt them again and"
    " migrate; then prove it"
)
# Two passes see no value, and go by what the file still reads.
UNSEEN: Final = f"{PLAIN}, without etcd by a file whose entry for them has no KMS provider any more"
KEYED: Final = "give --kms-socket or --key-id to prove as well"


def check_proof(said: bytes, state: KmsState, key_id: str) -> tuple[str, ...]:
    """The resources of which `encrypt prove --format json` has shown that they are without a key.

    Raises Invalid(`bad-proof`) for what is no proof, and Conflict(`not-proved`) for one that does
    not hold, names no key, names one that would be gone, or was begun before the promotion.
    """
    holds, expected, still_under, began = _read(said)
    if not holds:
        raise _refused("the proof does not hold", "strongroom encrypt migrate")
    for name, ids in still_under.items():
        if key_id in ids or UNKNOWN in ids:
            may, hint = ("are", PLAIN) if key_id in ids else ("may be", UNSEEN)
            raise _refused(
                f"{name} are not encrypted any more, and {may} under it from before", hint
            )
    # Of other forms no proof knows the key, and this plugin has sealed none of them.
    sealed = {name: each for name, each in expected.items() if each.form == "kms-v2"}
    keyed = {name: each for name, each in sealed.items() if each.key_id}
    providers = {each.provider for each in keyed.values()}
    for name, each in sealed.items():
        # What is proved to be under another provider is not under a key of this one.
        if name not in keyed and each.provider in ("", *providers):
            raise _refused(f"the proof names no key of {name}", KEYED)
    if not keyed:
        raise _refused("the proof names no key", KEYED)
    kept = {each.id for each in state.keys} - {key_id}
    for name, each in keyed.items():
        if each.key_id not in kept:
            raise _refused(f"{name} are proved to be under the key {each.key_id}", AGAIN)
    if began < state.promoted:
        raise _refused("the proof is from before the last promotion", AGAIN)
    return tuple(sorted(keyed))


def _refused(why: str, hint: str) -> Conflict:
    return Conflict("not-proved", f"{why}: values may need the key", hint=hint)


def _read(said: bytes) -> tuple[bool, dict[str, Expected], dict[str, list[str]], float]:
    try:
        proof: Any = json.loads(said)
        expected = {
            str(name): Expected(str(each["provider"]), str(each["key_id"]), str(each["form"]))
            for name, each in proof["expected"].items()
        }
        still_under = {
            str(name): [str(each) for each in ids] for name, ids in proof["still_under"].items()
        }
        return proof["holds"] is True, expected, still_under, parse_rfc3339(str(proof["began"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Invalid(
            "bad-proof", "the file is not what encrypt prove --format json writes", hint=AGAIN
        ) from None
