"""What a connection asks of a protocol, and what both share: buffers, stages, room."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class FilePart(Protocol):
    """Bytes of a file that a socket takes by itself. They are there and do not change."""

    def __len__(self) -> int: ...

    def after(self, size: int) -> "FilePart":
        """What is left after the first `size` bytes."""

    def load(self) -> None:
        """Blocking: make sure that `send` does not wait for the disk. Raises OSError."""

    def send(self, socket: int) -> int:
        """Let the socket with this descriptor take from the beginning as much as it does at once.

        Returns bytes, at least one. Raises BlockingIOError if it takes nothing now, and OSError.
        """


Sendable = Buffer | FilePart

Reply = Sequence[Sendable]
"""The bytes of one reply, already framed, as what the socket will take. Empty: nothing is sent."""

Finish = Callable[[], Awaitable[Reply]]
"""Stage 2 of a request: may wait (durability, long poll). Awaited in the order of the requests."""

Wake = Callable[[Exception | None], object]
"""Called once for somebody who waits without a task, perhaps at once: with None when what was
waited for has happened, else with what awaiting it would raise. It must not raise itself."""


class Pending:
    """Stage 2 of a request that no task waits for: it is settled by whatever it depends on.

    A fast way beside `Finish`, for the requests that come by the thousand.
    """

    __slots__ = ("is_ready", "on_ready")

    def __init__(self) -> None:
        self.is_ready = False
        self.on_ready: Callable[[], None] = _nobody

    def settle(self) -> None:
        """The reply can be taken from now on."""
        self.is_ready = True
        self.on_ready()

    def take(self) -> Reply:
        """The reply, once it is ready, in the order of the requests. Raises PeerError, and
        Unfinished if a task has to wait for it after all."""
        return ()

    def drop(self) -> None:
        """Nobody will take the reply."""


def _nobody() -> None:
    return


class Unfinished(Exception):
    """What a `Pending` was begun for turned out to need a task, which is to await `finish`."""

    def __init__(self, finish: Finish) -> None:
        self.finish = finish


class Session(Protocol):
    """One connection's protocol state. `begin` runs for each frame in order, before the next frame
    is looked at."""

    def begin_now(self, frame: memoryview, *, is_alone: bool, is_next: bool) -> Pending | None:
        """Stage 1 of a frame for which nothing has to be waited for, if this is one.

        `is_alone`: probably no other request comes in this turn of the loop that could share what
        this one costs. `is_next`: nothing that came before it is owed, so a reply that is ready
        when this returns leaves at once. None: nothing has happened, `begin` it. Raises PeerError.
        """

    async def begin(self, frame: memoryview) -> Finish:
        """Stage 1: fix the order of every effect. Raises PeerError to close the connection.

        `frame` has no length prefix and is valid until the returned `Finish` has been awaited.
        """

    def frame_refused(self, size: int) -> Reply:
        """What to say before closing, when the length prefix announces `size` bytes, beyond the
        limit."""


class Memory(Protocol):
    """The bytes that all connections together may hold; `net.Budget` in production."""

    def has_room(self, size: int) -> bool:
        """Whether `reserve` would not wait: a reply that leaves at once may be made."""

    def reserve(self, size: int) -> AbstractAsyncContextManager[None]:
        """Make a reply of about `size` bytes inside of this, in its turn.

        Waits while replies being made or unsent occupy their share. What is made must reach the
        connection without awaiting anything more, for there it is charged.
        """


class Clock(Protocol):
    """The only clock anybody may read."""

    def now_ms(self) -> int:
        """Wall time. May jump; used for timestamps and retention only."""

    def monotonic(self) -> float:
        """Seconds that never go back, suspend included."""
