"""`target.template` as values, checked. Pure.

Fields: https://external-secrets.io/latest/guides/templating/.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.model.errors import Invalid

DECODING: Final = ("None", "Base64", "Base64URL", "Auto")
SCOPES: Final = ("Values", "KeysAndValues")
# Types whose Secrets the API server's own controllers trust (account tokens, node bootstrap).
_ACCOUNT_TOKEN: Final = "kubernetes.io/service-account-token"  # noqa: S105 - a type's name
_ACCOUNT_NAME: Final = "kubernetes.io/service-account.name"
_BOOTSTRAP_TOKEN: Final = "bootstrap.kubernetes.io/token"  # noqa: S105 - a type's name
TRUSTED_TYPES: Final = (_ACCOUNT_TOKEN, _BOOTSTRAP_TOKEN)


@dataclass(frozen=True, slots=True)
class TemplateItem:
    """One key of a ConfigMap or Secret; `scope` Values or KeysAndValues."""

    key: str
    scope: str = "Values"


@dataclass(frozen=True, slots=True)
class TemplateFrom:
    """Templates kept elsewhere: `kind` ConfigMap, Secret or Literal.

    `target` is Data, Labels or Annotations, or for a manifest a dotted path.
    """

    kind: str
    name: str = ""
    items: tuple[TemplateItem, ...] = ()
    literal: str = ""
    target: str = "Data"
    decoding: str = "None"


@dataclass(frozen=True, slots=True)
class Template:
    """How the target looks. Texts of `data`, labels and annotations are templates."""

    type: str = ""
    merge: bool = False
    data: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    finalizers: tuple[str, ...] = ()
    sources: tuple[TemplateFrom, ...] = ()


def parse_template(entry: Mapping[str, Any] | None, *, manifest: bool = False) -> Template | None:
    """Read and check; raises Invalid."""
    if entry is None:
        return None
    engine = entry.get("engineVersion") or "v2"
    if engine != "v2":
        raise Invalid("bad-engine", f"engineVersion {engine!r} is not served; v2 is")
    merge = entry.get("mergePolicy") or "Replace"
    if merge not in ("Replace", "Merge"):
        raise Invalid("bad-value", f"mergePolicy {merge!r} is none of Replace, Merge")
    metadata = entry.get("metadata") or {}
    template = Template(
        type=str(entry.get("type") or ""),
        merge=merge == "Merge",
        data=_pairs(entry.get("data")),
        labels=_pairs(metadata.get("labels")),
        annotations=_pairs(metadata.get("annotations")),
        finalizers=tuple(metadata.get("finalizers") or ()),
        sources=tuple(
            source
            for each in entry.get("templateFrom") or []
            for source in _sources(each, manifest=manifest)
        ),
    )
    check_type(template.type, dict(template.annotations))
    return template


def check_type(kind: str, annotations: Collection[str]) -> None:
    """Refuse a Secret's type that has the cluster fill it, or trust it; raises Invalid."""
    if kind == _BOOTSTRAP_TOKEN:
        raise Invalid("bad-type", "Secrets of type bootstrap token are not made from templates")
    if kind == _ACCOUNT_TOKEN and _ACCOUNT_NAME in annotations:
        raise Invalid(
            "bad-type", "a template must not ask the cluster for a service account's token"
        )


def _pairs(values: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, str(each)) for key, each in (values or {}).items()))


def _sources(entry: Mapping[str, Any], *, manifest: bool) -> Iterator[TemplateFrom]:
    """What one entry names, in the order in which later keys win."""
    target = str(entry.get("target") or "Data")
    if target.lower() in ("data", "labels", "annotations"):
        target = target.capitalize()
    elif not manifest:
        raise Invalid(
            "bad-template-target", f"templateFrom.target {target!r} is none of Data, Labels,"
            " Annotations",
        )  # fmt: skip
    decoding = str(entry.get("valuesDecodingStrategy") or "None")
    if decoding not in DECODING:
        raise Invalid(
            "bad-value", f"valuesDecodingStrategy {decoding!r} is none of {', '.join(DECODING)}"
        )
    for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
        holder = entry.get(field)
        if holder:
            if not holder.get("name"):
                raise Invalid("bad-template-source", f"templateFrom.{field} needs a name")
            items = tuple(_item(each) for each in holder.get("items") or [])
            yield TemplateFrom(kind, str(holder["name"]), items, "", target, decoding)
    if entry.get("literal") is not None:
        yield TemplateFrom("Literal", "", (), str(entry["literal"]), target, decoding)
    elif not entry.get("configMap") and not entry.get("secret"):
        raise Invalid("bad-template-source", "templateFrom needs configMap, secret or literal")


def _item(entry: Mapping[str, Any]) -> TemplateItem:
    scope = entry.get("templateAs") or "Values"
    if scope not in SCOPES or not entry.get("key"):
        raise Invalid("bad-template-source", "an item needs a key, and templateAs of Values or"
                      " KeysAndValues")  # fmt: skip
    return TemplateItem(str(entry["key"]), scope)
