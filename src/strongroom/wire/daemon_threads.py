"""Threads for calls that may never return: a process that is told to end does not wait for them."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_daemon_thread(work: Callable[[], T]) -> "asyncio.Future[T]":
    """What `work` returns or raises, also that no thread could be begun, and no sooner.

    Whoever waits may give up; the thread goes on.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(give: Callable[[], None]) -> None:
        def unless_given_up() -> None:
            if not future.done():
                give()

        with contextlib.suppress(RuntimeError):  # The loop has ended meanwhile.
            loop.call_soon_threadsafe(unless_given_up)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            raised = error
            tell(lambda: future.set_exception(raised))
        else:
            tell(lambda: future.set_result(result))

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as refused:
        # The machine gives no more threads: as good as a call that failed.
        future.set_exception(refused)
    return future
