"""What consumers say they want: the head of Kafka's ConsumerProtocolSubscription (pure).

version i16 │ count i32 │ count × (size i16 │ topic) │ whatever newer versions add
"""

from struct import Struct
from struct import error as StructError
from typing import Final

_I16: Final = Struct(">h")
_VERSION_AND_COUNT: Final = Struct(">hi")


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """The topics of a consumer's metadata; None if it is none that can be read."""
    try:
        _, count = _VERSION_AND_COUNT.unpack_from(metadata)
        position = _VERSION_AND_COUNT.size
        topics = set()
        for _ in range(count):
            (size,) = _I16.unpack_from(metadata, position)
            position += _I16.size
            if size < 0 or position + size > len(metadata):
                return None
            topics.add(metadata[position : position + size].decode())
            position += size
    except (StructError, UnicodeDecodeError):
        return None
    return frozenset(topics)
