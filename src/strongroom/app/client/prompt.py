"""What a person types at the terminal, unseen, or hands over at standard input."""

import getpass
import signal
import sys
import threading

from strongroom.model.errors import Invalid


def read_word(word: str, what: str) -> str:
    """A token or key as it was given; - reads it, out of sight of the shell's history.

    Raises Invalid where there is none.
    """
    if word != "-":
        return word
    read = sys.stdin.read().strip()
    if not read:
        raise Invalid(f"no-{what}", f"there is no {what} at standard input")
    return read


def hidden(prompt: str) -> str:
    """Ask for it; raises Invalid where the input ends, KeyboardInterrupt for Ctrl-C.

    A running event loop keeps the first Ctrl-C for itself, which does nothing while a person is
    waited for.
    """
    if threading.current_thread() is not threading.main_thread():
        return _typed(prompt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _typed(prompt)
    finally:
        signal.signal(signal.SIGINT, before)


def _typed(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise Invalid("no-answer", "nothing was typed") from None
