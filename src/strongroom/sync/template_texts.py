"""The ConfigMaps and Secrets that templates are kept in, as they are now."""

from strongroom.kube.api import KubeApi
from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.model.errors import NotFound
from strongroom.sync.desired import secret_data
from strongroom.sync.render import Inputs, template_inputs
from strongroom.sync.template_spec import Template


async def template_texts(
    api: KubeApi, namespace: str, template: Template | None
) -> tuple[Inputs, tuple[str, ...]]:
    """Their contents by kind and name, and their versions; what is not there is left out."""
    found: dict[tuple[str, str], dict[str, bytes]] = {}
    versions: list[str] = []
    for kind, name in sorted(template_inputs(template)):
        try:
            held = await api.get(SECRETS if kind == "Secret" else CONFIG_MAPS, name, namespace)
        except NotFound:
            continue
        versions.append(f"{kind}/{name}@{held['metadata']['resourceVersion']}")
        if kind == "Secret":
            found[kind, name] = secret_data(held)
        else:
            data = held.get("data") or {}
            found[kind, name] = {key: str(each).encode() for key, each in data.items()}
    return found, tuple(versions)
