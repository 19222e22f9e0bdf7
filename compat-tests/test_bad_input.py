"""Everything a peer may do wrong: an error or a closed connection, bounded memory, and nobody else
notices.
"""

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from harness.clients import Message, confluent_read_all, confluent_write
from harness.native import Native
from harness.server import Server
from harness.wire import (
    API_VERSIONS,
    FETCH,
    METADATA,
    PRODUCE,
    Produced,
    Wire,
    batch,
    fetch,
    framed,
    metadata,
    parse_fetch,
    parse_produce,
    produce,
    request,
    string,
)

pytestmark = [pytest.mark.confluent]

Launch = Callable[..., Server]

MIB = 1024 * 1024

CORRUPT_MESSAGE, INVALID_RECORD, UNSUPPORTED_FOR_MESSAGE_FORMAT = 2, 87, 43


@contextmanager
def bystander(server: Server) -> Iterator[None]:
    """Somebody who writes and reads all the while, on both protocols, and must not notice."""
    stopping = threading.Event()
    failures: list[BaseException] = []
    rounds = [0]
    name = f"bystander-{random.getrandbits(40):x}"

    def work() -> None:
        try:
            with Wire(server.kafka_port) as wire, Native(server.native_port) as native:
                wire.ask(METADATA, 1, metadata([name]))
                while not stopping.is_set() or rounds[0] < 2:
                    reply = wire.ask(PRODUCE, 3, produce(name, batch([b"%d" % rounds[0]])))
                    assert parse_produce(reply).error == 0
                    assert native.get(name) == b"%d" % rounds[0]
                    rounds[0] += 1
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(60)
    assert not thread.is_alive(), "the bystander hangs"
    if failures:
        raise failures[0]


def _ports(server: Server) -> list[int]:
    return [server.kafka_port, server.native_port]


def _is_over(peer: socket.socket) -> bool:
    """Read until the server closes. Raises TimeoutError when it does not."""
    try:
        while peer.recv(65_536):
            pass
    except ConnectionError:
        pass
    return True


def test_garbage(server: Server) -> None:
    """Any bytes at all, on both ports. The seed makes it the same garbage each time."""
    rng = random.Random(2024)
    with bystander(server):
        for turn in range(60):
            garbage = rng.randbytes(rng.choice([1, 3, 4, 7, 40, 1_000, 70_000]))
            for port in _ports(server):
                with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
                    try:
                        peer.sendall(garbage)
                        with suppress(OSError):  # it may have been closed for us already
                            peer.shutdown(socket.SHUT_WR)
                        assert _is_over(peer), turn
                    except ConnectionError:
                        continue


@pytest.mark.parametrize("size", [-1, 0, 1, 7, 2**31 - 1, -(2**31), 200 * MIB])
def test_absurd_length(server: Server, size: int) -> None:
    with bystander(server), Wire(server.kafka_port) as wire:
        wire.send(struct.pack(">i", size) + b"\x00" * 7)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.is_closed()


@pytest.mark.parametrize("size", [2**32 - 1, 2**31, 200 * MIB])
def test_absurd_length_of_a_native_command(server: Server, size: int) -> None:
    with bystander(server), Native(server.native_port) as native:
        native.socket.sendall(struct.pack("<I", size))
        assert native.receive() == b"ERR invalid frame length"
        assert _is_over(native.socket)


def test_request_of_200_megabytes(server: Server) -> None:
    """Refused at its length, not after its last byte; and no room is made for it."""
    before = server.memory_size()
    with bystander(server), Wire(server.kafka_port) as wire:
        wire.send(struct.pack(">i", 200 * MIB))
        assert wire.is_closed()
    assert server.memory_size() - before < 50 * MIB


def test_half_a_request_and_then_silence(server: Server) -> None:
    """Many who announce much, send little and stay: room is made for what came, no more."""
    before = server.memory_size()
    with bystander(server), ExitStack() as stack:
        for _ in range(50):
            wire = stack.enter_context(Wire(server.kafka_port))
            wire.send(struct.pack(">i", 90 * MIB) + b"\x00\x00\x00\x03" + b"x" * 1_000)
        assert server.memory_size() - before < 100 * MIB


def test_half_a_request_and_then_goodbye(server: Server, topic: str) -> None:
    whole = request(PRODUCE, 3, 1, produce(topic, batch([b"x" * 1_000])))
    with bystander(server):
        for size in (1, 3, 4, 5, 11, 12, 50, len(whole) // 2, len(whole) - 1):
            with Wire(server.kafka_port) as wire:
                wire.send(whole[:size])
        with Native(server.native_port) as native:
            native.socket.sendall(b"\x05\x00\x00\x00GE")
    with Wire(server.kafka_port) as wire:
        wire.ask(METADATA, 1, metadata([topic]))
    assert confluent_read_all(server.kafka, topic) == []


def test_request_that_arrives_byte_by_byte(server: Server, topic: str) -> None:
    """Slow is not wrong."""
    confluent_write(server.kafka, topic, [Message(b"0")])
    with bystander(server), Wire(server.kafka_port) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(PRODUCE, 3, 5, produce(topic, batch([b"slow"]))):
            wire.send(bytes([byte]))
        correlation_id, reply = wire.receive()
        assert correlation_id == 5
        assert parse_produce(reply).base_offset == 1


def test_stalled_peer_that_is_kept_for_ever(launch: Launch) -> None:
    """Half a request, then nothing; or nothing at all: closed in time, with a log line."""
    server = launch(environment={"WALRUS_STALL_MS_MAX": "500", "WALRUS_IDLE_MS_MAX": "1500"})
    with Wire(server.kafka_port) as half, Wire(server.kafka_port) as idle:
        half.send(b"\x00\x00\x01\x00half")
        with Native(server.native_port) as native:
            native.socket.sendall(b"\x05\x00")
            assert half.is_closed()
            assert _is_over(native.socket)
        assert idle.is_closed()
    assert "127.0.0.1" in server.log()
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("api_key", "version"),
    [(999, 0), (-1, 0), (PRODUCE, 2), (PRODUCE, 99), (FETCH, 3), (METADATA, 77), (24, 0), (27, 0)],
)
def test_request_nobody_serves(server: Server, api_key: int, version: int) -> None:
    with bystander(server), Wire(server.kafka_port) as wire:
        wire.send(request(api_key, version, 1, b"\x00" * 30))
        assert wire.is_closed()


def test_counts_that_no_memory_could_hold(server: Server) -> None:
    """Arrays and strings that announce two billion elements in a request of 30 bytes."""
    before = server.memory_size("VmHWM")
    huge = struct.pack(">i", 2**31 - 1)
    with bystander(server):
        for api_key, version, body in [
            (METADATA, 1, huge),
            (METADATA, 9, b"\x00\xff\xff\xff\xff\x0f"),
            (PRODUCE, 3, struct.pack(">hhi", -1, -1, 1_000) + huge),
            (PRODUCE, 9, b"\x00\x00\xff\xff\x00\x00\x03\xe8\xff\xff\xff\xff\x0f"),
            (FETCH, 4, struct.pack(">iiiib", -1, 0, 0, 0, 0) + huge),
            (API_VERSIONS, 3, b"\x00\xff\xff\xff\xff\x0f"),
            (METADATA, 1, struct.pack(">ih", 1, 32_767)),
        ]:
            with Wire(server.kafka_port) as wire:
                wire.send(request(api_key, version, 1, body))
                wire.socket.shutdown(socket.SHUT_WR)
                assert wire.is_closed()
    assert server.memory_size("VmHWM") - before < 100 * MIB


def test_request_cut_or_padded(server: Server, topic: str) -> None:
    """Every possible end of a good request, and one byte more."""
    body = produce(topic, batch([b"x"]))
    whole = struct.pack(">hhi", PRODUCE, 3, 1) + string("wire") + body
    with bystander(server):
        for size in range(8, len(whole) - 1, 3):
            with Wire(server.kafka_port) as wire:
                wire.send(framed(whole[:size]))
                wire.socket.shutdown(socket.SHUT_WR)
                assert wire.is_closed()


def test_records_that_are_none(server: Server, topic: str) -> None:
    """Each kind of nonsense in a produce request gets an error code, and the connection lives."""
    good = batch([b"a", b"b"])
    old_magic = good[:16] + b"\x01" + good[17:]
    control = bytearray(good)
    control[22] |= 0x20
    with bystander(server), Wire(server.kafka_port) as wire:
        wire.ask(METADATA, 1, metadata([topic]))
        for records in (
            b"",
            b"\x00",
            b"\x00" * 61,
            good[:-1],
            good[:60],
            good + b"\x00",
            good + good,
            old_magic,
            bytes(control),
            b"\xff" * 200,
        ):
            written = parse_produce(wire.ask(PRODUCE, 3, produce(topic, records)))
            assert written.error in {
                CORRUPT_MESSAGE,
                INVALID_RECORD,
                UNSUPPORTED_FOR_MESSAGE_FORMAT,
            }, records
        assert parse_produce(wire.ask(PRODUCE, 3, produce(topic, good))).base_offset == 0
    assert len(confluent_read_all(server.kafka, topic)) == 2


def test_reader_who_never_reads(launch: Launch) -> None:
    """Many large fetches asked for and none taken: memory stays bounded, whoever holds what others
    wait for is closed, and small requests go on."""
    server = launch(
        environment={
            "WALRUS_IN_FLIGHT_SIZE_MAX": str(64 * MIB),
            "WALRUS_REQUEST_SIZE_MAX": str(32 * MIB),
        }
    )
    confluent_write(
        server.kafka, "large", [Message(os.urandom(900_000)) for _ in range(60)], linger_ms=0
    )
    before = server.memory_size()
    with bystander(server), ExitStack() as stack:
        for _ in range(5):
            peer = stack.enter_context(Wire(server.kafka_port))
            for number in range(20):
                peer.send(request(FETCH, 11, number, fetch("large", 0, size_max=50 * MIB)))
        _wait_for_metric(server, "walrus_peer_errors_total", 1, listener="PLAINTEXT")
        # Replies may go beyond the budget one at a time, so that each comes to an end.
        assert server.memory_size("VmHWM") - before < 64 * MIB + 3 * 55 * MIB
    assert server.stop() == 0


def _wait_for_metric(server: Server, name: str, value: float, **labels: str) -> None:
    deadline = time.monotonic() + 60
    while (now := server.metric(name, **labels)) < value:
        assert time.monotonic() < deadline, f"{name} is {now}"
        time.sleep(0.05)


def test_thousands_of_connections(server: Server) -> None:
    with bystander(server), ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.kafka_port)) for _ in range(2_000)]
        natives = [stack.enter_context(Native(server.native_port)) for _ in range(1_000)]
        for wire in wires[::100]:
            wire.ask(API_VERSIONS, 0, b"")
        for native in natives[::100]:
            native.metrics()


def test_more_connections_than_descriptors(launch: Launch) -> None:
    """Out of descriptors: new ones wait or are refused, old ones work, and it passes."""
    server = launch(prefix=["prlimit", "--nofile=200"])
    with Wire(server.kafka_port) as old, ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(
                socket.create_connection(("127.0.0.1", server.kafka_port), timeout=30)
            )
        old.ask(API_VERSIONS, 0, b"")
        stack.close()
        for _ in range(100):
            try:
                with Wire(server.kafka_port) as new:
                    new.ask(API_VERSIONS, 0, b"")
                break
            except ConnectionError:
                threading.Event().wait(0.1)
        else:
            raise AssertionError("nobody is let in any more")
    assert confluent_write(server.kafka, "t", [Message(b"x")]) == [0]
    assert server.stop() == 0


def test_more_topics_than_descriptors(launch: Launch) -> None:
    """Every topic is written, read, and read back at the next start."""
    server = launch(prefix=["prlimit", "--nofile=160:160"])
    names = [f"t{i}" for i in range(200)]
    for start in (0, 1):
        with Wire(server.kafka_port) as wire:
            wire.ask(METADATA, 1, metadata(names))
            for name in names:
                produced = wire.ask(PRODUCE, 3, produce(name, batch([b"x"])))
                assert parse_produce(produced) == Produced(0, start)
            for name in names:
                assert parse_fetch(wire.ask(FETCH, 11, fetch(name, start))).error == 0
        assert 0 < server.metric("walrus_storage_open_logs") < 80
        assert server.stop() == 0
        server.start()


def test_connection_limit(launch: Launch) -> None:
    server = launch(environment={"WALRUS_CONNECTIONS_MAX": "20"})
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.kafka_port)) for _ in range(19)]
        for wire in wires:
            wire.ask(API_VERSIONS, 0, b"")
        refused = [stack.enter_context(Wire(server.kafka_port)) for _ in range(10)]
        assert sum(_is_refused(wire) for wire in refused) >= 9
        wires[0].ask(API_VERSIONS, 0, b"")
    assert server.stop() == 0


def _is_refused(wire: Wire) -> bool:
    try:
        wire.ask(API_VERSIONS, 0, b"")
    except ConnectionError:
        return True
    return False


def test_protocols_confused(launch: Launch) -> None:
    """The right protocol at the wrong port: the log says so, for whoever set the port."""
    server = launch()
    with Wire(server.native_port) as wire:
        wire.send(request(API_VERSIONS, 3, 1, b"\x00\x01a\x01b\x00"))
        wire.socket.shutdown(socket.SHUT_WR)
        wire.is_closed()
    with Native(server.kafka_port) as native:
        native.send(b"REGISTER topic")
        native.socket.shutdown(socket.SHUT_WR)
        _is_over(native.socket)
    with Wire(server.kafka_port) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wire.is_closed()
    assert server.stop() == 0
    log = server.log().lower()
    assert "kafka client" in log or "kafka protocol" in log, log
    assert "native" in log, log


def test_flood_of_tiny_requests(server: Server) -> None:
    """A peer that asks and asks without reading is held back; then it gets every answer."""
    before = server.memory_size("VmHWM")
    one = request(API_VERSIONS, 0, 1, b"")
    with bystander(server), Wire(server.kafka_port) as wire:
        wire.socket.settimeout(2)
        flood = memoryview(one * 60_000)
        sent_size = 0
        try:
            while sent_size < len(flood):
                sent_size += wire.socket.send(flood[sent_size : sent_size + 65_536])
        except TimeoutError:
            assert sent_size > 0
        wire.socket.settimeout(30)
        for _ in range(sent_size // len(one)):
            assert wire.receive()[0] == 1
    assert server.memory_size("VmHWM") - before < 50 * MIB
