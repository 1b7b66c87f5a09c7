"""What nodes of two versions make, read and change in turn: something of every kind of row."""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from earlier_program import Node

Answer = Any
POLICY = 'path "secret/*" { capabilities = ["read"] }'
USER = "auth/userpass/users"
ROLE = "auth/approle/role"


@dataclass(frozen=True)
class Thing:
    """A kind of thing. Each function takes a node and the thing's name.

    `make` returns what is known of it from then on, `change` turns that into what is known after;
    `holds` asserts that a node says so, and may be asked as often as one likes.
    """

    make: Callable[[Node, str], Awaitable[Answer]]
    change: Callable[[Node, str, Answer], Awaitable[Answer]]
    holds: Callable[[Node, str, Answer], Awaitable[None]]


def written(
    path: str,
    bodies: tuple[dict[str, Any], dict[str, Any]],
    *,
    read: str = "",
    at: tuple[str, ...] = ("data",),
    method: str = "POST",
) -> Thing:
    """What is written with the first of `bodies`, then the second and the first again.

    `read` is where it is read, unless where it is written; what is found `at` there has all that
    was written.
    """

    def filled(body: dict[str, Any], name: str) -> dict[str, Any]:
        return {
            key: value.replace("{}", name) if isinstance(value, str) else value
            for key, value in body.items()
        }

    async def write(node: Node, name: str, turn: int) -> int:
        await node.done(method, path.replace("{}", name), filled(bodies[turn], name))
        return turn

    async def make(node: Node, name: str) -> Answer:
        return await write(node, name, 0)

    async def change(node: Node, name: str, known: Answer) -> Answer:
        return await write(node, name, 1 - known)

    async def holds(node: Node, name: str, known: Answer) -> None:
        found = await node.done("GET", (read or path).replace("{}", name))
        for each in at:
            found = found[each]
        wanted = filled(bodies[known], name)
        assert {key: found.get(key) for key in wanted} == wanted, (node.name, path, found)

    return Thing(make, change, holds)


async def _kv_make(node: Node, name: str) -> Answer:
    await node.done("POST", f"secret/data/{name}", {"data": {"n": 1}})
    return 1


async def _kv_change(node: Node, name: str, known: Answer) -> Answer:
    body = {"data": {"n": known + 1}, "options": {"cas": known}}
    assert (await node.ask("POST", f"secret/data/{name}", {**body, "options": {"cas": 0}}))[
        0
    ] == 400
    await node.done("POST", f"secret/data/{name}", body)
    return known + 1


async def _kv_holds(node: Node, name: str, known: Answer) -> None:
    for number in range(1, known + 1):
        said = await node.done("GET", f"secret/data/{name}?version={number}")
        assert said["data"]["data"] == {"n": number}
    found = (await node.done("GET", f"secret/metadata/{name}"))["data"]
    assert (found["current_version"], len(found["versions"])) == (known, known)
    keys = (await node.done("GET", "secret/metadata/?list=true"))["data"]["keys"]
    assert name in keys


async def _token_make(node: Node, name: str) -> Answer:
    await node.done("PUT", f"sys/policies/acl/{name}", {"policy": POLICY})
    await node.done("POST", f"secret/data/{name}", {"data": {"k": name}})
    body = {"policies": [name], "ttl": "1h", "meta": {"of": name}}
    token = (await node.done("POST", "auth/token/create", body))["auth"]["client_token"]
    await node.done("POST", "cubbyhole/own", {"k": name}, token=token)
    return token, False


async def _token_change(node: Node, name: str, known: Answer) -> Answer:
    token, revoked = known
    if revoked:
        return await _token_make(node, name)
    await node.done("POST", "auth/token/renew-self", {"increment": "2h"}, token=token)
    await node.done("POST", "auth/token/revoke", {"token": token})
    return token, True


async def _token_holds(node: Node, name: str, known: Answer) -> None:
    token, revoked = known
    status, said = await node.ask("GET", f"secret/data/{name}", token=token)
    assert status == (403 if revoked else 200), (node.name, said)
    if not revoked:
        found = (await node.done("GET", "auth/token/lookup-self", token=token))["data"]
        assert (found["policies"], found["meta"]) == (["default", name], {"of": name})
        assert (await node.done("GET", "cubbyhole/own", token=token))["data"] == {"k": name}


async def _batch_make(node: Node, name: str) -> Answer:
    await node.done("PUT", f"sys/policies/acl/{name}", {"policy": POLICY})
    await node.done("POST", f"secret/data/{name}", {"data": {"k": name}})
    body = {"policies": [name], "type": "batch", "ttl": "1h"}
    made = (await node.done("POST", "auth/token/create", body))["auth"]["client_token"]
    return (made,)


async def _batch_change(node: Node, name: str, known: Answer) -> Answer:
    return (*known, *await _batch_make(node, name))


async def _batch_holds(node: Node, name: str, known: Answer) -> None:
    for token in known:
        said = await node.done("GET", f"secret/data/{name}", token=token)
        assert said["data"]["data"] == {"k": name}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def _transit_add(node: Node, name: str, number: int) -> tuple[str, str, str]:
    plain = _encoded(f"{name} {number}")
    sealed = await node.done("POST", f"transit/encrypt/{name}", {"plaintext": plain})
    signed = await node.done("POST", f"transit/sign/{name}-s", {"input": plain})
    return plain, sealed["data"]["ciphertext"], signed["data"]["signature"]


async def _transit_make(node: Node, name: str) -> Answer:
    await node.done("POST", f"transit/keys/{name}", {})
    await node.done("POST", f"transit/keys/{name}-s", {"type": "ecdsa-p256"})
    return (await _transit_add(node, name, 1),)


async def _transit_change(node: Node, name: str, known: Answer) -> Answer:
    for each in (name, f"{name}-s"):
        await node.done("POST", f"transit/keys/{each}/rotate", {})
    made = await _transit_add(node, name, len(known) + 1)
    assert made[1].startswith(f"vault:v{len(known) + 1}:")
    return (*known, made)


async def _transit_holds(node: Node, name: str, known: Answer) -> None:
    for plain, ciphertext, signature in known:
        said = await node.done("POST", f"transit/decrypt/{name}", {"ciphertext": ciphertext})
        assert said["data"]["plaintext"] == plain
        body = {"input": plain, "signature": signature}
        said = await node.done("POST", f"transit/verify/{name}-s", body)
        assert said["data"]["valid"] is True


async def _secret_id_make(node: Node, name: str) -> Answer:
    body = {"role_id": name, "token_policies": ["default"], "secret_id_num_uses": 2}
    await node.done("POST", f"{ROLE}/{name}", body)
    made = await node.done("POST", f"{ROLE}/{name}/secret-id", {"metadata": '{"of": "it"}'})
    return made["data"]["secret_id"], 2


async def _secret_id_change(node: Node, name: str, known: Answer) -> Answer:
    secret_id, left = known
    body = {"role_id": name, "secret_id": secret_id}
    if not left:
        assert (await node.ask("POST", "auth/approle/login", body))[0] == 400
        return await _secret_id_make(node, name)
    said = await node.done("POST", "auth/approle/login", body)
    assert said["auth"]["metadata"] == {"of": "it", "role_name": name}
    return secret_id, left - 1


async def _secret_id_holds(node: Node, name: str, known: Answer) -> None:
    secret_id, left = known
    body = {"secret_id": secret_id}
    status, said = await node.ask("POST", f"{ROLE}/{name}/secret-id/lookup", body)
    assert status == (200 if left else 204), (node.name, said)
    if left:
        assert said["data"]["secret_id_num_uses"] == left


async def _user_make(node: Node, name: str) -> Answer:
    await node.done("POST", f"{USER}/{name}", {"password": "1", "token_ttl": 600})
    said = await node.done("POST", f"auth/userpass/login/{name}", {"password": "1"})
    return 1, said["auth"]["client_token"]


async def _user_change(node: Node, name: str, known: Answer) -> Answer:
    """Somebody fails first, which is counted, then logs in and gets another password."""
    number, before = known
    path = f"auth/userpass/login/{name}"
    assert (await node.ask("POST", path, {"password": "wrong"}))[0] == 400
    said = await node.done("POST", path, {"password": str(number)})
    await node.done("POST", f"{USER}/{name}/password", {"password": str(number + 1)})
    entities = [
        (await node.done("GET", "auth/token/lookup-self", token=token))["data"]["entity_id"]
        for token in (before, said["auth"]["client_token"])
    ]
    assert entities[0] == entities[1] != ""
    return number + 1, said["auth"]["client_token"]


async def _user_holds(node: Node, name: str, known: Answer) -> None:
    found = (await node.done("GET", "auth/token/lookup-self", token=known[1]))["data"]
    assert found["meta"] == {"username": name}
    found = (await node.done("GET", f"identity/entity/id/{found['entity_id']}"))["data"]
    assert [each["name"] for each in found["aliases"]] == [name]


async def _wrapped_make(node: Node, name: str) -> Answer:
    await node.done("POST", f"secret/data/{name}", {"data": {"k": name}})
    wrap = {"X-Vault-Wrap-TTL": "1h"}
    said = await node.done("GET", f"secret/data/{name}", **wrap)
    return said["wrap_info"]["token"], False


async def _wrapped_change(node: Node, name: str, known: Answer) -> Answer:
    token, opened = known
    if opened:
        return await _wrapped_make(node, name)
    said = await node.done("POST", "sys/wrapping/unwrap", token=token)
    assert said["data"]["data"] == {"k": name}
    return token, True


async def _wrapped_holds(node: Node, name: str, known: Answer) -> None:
    token, opened = known
    status, said = await node.ask("POST", "sys/wrapping/lookup", {"token": token})
    assert status == (400 if opened else 200), (node.name, name, said)


async def _group_make(node: Node, name: str) -> Answer:
    made = await node.done("POST", "identity/entity", {"name": f"{name}-0"})
    members = (made["data"]["id"],)
    body = {"name": name, "member_entity_ids": members, "policies": ["default"]}
    await node.done("POST", "identity/group", body)
    return members


async def _group_change(node: Node, name: str, known: Answer) -> Answer:
    made = await node.done("POST", "identity/entity", {"name": f"{name}-{len(known)}"})
    members = (*known, made["data"]["id"])
    await node.done("POST", f"identity/group/name/{name}", {"member_entity_ids": members})
    return members


async def _group_holds(node: Node, name: str, known: Answer) -> None:
    found = (await node.done("GET", f"identity/group/name/{name}"))["data"]
    assert sorted(found["member_entity_ids"]) == sorted(known)
    member = (await node.done("GET", f"identity/entity/id/{known[-1]}"))["data"]
    assert member["direct_group_ids"] == [found["id"]]


async def _mount_make(node: Node, name: str) -> Answer:
    await node.done("POST", f"sys/mounts/{name}", {"type": "kv", "description": f"at {name}"})
    await node.done("POST", f"{name}/a", {"k": name})
    return name


async def _mount_change(node: Node, name: str, known: Answer) -> Answer:
    target = f"{known}-m" if known == name else name
    await node.done("POST", "sys/remount", {"from": known, "to": target})
    await node.done("POST", f"sys/mounts/{target}/tune", {"description": f"at {target}"})
    return target


async def _mount_holds(node: Node, name: str, known: Answer) -> None:
    mounts = (await node.done("GET", "sys/mounts"))["data"]
    assert [each for each in mounts if each.strip("/").removesuffix("-m") == name] == [f"{known}/"]
    assert mounts[f"{known}/"]["description"] == f"at {known}"
    assert (await node.done("GET", f"{known}/a"))["data"] == {"k": name}


THINGS = {
    "kv": Thing(_kv_make, _kv_change, _kv_holds),
    "token": Thing(_token_make, _token_change, _token_holds),
    "batch": Thing(_batch_make, _batch_change, _batch_holds),
    "transit": Thing(_transit_make, _transit_change, _transit_holds),
    "secretid": Thing(_secret_id_make, _secret_id_change, _secret_id_holds),
    "user": Thing(_user_make, _user_change, _user_holds),
    "wrapped": Thing(_wrapped_make, _wrapped_change, _wrapped_holds),
    "group": Thing(_group_make, _group_change, _group_holds),
    "mount": Thing(_mount_make, _mount_change, _mount_holds),
    "metadata": written(
        "secret/metadata/{}",
        ({"custom_metadata": {"by": "a"}, "max_versions": 7}, {"custom_metadata": {"by": "b"}}),
    ),
    "policy": written(
        "sys/policies/acl/{}",
        ({"policy": POLICY}, {"policy": POLICY.replace("read", "list")}),
    ),
    "password": written(
        "sys/policies/password/{}",
        (
            {"policy": 'length = 20\nrule "charset" { charset = "abc" }'},
            {"policy": 'length = 21\nrule "charset" { charset = "abcd" }'},
        ),
    ),
    "quota": written(
        "sys/quotas/rate-limit/{}",
        ({"path": "secret/data/{}", "rate": 1000.0}, {"path": "secret/data/{}", "rate": 2000.0}),
    ),
    "role": written(f"{ROLE}/{{}}", ({"token_ttl": 600}, {"token_ttl": 700})),
    "entity": written(
        "identity/entity/name/{}",
        ({"metadata": {"by": "a"}, "policies": ["p"]}, {"metadata": {"by": "b"}}),
    ),
    "cubbyhole": written("cubbyhole/{}", ({"k": "a"}, {"k": "b"})),
    "consumer": written(
        "sys/consumers/ack",
        ({"path": "secret/data/{}", "version": 1}, {"path": "secret/data/{}", "version": 2}),
        read="sys/consumers?path=secret/data/{}", at=("data", "consumers", 0),
    ),
}  # fmt: skip
SETUP = (
    ("sys/mounts/transit", {"type": "transit"}),
    ("sys/auth/userpass", {"type": "userpass"}),
    ("sys/auth/approle", {"type": "approle"}),
)
