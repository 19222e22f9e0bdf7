"""Snapshots on their way to members that are too far behind for the log (pure).

The sender keeps the bytes of one snapshot for as long as somebody is fetching it, and sends the
next piece when the last one was acknowledged; after a silence it sends that piece again. The
receiver collects, and hands the whole over."""

from raft.messages import BATCH_SIZE, Chunk, ChunkReply

RESEND_S = 1.0
SNAPSHOT_SIZE_MAX = 1024 * 1024 * 1024
"""Bytes a receiver will hold in memory; metadata beyond that is refused."""


class Outgoing:
    """One member's copy of one snapshot, as far as it got."""

    def __init__(self, index: int, data: bytes) -> None:
        self.index = index
        self._data = data
        self._position = 0
        self._sent_at = float("-inf")

    def next_chunk(self, term: int, now: float) -> Chunk | None:
        """What to send now; None while the answer to the last piece may still come."""
        if now - self._sent_at < RESEND_S:
            return None
        self._sent_at = now
        piece = self._data[self._position : self._position + BATCH_SIZE]
        return Chunk(term, self.index, self._position, len(self._data), piece)

    def acknowledged(self, reply: ChunkReply) -> None:
        """The member says how much it has; it may also have lost everything."""
        if reply.index == self.index and reply.position <= len(self._data):
            if reply.position != self._position:
                self._sent_at = float("-inf")
            self._position = reply.position


class Incoming:
    """The snapshot that is being received. Pieces of another one, or out of order, start it anew or
    are ignored."""

    def __init__(self) -> None:
        self._from: tuple[str, int, int] | None = None
        self._data = bytearray()

    def add(self, voter: str, chunk: Chunk) -> bytes | None:
        """The whole snapshot once it is complete, else None. `position` says what to ask for
        next."""
        source = (voter, chunk.index, chunk.size)
        if source != self._from:
            self._from = source
            self._data = bytearray()
        is_next = chunk.position == len(self._data) and chunk.size <= SNAPSHOT_SIZE_MAX
        if is_next and chunk.position + len(chunk.data) <= chunk.size:
            self._data += chunk.data
        return bytes(self._data) if len(self._data) == chunk.size else None

    @property
    def position(self) -> int:
        """Bytes received without a gap."""
        return len(self._data)

    def clear(self) -> None:
        self._from = None
        self._data = bytearray()
