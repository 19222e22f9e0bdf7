"""Something that happens again and again, and those who wait for the next time."""

import anyio


class Bell:
    """Wakes whoever waits for it at that moment, and costs nothing while nobody does."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    async def wait(self) -> None:
        """Until it rings."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

    def ring(self) -> None:
        """Wake them."""
        if self._event is not None:
            event, self._event = self._event, None
            event.set()
