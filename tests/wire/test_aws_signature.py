"""Signature Version 4 against botocore's signer, credentials, and errors by their family."""

import json

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.regions import EndpointResolver
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from strongroom.model.clock import SimulatedClock, rfc3339
from strongroom.model.errors import Denied, Invalid, NotFound, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.aws import (
    AwsCredentials,
    CredentialFile,
    InstanceCredentials,
    aws_refusal,
    regional_endpoint,
    signed_headers,
)
from strongroom.wire.aws import (
    AwsRequest as Ours,
)
from strongroom.wire.http import Response

PLAIN = st.text(st.sampled_from("abcxyz019"), min_size=1, max_size=12)
WORD = st.text(st.sampled_from("abcXYZ019-_."), min_size=1, max_size=12)


@given(
    body=st.binary(max_size=200),
    target=WORD,
    region=PLAIN,
    token=st.one_of(st.none(), WORD),
    path=PLAIN,
)
def test_headers_are_signed_as_the_official_client_signs_them(
    body, target, region, token, path
) -> None:
    url = f"https://kms.{region}.example/{path}"
    credentials = AwsCredentials("AKID", Secret("SECRET"), Secret(token) if token else None)
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
    ours = signed_headers(
        Ours("POST", url, headers, body), (region, "kms"), credentials, 1_700_000_000.0
    )
    request = AWSRequest("POST", url, headers=headers, data=body)
    signer = SigV4Auth(Credentials("AKID", "SECRET", token), "kms", region)
    request.context["timestamp"] = "20231114T221320Z"
    request.headers["X-Amz-Date"] = "20231114T221320Z"
    if token:
        request.headers["X-Amz-Security-Token"] = token
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert ours["authorization"].endswith(f"Signature={signature}")
    assert ours["x-amz-date"] == "20231114T221320Z"


@pytest.mark.parametrize(
    ("status", "code", "family"),
    [
        (400, "AccessDeniedException", Denied),
        (400, "com.amazonaws#NotFoundException", NotFound),
        (400, "ThrottlingException", Unavailable),
        (500, "InternalFailure", Unavailable),
        (400, "ValidationException", Invalid),
    ],
)
def test_errors_keep_their_code(status, code, family) -> None:
    refusal = aws_refusal(status, {"__type": f"x#{code}"}, "TrentService.Encrypt")
    assert isinstance(refusal, family)
    assert "Encrypt" in refusal.message


async def test_a_credentials_file(tmp_path) -> None:
    path = tmp_path / "c"
    path.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n[other]\n")
    found = await CredentialFile(path).credentials()
    assert (found.access_key, found.secret_key) == ("A", Secret("B"))
    for source, family in (
        (CredentialFile(path, "other"), Invalid),
        (CredentialFile(tmp_path / "no"), Unavailable),
    ):
        with pytest.raises(family):
            await source.credentials()


class Instance:
    """An instance's metadata service of version 2, for whoever has HTTP of it."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self.asked = 0
        self.broken = b""

    async def request(self, method: str, url: str, *, headers: dict, timeout: float) -> Response:
        path = url.removeprefix("http://instance/latest/")
        if (method, path) == ("PUT", "api/token"):
            assert headers == {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
            return Response(200, b"session")
        assert (method, timeout) == ("GET", 5)
        if headers != {"X-aws-ec2-metadata-token": "session"}:
            return Response(401)
        if path == "meta-data/iam/security-credentials/":
            return Response(200, b"node\n")
        assert path == "meta-data/iam/security-credentials/node"
        self.asked += 1
        said = {
            "AccessKeyId": f"AKID{self.asked}", "SecretAccessKey": "marked", "Token": "marked too",
            "Expiration": rfc3339(self.clock.now() + 3600),
        }  # fmt: skip
        return Response(200, self.broken or json.dumps(said).encode())


async def test_an_instance_has_the_credentials_of_its_role_and_new_ones_before_they_end() -> None:
    clock = SimulatedClock()
    instance = Instance(clock)
    source = InstanceCredentials(instance, clock, "http://instance")
    first = await source.credentials()
    assert (first.access_key, first.session_token.reveal()) == ("AKID1", b"marked too")
    await clock.advance(3290)
    assert await source.credentials() is first
    await clock.advance(20)
    assert (await source.credentials()).access_key == "AKID2"


@pytest.mark.parametrize(
    "said", [b'{"Code": "AssumeRoleUnauthorizedAccess"}', b"[]", b"<html>"], ids=str
)
async def test_an_instance_without_credentials_for_its_role_is_unavailable(said: bytes) -> None:
    instance = Instance(SimulatedClock())
    instance.broken = said
    with pytest.raises(Unavailable, match="no credentials for the instance's role"):
        await InstanceCredentials(instance, instance.clock, "http://instance").credentials()


@pytest.mark.parametrize(
    "region",
    ["eu-west-1", "us-gov-west-1", "cn-north-1", "us-iso-east-1", "us-isob-east-1",
     "us-isof-south-1", "eu-isoe-west-1", "eusc-de-east-1"],
)  # fmt: skip
def test_a_service_is_asked_in_the_domain_of_its_partition(region: str) -> None:
    session = Session()
    resolver = EndpointResolver(session.get_data("endpoints"))
    suffix = resolver.get_partition_dns_suffix(session.get_partition_for_region(region))
    assert regional_endpoint("kms", region) == f"https://kms.{region}.{suffix}"
