"""The VaultDynamicSecret generator: what a path of Vault answers, and the end of lease or token.

Fields: https://external-secrets.io/latest/api/generator/vault/. The other controller lets leases
run out; here a lease is revoked when what it was for has been replaced.
"""

from collections.abc import Mapping
from typing import Any

from strongroom.model.errors import Denied, Invalid
from strongroom.sync.generators.contract import Made, Sources
from strongroom.sync.providers import vault
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References
from strongroom.sync.values import as_bytes


async def dynamic(spec: Fields, references: References, sources: Sources) -> Made:
    """Ask the path; raises Invalid(`empty-response`) unless that is allowed."""
    path, method = spec.required("path"), spec.text("method", "GET").upper()
    kind = spec.choice("resultType", ("Data", "Auth", "Raw"), "Data")
    reading = method in ("GET", "LIST", "DELETE")
    body = None if reading else dict(_object(spec, "parameters"))
    query = [
        (name, str(each))
        for name, given in _object(spec, "getParameters").items()
        for each in (given if isinstance(given, list) else [given])
    ]
    # A lease ends with the token that asked for it, so that token is left to its time.
    client = await vault.build(spec.needed("provider"), references, sources.around, leaves=False)
    try:
        reply = await client.request(method, path, body, query)
    finally:
        await client.close()
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


def _object(spec: Fields, name: str) -> Mapping[str, Any]:
    part = spec.part(name)
    return part.raw() if part else {}


async def revoke(
    spec: Fields, references: References, sources: Sources, state: Mapping[str, Any]
) -> None:
    """Revoke a lease or token. A state of neither, as the other controller writes, is nothing."""
    lease, accessor = state.get("leaseID"), state.get("accessor")
    if not lease and not accessor:
        return
    client = await vault.build(spec.needed("provider"), references, sources.around)
    try:
        if lease:
            await client.request("PUT", "sys/leases/revoke", {"lease_id": lease}, ())
        else:
            await _revoke_token(client, str(accessor))
    finally:
        await client.close()


async def _revoke_token(client: vault.VaultProvider, accessor: str) -> None:
    try:
        await client.request("POST", "auth/token/revoke-accessor", {"accessor": accessor}, ())
    except (Denied, Invalid) as refusal:
        # What is said to the accessor of a token that has ended, under one status or another.
        if "invalid accessor" not in refusal.message:
            raise
