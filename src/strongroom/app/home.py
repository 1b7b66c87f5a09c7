"""The folder of the user who runs a command."""

from pathlib import Path


def home() -> Path:
    """`/`, as container runtimes have it, for a user id that nobody has given a folder."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
