"""Key files: made once, kept private, rotated by a second line."""

import pytest

from strongroom.crypto.keyfile import create_key_file, load_key_file
from strongroom.crypto.x509_dev import issue
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound


def test_a_created_file_is_private_and_wraps(tmp_path) -> None:
    """0600, and what it wrapped opens after loading it again."""
    path = tmp_path / "seal.key"
    create_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    wrapped = load_key_file(path).wrap(b"ring", b"seal")
    assert load_key_file(path).unwrap(wrapped, b"seal") == b"ring"
    assert load_key_file(path).key_id == wrapped[:8].hex()


def test_the_previous_key_opens_and_the_new_one_wraps(tmp_path) -> None:
    """Rotation of the file: new line first."""
    old, new, both = (tmp_path / name for name in ("old", "new", "both"))
    create_key_file(old)
    create_key_file(new)
    wrapped = load_key_file(old).wrap(b"ring", b"")
    both.write_bytes(new.read_bytes() + old.read_bytes())
    both.chmod(0o600)
    key = load_key_file(both)
    assert key.unwrap(wrapped, b"") == b"ring"
    assert load_key_file(new).unwrap(key.wrap(b"ring", b""), b"") == b"ring"
    with pytest.raises(Denied) as caught:
        load_key_file(new).unwrap(wrapped, b"")
    assert caught.value.code == "wrong-key"


def test_what_is_refused(tmp_path) -> None:
    """Each with its own code; a key file is never overwritten."""
    path = tmp_path / "seal.key"
    with pytest.raises(NotFound):
        load_key_file(path)
    # A container's runtime makes a folder of a mount whose file is not there.
    path.mkdir()
    with pytest.raises(Denied, match="Is a directory"):
        load_key_file(path)
    path.rmdir()
    create_key_file(path)
    with pytest.raises(Conflict):
        create_key_file(path)
    path.chmod(0o640)
    with pytest.raises(Denied) as caught:
        load_key_file(path)
    assert (caught.value.code, caught.value.hint) == ("key-file-open", f"chmod 600 {path}")
    path.chmod(0o600)
    for text in (b"", b"c2hvcnQ=\n", b"not base64!\n", b"a\nb\nc\n"):
        path.write_bytes(text)
        with pytest.raises(Invalid) as bad:
            load_key_file(path)
        assert bad.value.code == "bad-key-file"


def test_local_certificates_verify() -> None:
    """The server certificate chains to the authority and names its hosts."""
    import ssl

    made = issue(["localhost", "127.0.0.1"], 1_790_000_000)
    context = ssl.create_default_context(cadata=made.authority.decode())
    assert len(context.get_ca_certs()) == 1
    assert b"BEGIN CERTIFICATE" in made.certificate
    assert b"PRIVATE KEY" in made.key
