"""Batches as other producers make them."""

import struct
from collections.abc import Callable, Sequence

import cramjam
from crc32c import crc32c

from engine.batch import CONTROL_BIT, CRC_POSITION, CRC_START, HEADER_SIZE
from engine.records import Record, build

CODECS: dict[str, tuple[int, Callable[[bytes], bytes] | None]] = {
    "none": (0, None),
    "gzip": (1, lambda data: bytes(cramjam.gzip.compress(data))),
    "snappy": (2, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "lz4": (3, lambda data: bytes(cramjam.lz4.compress(data))),
    "zstd": (4, lambda data: bytes(cramjam.zstd.compress(data))),
}


def batch(
    values: Sequence[bytes | None], codec: str = "none", *, is_control: bool = False
) -> bytes:
    number, compress = CODECS[codec]
    return bytes(
        build(
            [Record(index, 0, b"key", value) for index, value in enumerate(values)],
            base_timestamp=1_700_000_000_000,
            codec=number,
            compress=compress,
            attributes=CONTROL_BIT if is_control else 0,
        )
    )


def garbage_batch(count: int) -> bytes:
    """The header and CRC hold, the records are nonsense: what a faulty producer may send."""
    return bytes(
        build(
            [Record(index, 0, None, b"x" * 20) for index in range(count)],
            base_timestamp=1_700_000_000_000,
            codec=1,
            compress=lambda data: b"this is not gzip",
        )
    )


def torn_batch(values: Sequence[bytes]) -> bytes:
    """The first record is fine, the second says it is longer than its batch; the CRC holds."""
    torn = bytearray(batch(values))
    second = HEADER_SIZE + 1 + torn[HEADER_SIZE] // 2
    torn[second] = 0x7E
    struct.pack_into(">I", torn, CRC_POSITION, crc32c(memoryview(torn)[CRC_START:]))
    return bytes(torn)
