"""What is not served is refused by its name, before anything is asked."""

import pytest

from strongroom.kube.fake import FakeKubeApi
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Invalid
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings


@pytest.mark.parametrize(
    ("provider", "code", "said"),
    [
        ({"yandexcertificatemanager": {}}, "unsupported-provider", "yandexcertificatemanager"),
        ({"onepassword": {}}, "unsupported-provider", "onepassword is not served"),
        ({"crd": {}}, "unsupported-provider", "crd is not served"),
        ({"aws": {}, "vault": {}}, "bad-field", "must have one provider, not 2"),
        (
            {"aws": {"service": "CertificateManager", "region": "eu-west-1"}},
            "unsupported-service",
            "spec.provider.aws.service: CertificateManager is not served",
        ),
        (
            {"aws": {"service": "S3", "region": "eu-west-1"}},
            "bad-field",
            "service must be one of SecretsManager, ParameterStore",
        ),
        (
            {"webhook": {"url": "http://x", "auth": {"kerberos": {}}}},
            "bad-field",
            "spec.provider.webhook.auth.kerberos is not served",
        ),
    ],
)
async def test_what_is_not_served_is_named(
    api: FakeKubeApi, clock: SimulatedClock, provider: dict, code: str, said: str
) -> None:
    store = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"provider": provider}}
    with pytest.raises(Invalid, match=said) as caught:
        await Providers(Surroundings(api, clock))(store, "n")
    assert caught.value.code == code
