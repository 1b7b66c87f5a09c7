"""Types of Secrets that a cluster fills or trusts: no manifest has the operator make one."""

import pytest

from strongroom.model.clock import SystemClock
from strongroom.model.errors import Invalid
from strongroom.sync.push_source import source_of, templated
from strongroom.sync.render import render_target
from strongroom.sync.spec import parse_spec
from strongroom.sync.template_spec import parse_template
from strongroom.sync.templates import GoTemplates

ACCOUNT = "kubernetes.io/service-account-token"
BOOTSTRAP = "bootstrap.kubernetes.io/token"
NAME = "kubernetes.io/service-account.name"
RENDER = GoTemplates(SystemClock())


@pytest.mark.parametrize(
    ("source", "inputs"),
    [
        ({"literal": f"{NAME}: {{{{ .who }}}}"}, {}),
        (
            {"configMap": {"name": "c", "items": [{"key": "k", "templateAs": "KeysAndValues"}]}},
            {("ConfigMap", "c"): {"k": f"{NAME}: admin".encode()}},
        ),
        ({"secret": {"name": "c", "items": [{"key": NAME}]}}, {("Secret", "c"): {NAME: b"admin"}}),
    ],
    ids=["literal", "config-map", "secret"],
)
def test_an_account_token_is_asked_for_by_no_kind_of_template(source: dict, inputs: dict) -> None:
    template = {"type": ACCOUNT, "templateFrom": [{"target": "Annotations", **source}]}
    spec = {"secretStoreRef": {"name": "s"}, "dataFrom": [{"extract": {"key": "k"}}]}
    item = {"metadata": {"name": "e", "namespace": "n"}, "spec": spec}
    spec["target"] = {"template": template}
    with pytest.raises(Invalid, match="account") as refused:
        render_target(item, parse_spec(item), {"who": b"admin"}, inputs, RENDER)
    assert refused.value.code == "bad-type"


@pytest.mark.parametrize("kind", [ACCOUNT, BOOTSTRAP])
def test_the_type_that_a_cluster_trusts_is_not_pushed(kind: str) -> None:
    metadata = {"name": "a", "namespace": "n", "annotations": {NAME: "admin"}}
    source = source_of({"metadata": metadata, "type": kind, "data": {"token": "dA=="}})
    assert (source.metadata.type, source.data) == ("", {"token": b"t"})
    assert source_of({"metadata": metadata, "type": "kubernetes.io/tls"}).metadata.type


def test_nor_does_the_template_of_a_push_give_it() -> None:
    """The annotation may come from the push's own metadata, so the type alone is refused."""
    source = source_of({"metadata": {"name": "a", "namespace": "n"}, "data": {}})
    with pytest.raises(Invalid) as refused:
        templated(parse_template({"type": ACCOUNT}), source, {}, RENDER)
    assert refused.value.code == "bad-type"
