"""The vendors' own clients accept the fakes: what our providers are tested on speaks as they do."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from strongroom.crypto.x509_dev import issue
from strongroom.model.clock import SystemClock
from strongroom.sync.providers.azure_fake import AzureFake
from strongroom.sync.providers.gcp_fake import GcpFake

pytestmark = pytest.mark.component


async def run(program: str, environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", program, env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-3000:]


GOOGLE = """
import sys
from google.api_core.exceptions import Conflict, NotFound
from google.auth.credentials import Credentials
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceRestTransport,
)

host, token = sys.argv[1:]

class Fixed(Credentials):
    expired, valid = False, True
    def refresh(self, request): pass
    def before_request(self, request, method, url, headers):
        headers["authorization"] = "Bearer " + token

client = SecretManagerServiceClient(
    transport=SecretManagerServiceRestTransport(host=host, credentials=Fixed())
)
parent, name = "projects/p", "projects/p/secrets/db"
new = {"replication": {"automatic": {}}, "labels": {"team": "blue"}}
for at in range(3):
    client.create_secret(parent=parent, secret_id=f"s{at}", secret=new)
made = client.create_secret(parent=parent, secret_id="db", secret=new)
assert made.name == "projects/123456/secrets/db", made.name
for value in (b"one", bytes([0, 255])):
    version = client.add_secret_version(parent=name, payload={"data": value})
assert version.name.endswith("/versions/2")
found = client.access_secret_version(name=name + "/versions/latest")
assert found.payload.data == bytes([0, 255])
assert client.access_secret_version(name=name + "/versions/1").payload.data == b"one"
assert len(list(client.list_secrets(parent=parent))) == 4
query = {"parent": parent, "filter": "labels.team=blue AND name:db"}
assert [each.name for each in client.list_secrets(request=query)] == [made.name]
states = {"parent": name, "filter": "state:ENABLED"}
assert len(list(client.list_secret_versions(request=states))) == 2
changed = client.update_secret(
    secret={"name": name, "labels": {"team": "red"}}, update_mask={"paths": ["labels"]}
)
assert dict(changed.labels) == {"team": "red"}
for work, error in (
    (lambda: client.get_secret(name=parent + "/secrets/absent"), NotFound),
    (lambda: client.access_secret_version(name=name + "/versions/9"), NotFound),
    (lambda: client.create_secret(parent=parent, secret_id="db", secret=new), Conflict),
):
    try:
        work()
    except error:
        continue
    raise SystemExit(f"no {error}")
client.delete_secret(name=name)
"""


async def test_googles_client_on_the_fake_of_secret_manager(tls, tmp_path: Path) -> None:
    fake = GcpFake()
    async with tls(fake, tmp_path) as (address, authority):
        host, token = address.removeprefix("https://"), fake.token("sdk")
        program = f"import sys; sys.argv = ['', {host!r}, {token!r}]\n" + GOOGLE
        await run(program, {"REQUESTS_CA_BUNDLE": str(authority)})
    assert set(fake.secrets) == {f"projects/p/secrets/s{at}" for at in range(3)}


AZURE = """
import sys, time
from azure.core.credentials import AccessToken
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.keyvault.certificates import CertificateClient, CertificatePolicy
from azure.keyvault.keys import JsonWebKey, KeyClient
from azure.keyvault.secrets import SecretClient

address, token, authority, pem = sys.argv[1:]

class Fixed:
    def get_token(self, *scopes, **more):
        return AccessToken(token, int(time.time()) + 3600)

more = dict(connection_verify=authority, verify_challenge_resource=False)
secrets = SecretClient(address, Fixed(), **more)
first = secrets.set_secret("db", "one", tags={"team": "blue"}, content_type="text/plain")
second = secrets.set_secret("db", "two")
assert secrets.get_secret("db").value == "two"
assert secrets.get_secret("db", first.properties.version).value == "one"
assert first.properties.tags == {"team": "blue"}, first.properties.tags
for at in range(3):
    secrets.set_secret(f"s{at}", "x")
assert len(list(secrets.list_properties_of_secrets())) == 4
try:
    secrets.get_secret("absent")
except ResourceNotFoundError:
    pass
else:
    raise SystemExit("found what is not there")
secrets.begin_delete_secret("s0").wait()
try:
    secrets.set_secret("s0", "y")
except ResourceExistsError:
    pass
else:
    raise SystemExit("wrote a deleted secret")
secrets.begin_recover_deleted_secret("s0").wait()
assert secrets.get_secret("s0").value == "x"

keys = KeyClient(address, Fixed(), **more)
number = bytes([1, 2, 3])
key = JsonWebKey(kty="RSA", key_ops=["sign"], n=number, e=bytes([1, 0, 1]), d=number, p=number,
                 q=number, dp=number, dq=number, qi=number)
keys.import_key("sign", key, tags={"a": "b"})
found = keys.get_key("sign")
assert found.key.n == number and found.key.d is None, found.key

certificates = CertificateClient(address, Fixed(), **more)
content = open(pem, "rb").read()
policy = CertificatePolicy(issuer_name="Self", subject="CN=x", content_type="application/x-pem-file")
certificates.import_certificate("web", content, policy=policy)
got = certificates.get_certificate("web")
assert got.cer and bytes(got.cer)[:1] == b"0", got.cer
"""


async def test_azures_clients_on_the_fake_of_key_vault(tls, tmp_path: Path) -> None:
    fake = AzureFake()
    made = issue(("localhost",), SystemClock().now())
    (tmp_path / "web.pem").write_bytes(made.certificate + made.key)
    async with tls(fake, tmp_path) as (fake.address, authority):
        words = ["", fake.address, fake.token("sdk"), str(authority), str(tmp_path / "web.pem")]
        await run(f"import sys; sys.argv = {words!r}\n" + AZURE, {})
    assert ("certificates", "web") in fake.objects
