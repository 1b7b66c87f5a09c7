"""What writers are told when writing ends in another way than by an error of the database."""

from strongroom.model.errors import Refusal, Unavailable


def broken_off() -> Refusal:
    """For who is in the group that was being written."""
    return Unavailable(
        "write-broken-off",
        "the write was broken off before the database had confirmed it",
        hint="it may be there or not: read it again before you write",
    )


def writing_ended() -> Refusal:
    """For who waits, and for all who come after."""
    return Unavailable(
        "writing-ended",
        "this process writes nothing to the database any more; this write was not begun",
        hint="start the server again; its log says why writing ended",
    )
