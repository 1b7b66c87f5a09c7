"""The VaultDynamicSecret generator: whatever a path of Vault answers, and the end of its lease.

Fields: https://external-secrets.io/latest/api/generator/vault/. The other controller lets leases
run out; here a lease is revoked when what it was for has been replaced.
"""

from collections.abc import Mapping
from typing import Any

from strongroom.model.errors import Invalid
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
    lease = reply.get("lease_id")
    state = {"leaseID": lease, "leaseDuration": reply.get("lease_duration")} if lease else None
    return Made({name: as_bytes(value) for name, value in said.items()}, state)


def _object(spec: Fields, name: str) -> Mapping[str, Any]:
    part = spec.part(name)
    return part.raw() if part else {}


async def revoke(
    spec: Fields, references: References, sources: Sources, state: Mapping[str, Any]
) -> None:
    """Revoke the lease. A state without one, as the other controller writes, is nothing to do."""
    lease = state.get("leaseID")
    if not lease:
        return
    client = await vault.build(spec.needed("provider"), references, sources.around)
    try:
        await client.request("PUT", "sys/leases/revoke", {"lease_id": lease}, ())
    finally:
        await client.close()
