"""What is sealed opens only under its key, in its place."""

import hmac as stdlib_hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.crypto.aead import NONCE_BYTES, Aead, Tampered, new_key
from strongroom.crypto.cbc import encrypt_cbc
from strongroom.crypto.ciphers import encrypt
from strongroom.crypto.keyring import KeyRing, term_of
from strongroom.crypto.mac import KeyedHmac
from strongroom.crypto.names import NameCipher
from strongroom.crypto.tokens import BASE62, constant_time_equal, new_accessor, new_token

KEY = bytes(range(32))


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_aead_round_trip(plaintext, aad) -> None:
    """And costs a nonce and a tag."""
    sealed = Aead(KEY).seal(plaintext, aad)
    assert Aead(KEY).open(sealed, aad) == plaintext
    assert len(sealed) == NONCE_BYTES + len(plaintext) + 16


@pytest.mark.parametrize(
    "seal",
    [
        lambda: Aead(KEY).seal(b"value", b"kv/1"),
        lambda: encrypt("aes256-gcm96", KEY, b"value", b"kv/1"),
        lambda: encrypt("chacha20-poly1305", KEY, b"value", b"kv/1"),
        lambda: encrypt_cbc(KEY, b"value"),
    ],
)
def test_no_nonce_comes_twice(seal) -> None:
    """Two messages under one nonce give away both, and with GCM the key of the tags."""
    assert len({seal()[:NONCE_BYTES] for _ in range(50)}) == 50


@given(st.data())
def test_any_changed_byte_is_noticed(data) -> None:
    """Wherever it is."""
    sealed = bytearray(Aead(KEY).seal(b"value", b"kv/1"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Tampered):
        Aead(KEY).open(bytes(sealed), b"kv/1")


def test_a_moved_value_or_another_key_does_not_open() -> None:
    """The associated data is the place."""
    sealed = Aead(KEY).seal(b"value", b"kv/1")
    for cipher, aad in ((Aead(KEY), b"kv/2"), (Aead(new_key()), b"kv/1")):
        with pytest.raises(Tampered):
            cipher.open(sealed, aad)
    with pytest.raises(Tampered):
        Aead(KEY).open(b"short", b"")


def test_rotation_seals_with_the_new_term_and_opens_the_old() -> None:
    """Derived keys stay what they were; the ring survives serialisation."""
    first = KeyRing.new(100.0)
    old = first.seal(b"v", b"a")
    second = KeyRing.loads(first.rotated(200.0).dumps())
    new = second.seal(b"v", b"a")
    assert (term_of(old), term_of(new), second.current_term) == (1, 2, 2)
    assert second.open(old, b"a") == second.open(new, b"a") == b"v"
    assert second.derive(b"names") == first.derive(b"names") != first.derive(b"audit")
    assert second.installed == {1: 100.0, 2: 200.0}
    with pytest.raises(Tampered):
        first.open(new, b"a")


def test_a_ring_extends_what_it_has_every_key_of() -> None:
    """And the root that names and hashes come from: under another one no name is found."""
    first = KeyRing(KEY, {1: KEY}, {1: 0.0})
    assert first.extends(first)
    assert first.rotated(1.0).extends(first)
    assert not first.extends(first.rotated(1.0))
    assert not first.rotated(1.0).extends(first.rotated(1.0))
    assert not KeyRing(new_key(), {1: KEY}, {1: 0.0}).extends(first)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"root": 1, "keys": {}, "installed": {}}'])
def test_a_ring_that_is_none_is_refused(data) -> None:
    """Rather than half read."""
    with pytest.raises(Tampered):
        KeyRing.loads(data)


def test_names_are_found_by_their_bytes_within_a_folder_only() -> None:
    """Deterministic under one parent, different under another."""
    cipher = NameCipher(KEY)
    assert cipher.seal("db", b"1") == cipher.seal("db", b"1") != cipher.seal("db", b"2")
    assert cipher.open(cipher.seal("dä", b"1"), b"1") == "dä"
    with pytest.raises(Tampered):
        cipher.open(cipher.seal("db", b"1"), b"2")


@given(st.binary(max_size=100), st.binary(max_size=300))
def test_hmac_equals_the_standard_librarys(key, data) -> None:
    """Short, block-sized and long keys alike."""
    assert KeyedHmac(key).hex(data) == stdlib_hmac.new(key, data, "sha256").hexdigest()
    assert KeyedHmac(key).vault_form(data).startswith("hmac-sha256:")


def test_tokens_have_the_shape_clients_count_on() -> None:
    """28 characters with the prefix; an accessor has 24; comparison is exact."""
    token = new_token()
    assert token.startswith("hvs.")
    assert len(token) == 28
    assert set(token[4:]) <= set(BASE62)
    assert len(new_accessor()) == 24
    assert new_token() != token
    assert constant_time_equal(b"a", b"a")
    assert not constant_time_equal(b"a", b"b")
