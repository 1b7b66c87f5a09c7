"""Many things done side by side, told one after another."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def in_order(
    work: Callable[[A], Coroutine[Any, Any, B]], items: Iterable[A], at_once: int
) -> AsyncGenerator[B, None]:
    """What `work` makes of each item, in their order, as soon as those before it are made.

    At most `at_once` are worked on. What fails ends those that are being worked on, and is raised.
    """
    begun: deque[asyncio.Task[B]] = deque()
    try:
        for item in items:
            begun.append(asyncio.create_task(work(item)))
            if len(begun) == at_once:
                yield await begun[0]
                begun.popleft()
        while begun:
            yield await begun[0]
            begun.popleft()
    finally:
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
