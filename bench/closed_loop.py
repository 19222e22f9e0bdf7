"""Many connections that each send a request, wait for its reply, and send the next: pure latency.

One thread and one selector, so that the client costs little beside the server.
"""

import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Self

from bench.stats import Sample, latencies
from harness import wire

REPLY_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """A framed request, and how to read the reply to it."""

    frame: bytes
    prefix: struct.Struct
    is_good: Callable[[bytes], bool]
    is_end: Callable[[bytes], bool] = lambda _: False
    """Not good, and no failure either: there is nothing more to ask for."""


def kafka_produce(topic: str, size: int, acks: int) -> Request:
    """One record of `size` bytes."""
    body = wire.produce(topic, wire.batch([b"x" * size]), acks=acks)
    return Request(
        wire.request(wire.PRODUCE, 3, 1, body),
        struct.Struct(">I"),
        lambda reply: wire.parse_produce(reply[4:]).error == 0,
    )


def kafka_fetch(topic: str, offset: int, *, size_max: int = 1 << 20) -> Request:
    """The batch that holds the record at `offset`, and more up to `size_max` bytes."""

    def is_good(reply: bytes) -> bool:
        fetched = wire.parse_fetch(reply[4:])
        return fetched.error == 0 and bool(fetched.records)

    body = wire.fetch(topic, offset, size_max=size_max)
    return Request(wire.request(wire.FETCH, 11, 1, body), struct.Struct(">I"), is_good)


def native(command: bytes) -> Request:
    prefix = struct.Struct("<I")
    return Request(
        prefix.pack(len(command)) + command,
        prefix,
        is_good=lambda reply: reply.startswith(b"OK"),
        is_end=lambda reply: reply == b"EMPTY",
    )


@dataclass(slots=True)
class _Conversation:
    socket: socket.socket
    request: Request
    sent_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)


def ask(port: int, request: Request) -> bytes:
    """One request on a connection of its own. Raises OSError."""
    with socket.create_connection(("127.0.0.1", port), timeout=REPLY_S_MAX) as peer:
        peer.sendall(request.frame)
        received = bytearray()
        while (reply := _reply(received, request.prefix)) is None:
            chunk = peer.recv(1 << 16)
            if not chunk:
                raise ConnectionError("closed before the reply")
            received += chunk
        return reply


class ClosedLoop:
    """So many connections, each of which has had one request answered already: what it costs to
    connect, and to begin, is no part of what is measured. Raises ValueError for a reply that is an
    error, here and later.

    They share out `targets`, a port on 127.0.0.1 and what is asked there; each keeps to its own.
    """

    def __init__(self, *targets: tuple[int, Request], connections: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._durations_ms: list[float] = []
        self._owed = 0
        self._is_over = False
        for port, request in islice(cycle(targets), connections):
            talk = _Conversation(socket.create_connection(("127.0.0.1", port)), request)
            talk.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(talk.socket, selectors.EVENT_READ, talk)
        self.run(0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()

    def run(self, seconds: float) -> Sample:
        """Replies per second, and their latency. Every request that was sent is answered before it
        ends."""
        self._durations_ms.clear()
        began = time.perf_counter()
        for key in list(self._selector.get_map().values()):
            self._send(key.data)
        while self._owed:
            events = self._selector.select(REPLY_S_MAX)
            if not events:
                raise TimeoutError(f"no reply for {REPLY_S_MAX:.0f} s")
            for key, _ in events:
                if self._answered(key.data) and not self._is_over:
                    if time.perf_counter() < began + seconds:
                        self._send(key.data)
        took_s = time.perf_counter() - began
        count = len(self._durations_ms)
        if not count:
            raise ValueError("the server had nothing to answer with")
        rate = count / took_s
        return {"messages_per_s": rate, "messages": count, **latencies(self._durations_ms)}

    def _send(self, talk: _Conversation) -> None:
        talk.sent_at = time.perf_counter()
        talk.socket.sendall(talk.request.frame)
        self._owed += 1

    def _answered(self, talk: _Conversation) -> bool:
        """Whether that made the reply complete."""
        chunk = talk.socket.recv(1 << 16)
        if not chunk:
            raise ConnectionError("closed before the reply")
        talk.received += chunk
        reply = _reply(talk.received, talk.request.prefix)
        if reply is None:
            return False
        talk.received.clear()
        self._owed -= 1
        if talk.request.is_good(reply):
            self._durations_ms.append((time.perf_counter() - talk.sent_at) * 1000)
        elif talk.request.is_end(reply):
            self._is_over = True
        else:
            raise ValueError(f"the server answered {reply[:200]!r}")
        return True


def _reply(received: bytearray, prefix: struct.Struct) -> bytes | None:
    if len(received) < prefix.size:
        return None
    (size,) = prefix.unpack_from(received)
    whole = bytes(received[prefix.size : prefix.size + size])
    return whole if len(whole) == size else None
