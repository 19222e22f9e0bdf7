"""Replies of the native protocol: a little-endian u32 length, then the text (pure).

The prefix counts the bytes after itself. Requests have the same form; `broker/net` cuts them out.
"""

import struct
from typing import Final, Literal

from broker.ports import Buffer, Reply

BYTEORDER: Final[Literal["little"]] = "little"

FRAME_SIZE_MAX: Final = 1024 * 1024 + 64 * 1024
"""Bytes of the largest request by default: a record of 1 MiB with room for its topic. The original
took 64 KiB."""

FRAME_SIZE_MIN: Final = 0
"""An empty frame reaches the session, which answers it: the connection stays in step."""

INVALID_LENGTH: Final = "invalid frame length"

_PREFIX_SIZE: Final = 4
_prefix = struct.Struct("<I").pack


def bare(body: bytes) -> Reply:
    """A reply without a status word: the JSON of STATE and METRICS."""
    return (_prefix(len(body)), body)


def ok_with(payload: Buffer) -> Reply:
    """`OK <payload>`. The payload is not copied; an empty one leaves the space."""
    return (_prefix(3 + len(payload)) + b"OK ", payload)


def error(text: str) -> Reply:
    """`ERR <text>`."""
    return bare(b"ERR " + text.encode("utf-8", "backslashreplace"))


def is_error(reply: Reply) -> bool:
    """Whether it was made by `error`. A payload that begins with `ERR ` stands behind `OK `, in
    the first buffer."""
    if len(reply[0]) != _PREFIX_SIZE:
        return False
    body = reply[1]
    return isinstance(body, Buffer) and bytes(body[:4]) == b"ERR "


OK: Final = bare(b"OK")
EMPTY: Final = bare(b"EMPTY")
