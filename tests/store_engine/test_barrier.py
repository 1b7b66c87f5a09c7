"""The barrier: what is sealed for a row opens in that row, under that version, and nowhere else."""

import pytest

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyring import KeyRing
from strongroom.model.errors import Unavailable
from strongroom.store.engine.barrier import Barrier

PLACE = ("kv_version", "7/3", 2)


def unsealed() -> Barrier:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    return barrier


@pytest.mark.parametrize(
    "other", [("policy", "7/3", 2), ("kv_version", "7/4", 2), ("kv_version", "7/3", 3)]
)
def test_a_value_opens_for_its_table_its_row_and_its_version_alone(other) -> None:
    """So none can be moved, and none from before put back under a newer number."""
    barrier = unsealed()
    sealed = barrier.seal(*PLACE, b"value")
    assert barrier.open(*PLACE, sealed) == b"value"
    with pytest.raises(Tampered, match=rf"the row {other[1]} \(version {other[2]}\) of {other[0]}"):
        barrier.open(*other, sealed)


def test_a_name_opens_in_its_mount_and_its_folder_alone() -> None:
    barrier = unsealed()
    sealed = barrier.seal_name("m", 1, "db")
    assert barrier.open_name("m", 1, sealed) == "db"
    for mount, folder in (("n", 1), ("m", 2)):
        assert barrier.seal_name(mount, folder, "db") != sealed
        with pytest.raises(Tampered):
            barrier.open_name(mount, folder, sealed)


def test_without_its_keys_it_does_nothing() -> None:
    barrier = unsealed()
    sealed = barrier.seal(*PLACE, b"value")
    barrier.seal_up()
    for attempt in (
        lambda: barrier.open(*PLACE, sealed),
        lambda: barrier.seal(*PLACE, b"value"),
        lambda: barrier.seal_name("m", 1, "db"),
        lambda: barrier.mac(b"any"),
    ):
        with pytest.raises(Unavailable):
            attempt()
