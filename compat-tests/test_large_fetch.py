"""Fetches that the kernel answers from a file: bytes that are missing, or of another place."""

import os
import random
import socket
import struct
from itertools import accumulate
from pathlib import Path

import pytest
from conftest import Launch

from harness import wire
from harness.server import Server
from harness.wire import Wire

COUNT = 100
SIZE_MAX = 1 << 20


@pytest.fixture
def server(launch: Launch) -> Server:
    return launch()


@pytest.fixture
def stored(server: Server) -> list[bytes]:
    """The batches of topic "t", as they are in the log."""
    rng = random.Random(1)
    with Wire(server.kafka_port) as peer:
        peer.ask(wire.METADATA, 1, wire.metadata(["t"]))
        for _ in range(COUNT):
            batch = wire.batch([rng.randbytes(rng.randrange(20_000)) for _ in range(2)])
            found = wire.parse_produce(peer.ask(wire.PRODUCE, 3, wire.produce("t", batch)))
            assert found.error == 0
    (path,) = server.segment_files()
    data, batches, position = path.read_bytes(), [], 0
    for _ in range(COUNT):
        (length,) = struct.unpack_from(">i", data, position + 8)
        batches.append(data[position : position + 12 + length])
        position += 12 + length
    return batches


def expected(batches: list[bytes], offset: int, size_max: int = SIZE_MAX) -> bytes:
    found = b""
    for batch in batches[offset // 2 :]:
        if found and len(found) + len(batch) > size_max:
            break
        found += batch
    return found


def fetched(peer: Wire, offset: int, size_max: int = SIZE_MAX) -> bytes:
    reply = wire.parse_fetch(peer.ask(wire.FETCH, 11, wire.fetch("t", offset, size_max=size_max)))
    assert (reply.error, reply.high_watermark) == (0, 2 * COUNT)
    return reply.records


def forget_pages(path: Path) -> None:
    """Out of the page cache, where the file system lets them go."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_every_start_and_every_limit(server: Server, stored: list[bytes]) -> None:
    rng = random.Random(2)
    with Wire(server.kafka_port) as peer:
        for offset in range(2 * COUNT):
            size_max = rng.choice((1, 100_000, 200_000, 500_000, SIZE_MAX))
            assert fetched(peer, offset, size_max) == expected(stored, offset, size_max)


def test_a_consumer_that_reads_on_after_a_restart_and_a_cold_start(
    server: Server, stored: list[bytes]
) -> None:
    ends = list(accumulate(map(len, stored), initial=0))
    server.stop()
    server.start()
    for is_cold in (False, True):
        read, offset = b"", 0
        with Wire(server.kafka_port) as peer:
            while offset < 2 * COUNT:
                if is_cold:
                    forget_pages(server.segment_files()[0])
                records = fetched(peer, offset)
                read += records
                offset = 2 * ends.index(len(read))
        assert read == b"".join(stored)


def test_a_consumer_whose_socket_takes_little_and_late(server: Server, stored: list[bytes]) -> None:
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(30)
    peer.connect(("127.0.0.1", server.kafka_port))
    with peer, peer.makefile("rb", buffering=0) as replies:
        asked = [0, 20, 6, 198, 100]
        for offset in asked:
            peer.sendall(wire.request(wire.FETCH, 11, offset, wire.fetch("t", offset)))
        forget_pages(server.segment_files()[0])
        received = bytearray()
        whole = [expected(stored, offset) for offset in asked]
        for offset, records in zip(asked, whole, strict=True):
            while len(received) < 4 or len(received) < 4 + struct.unpack_from(">i", received)[0]:
                received += replies.read(10_000)
            (size,) = struct.unpack_from(">i", received)
            body = bytes(received[8 : 4 + size])
            assert struct.unpack_from(">i", received, 4)[0] == offset
            assert wire.parse_fetch(body).records == records
            del received[: 4 + size]


def test_a_topic_that_is_deleted_while_it_is_sent(server: Server, stored: list[bytes]) -> None:
    """Its file is gone, and the reply that was promised comes all the same."""
    with Wire(server.kafka_port) as peer, Wire(server.kafka_port) as other:
        for offset in range(12):
            peer.send(wire.request(wire.FETCH, 11, offset, wire.fetch("t", offset)))
        (size,) = struct.unpack(">i", peer.exactly(4))  # The first reply is on its way.
        (path,) = server.segment_files()
        delete = struct.pack(">i", 1) + wire.string("t") + struct.pack(">i", 10_000)
        assert other.ask(20, 1, delete)[-2:] == b"\0\0"
        while path.exists():
            other.ask(wire.METADATA, 1, wire.metadata([]))
        first = peer.exactly(size)
        replies = [(int.from_bytes(first[:4], "big"), first[4:])]
        replies += [peer.receive() for _ in range(11)]
        for offset, (correlation_id, body) in enumerate(replies):
            assert correlation_id == offset
            reply = wire.parse_fetch(body)
            if reply.error == 0:
                assert reply.records == expected(stored, offset)
            assert reply.error == 0 or offset
