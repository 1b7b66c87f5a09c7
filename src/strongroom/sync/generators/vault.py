"""The VaultDynamicSecret generator: what a path of Vault answers, and its life and end.

Fields: https://external-secrets.io/latest/api/generator/vault/. The other controller lets leases
run out, and leaves a dead credential in the Secret when that is before the next refresh; here a
lease is renewed, replaced before its last end, and revoked when what it was for has been replaced.
And there a lease ends with the token that asked for it, however long it was given for; here each
making has a login of its own, whose token is renewed for as long as what it made is needed.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
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
# A lease that cannot be renewed is replaced when this share of it is left: no sooner, for a
# refresh interval that is a little shorter than the lease is what its user chose.
REPLACED_SHARE: Final = 0.1


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
        renewable = bool(reply.get("renewable"))
        said = {"leaseID": lease, "leaseDuration": reply.get("lease_duration")}
        return said | {"leaseRenewable": renewable}
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
    """Renew a lease, and the token that it was made with for as long as that has to live.

    By the token itself; after a restart by another login, which for the token takes a right.
    """
    about = _About(spec, references, sources, state, age)
    lives = [await _sustain_lease(about), await _sustain_token(about)]
    there = [each for each in lives if each is not None]
    ends = [each.ends for each in there if each.ends is not None]
    # The one may be prolonged while the other is at its end, for that may be days away.
    return Life(min(each.again for each in there), min(ends, default=None)) if there else None


@dataclass(frozen=True, slots=True)
class _About:
    """What is kept alive: made `age` seconds ago, and remembered in `state`."""

    spec: Fields
    references: References
    sources: Sources
    state: Mapping[str, Any]
    age: float

    @property
    def renewable(self) -> bool:
        """Whether it comes with a lease that can be renewed."""
        return bool(self.state.get("leaseID") and self.state.get("leaseRenewable"))

    async def ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask by the login that it was made with, or where that is not ours by another."""
        kept = self.sources.tokens.get(str(self.state.get("tokenAccessor") or ""))
        if kept is not None:
            return await kept.ask(path, body)
        client = await vault.build(
            self.spec.needed("provider"), self.references, self.sources.around
        )
        try:
            with understood("the store"):
                return await client.request("POST", path, body, ())
        finally:
            await client.close()


async def _sustain_lease(about: _About) -> Life | None:
    whole = float(about.state.get("leaseDuration") or 0)
    if not about.state.get("leaseID") or whole <= 0 or "leaseRenewable" not in about.state:
        # None that ends, or one of an earlier release, which says too little of it.
        return None
    left = max(0.0, whole - about.age)
    if not about.renewable:
        return _replaced(whole, left)
    if left > whole * LEFT_SHARE:
        return Life(left - whole * LEFT_SHARE)
    try:
        with understood("the store"):
            body = {"lease_id": about.state["leaseID"], "increment": int(whole)}
            seconds = float((await about.ask("sys/leases/renew", body))["lease_duration"])
    except (Denied, Invalid, NotFound):
        return _replaced(whole, left)
    if seconds < whole * WHOLE_SHARE:
        return _replaced(whole, seconds)
    return Life(max(SHORTEST_SECONDS, seconds * (1 - LEFT_SHARE)))


def _replaced(whole: float, left: float) -> Life:
    """Of a lease that is not renewed: looked at again, or at its end."""
    last = max(whole * REPLACED_SHARE, SHORTEST_SECONDS)
    return Life(left - last) if left > last else _ending(left)


async def _sustain_token(about: _About) -> Life | None:
    state, age = about.state, about.age
    accessor, whole = str(state.get("tokenAccessor") or ""), float(state.get("tokenDuration") or 0)
    # A lease that is renewed has no end that the token could outlive.
    lease = 0.0 if about.renewable else float(state.get("leaseDuration") or 0)
    if not accessor or whole <= 0 or (lease and lease <= max(age, whole)):
        # Nothing to renew; or the lease is gone, or the token outlives it without our help.
        return None
    left = max(0.0, whole - age)
    if left > whole * LEFT_SHARE:
        return Life(left - whole * LEFT_SHARE)
    if not state.get("tokenRenewable"):
        return _ending(left)
    try:
        seconds = await _renewed(about, accessor)
    except (Denied, Invalid, NotFound):
        return _ending(left)
    if lease and age + seconds >= lease:
        return None
    if seconds < whole * WHOLE_SHARE:
        return _ending(seconds)
    return Life(max(SHORTEST_SECONDS, seconds * (1 - LEFT_SHARE)))


def _ending(seconds: float) -> Life:
    return Life(max(SHORTEST_SECONDS, seconds), seconds)


async def _renewed(about: _About, accessor: str) -> float:
    kept = about.sources.tokens.get(accessor)
    if kept is not None:
        return await kept.renew()
    with understood("the store"):
        said = await about.ask("auth/token/renew-accessor", {"accessor": accessor})
        return float(said["auth"]["lease_duration"])


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
