"""What external-secrets adds to sprig: PEM, chains, PKCS #12, JWK, RSA; and what certificates hold."""

import base64
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)

from strongroom.model.clock import SimulatedClock
from strongroom.template import engine
from strongroom.template.errors import TemplateRefused
from strongroom.template.reference import with_table

DOCS = Path(__file__).resolve().parents[2] / "docs/templates.md"


def render(text: str, **values: bytes) -> bytes:
    return engine.compile(text, "t").render(values, clock=SimulatedClock(1_700_000_000))


@pytest.fixture(scope="module")
def chain() -> dict[str, bytes]:
    """A root, an intermediate and a leaf with its key."""
    root = trustme.CA(key_type=trustme.KeyType.ECDSA)
    middle = root.create_child_ca(key_type=trustme.KeyType.ECDSA)
    leaf = middle.issue_cert(
        "a.example", "10.0.0.1", "me@b.example", key_type=trustme.KeyType.ECDSA
    )
    blobs = [each.bytes() for each in leaf.cert_chain_pems]
    return {
        "root": root.cert_pem.bytes(),
        "middle": middle.cert_pem.bytes(),
        "leaf": blobs[0],
        "key": leaf.private_key_pem.bytes(),
    }


def test_pem_blocks_are_filtered_by_kind(chain: dict[str, bytes]) -> None:
    """Text around them, and other blocks, are left out."""
    mixed = b"junk\n" + chain["key"] + b"# note\n" + chain["leaf"] + b"junk" + chain["root"]
    certificates = render('{{ .v | filterPEM "CERTIFICATE" }}', v=mixed)
    assert certificates == chain["leaf"]
    assert b"PRIVATE KEY" in render('{{ filterPEM "EC PRIVATE KEY" .v }}', v=mixed)
    assert render('{{ filterPEM "CERTIFICATE" .v }}', v=b"") == b""
    with pytest.raises(TemplateRefused, match="junk"):
        render('{{ filterPEM "CERTIFICATE" .v }}', v=b"no pem here")


def test_a_chain_in_any_order_is_told_apart(chain: dict[str, bytes]) -> None:
    """Leaf, intermediates and root, by their key identifiers."""
    shuffled = chain["middle"] + chain["root"] + chain["leaf"]
    for part, name in (("leaf", "leaf"), ("intermediate", "middle"), ("root", "root")):
        assert render(f'{{{{ filterCertChain "{part}" .v }}}}', v=shuffled) == chain[name]
    assert render('{{ filterCertChain "root" .v }}', v=chain["leaf"] + chain["middle"]) == b""
    with pytest.raises(TemplateRefused, match="disjunct"):
        render('{{ filterCertChain "leaf" .v }}', v=chain["leaf"] + chain["root"])
    with pytest.raises(TemplateRefused, match="no leaf"):
        render('{{ filterCertChain "leaf" .v }}', v=b"")


def test_the_names_of_a_certificate(chain: dict[str, bytes]) -> None:
    """DNS names, addresses, then mail."""
    found = render('{{ certSANs .v | join "," }}', v=b"text " + chain["leaf"])
    assert found == b"a.example,10.0.0.1,me@b.example"
    with pytest.raises(TemplateRefused):
        render("{{ certSANs .v }}", v=b"-----BEGIN X-----")


@pytest.mark.parametrize("password", [b"", b"pass word"])
def test_a_keystore_is_made_and_taken_apart(chain: dict[str, bytes], password: bytes) -> None:
    """With and without a password; another one does not open it."""
    bundle = chain["leaf"] + chain["middle"] + chain["root"]
    values = {"c": bundle, "k": chain["key"], "p": password}
    made = base64.b64decode(render("{{ fullPemToPkcs12Pass .c .k .p }}", **values))
    assert render("{{ pkcs12certPass .p .v }}", p=password, v=made) == bundle
    key = load_pem_private_key(render("{{ pkcs12keyPass .p .v }}", p=password, v=made), None)
    expected = load_pem_private_key(chain["key"], None)
    assert key.private_numbers() == expected.private_numbers()
    alone = base64.b64decode(render("{{ pemToPkcs12Pass .c .k .p }}", **values))
    assert render("{{ pkcs12certPass .p .v }}", p=password, v=alone) == chain["leaf"]
    if password:
        with pytest.raises(TemplateRefused, match="cannot be opened"):
            render('{{ pkcs12keyPass "other" .v }}', v=made)
    else:
        assert render("{{ pkcs12cert .v }}", v=made) == bundle
        assert base64.b64decode(render("{{ pemToPkcs12 .c .k }}", **values)) != b""


def test_a_keystore_of_others_is_opened(chain: dict[str, bytes]) -> None:
    """One that another program encrypted, the old way too."""
    key = load_pem_private_key(chain["key"], None)
    certificate = x509.load_pem_x509_certificate(chain["leaf"])
    old = (
        PrivateFormat.PKCS12.encryption_builder()
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(b"x")
    )
    for encryption in (BestAvailableEncryption(b"x"), old):
        made = pkcs12.serialize_key_and_certificates(b"n", key, certificate, None, encryption)
        assert render('{{ pkcs12certPass "x" .v }}', v=made) == chain["leaf"]


def test_a_trust_store_is_read_by_openssl(chain: dict[str, bytes], tmp_path: Path) -> None:
    """Which shows its certificates and no key."""
    made = render(
        '{{ pemTruststoreToPKCS12Pass .v "changeit" }}', v=chain["middle"] + chain["root"]
    )
    store = tmp_path / "trust.p12"
    store.write_bytes(base64.b64decode(made))
    command = ["openssl", "pkcs12", "-in", store, "-passin", "pass:changeit", "-nokeys"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("BEGIN CERTIFICATE") == 2
    with pytest.raises(TemplateRefused):
        render("{{ pemTruststoreToPKCS12 .v }}", v=b"")


def _jwk(**fields: str | int | bytes) -> bytes:
    def text(value: str | int | bytes) -> str:
        if isinstance(value, int):
            value = value.to_bytes((value.bit_length() + 7) // 8, "big")
        if isinstance(value, bytes):
            return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
        return value

    return json.dumps({name: text(value) for name, value in fields.items()}).encode()


def test_json_web_keys_become_pem() -> None:
    """RSA with and without its primes, EC, Ed25519; a private key is not shown as a public one."""
    key = rsa.generate_private_key(65537, 2048)
    numbers, public = key.private_numbers(), key.public_key().public_numbers()
    bare = {"kty": "RSA", "n": public.n, "e": public.e}
    curve = ec.generate_private_key(ec.SECP384R1())
    point = curve.public_key().public_numbers()
    on_curve = {"kty": "EC", "crv": "P-384", "x": point.x.to_bytes(48), "y": point.y.to_bytes(48)}
    edwards = ed25519.Ed25519PrivateKey.generate()
    x = edwards.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    d = edwards.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    octet = {"kty": "OKP", "crv": "Ed25519", "x": x}
    private = [
        (key, _jwk(**bare, d=numbers.d)),
        (key, _jwk(**bare, d=numbers.d, p=numbers.p, q=numbers.q)),
        (curve, _jwk(**on_curve, d=curve.private_numbers().private_value)),
        (edwards, _jwk(**octet, d=d)),
    ]
    for expected, text in private:
        pem = expected.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert render("{{ jwkPrivateKeyPem .v }}", v=text) == pem
        with pytest.raises(TemplateRefused):
            render("{{ jwkPublicKeyPem .v }}", v=text)
    for expected, text in ((key, bare), (curve, on_curve), (edwards, octet)):
        shown = expected.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert render("{{ jwkPublicKeyPem .v }}", v=_jwk(**text)) == shown
    for bad in (b"{", b"[]", b'{"kty":"oct","k":"AA"}', b'{"kty":"RSA","n":"!","e":"AQAB"}'):
        with pytest.raises(TemplateRefused):
            render("{{ jwkPublicKeyPem .v }}", v=bad)


@pytest.mark.parametrize(
    ("name", "digest"),
    [("SHA1", hashes.SHA1()), ("SHA512", hashes.SHA512()), ("", hashes.SHA256())],
)
def test_rsa_decrypts(name: str, digest: hashes.HashAlgorithm) -> None:
    """RSA-OAEP with each hash; without a scheme the value is passed on."""
    key = rsa.generate_private_key(65537, 2048)
    sealed = key.public_key().encrypt(
        b"\xffhello", padding.OAEP(padding.MGF1(digest), digest, None)
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    template = f'{{{{ rsaDecrypt "RSA-OAEP" "{name}" .v .k }}}}'
    assert render(template, v=sealed, k=pem) == b"\xffhello"
    assert render('{{ rsaDecrypt "None" "" .v .k }}', v=sealed, k=pem) == sealed
    for bad in ('{{ rsaDecrypt "RSA" "" .v .k }}', '{{ rsaDecrypt "RSA-OAEP" "" "x" .k }}'):
        with pytest.raises(TemplateRefused):
            render(bad, v=sealed, k=pem)


def test_generated_certificates_are_what_was_asked_for() -> None:
    """An authority and a certificate it signed, valid from the time given."""
    text = (
        '{{ $ca := genCA "my ca" 365 }}{{ $key := genPrivateKey "ecdsa" }}'
        '{{ $c := genSignedCertWithKey "leaf" (list "10.0.0.7") (list "a.b" "*.c") 30 $ca $key }}'
        "{{ $ca.Cert }}{{ $c.Cert }}{{ $c.Key }}"
    )
    blocks = render(text).split(b"-----BEGIN ")
    authority = x509.load_pem_x509_certificate(b"-----BEGIN " + blocks[1])
    leaf = x509.load_pem_x509_certificate(b"-----BEGIN " + blocks[2])
    leaf.verify_directly_issued_by(authority)
    key = load_pem_private_key(b"-----BEGIN " + blocks[3], None)
    assert key.public_key() == leaf.public_key()
    start = datetime.fromtimestamp(1_700_000_000, UTC)
    assert leaf.not_valid_before_utc == start
    assert (leaf.not_valid_after_utc - start).days == 30
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.b", "*.c"]
    constraints = [
        each.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        for each in (authority, leaf)
    ]
    assert constraints == [True, False]
    assert leaf.issuer.rfc4514_string() == "CN=my ca"


def test_a_certificate_of_ones_own_signs() -> None:
    """buildCustomCert takes PEM in base64."""
    text = (
        '{{ $a := genCAWithKey "own" 9 (genPrivateKey "ed25519") }}'
        "{{ $b := buildCustomCert (b64enc $a.Cert) (b64enc $a.Key) }}"
        '{{ $c := genSignedCertWithKey "x" nil nil 1 $b (genPrivateKey "ecdsa") }}'
        "{{ $a.Cert }}{{ $c.Cert }}"
    )
    authority, leaf = x509.load_pem_x509_certificates(render(text))
    leaf.verify_directly_issued_by(authority)


def test_hexadecimal_is_decoded() -> None:
    """And what is none says so, in Go's words."""
    assert render('{{ hexdec "00ffAb" | printf "%x" }}') == b"00ffab"
    assert render('{{ hexdec "abc" }}') == b"encoding/hex: odd length hex string"
    assert render('{{ hexdec "zz" }}') == b"encoding/hex: invalid byte: U+007A 'z'"


def test_the_page_lists_the_functions_there_are() -> None:
    """docs/templates.md is what `python -m strongroom.template.reference` writes."""
    page = DOCS.read_text()
    assert with_table(page) == page
