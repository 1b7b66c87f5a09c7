"""The description of the API: valid, whole, and true of the server that gives it."""

import itertools
import re
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from strongroom.store.call import Call
from strongroom.store.routing import full_path
from strongroom.store.system.openapi import KEPT, OpenApi

MOUNTS = {
    "sys/mounts/old": {"type": "kv", "options": {"version": "1"}},
    "sys/mounts/transit": {"type": "transit"},
    "sys/auth/kubernetes": {"type": "kubernetes"},
    "sys/auth/approle": {"type": "approle"},
    "sys/auth/userpass": {"type": "userpass"},
    "sys/auth/cert": {"type": "cert"},
    "sys/auth/jwt": {"type": "jwt"},
}
# So that requests reach what is there, and not only the answer that nothing is.
THERE = {
    "secret/data/x": {"data": {"k": "v"}},
    "old/x": {"k": "v"},
    "cubbyhole/x": {"k": "v"},
    "sys/policies/acl/x": {"policy": "# x"},
    "transit/keys/x": {"exportable": True},
    "auth/userpass/users/x": {"password": "x"},
    "auth/approle/role/x": {"token_policies": "x"},
    "auth/token/roles/x": {},
    "identity/entity/name/x": {"metadata": {"k": "v"}},
    "identity/group/name/x": {},
    "sys/quotas/rate-limit/x": {"rate": 100_000},
    "sys/quotas/lease-count/x": {"max_leases": 100_000, "path": "old"},
}
# What Vault answers by 500, by which its clients know it: the role was removed by then.
AS_IN_VAULT = {
    "/auth/approle/role/{role_name}/secret-id-accessor/lookup": ['role "x" does not exist'],
}
# Asked for real they would end the test's server or its token, or wait for a websocket.
LEFT_OUT = (
    "/sys/seal",
    "/sys/events/",
    "/auth/token/revoke",
    "/sys/step-down",
    "/sys/leases/revoke",
)


@pytest.fixture
async def described(store):
    for path, body in MOUNTS.items():
        assert (await store.ask("POST", path, body))[0] == 204
    status, document = await store.ask("GET", "sys/internal/specs/openapi")
    assert status == 200
    store.document = document
    return store


@pytest.mark.long
async def test_the_description_is_valid_openapi(described) -> None:
    validate(described.document)
    operations = [
        operation["operationId"]
        for item in described.document["paths"].values()
        for verb, operation in item.items()
        if verb in ("get", "post", "patch", "delete")
    ]
    assert len(operations) == len(set(operations)) > 200


async def test_every_endpoint_of_every_mount_is_described(described) -> None:
    mounts = await described.read(lambda view: view.mounts())
    for row in mounts:
        prefix = "/" + full_path(row)
        assert any(path.startswith(prefix.rstrip("/")) for path in described.document["paths"]), row
    paths = described.document["paths"]
    assert set(paths["/secret/data/{path}"]) == {
        "parameters", "x-vault-createSupported", "get", "post", "patch", "delete",
    }  # fmt: skip
    assert paths["/sys/health"]["x-vault-unauthenticated"] is True
    assert paths["/sys/remount"]["x-vault-sudo"] is True
    body = paths["/auth/approle/login"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["properties"]) == {"role_id", "secret_id"}
    body = paths["/cubbyhole/{path}"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["additionalProperties"] is True
    assert {each["name"] for each in paths["/secret/diff/{path}"]["get"]["parameters"]} == {
        "from", "to",
    }  # fmt: skip


@pytest.mark.long
async def test_mount_paths_can_be_left_open_and_are_shown_to_who_may_know(described) -> None:
    _, said = await described.ask("GET", "sys/internal/specs/openapi?generic_mount_paths=true")
    validate(said)
    assert "/{kv_mount_path}/data/{path}" in said["paths"]
    assert "/auth/{approle_mount_path}/login" in said["paths"]
    _, said = await described.ask("GET", "sys/internal/specs/openapi", token="")
    assert not any(path.startswith(("/secret", "/transit", "/old")) for path in said["paths"])
    assert "/sys/mounts" in said["paths"]


# As the published description of Vault 1.15 has them; clients are generated from these names.
PATH_PARAMETERS = {
    "token": {"create/{role_name}", "roles/{role_name}", "renew/{token}"},
    "approle": {
        f"role/{{role_name}}{rest}"
        for rest in (
            "", "/bind-secret-id", "/bound-cidr-list", "/custom-secret-id", "/local-secret-ids",
            "/period", "/policies", "/role-id", "/secret-id", "/secret-id-accessor/destroy",
            "/secret-id-accessor/lookup", "/secret-id-bound-cidrs", "/secret-id-num-uses",
            "/secret-id-ttl", "/secret-id/destroy", "/secret-id/lookup", "/token-bound-cidrs",
            "/token-max-ttl", "/token-num-uses", "/token-ttl",
        )
    },
    "userpass": {
        "login/{username}", "users/{username}", "users/{username}/password",
        "users/{username}/policies",
    },
    "cert": {"certs/{name}", "crls/{name}"},
    "kubernetes": {"role/{name}"},
    "jwt": {"role/{name}"},
}  # fmt: skip


async def test_parameters_of_paths_have_vaults_names(described) -> None:
    for method, wanted in PATH_PARAMETERS.items():
        start = f"/auth/{method}/"
        found = {
            path.removeprefix(start).rstrip("/")
            for path in described.document["paths"]
            if path.startswith(start) and "{" in path
        }
        assert found == wanted
    assert (
        "/sys/locked-users/{mount_accessor}/unlock/{alias_identifier}"
        in (described.document["paths"])
    )
    body = {"role_name": "other", "x": 1}
    _, said = await described.ask("POST", "auth/approle/role/ci", body)
    assert "captured from the endpoint's path: [role_name]" in said["warnings"][1]


NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def values() -> list[object]:
    found: list[object] = []

    @settings(
        max_examples=97, database=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(JSON)
    def collect(value) -> None:
        found.append(value)

    collect()
    return found


def bodies(operation, pool) -> list[dict]:
    """Bodies of values of every shape under the names that the operation is said to take."""
    schema = next(iter(operation["requestBody"]["content"].values()))["schema"]
    names = [*schema.get("properties", {"k": {}}), "unknown"]
    every = [{name: next(pool) for name in names}]
    return every + [
        {name: next(pool) for place, name in enumerate(names) if place % 3 != left}
        for left in range(3)
        for _ in range(2)
    ]


@pytest.mark.long
async def test_no_request_that_the_description_allows_ends_in_an_error_of_ours(described) -> None:
    """Bodies of every shape to every described operation: a status that is listed, never a 500."""
    document = described.document
    asked: list[tuple[str, str]] = []
    for path, item in document["paths"].items():
        if not path.startswith(LEFT_OUT):
            asked += [(path, verb) for verb in ("get", "post", "patch", "delete") if verb in item]
    pool = itertools.cycle(values())
    for path, body in THERE.items():
        assert (await described.ask("POST", path, body))[0] in (200, 204), path
    failures = []
    for path, verb in asked:
        target = path.lstrip("/")
        while "{" in target:
            head, _, rest = target.partition("{")
            target = head + "x" + rest.partition("}")[2]
        kind = "application/merge-patch+json" if verb == "patch" else "application/json"
        operation = document["paths"][path][verb]
        for body in bodies(operation, pool) if verb in ("post", "patch") else [None]:
            if verb == "delete" and target in ("sys/mounts/secret", "sys/config/cors"):
                continue
            status, said = await described.ask(verb.upper(), target, body, Content_Type=kind)
            if status == 500 and said["errors"] == AS_IN_VAULT.get(path):
                continue
            if status == 500 or str(status) not in operation["responses"]:
                failures.append((verb, path, body, status, said))
    assert failures == []


METHODS = (
    "GET",
    "LIST",
    "SCAN",
    "HELP",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
)
# Bodies that are no object, no JSON, no text, or nothing.
BODIES = (None, b"", b"null", b"[]", b'"x"', b"{", b"\xff\xfe", b'{"a":NaN}', b"k=v&k=w")
KINDS = ("application/json", "application/x-www-form-urlencoded", "application/merge-patch+json")
# Asked for by anybody at any time these would take away what the others are asked of.
TAKEN_AWAY = (*LEFT_OUT, "/sys/rekey", "/sys/generate-root", "/sys/storage", "/sys/mounts/{path}")


def judged(status: int, said: object) -> bool:
    """Whether an answer is one that clients can read: never ours to blame, never without words."""
    if status in (500, 502) or status >= 504:
        return False
    # What is there no more is described, and a wrong path of KV has a warning.
    named = isinstance(said, dict) and ("errors" in said or "data" in said)
    return status < 400 or named


@pytest.mark.long
async def test_every_path_answers_every_method_and_every_body_in_words(described) -> None:
    for path, body in THERE.items():
        assert (await described.ask("POST", path, body))[0] in (200, 204), path
    failures, asked = [], 0
    for number, path in enumerate(described.document["paths"]):
        if path.startswith(TAKEN_AWAY):
            continue
        target = re.sub(r"\{\w+\}", "x", path.lstrip("/"))
        for method in METHODS:
            for end in ("", "/"):
                status, said = await described.ask(method, target + end)
                asked += 1
                if not (judged(status, said) or (method == "HEAD" and status < 500)):
                    failures.append((method, target + end, status, said))
        for at, body in enumerate(BODIES):
            for method in ("POST", "PATCH"):
                kind = KINDS[(at + number) % 3] if method == "POST" else KINDS[2]
                status, said = await described.ask(method, target, body, Content_Type=kind)
                asked += 1
                if not judged(status, said):
                    failures.append((method, target, body, kind, status, said))
    assert failures == []
    assert asked > 5_000


async def test_a_description_is_made_once_for_the_same_mounts(serve_with) -> None:
    """Anybody may ask for it, and making one takes milliseconds in which nobody is served."""
    asked = 0

    async with serve_with() as store:
        router, context = store.handler._router, store.handler._context

        def tables(row):
            nonlocal asked
            asked += 1
            return router.described(row)

        description = OpenApi(context, tables, "1")
        call = Call("read", "sys/internal/specs/openapi", {}, None, "internal/specs/openapi")
        first = description._read(call).raw
        made = asked
        assert description._read(call).raw == first
        assert asked == made
        call.session = context.sessions.open(store.root, context.clock.now(), "")
        whole = description._read(call).raw
        assert (len(whole) > len(first), asked > made) == (True, True)
        for number in range(KEPT):
            await store.ask("POST", f"sys/mounts/m{number}", {"type": "transit"})
            assert f"/m{number}/".encode() in description._read(call).raw
            assert len(description._made) <= KEPT
