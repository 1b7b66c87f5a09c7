"""Many at once, on several nodes of one database: what is counted is counted exactly.

Every test here asks all nodes in parallel; each node has caches of its own.
"""

import asyncio
from collections import Counter

import pytest

pytestmark = pytest.mark.component
READ = 'path "secret/data/*" { capabilities = ["read"] }'


async def at_once(nodes, number: int, *request, **more) -> Counter:
    """Statuses of one request sent many times in parallel, to the nodes in turn."""
    asked = (nodes[each % len(nodes)].ask(*request, **more) for each in range(number))
    return Counter(status for status, _ in await asyncio.gather(*asked))


async def test_a_token_of_ten_uses_serves_ten_of_fifty(nodes) -> None:
    await nodes[0].ask("POST", "secret/data/a", {"data": {"k": "v"}})
    for path in ("secret/data/a", "auth/token/lookup-self"):
        token = await nodes[0].token_with(READ, num_uses=10)
        found = await at_once(nodes[:2], 50, "GET", path, token=token)
        assert found == {200: 10, 403: 40}


async def test_a_use_is_spent_by_whatever_is_asked(nodes) -> None:
    token = await nodes[0].token_with(READ, num_uses=10)
    paths = ("secret/data/a", "secret/data/none", "sys/mounts", "auth/token/lookup-self")
    await asyncio.gather(*(at_once(nodes, 6, "GET", path, token=token) for path in paths))
    assert await at_once(nodes, 3, "GET", "auth/token/lookup-self", token=token) == {403: 3}


async def test_a_secret_id_of_five_uses_logs_in_five_of_thirty(nodes) -> None:
    ask = nodes[0].ask
    await ask("POST", "sys/auth/approle", {"type": "approle"})
    await ask("POST", "auth/approle/role/r", {"role_id": "rid", "secret_id_num_uses": 5})
    _, made = await ask("POST", "auth/approle/role/r/secret-id", {})
    body = {"role_id": "rid", "secret_id": made["data"]["secret_id"]}
    found = await at_once(nodes, 30, "POST", "auth/approle/login", body, token="")
    assert found[200] == 5
    assert sum(found.values()) == 30


async def test_of_many_who_unwrap_on_all_nodes_one_gets_it(nodes) -> None:
    for _ in range(5):
        _, made = await nodes[0].ask("POST", "sys/wrapping/wrap", {"k": "v"}, X_Vault_Wrap_TTL="60")
        token = made["wrap_info"]["token"]
        found = await at_once(nodes, 12, "POST", "sys/wrapping/unwrap", {}, token=token)
        assert found[200] == 1
        assert sum(found.values()) == 12


async def test_failures_in_parallel_are_all_counted(nodes) -> None:
    ask = nodes[0].ask
    await ask("POST", "sys/auth/approle", {"type": "approle"})
    tuned = {"user_lockout_config": {"lockout_threshold": 30}}
    await ask("POST", "sys/auth/approle/tune", tuned)
    await ask("POST", "auth/approle/role/r", {"role_id": "rid"})
    _, made = await ask("POST", "auth/approle/role/r/secret-id", {})
    right = {"role_id": "rid", "secret_id": made["data"]["secret_id"]}
    wrong = {"role_id": "rid", "secret_id": "wrong"}
    login = ("POST", "auth/approle/login")
    assert await at_once(nodes, 29, *login, wrong, token="") == {400: 29}
    assert (await ask("GET", "sys/locked-users"))[1]["data"]["total"] == 0
    assert await at_once(nodes, 1, *login, wrong, token="") == {400: 1}
    assert (await ask("GET", "sys/locked-users"))[1]["data"]["total"] == 1
    assert await at_once(nodes, 3, *login, right, token="") == {403: 3}


async def test_guesses_in_parallel_are_no_more_guesses(nodes) -> None:
    """The right password among many wrong ones, sent at once, is refused like any other."""
    ask = nodes[0].ask
    await ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await ask("POST", "auth/userpass/users/ada", {"password": "right"})
    wrong = asyncio.gather(
        *(
            nodes[each % 3].ask(
                "POST", "auth/userpass/login/ada", {"password": str(each)}, token=""
            )
            for each in range(24)
        )
    )
    statuses = Counter(status for status, _ in await wrong)
    assert set(statuses) <= {400, 403}
    right = ("POST", "auth/userpass/login/ada", {"password": "right"})
    assert await at_once(nodes, 3, *right, token="") == {403: 3}


async def test_a_revoked_token_is_not_renewed_back_to_life(nodes) -> None:
    for _ in range(10):
        token = await nodes[0].token_with(READ, ttl="1h")
        renewals = at_once(nodes, 9, "POST", "auth/token/renew-self", {}, token=token)
        revoked = nodes[1].ask("POST", "auth/token/revoke", {"token": token})
        found, (status, _) = await asyncio.gather(renewals, revoked)
        assert status == 204
        assert set(found) <= {200, 403}
        assert await at_once(nodes, 3, "GET", "auth/token/lookup-self", token=token) == {403: 3}


async def test_a_parent_that_is_revoked_meanwhile_has_no_more_children(nodes) -> None:
    await nodes[0].ask("POST", "auth/token/roles/ci", {"path_suffix": "ci"})
    policy = 'path "auth/token/create*" { capabilities = ["update"] }'
    await nodes[0].ask("PUT", "sys/policies/acl/maker", {"policy": policy})
    for _ in range(5):
        body = {"policies": ["maker"]}
        _, made = await nodes[0].ask("POST", "auth/token/create/ci", body)
        parent = made["auth"]["client_token"]
        for node in nodes:
            await node.ask("GET", "auth/token/lookup-self", token=parent)
        revoked = nodes[0].ask("PUT", "sys/leases/revoke-prefix/auth/token/create/ci")
        children = (
            nodes[each % 3].ask("POST", "auth/token/create", {}, token=parent) for each in range(30)
        )
        (status, _), *answers = await asyncio.gather(revoked, *children)
        assert status == 204
        tokens = [said["auth"]["client_token"] for status, said in answers if status == 200]
        looks = [await nodes[0].ask("GET", "auth/token/lookup-self", token=each) for each in tokens]
        assert [status for status, _ in looks] == [403] * len(tokens)


async def test_a_batch_token_ends_everywhere_with_its_parent(nodes) -> None:
    policy = READ + ' path "auth/token/create" { capabilities = ["update"] }'
    await nodes[0].ask("POST", "secret/data/a", {"data": {"k": "v"}})
    parent = await nodes[0].token_with(policy)
    _, made = await nodes[1].ask("POST", "auth/token/create", {"type": "batch"}, token=parent)
    token = made["auth"]["client_token"]
    assert await at_once(nodes, 6, "GET", "secret/data/a", token=token) == {200: 6}
    await nodes[2].ask("POST", "auth/token/revoke", {"token": parent})
    assert await at_once(nodes, 6, "GET", "secret/data/a", token=token) == {403: 6}


async def test_a_role_that_is_gone_gives_no_token_to_who_was_on_the_way(nodes) -> None:
    ask = nodes[0].ask
    await ask("POST", "sys/auth/approle", {"type": "approle"})
    for _ in range(5):
        role = {"role_id": "rid", "bind_secret_id": False, "secret_id_bound_cidrs": "127.0.0.0/8"}
        await ask("POST", "auth/approle/role/r", role)
        logins = [
            nodes[each % 3].ask("POST", "auth/approle/login", {"role_id": "rid"}, token="")
            for each in range(9)
        ]
        answers = await asyncio.gather(*logins, nodes[1].ask("DELETE", "auth/approle/role/r"))
        assert {status for status, _ in answers} <= {200, 204, 400, 403}
        again = await at_once(nodes, 3, "POST", "auth/approle/login", {"role_id": "rid"}, token="")
        assert 200 not in again
