"""Kafka requests as bytes, for what no well-behaved client would send.

Old, fixed-width versions, which need no more than `struct`: Produce 3, Fetch 4, Metadata 1,
ApiVersions 0. Batches are built by aiokafka.
"""

import struct
from dataclasses import dataclass

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from harness.connection import Connection

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS = 0, 1, 2, 3, 18


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def request(
    api_key: int, version: int, correlation_id: int, body: bytes, client: str = "wire"
) -> bytes:
    """One request with header version 1, framed."""
    header = struct.pack(">hhi", api_key, version, correlation_id) + string(client)
    return framed(header + body)


def batch(values: list[bytes | None], *, compression: int = 0, timestamp_ms: int = 1) -> bytes:
    """A record batch v2 at base offset 0."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for number, value in enumerate(values):
        builder.append(number, timestamp_ms, None, value, [])
    return bytes(builder.build())


def produce(
    topic: str, records: bytes, *, acks: int = -1, timeout_ms: int = 30_000, partition: int = 0
) -> bytes:
    """The body of Produce 3 for one partition of one topic."""
    return (
        struct.pack(">hhii", -1, acks, timeout_ms, 1)
        + string(topic)
        + struct.pack(">iii", 1, partition, len(records))
        + records
    )


@dataclass(frozen=True, slots=True)
class Produced:
    """One partition of a Produce reply."""

    error: int
    base_offset: int


def parse_produce(body: bytes) -> Produced:
    """The reply of Produce 3 to a request for one partition."""
    (topic_size,) = struct.unpack_from(">h", body, 4)
    _, error, base_offset = struct.unpack_from(">ihq", body, 4 + 2 + topic_size + 4)
    return Produced(error, base_offset)


def fetch(
    topic: str,
    offset: int,
    *,
    wait_ms_max: int = 500,
    size_min: int = 1,
    size_max: int = 1 << 20,
    partition: int = 0,
    session: tuple[int, int] = (0, -1),
) -> bytes:
    """The body of Fetch 11 for one partition of one topic. `session` is its id and epoch."""
    return (
        struct.pack(">iiiibiii", -1, wait_ms_max, size_min, size_max, 0, *session, 1)
        + string(topic)
        + struct.pack(">iiiqqiih", 1, partition, -1, offset, -1, size_max, 0, 0)
    )


@dataclass(frozen=True, slots=True)
class Fetched:
    """One partition of a Fetch reply."""

    error: int
    high_watermark: int
    records: bytes
    session_id: int


def parse_fetch(body: bytes) -> Fetched:
    """The reply of Fetch 11 to a request for one partition."""
    session_id, _, topic_size = struct.unpack_from(">iih", body, 6)
    position = 14 + 2 + topic_size + 4
    _, error, high_watermark, _, _, aborted_count, _ = struct.unpack_from(
        ">ihqqqii", body, position
    )
    assert aborted_count <= 0, "nothing is ever aborted"
    position += 38
    (size,) = struct.unpack_from(">i", body, position)
    assert size >= 0, "null records break clients"
    records = body[position + 4 : position + 4 + size]
    return Fetched(error, high_watermark, records, session_id)


def metadata(topics: list[str]) -> bytes:
    """The body of Metadata 1."""
    return struct.pack(">i", len(topics)) + b"".join(map(string, topics))


class Wire(Connection):
    """One connection."""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """Correlation id and body of the next reply. Raises ConnectionError at the end."""
        (size,) = struct.unpack(">i", self.exactly(4))
        reply = self.exactly(size)
        return int.from_bytes(reply[:4], "big"), reply[4:]

    def ask(self, api_key: int, version: int, body: bytes, correlation_id: int = 7) -> bytes:
        self.send(request(api_key, version, correlation_id, body))
        got, reply = self.receive()
        assert got == correlation_id
        return reply

    def is_closed(self) -> bool:
        """Read until the server closes. Raises TimeoutError when it does not."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        return True
