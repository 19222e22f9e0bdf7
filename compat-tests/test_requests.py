"""Order and waiting, below the level at which clients hide it: requests as bytes on one socket."""

import struct
import threading
import time

import pytest

from harness.clients import confluent_read_all, values
from harness.server import Server
from harness.wire import (
    API_VERSIONS,
    FETCH,
    METADATA,
    PRODUCE,
    Wire,
    batch,
    fetch,
    metadata,
    parse_fetch,
    parse_produce,
    produce,
    request,
)

pytestmark = [pytest.mark.confluent]

UNSUPPORTED_VERSION, OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE = 35, 1, 2


def _create(wire: Wire, topic: str) -> None:
    """Metadata 1 creates what it is asked for; the answer names the leader."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        reply = wire.ask(METADATA, 1, metadata([topic]))
        if b"\x00\x00" + struct.pack(">h", len(topic)) + topic.encode() in reply:
            return
    raise AssertionError("the topic does not appear")


def test_pipelined_writes_out_of_order(server: Server, topic: str) -> None:
    """300 requests in one piece: replies in order, offsets in order, nothing merged or dropped."""
    count = 300
    with Wire(server.kafka_port) as wire:
        _create(wire, topic)
        wire.send(
            b"".join(
                request(PRODUCE, 3, number, produce(topic, batch([b"%d" % number])))
                for number in range(count)
            )
        )
        for number in range(count):
            correlation_id, reply = wire.receive()
            assert correlation_id == number
            written = parse_produce(reply)
            assert (written.error, written.base_offset) == (0, number)
    found = values(confluent_read_all(server.kafka, topic))
    assert found == [b"%d" % number for number in range(count)]


def test_slow_request_overtaken_by_a_fast_one(server: Server, topic: str) -> None:
    """A fetch that waits, then two quick requests: answers come in the order of the questions."""
    with Wire(server.kafka_port) as wire, Wire(server.kafka_port) as other:
        _create(wire, topic)
        wire.send(request(FETCH, 11, 1, fetch(topic, 0, wait_ms_max=30_000)))
        wire.send(request(API_VERSIONS, 0, 2, b""))
        wire.send(request(METADATA, 1, 3, metadata([topic])))
        other.ask(PRODUCE, 3, produce(topic, batch([b"x"])))
        assert [wire.receive()[0] for _ in range(3)] == [1, 2, 3]


def test_write_without_acknowledgement_that_is_answered(server: Server, topic: str) -> None:
    with Wire(server.kafka_port) as wire:
        _create(wire, topic)
        for number in range(10):
            body = produce(topic, batch([b"%d" % number]), acks=0)
            wire.send(request(PRODUCE, 3, number, body))
        wire.send(request(PRODUCE, 3, 99, produce(topic, batch([b"last"]), acks=1)))
        correlation_id, reply = wire.receive()
        assert correlation_id == 99
        assert parse_produce(reply).base_offset == 10


def test_reader_that_is_answered_with_nothing_too_early(server: Server, topic: str) -> None:
    """A fetch at the end waits for the next write, however small, and is then answered."""
    with Wire(server.kafka_port) as wire:
        _create(wire, topic)
        answered = threading.Event()
        found = []

        def read() -> None:
            found.append(parse_fetch(wire.ask(FETCH, 11, fetch(topic, 0, wait_ms_max=25_000))))
            answered.set()

        reader = threading.Thread(target=read)
        reader.start()
        with Wire(server.kafka_port) as other:
            for _ in range(20):
                other.ask(API_VERSIONS, 0, b"")
            assert not answered.is_set()
            other.ask(PRODUCE, 3, produce(topic, batch([b"x"])))
        assert answered.wait(20)
        reader.join()
        assert found[0].error == 0
        assert found[0].high_watermark == 1
        assert found[0].records[16:] == batch([b"x"])[16:], "patched more than offset and epoch"


def test_wait_that_never_ends(server: Server, topic: str) -> None:
    with Wire(server.kafka_port, timeout_s=20) as wire:
        _create(wire, topic)
        for wait_ms in (0, 1, 200):
            found = parse_fetch(wire.ask(FETCH, 11, fetch(topic, 0, wait_ms_max=wait_ms)))
            assert found == parse_fetch(wire.ask(FETCH, 11, fetch(topic, 0, wait_ms_max=0)))
            assert (found.error, found.high_watermark, found.records) == (0, 0, b"")


def test_bytes_changed_on_the_way_to_the_disk_and_back(server: Server, topic: str) -> None:
    """Base offset and leader epoch are the broker's; every other byte is the writer's."""
    with Wire(server.kafka_port) as wire:
        _create(wire, topic)
        written = [
            batch([b"a" * 100] * 10, compression=1, timestamp_ms=1_700_000_000_000),
            batch([None, b"", b"x"], timestamp_ms=1_700_000_000_001),
            batch([b"z" * 50_000], compression=3, timestamp_ms=1_700_000_000_002),
        ]
        for records in written:
            assert parse_produce(wire.ask(PRODUCE, 3, produce(topic, records))).error == 0
        found = parse_fetch(wire.ask(FETCH, 11, fetch(topic, 0))).records
    position = 0
    for records, base_offset in zip(written, (0, 10, 13), strict=True):
        stored = found[position : position + len(records)]
        assert int.from_bytes(stored[:8], "big") == base_offset
        assert stored[8:12] == records[8:12]
        assert stored[16:] == records[16:]
        position += len(records)
    assert position == len(found)


@pytest.mark.parametrize("offset", [-1, 1, 100, 2**62])
def test_offset_outside_of_the_log(server: Server, topic: str, offset: int) -> None:
    with Wire(server.kafka_port) as wire:
        _create(wire, topic)
        found = parse_fetch(wire.ask(FETCH, 11, fetch(topic, offset, wait_ms_max=0)))
        assert found.error == OFFSET_OUT_OF_RANGE


def test_version_from_the_future_that_hangs_up(server: Server) -> None:
    """An unknown ApiVersions is answered in version 0 with what there is, or clients guess."""
    with Wire(server.kafka_port) as wire:
        body = wire.ask(API_VERSIONS, 99, b"\x00whatever")
        assert body == struct.pack(">hihhh", UNSUPPORTED_VERSION, 1, API_VERSIONS, 0, 4)
        (error,) = struct.unpack_from(">h", wire.ask(API_VERSIONS, 0, b""))
        assert error == 0


def test_compression_that_old_clients_switch_off(server: Server) -> None:
    """Produce is advertised from 0, or librdkafka silently stops compressing."""
    with Wire(server.kafka_port) as wire:
        body = wire.ask(API_VERSIONS, 0, b"")
    (count,) = struct.unpack_from(">i", body, 2)
    ranges = {
        key: (low, high)
        for key, low, high in (
            struct.unpack_from(">hhh", body, 6 + 6 * number) for number in range(count)
        )
    }
    assert ranges[PRODUCE] == (0, 12)
    assert all(low <= high for low, high in ranges.values())


def test_batch_damaged_on_the_way(server: Server, topic: str) -> None:
    good = batch([b"value " * 20] * 3)
    with Wire(server.kafka_port) as wire:
        _create(wire, topic)
        for position in range(16, len(good), 7):
            bad = bytearray(good)
            bad[position] ^= 0x40
            written = parse_produce(wire.ask(PRODUCE, 3, produce(topic, bytes(bad))))
            assert written.error != 0, position
            if position >= 21:
                assert written.error == CORRUPT_MESSAGE, position
        assert parse_produce(wire.ask(PRODUCE, 3, produce(topic, good))).base_offset == 0
    assert len(confluent_read_all(server.kafka, topic)) == 3
