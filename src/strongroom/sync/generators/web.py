"""The Webhook generator: one request, whose answer is a JSON object of values.

Fields: https://external-secrets.io/latest/api/generator/webhook/.
"""

from typing import Final

from strongroom.sync.generators.contract import Made, Sources
from strongroom.sync.providers import webhook
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.objects import object_in
from strongroom.sync.providers.references import References
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import as_bytes, whole

# Secrets without this label are not put into requests.
LABEL: Final = ("generators.external-secrets.io/type", "webhook")


async def answer(spec: Fields, references: References, sources: Sources) -> Made:
    """The object in the answer; raises Invalid(`not-an-object`) for anything else."""
    provider = await webhook.build(spec, references, sources.around, label=LABEL)
    try:
        found = await provider.fetch(RemoteRef(""))
    finally:
        await provider.close()
    said = object_in(whole(found.data), "the answer of the webhook")
    return Made({name: as_bytes(value) for name, value in said.items()})
