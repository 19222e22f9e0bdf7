"""The client of single requests: what it counts, and that an error ends it."""

import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.closed_loop import ClosedLoop, native

Answer = Callable[[int], bytes]
"""By the number of the request, of all connections."""


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[int, list[int]]]:
    """The port, and the numbers of what was asked."""
    asked: list[int] = []
    lock = threading.Lock()

    class Peer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while prefix := self.rfile.read(4):
                self.rfile.read(struct.unpack("<I", prefix)[0])
                with lock:
                    asked.append(len(asked))
                    reply = answer(asked[-1])
                self.wfile.write(struct.pack("<I", len(reply)) + reply)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Peer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()


def test_every_request_is_counted_but_the_first_of_a_connection() -> None:
    with serving(lambda _: b"OK") as (port, asked):
        with ClosedLoop((port, native(b"GET t")), connections=3) as loop:
            assert len(asked) == 3
            assert loop.run(0.0)["messages"] == 3
            before = len(asked)
            assert loop.run(0.05)["messages"] == len(asked) - before


def test_nothing_more_to_get_ends_a_run() -> None:
    with serving(lambda number: b"OK" if number < 7 else b"EMPTY") as (port, _):
        with ClosedLoop((port, native(b"GET t")), connections=2) as loop:
            assert loop.run(60.0)["messages"] == 5


def test_an_error_is_not_a_short_run() -> None:
    with serving(lambda number: b"OK" if number < 7 else b"ERR disk full") as (port, _):
        with ClosedLoop((port, native(b"PUT t x")), connections=2) as loop:
            with pytest.raises(ValueError, match="disk full"):
                loop.run(60.0)


def test_connections_are_shared_out_among_several_servers() -> None:
    with serving(lambda _: b"OK") as (one, asked_one), serving(lambda _: b"OK") as (two, asked_two):
        request = native(b"GET t")
        with ClosedLoop((one, request), (two, request), connections=4) as loop:
            assert (len(asked_one), len(asked_two)) == (2, 2)
            assert loop.run(0.0)["messages"] == 4
