"""What one request costs, in counts that do not depend on the machine's mood. Never in time.

A bound that is exceeded is a request that became dearer: find out why before raising it. The
counts belong to the pinned Python and kio; docs/performance.md tells what is in them.
"""

import itertools
import signal
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from harness import wire
from harness.counted import (
    COUNT,
    ROUNDS_MAX,
    counting_server,
    instructions,
    memory,
    repeat,
)
from harness.server import Server
from harness.wire import Wire

Ask = Callable[[], None]


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    server = counting_server(tmp_path, getattr(request, "param", None))
    server.start()
    yield server
    server.stop()


KAFKA = ("produce", "fetch", "session", "tail")


@pytest.fixture(params=[*KAFKA, "put", "get"])
def ask(server: Server, request: pytest.FixtureRequest) -> Iterator[Ask]:
    """One canonical request: a kilobyte, in one record, on one connection. `session`: a Fetch in
    a fetch session; `tail`: one that waits for the Produce of another connection, and that."""
    is_kafka = request.param in KAFKA
    port = server.kafka_port if is_kafka else server.native_port
    prefix = struct.Struct(">I" if is_kafka else "<I")
    peer = socket.create_connection(("127.0.0.1", port), timeout=30)
    with closing(peer), peer.makefile("rb") as replies, Wire(server.kafka_port) as writer:

        def exchange(frame: bytes) -> bytes:
            peer.sendall(frame)
            (size,) = prefix.unpack(replies.read(prefix.size))
            return replies.read(size)

        def native(text: str) -> bytes:
            return exchange(prefix.pack(len(text)) + text.encode())

        def produce() -> None:
            batch = wire.batch([b"x" * 1000])
            reply = exchange(wire.request(wire.PRODUCE, 3, 1, wire.produce("t", batch)))
            assert wire.parse_produce(reply[4:]).error == 0

        def fetch() -> None:
            reply = exchange(wire.request(wire.FETCH, 11, 1, wire.fetch("t", 0, size_max=1)))
            assert len(wire.parse_fetch(reply[4:]).records) > 1000

        session_id, epochs = 0, itertools.count()

        def session() -> None:
            nonlocal session_id
            body = wire.fetch("t", 0, size_max=1, session=(session_id, next(epochs)))
            found = wire.parse_fetch(exchange(wire.request(wire.FETCH, 11, 1, body))[4:])
            assert len(found.records) > 1000
            assert found.session_id == (session_id or found.session_id) != 0
            session_id = found.session_id

        end = 1

        def tail() -> None:
            nonlocal end
            peer.sendall(wire.request(wire.FETCH, 11, 1, wire.fetch("t", end, wait_ms_max=30_000)))
            batch = wire.batch([b"x" * 1000])
            writer.send(wire.request(wire.PRODUCE, 3, 1, wire.produce("t", batch)))
            assert wire.parse_produce(writer.receive()[1]).error == 0
            (size,) = prefix.unpack(replies.read(prefix.size))
            assert len(wire.parse_fetch(replies.read(size)[4:]).records) > 1000
            end += 1

        def put() -> None:
            assert native("PUT t " + "x" * 1000) == b"OK"

        def get() -> None:
            assert native("GET t").startswith(b"OK x")

        if is_kafka:
            exchange(wire.request(wire.METADATA, 1, 1, wire.metadata(["t"])))
            if request.param in ("fetch", "session", "tail"):
                produce()
        else:
            assert native("REGISTER t") == b"OK"
            if request.param == "get":
                for _ in range(1 + ROUNDS_MAX):
                    repeat(put)
        asks: tuple[Ask, ...] = (produce, fetch, session, tail, put, get)
        yield next(one for one in asks if one.__name__ == request.param)


INSTRUCTIONS = {
    "produce": 5_000,
    "fetch": 3_200,
    "session": 3_500,
    "tail": 9_500,
    "put": 5_700,
    "get": 7_000,
}
"""Of the interpreter, in the thread that serves, per request."""


def test_a_request_that_takes_more_instructions(
    server: Server, ask: Ask, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["ask"]

    counts = instructions(server, ask)

    per_request = sum(counts.values()) / COUNT
    most = "\n".join(f"{count / COUNT:8.1f} {name}" for name, count in counts.most_common(60))
    assert per_request <= INSTRUCTIONS[kind], f"{kind}: {per_request:.0f} instructions:\n{most}"
    assert per_request > INSTRUCTIONS[kind] / 3, f"{kind}: {per_request:.0f}: the bound is stale"


PRODUCER_COUNT = 50
INSTRUCTIONS_AMONG_MANY = 1_800
"""Per Produce, where many come in one turn of the loop."""


def test_many_producers_that_share_less_of_the_work(server: Server) -> None:
    frame = wire.request(wire.PRODUCE, 3, 1, wire.produce("t", wire.batch([b"x" * 1000])))
    process = server.process
    assert process is not None
    with ExitStack() as stack:
        producers = [stack.enter_context(Wire(server.kafka_port)) for _ in range(PRODUCER_COUNT)]

        def all_at_once() -> None:
            process.send_signal(signal.SIGSTOP)
            for producer in producers:
                producer.send(frame)
            process.send_signal(signal.SIGCONT)
            for producer in producers:
                assert wire.parse_produce(producer.receive()[1]).error == 0

        for producer in producers:
            producer.send(wire.request(wire.METADATA, 1, 1, wire.metadata(["t"])))
            producer.receive()

        counts = instructions(server, all_at_once)

    per_request = sum(counts.values()) / COUNT / PRODUCER_COUNT
    most = "\n".join(
        f"{count / COUNT / PRODUCER_COUNT:8.1f} {name}" for name, count in counts.most_common(60)
    )
    assert INSTRUCTIONS_AMONG_MANY / 2 < per_request <= INSTRUCTIONS_AMONG_MANY, most


MEMORY = {
    "produce": 60_000,
    "fetch": 100_000,
    "session": 100_000,
    "tail": 100_000,
    "put": 100_000,
    "get": 100_000,
}
"""Bytes that are allocated at the same time, at most, while COUNT requests come one after the
other: what one of them needs, what the log keeps of all, and what the node does beside them."""


@pytest.mark.parametrize("server", [{"COUNTED": "memory"}], indirect=True, ids=["memory"])
def test_a_request_that_takes_more_memory(
    server: Server, ask: Ask, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["ask"]

    sizes = memory(server, ask, enough=MEMORY[kind])

    assert sizes["at_most"] <= MEMORY[kind], f"{kind}: {sizes}"
    if kind in ("produce", "put"):
        assert sizes["in_cycles"] < COUNT, f"{kind} leaves work for the cycle collector: {sizes}"


SYSTEM_CALLS = {"produce": 10, "fetch": 6, "session": 6, "tail": 15, "put": 10, "get": 10}
"""Of the thread that serves, per request; with `--fsync each`."""

_DURABLE = {"recvfrom": 1, "sendmsg": 1, "io_uring_enter": 1}
_IN_MEMORY = {"recvfrom": 1, "sendmsg": 1, "io_uring_enter": 0}
ONE_EACH = {
    "produce": _DURABLE,
    "put": _DURABLE,
    "get": _DURABLE,
    "fetch": _IN_MEMORY,
    "session": _IN_MEMORY,
    "tail": {"recvfrom": 2, "sendmsg": 2, "io_uring_enter": 1},
}
"""The calls that carry bytes: one to receive, one to write and sync, one to answer."""


@pytest.mark.strace
def test_a_request_that_takes_more_system_calls(
    server: Server, ask: Ask, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["ask"]
    repeat(ask)

    for _ in range(ROUNDS_MAX):  # A node that has just started makes calls of its own.
        calls = traced(server, ask)
        per_request = sum(calls.values()) / COUNT
        if per_request <= SYSTEM_CALLS[kind]:
            break

    assert per_request <= SYSTEM_CALLS[kind], f"{kind}: {per_request:.1f} calls: {calls}"
    assert per_request > SYSTEM_CALLS[kind] / 3, f"{kind}: {per_request:.1f}: the bound is stale"
    for name, count_max in ONE_EACH[kind].items():
        assert calls[name] <= COUNT * count_max + 5, f"{kind}: {calls}"


LARGE_SIZE_MIN = 900_000
"""Bytes of records in one Fetch."""
LARGE = {"sendfile": 1, "sendmsg": 2, "preadv2": 2, "recvfrom": 1, "mincore": 1}
LARGE_SYSTEM_CALLS = 15
LARGE_INSTRUCTIONS = 4_500


@pytest.fixture
def large(server: Server) -> Iterator[Ask]:
    """A Fetch of a megabyte."""
    fetch = wire.request(wire.FETCH, 11, 1, wire.fetch("t", 0, size_max=1 << 20))
    produce = wire.request(wire.PRODUCE, 3, 1, wire.produce("t", wire.batch([b"x" * 10_000])))
    with Wire(server.kafka_port) as peer:

        def ask() -> None:
            peer.send(fetch)
            assert len(wire.parse_fetch(peer.receive()[1]).records) > LARGE_SIZE_MIN

        peer.send(wire.request(wire.METADATA, 1, 1, wire.metadata(["t"])))
        peer.receive()
        for _ in range(110):
            peer.send(produce)
            assert wire.parse_produce(peer.receive()[1]).error == 0
        yield ask


@pytest.mark.strace
def test_a_large_fetch_that_copies_its_records(server: Server, large: Ask) -> None:
    repeat(large)

    for _ in range(ROUNDS_MAX):
        calls = traced(server, large)
        if sum(calls.values()) <= COUNT * LARGE_SYSTEM_CALLS:
            break

    assert sum(calls.values()) <= COUNT * LARGE_SYSTEM_CALLS, calls
    for name, count_max in LARGE.items():
        assert COUNT <= calls[name] <= COUNT * count_max + 5, calls


def test_a_large_fetch_that_takes_more_instructions(server: Server, large: Ask) -> None:
    counts = instructions(server, large)

    per_request = sum(counts.values()) / COUNT
    most = "\n".join(f"{count / COUNT:8.1f} {name}" for name, count in counts.most_common(60))
    assert LARGE_INSTRUCTIONS / 2 < per_request <= LARGE_INSTRUCTIONS, f"{per_request}:\n{most}"


def traced(server: Server, ask: Ask) -> Counter[str]:
    """The system calls of the serving thread in one round, by name."""
    strace = subprocess.Popen(
        ["strace", "-c", "-p", str(server.pid)], stderr=subprocess.PIPE, text=True
    )
    assert strace.stderr is not None
    assert "attached" in strace.stderr.readline()
    repeat(ask)
    strace.send_signal(signal.SIGINT)
    rows = [line.split() for line in strace.communicate(timeout=30)[1].splitlines()]
    return Counter(
        {
            row[-1]: int(row[3])
            for row in rows
            if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"
        }
    )
