"""From a store's `spec.provider` to a provider.

What is wrong with a spec is an Invalid that names the field, which the store says as
`InvalidProviderConfig`.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from strongroom.kube.resource import Object
from strongroom.model.errors import Invalid
from strongroom.sync.providers.contract import Provider
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.providers.retries import Persistent, Retries

Build = Callable[[Fields, References, Surroundings], Awaitable[Provider]]
KINDS: Final = (
    *("vault", "openBao", "aws", "gcpsm", "azurekv"),
    *("kubernetes", "webhook", "fake"),
)


def build_of(kind: str) -> Build | None:
    """What builds a kind, loaded when it is met; None for one that is not served.

    All together take longer to load than the whole rest of an operator, which starts without them.
    """
    build: Build | None = None
    if kind in ("vault", "openBao"):
        from strongroom.sync.providers.vault import build
    elif kind == "aws":
        from strongroom.sync.providers.aws import build
    elif kind == "gcpsm":
        from strongroom.sync.providers.gcp import build
    elif kind == "azurekv":
        from strongroom.sync.providers.azure import build
    elif kind == "kubernetes":
        from strongroom.sync.providers.kubernetes import build
    elif kind == "webhook":
        from strongroom.sync.providers.webhook import build
    elif kind == "fake":
        from strongroom.sync.providers.fake import build
    return build


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
        build = build_of(names[0])
        if build is None:
            raise Invalid(
                "unsupported-provider",
                f"the provider {names[0]} is not served",
                hint=f"served are {', '.join(KINDS)}; leave this store to the other controller",
            )
        references = References(self._around, store, namespace)
        made = await build(provider.needed(names[0]), references, self._around)
        return Persistent(made, retries, self._around.clock)
