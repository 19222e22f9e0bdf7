"""Something that happens again and again, and those who wait for the next time."""

import asyncio


class Bell:
    """Wakes whoever waits for it at that moment, and costs nothing while nobody does: who is woken
    looks again at what they wait for.

    Bare futures: an event costs three times as many instructions, at every request. What has to be
    remembered until somebody comes to wait is not for a bell.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def ring(self) -> None:
        """Wake them."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait(self) -> None:
        """Sleep until it rings."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            raise
