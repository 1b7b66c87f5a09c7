"""Signature Version 4 against botocore's signer, and errors by their family."""

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from strongroom.model.errors import Denied, Invalid, NotFound, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.aws import (
    AwsCredentials,
    CredentialFile,
    aws_refusal,
    signed_headers,
)
from strongroom.wire.aws import (
    AwsRequest as Ours,
)

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
