"""The path of an object: a name is one segment of it and leads nowhere else."""

import pytest

from strongroom.kube.resource import CLUSTER_ROLES, SECRETS, SERVICE_ACCOUNTS
from strongroom.model.errors import Invalid


@pytest.mark.parametrize(
    "name", ["../../kube-system/secrets/x", "..", ".", "a/b", "%2e%2e", "..%2fx", "/", "a/"]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    for namespace, object_name in (("n", name), (name, "x"), (name, "")):
        with pytest.raises(Invalid, match="bad-name"):
            SECRETS.path(namespace, object_name)


def test_what_would_end_a_path_is_part_of_the_name() -> None:
    assert SECRETS.path("n", "?limit=1#x") == "/api/v1/namespaces/n/secrets/%3Flimit%3D1%23x"
    assert CLUSTER_ROLES.path("", "system:node").endswith("/clusterroles/system:node")
    assert SERVICE_ACCOUNTS.path("n", "a.b-c", "token").endswith("/serviceaccounts/a.b-c/token")
