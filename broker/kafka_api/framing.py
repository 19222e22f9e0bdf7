"""One reply as the buffers that the socket will take: length prefix, response header, body.

Records are the only large thing in a reply. They stay the objects that the log handed out;
everything around them is gathered in small buffers between.
"""

from struct import Struct
from typing import Final

from broker.kafka_api.wire import Codec, Response
from broker.ports import Buffer, Reply

BORROW_SIZE_MIN: Final = 2048
"""From this size on a `bytes` value is passed along; below, copying is cheaper than one more buffer
to send."""

_PREFIX: Final = Struct(">ii")
_SIZE: Final = Struct(">i")


class _Gather:
    """A writable that collects small writes and keeps large ones apart."""

    __slots__ = ("buffers", "tail")

    def __init__(self) -> None:
        self.tail = bytearray()
        self.buffers: list[Buffer] = [self.tail]

    def write(self, data: bytes) -> None:
        if len(data) < BORROW_SIZE_MIN:
            self.tail += data
            return
        self.tail = bytearray()
        self.buffers += (data, self.tail)


def encode(
    codec: Codec, correlation_id: int, response: Response, *, has_flexible_header: bool
) -> Reply:
    """Raises whatever kio raises for a value that its field cannot hold: that is a mistake of
    ours."""
    gather = _Gather()
    head = gather.tail
    head += _PREFIX.pack(0, correlation_id)
    if has_flexible_header:
        head.append(0)  # no tagged fields (KIP-482)
    codec.write(gather, response)
    if not gather.tail:
        gather.buffers.pop()
    _SIZE.pack_into(head, 0, sum(map(len, gather.buffers)) - _SIZE.size)
    return gather.buffers
