"""Who asks what: the header in front of every request.

    int16 api_key · int16 api_version · int32 correlation_id · nullable string client_id · [tags,
    from v2 on]

The first eight bytes are the same in all versions, so that a request of an unknown version can
still be named, and ApiVersions can still be answered. `client_id` keeps its old two-byte length
even in flexible headers (KIP-482).
"""

from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Final

from broker.errors import FrameError
from broker.kafka_api.skim import uvarint

CLIENT_ID_SIZE_MAX: Final = 32 * 1024
TAG_COUNT_MAX: Final = 32
"""No tag is defined for request headers; a few are skipped for clients newer than us."""

PREFIX: Final = Struct(">hhi")
"""API key, version, correlation id."""
PREFIX_SIZE: Final = PREFIX.size
_I16: Final = Struct(">h")


@dataclass(frozen=True, slots=True)
class Prefix:
    """The eight bytes that every version shares."""

    key: int
    version: int
    correlation_id: int


def read_prefix(frame: memoryview) -> Prefix:
    """Raises FrameError if the frame is too short to be a request."""
    try:
        return Prefix(*PREFIX.unpack_from(frame))
    except StructError:
        raise FrameError(f"a frame of {len(frame)} bytes is no Kafka request") from None


def read_client_id(frame: memoryview, *, is_flexible: bool) -> tuple[str, int]:
    """The client id ("" for null), and the position at which the body starts. Raises FrameError."""
    try:
        position = PREFIX.size
        (size,) = _I16.unpack_from(frame, position)
        position += _I16.size
        text = b"" if size < 0 else bytes(frame[position : position + size])
        if len(text) < size or size > CLIENT_ID_SIZE_MAX:
            raise FrameError(f"the request header announces a client id of {size} bytes")
        position += len(text)
        if is_flexible:
            position = _skip_tags(frame, position)
        return text.decode(), position
    except (StructError, IndexError):
        raise FrameError("the request ends inside its header") from None
    except UnicodeDecodeError:
        raise FrameError("the client id is no UTF-8 text") from None


def client_field(frame: memoryview) -> bytes:
    """The client id of a header that can be read, as it stands there, length included."""
    (size,) = _I16.unpack_from(frame, PREFIX.size)
    return bytes(frame[PREFIX.size : PREFIX.size + _I16.size + max(size, 0)])


def _skip_tags(frame: memoryview, position: int) -> int:
    count, position = frame[position], position + 1
    if count > TAG_COUNT_MAX:
        raise FrameError(f"{count} tagged fields in a request header")
    for _ in range(count):
        _, position = uvarint(frame, position)
        size, position = uvarint(frame, position)
        position += size
    if position > len(frame):
        raise FrameError("the request ends inside its header")
    return position
