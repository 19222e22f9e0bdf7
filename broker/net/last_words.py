"""The end of a connection: its last reply is to arrive."""

import anyio

from broker.net.limits import Limits
from broker.net.stream import Stream


async def let_arrive(stream: Stream, limits: Limits) -> None:
    """Say that nothing more will come, and wait until the peer has said so, too: a close while
    bytes are unread is a reset that overtakes the last reply."""
    stream.finish_sending()
    waste = _Waste()
    with anyio.move_on_after(limits.linger_s):
        try:
            while waste.size < limits.linger_size_max:
                await stream.receive(waste)
        except anyio.EndOfStream:
            pass


class _Waste:
    """A sink for bytes that nobody will read."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(4096))
        self.size = 0

    def buffer(self) -> memoryview:
        return self._buffer

    def advance(self, size: int) -> int:
        self.size += size
        return self.size
