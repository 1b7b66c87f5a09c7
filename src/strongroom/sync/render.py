"""`target.template` applied: from collected values to what the target holds. Pure.

Precedence: template.data, templateFrom in order, the provider's values (mergePolicy Merge, or a
template without data). https://external-secrets.io/latest/guides/templating/.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from strongroom.kube.resource import Object
from strongroom.model.errors import Invalid, NotFound, Refusal
from strongroom.sync.rewrite import Render
from strongroom.sync.spec import Spec
from strongroom.sync.template_spec import Template, TemplateFrom, check_type
from strongroom.sync.values import as_bytes, decode_named

if TYPE_CHECKING:
    from strongroom.template.budget import Budget

# The keys of the ConfigMaps and Secrets that templates are kept in, by kind and name.
Inputs = Mapping[tuple[str, str], Mapping[str, bytes]]
# Of the object itself or of whoever tracks it; a copy would claim the Secret for them.
NOT_COPIED: Final = ("kubectl.kubernetes.io/", "strongroom.dev/", "argocd.argoproj.io/")


@dataclass(slots=True)
class Rendered:
    """What the target shall hold. `paths` are dotted paths of a manifest target."""

    data: dict[str, bytes] = field(default_factory=dict, repr=False)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    type: str = ""
    finalizers: tuple[str, ...] = ()
    paths: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class _Work:
    """What a template is rendered with. The maps that it renders to have a budget together."""

    values: Mapping[str, bytes] = field(repr=False)
    inputs: Inputs = field(repr=False)
    render: Render
    for_maps: "Budget | None" = None


def render_target(
    item: Object, spec: Spec, values: Mapping[str, bytes], inputs: Inputs, render: Render
) -> Rendered:
    """Everything the target shall hold; raises Invalid that names the key whose template fails."""
    template = spec.template
    if template is None:
        metadata = item["metadata"]
        return Rendered(
            data=dict(values),
            labels=copied(metadata.get("labels")),
            annotations=copied(metadata.get("annotations")),
        )
    return render_template(template, values, inputs, render)


def render_template(
    template: Template, values: Mapping[str, bytes], inputs: Inputs, render: Render
) -> Rendered:
    """A template over values; raises Invalid that names the key whose template fails."""
    made = Rendered(type=template.type, finalizers=template.finalizers)
    if template.merge or not (template.data or template.sources):
        made.data.update(values)
    work = _Work(values, inputs, render)
    for source in template.sources:
        _place(made, source, _from_source(source, work))
    for key, text in template.data:
        made.data[key] = _rendered(f"template.data[{key}]", text, values, render)
    for held, pairs, where in (
        (made.labels, template.labels, "labels"),
        (made.annotations, template.annotations, "annotations"),
    ):
        for key, text in pairs:
            place = f"template.metadata.{where}[{key}]"
            held[key] = _text(place, _rendered(place, text, values, render))
    # Annotations may come out of templateFrom as well.
    check_type(made.type, made.annotations)
    return made


def copied(values: Mapping[str, str] | None) -> dict[str, str]:
    """Labels or annotations that go from an object to what it makes."""
    return {key: each for key, each in (values or {}).items() if not key.startswith(NOT_COPIED)}


def template_inputs(template: Template | None) -> frozenset[tuple[str, str]]:
    """The ConfigMaps and Secrets a template is kept in, by kind and name."""
    sources = template.sources if template else ()
    return frozenset((each.kind, each.name) for each in sources if each.kind != "Literal")


def _from_source(source: TemplateFrom, work: _Work) -> dict[str, Any]:
    if source.kind == "Literal":
        return _keys_and_values("literal", source, source.literal, work)
    held = work.inputs.get((source.kind, source.name))
    if held is None:
        raise NotFound(
            "no-template", f"the {source.kind} {source.name} of templateFrom is not there"
        )
    found: dict[str, Any] = {}
    for item in source.items:
        where = f"{source.kind} {source.name}[{item.key}]"
        if item.key not in held:
            raise NotFound("no-template", f"the {source.kind} {source.name} has no key {item.key}")
        text = _text(where, held[item.key])
        if item.scope == "KeysAndValues":
            found |= _keys_and_values(where, source, text, work)
        else:
            found[item.key] = _rendered(where, text, work.values, work.render)
    return found


def _keys_and_values(where: str, source: TemplateFrom, text: str, work: _Work) -> dict[str, Any]:
    # Few templates render to YAML, and its library takes a while to load.
    from strongroom.sync.yaml_maps import NoMap, objects_of, texts_of
    from strongroom.template.budget import Budget
    from strongroom.template.errors import BudgetSpent

    made = _text(where, _rendered(where, text, work.values, work.render))
    typed = source.target not in ("Data", "Labels", "Annotations")
    work.for_maps = work.for_maps or Budget()
    try:
        if typed:
            return objects_of(made, work.for_maps)
        found = texts_of(made, work.for_maps)
    except NoMap:
        raise Invalid("bad-template", f"{where} does not render to a YAML map") from None
    except BudgetSpent as refusal:
        said = f"{where} renders to a YAML map that is too large: {refusal.message}"
        raise Invalid("bad-template", said) from None
    return {
        key: decode_named(value, source.decoding, f"{where}, key {key}")
        for key, value in found.items()
    }


def _place(made: Rendered, source: TemplateFrom, found: Mapping[str, Any]) -> None:
    if source.target == "Data":
        made.data.update({key: as_bytes(value) for key, value in found.items()})
    elif source.target in ("Labels", "Annotations"):
        held = made.labels if source.target == "Labels" else made.annotations
        held.update({key: _text(f"{source.target} {key}", each) for key, each in found.items()})
    else:
        for key, value in found.items():
            place = f"{source.target}.{key}" if source.target else key
            made.paths[place] = _plain(place, value)


def _plain(where: str, value: Any) -> Any:  # noqa: ANN401 - YAML
    return _text(where, value) if isinstance(value, bytes) else value


def _rendered(where: str, text: str, values: Mapping[str, bytes], render: Render) -> bytes:
    try:
        return render(text, values)
    except Refusal as refusal:
        raise Invalid("bad-template", f"{where}: {refusal.message}", hint=refusal.hint) from None


def _text(where: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Invalid("bad-template", f"{where} renders to bytes that are no text") from None
