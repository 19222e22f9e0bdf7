"""Decompression with a ceiling, for the few places that look inside a batch.

The Kafka path never comes here: batches are stored and served as the client compressed them.
Lookups by timestamp, native GET and the keyed state log do look inside, and must not be turned into
a memory bomb by a batch that inflates a thousandfold.
"""

from collections.abc import Callable

import cramjam

from broker.errors import CorruptBatch, UnsupportedCompression
from broker.ports import Buffer
from engine.batch import HEADER_SIZE, BatchHeader

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

RECORDS_SIZE_MAX = 64 * 1024 * 1024
"""Bytes one batch may inflate to. Kafka sets no limit here; its own default batch is 1 MiB
compressed."""

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
"""The snappy framing of Java clients: magic, two u32 versions, then (u32 big endian size, raw
block) repeated."""
_XERIAL_HEADER_SIZE = 16

_Into = Callable[[Buffer, bytearray], int]


def records_section(
    batch: Buffer, header: BatchHeader, *, size_max: int = RECORDS_SIZE_MAX
) -> bytes:
    """The uncompressed records of `batch`, a buffer that starts at the batch's first byte.

    Raises CorruptBatch if they do not decompress or exceed `size_max` bytes, UnsupportedCompression
    for an unknown codec.
    """
    payload = memoryview(batch)[HEADER_SIZE : header.size]
    if header.codec == NONE:
        return bytes(payload)
    try:
        return decompress(header.codec, bytes(payload), size_max=size_max)
    except (cramjam.DecompressionError, ValueError) as error:
        raise CorruptBatch(
            f"the batch does not decompress (codec {header.codec}): {error}"
        ) from error


def decompress(codec: int, payload: bytes, *, size_max: int) -> bytes:
    """Inflate one payload. Raises ValueError above `size_max`, cramjam.DecompressionError for
    garbage."""
    match codec:
        case 1:
            return _inflate(cramjam.gzip.decompress_into, payload, size_max)
        case 2 if payload.startswith(_XERIAL_MAGIC):
            return _xerial(payload, size_max)
        case 2:
            return _raw_snappy(payload, size_max)
        case 3:
            return _inflate(cramjam.lz4.decompress_into, payload, size_max)
        case 4:
            return _inflate(cramjam.zstd.decompress_into, payload, size_max)
    raise UnsupportedCompression(f"compression codec {codec} does not exist")


def _inflate(into: _Into, payload: bytes, size_max: int) -> bytes:
    """Try ever larger outputs: the frame formats do not say honestly how large they will become."""
    size = min(size_max, max(64 * 1024, 4 * len(payload)))
    while True:
        out = bytearray(size)
        try:
            return bytes(memoryview(out)[: into(payload, out)])
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise
        if size == size_max:
            raise ValueError(f"more than {size_max} bytes when decompressed")
        size = min(size_max, size * 4)


def _raw_snappy(payload: bytes, size_max: int) -> bytes:
    size = cramjam.snappy.decompress_raw_len(payload)
    if size > size_max:
        raise ValueError(f"{size} bytes when decompressed, above {size_max}")
    return bytes(cramjam.snappy.decompress_raw(payload))


def _xerial(payload: bytes, size_max: int) -> bytes:
    out = bytearray()
    position = _XERIAL_HEADER_SIZE
    while position < len(payload):
        block_size = int.from_bytes(payload[position : position + 4], "big")
        position += 4
        block = payload[position : position + block_size]
        if len(block) != block_size:
            raise ValueError("a snappy block is cut short")
        out += _raw_snappy(block, size_max - len(out))
        position += block_size
    return bytes(out)
