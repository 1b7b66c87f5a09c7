"""From a store's `spec.provider` to a provider.

What is wrong with a spec is an Invalid that names the field, which the store says as
`InvalidProviderConfig`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from strongroom.kube.resource import Object
from strongroom.model.errors import Invalid
from strongroom.sync.providers import aws, azure, fake, gcp, kubernetes, vault, webhook
from strongroom.sync.providers.contract import Provider
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.providers.retries import Persistent, Retries

Build = Callable[[Fields, References, Surroundings], Awaitable[Provider]]
KINDS: Final[Mapping[str, Build]] = {
    "vault": vault.build,
    "openBao": vault.build,
    "aws": aws.build,
    "gcpsm": gcp.build,
    "azurekv": azure.build,
    "kubernetes": kubernetes.build,
    "webhook": webhook.build,
    "fake": fake.build,
}


class Providers:
    """Makes the provider of a store for the namespace that asks. A sync.stores.ProviderFactory."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def __call__(self, store: Object, namespace: str) -> Provider:
        """Raises Invalid for a spec that cannot be used, or one that points to nothing."""
        spec = Fields(store.get("spec") or {}, "spec")
        provider, retries = spec.needed("provider"), Retries.from_spec(spec)
        names = provider.names()
        if len(names) != 1:
            raise Invalid("bad-field", f"spec.provider must have one provider, not {len(names)}")
        build = KINDS.get(names[0])
        if build is None:
            raise Invalid(
                "unsupported-provider",
                f"the provider {names[0]} is not served",
                hint=f"served are {', '.join(KINDS)}; leave this store to the other controller",
            )
        references = References(self._around, store, namespace)
        made = await build(provider.needed(names[0]), references, self._around)
        return Persistent(made, retries, self._around.clock) if retries.times else made
