"""Rekey, recovery keys, generate-root and the migration of a seal."""

import pytest
from tests.store_seal.conftest import opened

from strongroom.model.errors import Unavailable
from strongroom.store.seal.ceremony import decode_token
from strongroom.store.seal.keeping import look_once
from strongroom.wire.keywrap.fake import FakeWrapper


async def test_a_rekey_gives_new_shares_and_ends_the_old(start) -> None:
    node, keys, root = await opened(start)
    body = {"secret_shares": 4, "secret_threshold": 3}
    status, begun = await node.ask("PUT", "sys/rekey/init", body)
    assert (status, begun["started"], begun["required"], begun["t"]) == (200, True, 2, 3)
    nonce = begun["nonce"]
    assert (await node.ask("PUT", "sys/rekey/init", body))[0] == 400
    assert (await node.ask("PUT", "sys/rekey/update", {"key": keys[0], "nonce": "other"}))[0] == 400
    _, one = await node.ask("PUT", "sys/rekey/update", {"key": keys[0], "nonce": nonce})
    assert one["progress"] == 1
    _, done = await node.ask("PUT", "sys/rekey/update", {"key": keys[2], "nonce": nonce})
    assert (done["complete"], len(done["keys"])) == (True, 4)
    await node.ask("PUT", "sys/seal", token=root)
    await node.unseal(keys[:2])
    assert node.seal.sealed
    await node.ask("PUT", "sys/unseal", {"reset": True})
    assert (await node.unseal(done["keys"][1:]))["sealed"] is False


async def test_a_rekey_with_verification_holds_back_until_the_new_shares_were_shown(
    start,
) -> None:
    node, keys, _ = await opened(start)
    body = {"secret_shares": 3, "secret_threshold": 2, "require_verification": True}
    nonce = (await node.ask("PUT", "sys/rekey/init", body))[1]["nonce"]
    status, early = await node.ask("PUT", "sys/rekey/verify", {"key": keys[0], "nonce": ""})
    assert (status, early["errors"]) == (400, ["no rekey verification in progress"])
    for key in keys[:2]:
        _, done = await node.ask("PUT", "sys/rekey/update", {"key": key, "nonce": nonce})
    before = node.seal.stored()
    assert done["verification_required"]
    second = done["verification_nonce"]
    for key in keys[:2]:
        status, _ = await node.ask("PUT", "sys/rekey/verify", {"key": key, "nonce": second})
    assert status == 400
    assert node.seal.stored() == before
    # The present keys once more do not end the new ones, which their holders have by now.
    for key in keys[:2]:
        status, again = await node.ask("PUT", "sys/rekey/update", {"key": key, "nonce": nonce})
        assert (status, second in again["errors"][0]) == (400, True)
    for key in done["keys"][:2]:
        status, last = await node.ask("PUT", "sys/rekey/verify", {"key": key, "nonce": second})
    assert (status, last["complete"]) == (200, True)
    assert node.seal.stored().root != before.root
    assert (await node.ask("GET", "sys/rekey/init"))[1]["started"] is False


async def test_wrong_shares_do_not_rekey(start) -> None:
    node, keys, _ = await opened(start)
    body = {"secret_shares": 1, "secret_threshold": 1}
    nonce = (await node.ask("PUT", "sys/rekey/init", body))[1]["nonce"]
    wrong = bytes(31).hex() + "aa" + keys[1][-2:]
    await node.ask("PUT", "sys/rekey/update", {"key": keys[0], "nonce": nonce})
    status, reply = await node.ask("PUT", "sys/rekey/update", {"key": wrong, "nonce": nonce})
    assert (status, "do not fit" in reply["errors"][0]) == (400, True)
    assert (await node.ask("GET", "sys/rekey/init"))[1]["progress"] == 0
    assert (await node.ask("DELETE", "sys/rekey/init"))[0] == 204
    assert (await node.ask("GET", "sys/rekey/init"))[1]["started"] is False


async def test_generate_root_xors_a_token_with_the_pad(start) -> None:
    node, keys, _ = await opened(start)
    _, before = await node.ask("GET", "sys/generate-root/attempt")
    assert (before["started"], before["otp_length"]) == (False, 28)
    assert (await node.ask("PUT", "sys/generate-root/attempt", {"otp": "short"}))[0] == 400
    status, refused = await node.ask("PUT", "sys/generate-root/attempt", {"otp": "é" * 28})
    assert (status, "ASCII" in refused["errors"][0]) == (400, True)
    _, begun = await node.ask("PUT", "sys/generate-root/attempt", {})
    assert len(begun["otp"]) == 28
    for key in keys[1:]:
        body = {"key": key, "nonce": begun["nonce"]}
        _, done = await node.ask("PUT", "sys/generate-root/update", body)
    assert done["complete"]
    token = decode_token(done["encoded_root_token"], begun["otp"])
    status, found = await node.ask("GET", "auth/token/lookup-self", token=token)
    assert (status, found["data"]["policies"]) == (200, ["root"])


async def test_a_root_token_is_made_for_the_pad_that_was_given_and_for_the_right_keys_alone(
    start,
) -> None:
    node, keys, _ = await opened(start)
    pad = "0123456789abcdefghijklmnopqr"
    _, begun = await node.ask("PUT", "sys/generate-root/attempt", {"otp": pad})
    assert begun["otp"] == ""
    wrong = bytes(31).hex() + "aa" + keys[1][-2:]
    for key in (keys[0], wrong):
        body = {"key": key, "nonce": begun["nonce"]}
        status, reply = await node.ask("PUT", "sys/generate-root/update", body)
    assert (status, "do not fit" in reply["errors"][0]) == (400, True)
    assert (await node.ask("GET", "sys/generate-root/attempt"))[1]["progress"] == 0
    for key in keys[1:]:
        body = {"key": key, "nonce": begun["nonce"]}
        _, done = await node.ask("PUT", "sys/generate-root/update", body)
    token = decode_token(done["encoded_root_token"], pad)
    assert (await node.ask("GET", "auth/token/lookup-self", token=token))[0] == 200


async def test_openbaos_paths_are_the_same_attempts_under_data_and_opened_to_nobody(start) -> None:
    """`bao operator rotate-keys` and `generate-root`, as OpenBao's Go client asks for them."""
    node, keys, root = await opened(start)

    async def ask(method: str, path: str, body=None):
        return (await node.ask(method, f"sys/{path}", body, token=root))[1]

    for path in ("rotate/root/init", "rotate/recovery/init", "generate-root-token/attempt"):
        assert (await node.ask("GET", f"sys/{path}"))[0] == 403, path
        assert "nonce" in (await ask("GET", path))["data"], path
    body = {"secret_shares": 1, "secret_threshold": 1}
    nonce = (await ask("POST", "rotate/root/init", body))["data"]["nonce"]
    assert (await node.ask("GET", "sys/rekey/init"))[1]["nonce"] == nonce
    for key in keys[:2]:
        done = await ask("PUT", "rotate/root/update", {"key": key, "nonce": nonce})
    (new,) = done["data"]["keys"]
    assert (await ask("POST", "rotate/root/init", body))["data"]["started"]
    await ask("DELETE", "rotate/root/init")
    assert (await node.ask("GET", "sys/rekey/init"))[1]["started"] is False
    begun = (await ask("PUT", "generate-root-token/attempt", {"otp": "", "pgp_key": ""}))["data"]
    give = {"key": new, "nonce": begun["nonce"]}
    made = (await ask("PUT", "generate-root-token/update", give))["data"]
    token = decode_token(made["encoded_root_token"], begun["otp"])
    assert (await node.ask("POST", "sys/rotate/keyring", token=token))[0] == 204
    assert (await ask("GET", "key-status"))["data"]["term"] == 2


async def test_new_keys_are_not_wrapped_since_a_wrapping_that_fails_would_lose_them(start) -> None:
    """With the quota of leases full they were lost after the keys of before had ended."""
    node, keys, root = await opened(start)
    wrapped = {"x_vault_wrap_ttl": "60"}
    body = {"secret_shares": 1, "secret_threshold": 1}
    for begin, update in (
        ("rotate/root/init", "rotate/root/update"),
        ("generate-root-token/attempt", "generate-root-token/update"),
    ):
        _, begun = await node.ask("POST", f"sys/{begin}", body, token=root)
        give = {"key": keys[0], "nonce": begun["data"]["nonce"]}
        path = f"sys/{update}"
        status, said = await node.ask("PUT", path, give, token=root, **wrapped)
        assert (status, "are not wrapped" in said["errors"][0]) == (400, True)
        _, progress = await node.ask("GET", f"sys/{begin}", token=root)
        assert progress["data"]["progress"] == 0


async def test_a_verification_that_begins_again_forgets_the_new_shares_it_was_given(start) -> None:
    node, keys, _ = await opened(start)
    body = {"secret_shares": 3, "secret_threshold": 2, "require_verification": True}
    nonce = (await node.ask("PUT", "sys/rekey/init", body))[1]["nonce"]
    for key in keys[:2]:
        _, made = await node.ask("PUT", "sys/rekey/update", {"key": key, "nonce": nonce})
    before = node.seal.stored()
    first = made["verification_nonce"]
    path = "sys/rekey/verify"
    await node.ask("PUT", path, {"key": made["keys"][0], "nonce": first})
    _, again = await node.ask("DELETE", path)
    assert (again["progress"], again["nonce"] != first) == (0, True)
    status, _ = await node.ask("PUT", path, {"key": made["keys"][1], "nonce": first})
    assert (status, node.seal.stored()) == (400, before)
    for key in made["keys"][1:]:
        _, done = await node.ask("PUT", path, {"key": key, "nonce": again["nonce"]})
    assert done["complete"]


async def test_without_the_switch_rekey_and_generate_root_want_sudo(start) -> None:
    node, _, root = await opened(start, open_paths=False)
    for path in ("sys/rekey/init", "sys/generate-root/attempt", "sys/rekey-recovery-key/init"):
        assert (await node.ask("GET", path))[0] == 403
        assert (await node.ask("GET", path, token=root))[0] == 200


@pytest.mark.parametrize("path", ["sys/rekey/init", "sys/generate-root/attempt"])
async def test_cve_2025_52894_nobody_without_a_token_ends_what_others_began(start, path) -> None:
    """CVE-2026-5807 as well: anybody could cancel a rekey or the making of a root token."""
    node, _, root = await opened(start, open_paths=False)
    body = {"secret_shares": 2, "secret_threshold": 2} if "rekey" in path else {}
    assert (await node.ask("PUT", path, body, token=root))[0] == 200
    for token in ("", "wrong"):
        assert (await node.ask("DELETE", path, token=token))[0] == 403
    assert (await node.ask("GET", path, token=root))[1]["started"] is True
    assert (await node.ask("DELETE", path, token=root))[0] == 204


async def test_recovery_keys_are_renewed_and_unseal_keys_refused(start) -> None:
    node = start(FakeWrapper("transit"))
    _, made = await node.ask("PUT", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1})
    body = {"secret_shares": 2, "secret_threshold": 2}
    status, reply = await node.ask("PUT", "sys/rekey/init", body)
    assert (status, "recovery keys" in reply["errors"][0]) == (400, True)
    nonce = (await node.ask("PUT", "sys/rekey-recovery-key/init", body))[1]["nonce"]
    path = "sys/rekey-recovery-key/update"
    give = {"key": made["recovery_keys"][0], "nonce": nonce}
    _, done = await node.ask("PUT", path, give)
    assert len(done["keys"]) == 2
    await node.ask("PUT", "sys/seal", token=made["root_token"])
    assert (await node.unseal(done["keys"]))["sealed"] is False


async def test_shamir_becomes_a_backend_and_the_shares_recovery_keys(start) -> None:
    first, keys, root = await opened(start)
    del first
    backend = FakeWrapper("transit")
    node = start(backend)
    await node.seal.follow()
    assert "unseal -migrate" in node.seal.waiting_for
    assert (await node.ask("GET", "sys/seal-status"))[1]["migration"] is True
    status, reply = await node.ask("PUT", "sys/unseal", {"key": keys[0]})
    assert (status, "'migrate' is needed" in reply["errors"][0]) == (400, True)
    assert (await node.unseal(keys[:2], migrate=True))["sealed"] is False
    later = start(backend)
    await later.seal.follow()
    _, body = await later.ask("GET", "sys/seal-status")
    assert (body["type"], body["sealed"], body["recovery_seal"], body["n"]) == (
        "transit", False, True, 3,
    )  # fmt: skip
    await later.ask("PUT", "sys/seal", token=root)
    assert (await later.unseal(keys[1:]))["sealed"] is False


async def test_a_backend_becomes_shamir_and_the_recovery_keys_shares(start) -> None:
    backend = FakeWrapper("transit")
    _, made = await start(backend).ask(
        "PUT", "sys/init", {"recovery_shares": 3, "recovery_threshold": 2}
    )
    node = start(None, backend)
    assert (await node.unseal(made["recovery_keys"][:2], migrate=True))["sealed"] is False
    backend.remake()
    later = start()
    await later.seal.seal()
    assert (await later.unseal(made["recovery_keys"][1:]))["sealed"] is False
    assert (await later.ask("GET", "sys/seal-status"))[1]["type"] == "shamir"


@pytest.mark.parametrize("recovery", [0, 2])
async def test_one_backend_becomes_another(start, recovery: int) -> None:
    old, new = FakeWrapper("transit"), FakeWrapper("awskms")
    body = {"recovery_shares": recovery, "recovery_threshold": recovery}
    _, made = await start(old).ask("PUT", "sys/init", body)
    node = start(new, old)
    await node.seal.follow()
    if recovery:
        assert node.seal.sealed
        await node.unseal(made["recovery_keys"], migrate=True)
    assert not node.seal.sealed
    old.remake()
    later = start(new)
    await later.seal.follow()
    assert (await later.ask("GET", "sys/seal-status"))[1]["type"] == "awskms"
    assert not later.seal.sealed


@pytest.mark.parametrize("recovery", [0, 2])
async def test_a_key_of_a_backend_becomes_another_of_the_same(start, recovery: int) -> None:
    old, new = FakeWrapper("transit"), FakeWrapper("transit")
    body = {"recovery_shares": recovery, "recovery_threshold": recovery}
    await start(old).ask("PUT", "sys/init", body)
    # While the new one is away the old one opens, and stays what opens.
    new.broken = Unavailable("away", "the key server does not answer")
    node = start(new, old)
    await node.seal.follow()
    assert not node.seal.sealed
    new.broken = None
    late = start(new)
    await late.seal.follow()
    assert late.seal.sealed
    # Both call their key by the same name and version; what opens tells them apart.
    assert await new.identity() == await old.identity()
    node = start(new, old)
    await node.seal.follow()
    assert not node.seal.sealed
    old.remake()
    later = start(new)
    await later.seal.follow()
    assert not later.seal.sealed
    new.remake()
    lost = start(new, old)
    await lost.seal.follow()
    said = "the backend does not open this"
    assert lost.seal.waiting_for == (
        f"the transit seal: {said}; and the one that is disabled: {said}"
    )


class Goes(FakeWrapper):
    """Is away when `calls_left`, which it shares with others, are used up."""

    def __init__(self, name: str, calls_left: list[int]) -> None:
        super().__init__(name)
        self._left = calls_left

    def _called(self) -> None:
        away = Unavailable("away", "the key server does not answer")
        self.broken = None if self._left[0] > 0 else away
        self._left[0] -= 1
        super()._called()


@pytest.mark.parametrize(
    ("old", "new", "least"), [(None, "transit", 2), ("transit", None, 1), ("transit", "awskms", 3)]
)
async def test_a_migration_that_is_broken_off_leaves_a_seal_that_opens(
    start, old, new, least
) -> None:
    """Wherever that was: between any two steps one of the two seals opens, and it can be done."""
    left, many = [1000], 1000
    before, after = (Goes(each, left) if each else None for each in (old, new))
    kind = "recovery" if old else "secret"
    body = {f"{kind}_shares": 3, f"{kind}_threshold": 2}
    _, made = await start(before).ask("PUT", "sys/init", body)
    keys = made["recovery_keys" if old else "keys"][:2]

    async def opens(*seals) -> bool:
        node = start(*seals)
        await node.seal.follow()
        for key in keys:
            await node.ask("PUT", "sys/unseal", {"key": key})
        return not node.seal.sealed

    steps = 0
    while start().seal.stored().type == (old or "shamir"):
        node = start(after, before)
        await node.seal.follow()
        for key in keys:
            left[0] = many if key is keys[0] else steps
            await node.ask("PUT", "sys/unseal", {"key": key, "migrate": True})
        left[0] = many
        if start().seal.stored().type == (old or "shamir"):
            assert node.seal.sealed
            assert await opens(before)
            steps += 1
    assert steps >= least
    assert await opens(after)


async def test_a_seal_the_configuration_does_not_name_is_asked_for(start) -> None:
    await start(FakeWrapper("transit")).ask("PUT", "sys/init", {})
    node = start(FakeWrapper("awskms"))
    await node.seal.follow()
    hint = 'name it; to leave it: seal "transit" { disabled = "true" ... }'
    assert node.seal.waiting_for.endswith(hint)


async def test_a_node_that_others_have_left_behind_by_a_migration_says_so_while_it_serves(
    start,
) -> None:
    """It has its keys and goes on; its next start would not open."""
    behind, keys, _ = await opened(start)

    async def problem(node) -> str:
        await look_once(node.engine, node.seal)
        return node.seal.backend_problem

    assert await problem(behind) == ""
    new = FakeWrapper("transit")
    node = start(new)
    await node.unseal(keys[:2], migrate=True)
    assert not behind.seal.sealed
    said = "the cluster is sealed by {} now, and the configuration names {}; start this node anew"
    assert said.format("transit", "shamir") in await problem(behind)
    assert await problem(node) == ""
    back = start(None, new)
    await back.unseal(keys[:2], migrate=True)
    assert await problem(behind) == ""
    assert said.format("shamir", "transit") in await problem(node)


async def test_a_backend_that_was_left_without_people_opens_the_next_start_still(start) -> None:
    """While the new one does not wrap, the old one is what opens, as long as it is named."""
    old, new = FakeWrapper("transit"), FakeWrapper("awskms")
    await start(old).ask("PUT", "sys/init", {})
    new.broken = Unavailable("away", "the key server does not answer")
    node = start(new, old)
    await node.seal.follow()
    assert not node.seal.sealed
    await look_once(node.engine, node.seal)
    assert node.seal.backend_problem == ""
    old.remake()
    await look_once(node.engine, node.seal)
    assert node.seal.backend_problem


async def test_no_keys_are_taken_for_a_migration_from_a_seal_that_is_not_named(start) -> None:
    """Where the stanza was lost, keys of people change nothing, and nobody should be sent for."""
    body = {"recovery_shares": 3, "recovery_threshold": 2}
    _, made = await start(FakeWrapper("transit")).ask("PUT", "sys/init", body)
    node = start()
    await node.seal.follow()
    assert "which the configuration does not name" in node.seal.waiting_for
    give = {"key": made["recovery_keys"][0], "migrate": True}
    status, said = await node.ask("PUT", "sys/unseal", give)
    assert (status, "does not name" in said["errors"][0]) == (400, True)
    assert (await node.ask("GET", "sys/seal-status"))[1]["progress"] == 0


async def test_a_rekey_of_unseal_keys_is_not_verified_after_the_seal_became_a_backend(
    start,
) -> None:
    """It would put the root key under a key of people, which no backend opens again."""
    node, keys, _ = await opened(start)
    body = {"secret_shares": 2, "secret_threshold": 2, "require_verification": True}
    nonce = (await node.ask("PUT", "sys/rekey/init", body))[1]["nonce"]
    for key in keys[:2]:
        _, made = await node.ask("PUT", "sys/rekey/update", {"key": key, "nonce": nonce})
    backend = FakeWrapper("transit")
    moved = start(backend)
    assert (await moved.unseal(keys[:2], migrate=True))["sealed"] is False
    for key in made["keys"]:
        give = {"key": key, "nonce": made["verification_nonce"]}
        status, reply = await moved.ask("PUT", "sys/rekey/verify", give)
    assert (status, "has recovery keys" in reply["errors"][0]) == (400, True)
    later = start(backend)
    await later.seal.follow()
    assert not later.seal.sealed
