"""What a PushSecret pushes: a Secret's data and what it is besides, its template applied. Pure.

https://external-secrets.io/latest/guides/pushsecrets/, "Templating".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from strongroom.kube.resource import Object
from strongroom.model.errors import Invalid
from strongroom.sync.desired import secret_data
from strongroom.sync.providers.contract import SourceMetadata
from strongroom.sync.render import Inputs, copied, render_template
from strongroom.sync.rewrite import Render
from strongroom.sync.template_spec import TRUSTED_TYPES, Template

# The marks of an ExternalSecret at its own Secret: on another they would claim that one.
_OWNED: Final = "reconcile.external-secrets.io/"


@dataclass(frozen=True, slots=True)
class Source:
    """A Secret that is pushed, with its template applied; what was generated has no metadata."""

    data: Mapping[str, bytes] = field(repr=False)
    metadata: SourceMetadata = field(default_factory=SourceMetadata)


def made_for(namespace: str, data: Mapping[str, bytes]) -> Source:
    """What a generator made, as a source."""
    return Source(data, SourceMetadata(namespace))


def source_of(secret: Object) -> Source:
    """A Secret as a source; the marks of whoever tracks it stay behind."""
    held = secret["metadata"]
    labels, notes = (
        {key: each for key, each in copied(held.get(part)).items() if not key.startswith(_OWNED)}
        for part in ("labels", "annotations")
    )
    kind = str(secret.get("type") or "")
    if kind in TRUSTED_TYPES:
        # Where it is pushed to, the cluster would take it for its own: fill it, or let nodes in.
        kind = ""
    about = SourceMetadata(held["namespace"], kind, labels, notes)
    return Source(secret_data(secret), about)


def templated(template: Template | None, source: Source, inputs: Inputs, render: Render) -> Source:
    """A template laid over its source, whatever its mergePolicy, as the other controller does.

    The type is the template's alone. Raises Invalid that names the key whose template fails, or
    for a type that the cluster of a Kubernetes store would take for its own.
    """
    if template is None:
        return source
    if template.type in TRUSTED_TYPES:
        raise Invalid("bad-type", f"a Secret of type {template.type} is not pushed")
    made = render_template(template, source.data, inputs, render)
    held = source.metadata
    return Source(
        {**source.data, **made.data},
        SourceMetadata(
            held.namespace,
            made.type,
            {**held.labels, **made.labels},
            {**held.annotations, **made.annotations},
        ),
    )
