"""What one request costs, in counts that do not depend on the machine's mood. Never in time.

A bound that is exceeded is a request that became dearer: find out why before raising it. The
counts belong to the pinned Python and kio; docs/performance.md tells what is in them.
"""

import json
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness import wire
from harness.server import Server

COUNT = 40
"""Requests that are counted, one after the other; as many go before."""

Ask = Callable[[], None]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    counting = Path(__file__).parent / "harness" / "counting.py"
    server = Server(
        tmp_path,
        prefix=(sys.executable, str(counting)),
        environment={"COUNTS": str(tmp_path / "counts.json")},
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["produce", "fetch", "put", "get"])
def ask(server: Server, request: pytest.FixtureRequest) -> Iterator[Ask]:
    """One canonical request: a kilobyte, in one record, on one connection."""
    is_kafka = request.param in ("produce", "fetch")
    port = server.kafka_port if is_kafka else server.native_port
    prefix = struct.Struct(">I" if is_kafka else "<I")
    peer = socket.create_connection(("127.0.0.1", port), timeout=30)
    with closing(peer), peer.makefile("rb") as replies:

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
            reply = exchange(wire.request(wire.FETCH, 4, 1, wire.fetch("t", 0, size_max=1)))
            assert len(wire.parse_fetch(reply[4:]).records) > 1000

        def put() -> None:
            assert native("PUT t " + "x" * 1000) == b"OK"

        def get() -> None:
            assert native("GET t").startswith(b"OK x")

        if is_kafka:
            exchange(wire.request(wire.METADATA, 1, 1, wire.metadata(["t"])))
            if request.param == "fetch":
                produce()
        else:
            assert native("REGISTER t") == b"OK"
            if request.param == "get":
                for _ in range(2 * COUNT):
                    put()
        yield {"produce": produce, "fetch": fetch, "put": put, "get": get}[request.param]


def repeat(ask: Ask) -> None:
    for _ in range(COUNT):
        ask()


INSTRUCTIONS = {"produce": 1, "fetch": 1, "put": 1, "get": 1}
"""Of the interpreter, in the thread that serves, per request."""


def test_a_request_that_takes_more_instructions(
    server: Server, ask: Ask, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["ask"]
    repeat(ask)

    signalled(server, signal.SIGUSR1, "counting")
    repeat(ask)
    signalled(server, signal.SIGUSR2, "counted")

    counts = json.loads(Path(server.environment["COUNTS"]).read_text())
    per_request = sum(count for _, count in counts) / COUNT
    most = "\n".join(f"{count / COUNT:8.1f} {name}" for name, count in counts[:60])
    assert per_request <= INSTRUCTIONS[kind], f"{kind}: {per_request:.0f} instructions:\n{most}"


def signalled(server: Server, number: signal.Signals, answer: str) -> None:
    """Send the signal, and return when the server has said `answer`."""
    with server.log_path.open() as log:
        log.seek(0, 2)
        server.process.send_signal(number)  # type: ignore[union-attr]
        while answer not in log.read():
            assert server.process is not None and server.process.poll() is None


SYSTEM_CALLS = {"produce": 1, "fetch": 1, "put": 1, "get": 1}
"""Of the thread that serves, per request; with `--fsync each`."""


@pytest.mark.strace
def test_a_request_that_takes_more_system_calls(
    server: Server, ask: Ask, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["ask"]
    repeat(ask)

    strace = subprocess.Popen(
        ["strace", "-c", "-p", str(server.pid)], stderr=subprocess.PIPE, text=True
    )
    assert strace.stderr is not None
    assert "attached" in strace.stderr.readline()
    repeat(ask)
    strace.send_signal(signal.SIGINT)
    summary = strace.communicate(timeout=30)[1]

    total = re.search(r"(\d+)\s+\d*\s*total", summary)
    assert total, summary
    per_request = int(total.group(1)) / COUNT
    assert per_request <= SYSTEM_CALLS[kind], f"{kind}: {per_request:.1f} calls:\n{summary}"
