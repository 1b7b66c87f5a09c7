"""The VaultDynamicSecret generator: what a path of Vault answers, and its life and end.

Fields: https://external-secrets.io/latest/api/generator/vault/. The other controller lets leases
run out; here a lease is revoked when what it was for has been replaced. And there a lease ends
with the token that asked for it, however long it was given for; here each making has a login of
its own, whose token is renewed for as long as what it made is needed.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from strongroom.model.errors import Denied, Invalid, NotFound, Refusal
from strongroom.sync.generators.contract import Life, Made, Sources
from strongroom.sync.providers import vault
from strongroom.sync.providers.contract import understood
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References
from strongroom.sync.providers.retries import Retries
from strongroom.sync.values import as_bytes

# A token is renewed when this share of its life is left. One that was given less than the other
# share of its first life is at the end of what it may have.
LEFT_SHARE: Final = 1 / 3
WHOLE_SHARE: Final = 0.9
SHORTEST_SECONDS: Final = 30.0


async def dynamic(spec: Fields, references: References, sources: Sources) -> Made:
    """Ask the path; raises Invalid(`empty-response`) unless that is allowed."""
    path, method = spec.required("path"), spec.text("method", "GET").upper()
    reading = method in ("GET", "LIST", "DELETE")
    body = None if reading else dict(_object(spec, "parameters"))
    query = [
        (name, str(each))
        for name, given in _object(spec, "getParameters").items()
        for each in (given if isinstance(given, list) else [given])
    ]
    retries = Retries.from_spec(spec)
    client = await vault.build(spec.needed("provider"), references, sources.around)
    try:
        reply = await retries.run(
            sources.around.clock, lambda: client.request(method, path, body, query)
        )
        made = _made(spec, reply)
        if made.state is not None and client.own:
            made = Made(made.values, {**made.state, **await _kept(client, sources)})
    except BaseException:
        # What was made and cannot be used ends with the token.
        await client.close()
        raise
    await client.rest()
    return made


def _made(spec: Fields, reply: Mapping[str, Any]) -> Made:
    kind = spec.choice("resultType", ("Data", "Auth", "Raw"), "Data")
    path = spec.required("path")
    said = reply if kind == "Raw" else reply.get("auth" if kind == "Auth" else "data")
    if not said:
        if spec.flag("allowEmptyResponse"):
            return Made({})
        raise Invalid("empty-response", f"{path} answers without {kind.lower()}")
    if not isinstance(said, Mapping):
        raise Invalid("empty-response", f"{path} answers with something that has no keys")
    return Made({name: as_bytes(value) for name, value in said.items()}, _state(reply))


def _state(reply: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What ends it: a lease, or the accessor of a token, which opens nothing by itself."""
    lease, auth = reply.get("lease_id"), reply.get("auth")
    if lease:
        return {"leaseID": lease, "leaseDuration": reply.get("lease_duration")}
    accessor = auth.get("accessor") if isinstance(auth, Mapping) else None
    return {"accessor": accessor} if accessor else None


async def _kept(client: vault.VaultProvider, sources: Sources) -> Mapping[str, Any]:
    """What a state says of the login that it was made with; {} when nobody can prolong that."""
    try:
        with understood("the store"):
            said = (await client.request("GET", "auth/token/lookup-self", None, ()))["data"]
            accessor, seconds = str(said.get("accessor") or ""), float(said["ttl"])
            renewable = bool(said.get("renewable"))
    except Refusal:
        return {}
    if not accessor or seconds <= 0:
        # A batch token gives its own end to the lease; a token without an end gives none.
        return {}
    sources.tokens[accessor] = client
    return {"tokenAccessor": accessor, "tokenDuration": int(seconds), "tokenRenewable": renewable}


def _object(spec: Fields, name: str) -> Mapping[str, Any]:
    part = spec.part(name)
    return part.raw() if part else {}


async def sustain(
    spec: Fields, references: References, sources: Sources, state: Mapping[str, Any], age: float
) -> Life | None:
    """Renew the token that something was made with, while it has to live longer than that.

    By the token itself, and after a restart by its accessor, which takes a right.
    """
    accessor, whole = str(state.get("tokenAccessor") or ""), float(state.get("tokenDuration") or 0)
    lease = float(state.get("leaseDuration") or 0)
    if not accessor or whole <= 0 or (lease and lease <= max(age, whole)):
        # Nothing to renew; or the lease is gone, or the token outlives it without our help.
        return None
    left = max(0.0, whole - age)
    if left > whole * LEFT_SHARE:
        return Life(left - whole * LEFT_SHARE)
    if not state.get("tokenRenewable"):
        return _ending(left)
    try:
        seconds = await _renewed(spec, references, sources, accessor)
    except (Denied, Invalid, NotFound):
        return _ending(left)
    if lease and age + seconds >= lease:
        return None
    if seconds < whole * WHOLE_SHARE:
        return _ending(seconds)
    return Life(max(SHORTEST_SECONDS, seconds * (1 - LEFT_SHARE)))


def _ending(seconds: float) -> Life:
    return Life(max(SHORTEST_SECONDS, seconds), seconds)


async def _renewed(spec: Fields, references: References, sources: Sources, accessor: str) -> float:
    kept = sources.tokens.get(accessor)
    if kept is not None:
        return await kept.renew()
    client = await vault.build(spec.needed("provider"), references, sources.around)
    try:
        with understood("the store"):
            body = {"accessor": accessor}
            said = await client.request("POST", "auth/token/renew-accessor", body, ())
            return float(said["auth"]["lease_duration"])
    finally:
        await client.close()


async def revoke(
    spec: Fields, references: References, sources: Sources, state: Mapping[str, Any]
) -> None:
    """Revoke a lease or token. A state of neither, as the other controller writes, is nothing."""
    if not state.get("leaseID") and not state.get("accessor"):
        return
    login = str(state.get("tokenAccessor") or "")
    kept = sources.tokens.get(login)
    if kept is not None:
        try:
            # Its login made nothing else, and takes what it made along.
            await kept.leave()
        except Denied:
            # It has ended, or may not: what it made is ended by another.
            kept = None
        del sources.tokens[login]
    if kept is None:
        await _revoke_with_another(spec, references, sources, state)


async def _revoke_with_another(
    spec: Fields, references: References, sources: Sources, state: Mapping[str, Any]
) -> None:
    client = await vault.build(spec.needed("provider"), references, sources.around)
    try:
        if state.get("leaseID"):
            body = {"lease_id": state["leaseID"]}
            await client.request("PUT", "sys/leases/revoke", body, ())
        else:
            await _revoke_token(client, str(state["accessor"]))
        if state.get("tokenAccessor"):
            with contextlib.suppress(Refusal):
                await _revoke_token(client, str(state["tokenAccessor"]))
    finally:
        await client.close()


async def _revoke_token(client: vault.VaultProvider, accessor: str) -> None:
    try:
        await client.request("POST", "auth/token/revoke-accessor", {"accessor": accessor}, ())
    except (Denied, Invalid) as refusal:
        # What is said to the accessor of a token that has ended, under one status or another.
        if "invalid accessor" not in refusal.message:
            raise
