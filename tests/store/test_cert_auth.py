"""TLS certificates: which are trusted, which are constrained away, and renewals by the same key."""

import asyncio
import base64
import datetime
import time

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strongroom.crypto.client_certificates import RevocationList, read_certificate, trusted_chain
from strongroom.model.errors import Invalid
from strongroom.store.auth.cert_match import Verdict, judge

_LISTS = (
    "allowed_names", "allowed_common_names", "allowed_dns_sans", "allowed_email_sans",
    "allowed_uri_sans", "allowed_organizational_units",
)  # fmt: skip
CUSTOM = x509.ObjectIdentifier("1.2.3.4")


class Maker:
    """An authority, or somebody alone; certificates with whatever a test needs."""

    def __init__(
        self,
        now: float,
        name: str = "authority",
        *,
        signs: bool | None = True,
        ca: bool = True,
        above: "Maker | None" = None,
    ) -> None:
        """`signs` is what the key usage says of signing, None for no key usage at all.

        `above` is the authority that signs this one, None for itself.
        """
        self.now = datetime.datetime.fromtimestamp(now, datetime.UTC)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        above = above or self
        builder = above._builder(self.name, self.key).add_extension(
            x509.BasicConstraints(ca, None), critical=signs is not None
        )
        if signs is not None:
            usage = x509.KeyUsage(True, False, False, False, False, signs, signs, False, False)
            builder = builder.add_extension(usage, critical=True)
        self.certificate = builder.sign(above.key, hashes.SHA256())

    def _builder(self, subject, key, days: float = 30):
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - datetime.timedelta(days=1))
            .not_valid_after(self.now + datetime.timedelta(days=days))
            .add_extension(identifier, critical=False)
            .add_extension(issuer, critical=False)
        )

    def client(
        self,
        name: str = "app",
        *,
        days: float = 30,
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        key=None,
        responders=(),
    ):
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, name),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "red"),
            ]
        )
        names = [
            x509.DNSName(f"{name}.example"),
            x509.RFC822Name(f"{name}@example"),
            x509.UniformResourceIdentifier(f"spiffe://x/{name}"),
        ]
        access = [
            x509.AccessDescription(
                x509.AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(each)
            )
            for each in responders
        ]
        builder = self._builder(subject, key or ec.generate_private_key(ec.SECP256R1()), days)
        if access:
            builder = builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)
        return (
            builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.UnrecognizedExtension(CUSTOM, b"\x0c\x04prod"), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def revoked(self, *certificates, after: float = 0.0, lasts: float = 86400.0) -> str:
        """A list made `after` seconds that `lasts` so many."""
        made = self.now + datetime.timedelta(seconds=after)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(made)
            .next_update(made + datetime.timedelta(seconds=lasts))
        )
        for each in certificates:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(each.serial_number)
                .revocation_date(self.now)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def pem(certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def der(certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@pytest.fixture
def maker(store) -> Maker:
    return Maker(store.clock.now())


@pytest.fixture
async def mounted(store, maker):
    await store.ask("POST", "sys/auth/cert", {"type": "cert"})
    await role(store, maker.certificate)
    return store


async def role(store, certificate, name="web", **fields):
    body = {"certificate": pem(certificate), "token_policies": "team", **fields}
    status, said = await store.ask("POST", f"auth/cert/certs/{name}", body)
    assert status == 204, said


async def login(store, certificate, *beside, **body):
    store.certificate = der(certificate) if certificate is not None else None
    store.chain = tuple(der(each) for each in beside)
    return await store.ask("POST", "auth/cert/login", body, token="")


async def test_a_certificate_of_a_trusted_authority_logs_in(mounted, maker) -> None:
    status, said = await login(mounted, maker.client())
    assert status == 200, said
    auth = said["auth"]
    assert auth["policies"] == ["default", "team"]
    assert auth["metadata"]["cert_name"] == "web"
    assert auth["metadata"]["common_name"] == "app"
    assert auth["metadata"]["serial_number"].count(":") > 10
    looked = await mounted.ask("GET", "auth/token/lookup-self", token=auth["client_token"])
    assert looked[1]["data"]["display_name"] == "cert-web"
    assert "internal" not in looked[1]["data"]


async def test_what_is_not_trusted_is_refused(mounted, maker) -> None:
    wrong = (400, {"errors": ["invalid certificate or no client certificate supplied"]})
    stranger = Maker(mounted.clock.now())
    for certificate in (
        stranger.client(),
        stranger.certificate,
        maker.client(usage=ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        assert await login(mounted, certificate) == wrong
    assert (await login(mounted, None))[1] == {"errors": ["client certificate must be supplied"]}
    assert await login(mounted, maker.client(), name="none") == wrong
    brief = maker.client(days=1)
    assert (await login(mounted, brief))[0] == 200
    mounted.clock.step_wall(2 * 86400)
    assert await login(mounted, brief) == wrong


async def test_an_authority_as_openssl_makes_it_is_one(mounted) -> None:
    """Without a key usage, and with basic constraints that are not critical."""
    plain = Maker(mounted.clock.now(), signs=None)
    await role(mounted, plain.certificate)
    assert (await login(mounted, plain.client()))[0] == 200
    for wrong in (Maker(mounted.clock.now(), signs=False), Maker(mounted.clock.now(), ca=False)):
        await role(mounted, wrong.certificate)
        assert (await login(mounted, wrong.client()))[0] == 400


async def test_an_authority_is_trusted_as_itself_too(mounted, maker) -> None:
    """`openssl req -x509` makes such a certificate, and it is a role's own in Vault's examples."""
    status, said = await login(mounted, maker.certificate)
    assert status == 200, said
    assert said["auth"]["metadata"]["common_name"] == "authority"
    await role(mounted, maker.certificate, allowed_common_names="app")
    assert (await login(mounted, maker.certificate))[0] == 400
    # One that it has signed is trusted for what it says as a client, and may not sign on.
    below = Maker(mounted.clock.now(), "below", above=maker)
    await role(mounted, maker.certificate)
    assert (await login(mounted, below.certificate))[0] == 400


async def test_cve_2025_6037_a_leaf_is_trusted_as_itself_alone(store, maker) -> None:
    await store.ask("POST", "sys/auth/cert", {"type": "cert"})
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = maker.client(key=key)
    await role(store, leaf)
    assert (await login(store, leaf))[0] == 200
    # The same key and authority, another name; and the same name from somebody else.
    assert (await login(store, maker.client("admin", key=key)))[0] == 400
    assert (await login(store, Maker(store.clock.now()).client()))[0] == 400


async def test_cve_2024_2048_the_same_names_of_another_authority_do_not_count(mounted) -> None:
    twin = Maker(mounted.clock.now())
    assert (await login(mounted, twin.client()))[0] == 400


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("allowed_names", "*.example", "other"),
        ("allowed_common_names", "ap*", "b*"),
        ("allowed_dns_sans", "app.example", "*.other"),
        ("allowed_email_sans", "*@example", "bob@example"),
        ("allowed_uri_sans", "spiffe://x/*", "spiffe://y/*"),
        ("allowed_organizational_units", "red", "blue"),
        ("required_extensions", "1.2.3.4:prod", "1.2.3.4:test"),
        ("required_extensions", "hex:1.2.3.4:0c04*", "1.2.3.5:*"),
    ],
)
async def test_each_constraint_must_hold(mounted, maker, field, good, bad) -> None:
    await role(mounted, maker.certificate, **{field: good})
    assert (await login(mounted, maker.client()))[0] == 200
    await role(mounted, maker.certificate, **{field: bad})
    status, said = await login(mounted, maker.client())
    assert status == 400
    assert "matching all constraints" in said["errors"][0]


async def test_a_revoked_certificate_is_refused(mounted, maker) -> None:
    one, two = maker.client(), maker.client()
    body = {"crl": maker.revoked(one)}
    assert (await mounted.ask("POST", "auth/cert/crls/main", body))[0] == 204
    assert (await login(mounted, one))[0] == 400
    assert (await login(mounted, two))[0] == 200
    shown = (await mounted.ask("GET", "auth/cert/crls/main"))[1]["data"]
    assert list(shown["serials"]) == [str(one.serial_number)]
    other = Maker(mounted.clock.now(), "another authority").revoked(two)
    await mounted.ask("POST", "auth/cert/crls/other", {"crl": other})
    assert (await login(mounted, two))[0] == 200
    await mounted.ask("DELETE", "auth/cert/crls/main")
    assert (await login(mounted, one))[0] == 200
    for text in ("", "no list", pem(one)):
        assert (await mounted.ask("POST", "auth/cert/crls/x", {"crl": text}))[0] == 400


def test_authorities_that_a_stranger_sends_are_not_tried_in_every_order() -> None:
    """Those that have signed each other kept a verifier busy for hundreds of signatures a role."""
    now = 1_800_000_000.0
    trusted, stranger = Maker(now), Maker(now, "stranger")
    others = [der(Maker(now, "stranger", above=stranger).certificate) for _ in range(5)]
    same = [stranger._builder(stranger.name, stranger.key) for _ in range(5)]
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    beside = [
        der(each.add_extension(constraints, critical=True).sign(stranger.key, hashes.SHA256()))
        for each in same
    ]
    shown = read_certificate(der(stranger.client()), [*beside, *others])
    before = time.process_time()
    for _ in range(100):  # As many roles.
        assert trusted_chain(shown, [trusted.certificate], shown.beside, now) == ()
    assert time.process_time() - before < 0.3
    # What a trusted one has signed counts, whoever else was sent and in whatever order.
    first = Maker(now, "first", above=trusted)
    second = Maker(now, "second", above=first)
    sent = [der(each.certificate) for each in (second, first)] + beside
    shown = read_certificate(der(second.client()), sent)
    chain = trusted_chain(shown, [trusted.certificate], shown.beside, now)
    assert [each.subject for each in chain[1:]] == [second.name, first.name, trusted.name]


class Claimed:
    """A certificate that says it comes from an authority, and does not; counts who checks it."""

    def __init__(self, issuer: x509.Name, subject: x509.Name) -> None:
        self.issuer, self.subject, self.checked = issuer, subject, 0

    def verify_directly_issued_by(self, _: x509.Certificate) -> None:
        self.checked += 1
        raise InvalidSignature


def test_what_a_stranger_sends_is_checked_once_however_many_roles_there_are() -> None:
    """Ten that named the authority of 200 roles as theirs kept everybody waiting for a second."""
    now = 1_800_000_000.0
    trusted, stranger = Maker(now), Maker(now, "stranger")
    shown = read_certificate(der(stranger.client()))
    sent = [Claimed(trusted.name, stranger.name) for _ in range(10)]
    for _ in range(50):  # As many roles, and each reads its authority anew.
        authority = x509.load_der_x509_certificate(der(trusted.certificate))
        assert trusted_chain(shown, [authority], sent, now) == ()
    assert [each.checked for each in sent] == [1] * 10


def test_a_certificate_whose_names_cannot_be_read_is_none() -> None:
    """Anybody may send one, as theirs or beside it: it was answered as a bug of ours."""
    maker = Maker(1_800_000_000.0, "AAAAAAAA")
    good = der(maker.client())
    bad = good.replace(b"AAAAAAAA", b"\xff" * 8)
    for sent, beside in ((bad, ()), (good, (bad,))):
        with pytest.raises(Invalid, match="failed to parse certificate"):
            read_certificate(sent, beside)


def test_one_list_of_the_chain_that_is_too_old_leaves_a_role_unsure() -> None:
    now = 1_790_000_000.0
    above = Maker(now, "above")
    between = Maker(now, "between", above=above)
    shown = read_certificate(der(between.client()), [der(between.certificate)])
    role = {"certificate": pem(above.certificate), "required_extensions": []}
    role |= {key: [] for key in _LISTS}
    for issuer in (above, between):
        for until, verdict in ((now - 1, Verdict.UNSURE), (now + 1, Verdict.ACCEPTED)):
            held = [RevocationList(issuer.name.rfc4514_string(), (), until=until)]
            assert judge(shown, role, held, now).verdict is verdict


async def test_cve_2026_39388_a_renewal_needs_the_certificate_of_the_login(mounted, maker) -> None:
    mine = maker.client()
    token = (await login(mounted, mine))[1]["auth"]["client_token"]
    for shown in (maker.client(), None):
        mounted.certificate = der(shown) if shown else None
        status, said = await mounted.ask("POST", "auth/token/renew-self", {}, token)
        assert status == 400
        assert "client identity during renewal" in said["errors"][0]
    mounted.certificate = der(mine)
    assert (await mounted.ask("POST", "auth/token/renew-self", {}, token))[0] == 200
    await mounted.ask("POST", "auth/cert/config", {"disable_binding": True})
    mounted.certificate = None
    assert (await mounted.ask("POST", "auth/token/renew-self", {}, token))[0] == 200


async def test_two_who_change_the_config_at_once_both_have_their_way(mounted) -> None:
    path = "auth/cert/config"
    changes = {"disable_binding": True}, {"ocsp_cache_size": 7}
    answers = await asyncio.gather(*(mounted.ask("POST", path, change) for change in changes))
    assert [status for status, _ in answers] == [204, 204]
    found = (await mounted.ask("GET", path))[1]["data"]
    assert (found["disable_binding"], found["ocsp_cache_size"]) == (True, 7)
    assert (await mounted.ask("POST", path, {"ocsp_cache_size": 1}))[0] == 400


async def test_what_cannot_be_configured(mounted) -> None:
    for body in ({}, {"certificate": "none"}):
        assert (await mounted.ask("POST", "auth/cert/certs/x", body))[0] == 400
    assert (await mounted.ask("GET", "auth/cert/certs/x"))[0] == 404
    assert (await mounted.ask("LIST", "auth/cert/certs"))[1]["data"]["keys"] == ["web"]
    assert (await mounted.ask("GET", "auth/cert/config"))[1]["data"]["disable_binding"] is False


async def test_an_authority_that_is_revoked_stands_behind_nobody(mounted, maker) -> None:
    assert (await login(mounted, maker.client()))[0] == 200
    await mounted.ask("POST", "auth/cert/crls/main", {"crl": maker.revoked(maker.certificate)})
    assert (await login(mounted, maker.client()))[0] == 400


async def test_cve_2026_39388_a_renewal_needs_a_certificate_that_would_log_in(
    mounted, maker
) -> None:
    mine = maker.client(days=2)
    token = (await login(mounted, mine))[1]["auth"]["client_token"]

    async def renew() -> tuple[int, object]:
        return await mounted.ask("POST", "auth/token/renew-self", {}, token)

    await mounted.ask("POST", "auth/cert/crls/main", {"crl": maker.revoked(mine)})
    status, said = await renew()
    assert (status, "no longer accepted" in said["errors"][0]) == (400, True)
    await mounted.ask("DELETE", "auth/cert/crls/main")
    assert (await renew())[0] == 200
    await role(mounted, maker.certificate, allowed_common_names="somebody")
    assert (await renew())[0] == 400
    await role(mounted, maker.certificate, allowed_common_names="")
    assert (await renew())[0] == 200
    await role(mounted, Maker(mounted.clock.now(), "another").certificate)
    assert (await renew())[0] == 400
    await role(mounted, maker.certificate)
    assert (await renew())[0] == 200
    mounted.clock.step_wall(3 * 86400)
    assert (await renew())[0] == 400


async def test_extensions_and_names_become_metadata_where_asked_for(mounted, maker) -> None:
    await role(mounted, maker.certificate, allowed_metadata_extensions="1.2.3.4,1.2.3.5")

    async def alias(auth) -> dict:
        _, said = await mounted.ask("GET", f"identity/entity/id/{auth['entity_id']}")
        return said["data"]["aliases"][0]

    auth = (await login(mounted, maker.client()))[1]["auth"]
    assert auth["metadata"]["1-2-3-4"] == "prod"
    assert "1-2-3-5" not in auth["metadata"]
    assert ((await alias(auth))["name"], (await alias(auth))["metadata"]) == ("app", None)
    body = {"enable_identity_alias_metadata": True}
    assert (await mounted.ask("POST", "auth/cert/config", body))[0] == 204
    auth = (await login(mounted, maker.client()))[1]["auth"]
    assert (await alias(auth))["metadata"]["cert_name"] == "web"


async def test_a_list_may_be_der_in_base64(mounted, maker) -> None:
    encoded = base64.b64encode(
        x509.load_pem_x509_crl(maker.revoked().encode()).public_bytes(Encoding.DER)
    )
    body = {"crl": encoded.decode()}
    assert (await mounted.ask("POST", "auth/cert/crls/main", body))[0] == 204
    assert (await mounted.ask("LIST", "auth/cert/crls"))[1]["data"]["keys"] == ["main"]
    assert (await mounted.ask("GET", "auth/cert/crls/none"))[0] == 400


async def test_a_role_is_written_with_update_also_where_it_is_new(mounted, maker) -> None:
    """Vault has no check for whether it exists here, and so never asks for `create`."""
    body = {"certificate": pem(maker.certificate), "token_policies": "team"}
    for capability, status in (("create", 403), ("update", 204)):
        policy = f'path "auth/cert/certs/*" {{ capabilities = ["{capability}"] }}'
        token = await mounted.token_with(policy)
        for name in ("fresh", "web"):
            said = await mounted.ask("POST", f"auth/cert/certs/{name}", body, token=token)
            assert said[0] == status, (capability, name)
