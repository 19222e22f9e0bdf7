"""Length-prefixed frames out of a byte stream, for both protocols (pure).

The decoder is a value machine with the face of a buffered protocol: lend a buffer, say how much of
it was filled, get the frames that are now complete. It never waits, never logs and never raises for
what a peer sends: a length that may not be is remembered in `refused`, and the decoder takes
nothing more.

  * Small frames are cut out of a scratch buffer that all connections of one event loop share, so an
    idle connection owns no buffer at all. What was lent must therefore be filled and handed back
    without an await in between.
  * The body of a frame that does not fit the scratch is received straight into a buffer of its own.
    That buffer grows with the bytes that really came (fivefold at first, then it doubles), never by
    what the prefix announces: a peer that claims 100 MiB and sends four bytes has cost us 64 KiB,
    and one that sends 64 KiB has cost 320.
"""

import struct
from typing import Literal

PREFIX_SIZE = 4
"""Bytes of the length prefix, which does not count itself."""

SCRATCH_SIZE = 64 * 1024
"""Bytes. The most that one read of a busy connection takes, unless it is inside a large frame."""

_FIRST_GROWTH = 5
"""Times what has come, when a large frame begins: a full scratch and one more read then take what
producers send in batches of 256 KiB."""

_HEAD_SIZE = 16


class FrameDecoder:
    """Cuts one connection's bytes into frames.

    `size_min` and `size_max` bound the announced size, prefix excluded, both inclusive. `scratch`
    is lent by the owner of many decoders; without it the decoder makes its own.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_frame_size",
        "_head",
        "_lent",
        "_scratch",
        "_size_max",
        "_size_min",
        "_tail",
        "_unpack",
        "_wanted_size",
        "refused",
    )

    def __init__(
        self,
        byteorder: Literal["big", "little"],
        *,
        size_max: int,
        size_min: int = 1,
        scratch: memoryview | None = None,
    ) -> None:
        if not 0 <= size_min <= size_max < 2**32:
            raise ValueError(f"frame sizes {size_min}..{size_max} are no range of a 32-bit prefix")
        self._unpack = struct.Struct(">I" if byteorder == "big" else "<I").unpack_from
        self._size_min = size_min
        self._size_max = size_max
        self._scratch = memoryview(bytearray(SCRATCH_SIZE)) if scratch is None else scratch
        self._tail = bytearray()
        self._wanted_size = PREFIX_SIZE
        self._body: bytearray | None = None
        self._body_size = 0
        self._frame_size = 0
        self._lent: memoryview | None = None
        self._head = b""
        self.refused: int | None = None
        """The announced size that was out of bounds; nothing is decoded after it."""

    @property
    def pending_size(self) -> int:
        """Bytes held of a frame that has begun, prefix included; 0 between frames."""
        if self._body is not None:
            return PREFIX_SIZE + self._body_size
        return len(self._tail)

    @property
    def head(self) -> bytes:
        """The first bytes of the frame that is refused or pending, for a log line. At most 16."""
        if self.refused is not None or self._body is not None:
            return self._head
        return bytes(self._tail[:_HEAD_SIZE])

    def buffer(self) -> memoryview:
        """Where the next bytes go. Fill its beginning, then call `advance` before anything else can
        run."""
        if self._body is None:
            return self._scratch
        capacity = len(self._body)
        if self._body_size == capacity:
            self._take_back()
            self._body += bytes(min(capacity, self._frame_size - capacity))
        self._lent = memoryview(self._body)[self._body_size :]
        return self._lent

    def advance(self, size: int) -> list[memoryview]:
        """`size` bytes were put into `buffer()`. Returns the frames that are complete now, in
        order.

        The frames have no prefix, are the receiver's own (writable), and stay valid as long as they
        are held.
        """
        if self.refused is not None:
            return []
        if self._body is not None:
            return self._advance_body(size)
        if not self._tail:
            if size > PREFIX_SIZE:
                (announced,) = self._unpack(self._scratch)
                if self._size_min <= announced <= self._size_max:
                    if announced == size - PREFIX_SIZE:  # What most reads bring.
                        return [memoryview(bytearray(self._scratch[PREFIX_SIZE:size]))]
                    if announced > len(self._scratch) - PREFIX_SIZE:
                        self._begin(announced, self._scratch[:size])
                        return []
            return self._split(bytearray(self._scratch[:size]))
        self._tail += self._scratch[:size]
        if len(self._tail) < self._wanted_size:
            return []
        data, self._tail = self._tail, bytearray()
        return self._split(data)

    def _split(self, data: bytearray) -> list[memoryview]:
        view = memoryview(data)
        frames: list[memoryview] = []
        position, end = 0, len(data)
        while end - position >= PREFIX_SIZE:
            (size,) = self._unpack(data, position)
            if not self._size_min <= size <= self._size_max:
                self._head = bytes(view[position : position + _HEAD_SIZE])
                self.refused = size
                return frames
            body = position + PREFIX_SIZE
            if body + size > end:
                self._begin(size, view[position:])
                return frames
            frames.append(view[body : body + size])
            position = body + size
        self._wanted_size = PREFIX_SIZE
        self._tail += view[position:]
        return frames

    def _begin(self, size: int, received: memoryview) -> None:
        """A frame of `size` bytes has begun; `received` is its prefix and what has come of its
        body."""
        if PREFIX_SIZE + size <= len(self._scratch):
            self._wanted_size = PREFIX_SIZE + size
            self._tail += received
            return
        self._head = bytes(received[:_HEAD_SIZE])
        self._frame_size = size
        self._body_size = len(received) - PREFIX_SIZE
        self._body = bytearray(min(size, max(len(self._scratch), _FIRST_GROWTH * self._body_size)))
        self._body[: self._body_size] = received[PREFIX_SIZE:]

    def _advance_body(self, size: int) -> list[memoryview]:
        assert self._body is not None
        self._body_size += size
        assert self._body_size <= len(self._body) <= self._frame_size
        if self._body_size < self._frame_size:
            return []
        frame, self._body, self._lent = memoryview(self._body), None, None
        self._wanted_size = PREFIX_SIZE
        return [frame]

    def _take_back(self) -> None:
        """A bytearray cannot grow while a view of it is lent out."""
        if self._lent is not None:
            self._lent.release()
            self._lent = None
