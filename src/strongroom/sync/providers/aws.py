"""AWS: one identity, and the service that the store names.

Endpoints can be moved by the variables that the other controller knows:
`AWS_SECRETSMANAGER_ENDPOINT`, `AWS_SSM_ENDPOINT` and `AWS_STS_ENDPOINT`.
"""

import uuid
from dataclasses import replace
from functools import partial

from strongroom.model.errors import Invalid
from strongroom.sync.providers.aws_parameter_store import ParameterStore
from strongroom.sync.providers.aws_secrets_manager import (
    SecretsManager,
    SecretsManagerInputs,
    SecretsManagerSettings,
)
from strongroom.sync.providers.aws_session import identity_of, unused
from strongroom.sync.providers.contract import Provider
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References, Surroundings
from strongroom.wire.aws import AwsJson, regional_endpoint
from strongroom.wire.client import HttpClient


async def build(spec: Fields, references: References, around: Surroundings) -> Provider:
    """The provider of `spec.provider.aws`; raises Invalid."""
    if spec.text("service") == "CertificateManager":
        raise Invalid(
            "unsupported-service",
            f"{spec.where}.service: CertificateManager is not served, for it only takes "
            "certificates in and gives none back",
            hint="leave this store to the other controller",
        )
    service = spec.choice("service", ("SecretsManager", "ParameterStore"), "")
    region = spec.required("region")
    http = HttpClient()
    identity = identity_of(spec, references, around, http)

    def api(name: str, variable: str) -> AwsJson:
        endpoint = around.environment.get(variable) or regional_endpoint(name, region)
        return AwsJson(endpoint, (region, name), identity, http, around.clock)

    if service == "ParameterStore":
        prefix = spec.text("prefix")
        store = ParameterStore(prefix, api("ssm", "AWS_SSM_ENDPOINT"), identity, http)
        store.traits = replace(store.traits, notes=unused(spec))
        return store
    settings = SecretsManagerSettings.from_spec(spec)
    manager = api("secretsmanager", "AWS_SECRETSMANAGER_ENDPOINT")
    inputs = SecretsManagerInputs(lambda: str(uuid.uuid4()), partial(_text, around))
    made = SecretsManager(settings, manager, identity, http, inputs)
    made.traits = replace(made.traits, notes=unused(spec))
    return made


async def _text(around: Surroundings, selector: Fields, namespace: str) -> str:
    """What a PushSecret of the namespace names: a key of one of its ConfigMaps or Secrets."""
    own = References(around, {"metadata": {"namespace": namespace}}, namespace)
    if selector.choice("kind", ("ConfigMap", "Secret"), "") == "ConfigMap":
        return await own.config_map(selector)
    return await own.text(selector)
