"""Many connections that each send a request, wait for its reply, and send the next: pure latency.

One thread and one epoll, and no reply is looked at for longer than it takes to compare its
beginning: the client costs little beside the server, and tells what it costs.
"""

import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Self

from bench.meter import Watch
from bench.stats import Sample, latencies
from engine.batch import HEADER_SIZE
from harness import wire

REPLY_S_MAX = 60.0
RECEIVE_SIZE = 8192
"""Bytes at once: a reply of one record fits."""

_CORRELATION_ID = 1
_I32 = struct.Struct(">i")


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
    # One topic with one partition, without an error; what follows is the offset.
    good = _I32.pack(_CORRELATION_ID) + _only(topic)
    return Request(
        wire.request(wire.PRODUCE, 3, _CORRELATION_ID, body),
        struct.Struct(">I"),
        lambda reply: reply.startswith(good),
    )


def kafka_fetch(topic: str, offset: int, *, size_max: int = 1 << 20) -> Request:
    """The batch that holds the record at `offset`, and more up to `size_max` bytes."""
    body = wire.fetch(topic, offset, size_max=size_max)
    # Neither throttled nor an error nor in a session, as above; then at least a batch's header.
    good = _I32.pack(_CORRELATION_ID) + bytes(10) + _only(topic)
    size_min = len(good) + HEADER_SIZE
    return Request(
        wire.request(wire.FETCH, 11, _CORRELATION_ID, body),
        struct.Struct(">I"),
        lambda reply: len(reply) > size_min and reply.startswith(good),
    )


def _only(topic: str) -> bytes:
    return _I32.pack(1) + wire.string(topic) + _I32.pack(1) + struct.pack(">ih", 0, 0)


def native(command: bytes) -> Request:
    prefix = struct.Struct("<I")
    return Request(
        prefix.pack(len(command)) + command,
        prefix,
        is_good=lambda reply: reply.startswith(b"OK"),
        is_end=lambda reply: reply == b"EMPTY",
    )


class _Conversation:
    """One connection."""

    __slots__ = ("_received", "request", "sent_at", "socket")

    def __init__(self, peer: socket.socket, request: Request) -> None:
        self.socket = peer
        self.request = request
        self.sent_at = 0.0
        self._received = b""
        """Of a reply that is not complete."""

    def send(self, now: float) -> None:
        self.sent_at = now
        self.socket.sendall(self.request.frame)

    def receive(self) -> bytes | None:
        """The reply, once it is complete. Raises ConnectionError."""
        chunk = self.socket.recv(RECEIVE_SIZE)
        if not chunk:
            raise ConnectionError("closed before the reply")
        received = self._received + chunk if self._received else chunk
        reply = _reply(received, self.request.prefix)
        self._received = received if reply is None else b""
        if reply is None:
            # A server that sends it in two writes, without TCP_NODELAY, waits for this one's ack.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return reply


def ask(port: int, request: Request) -> bytes:
    """One request on a connection of its own. Raises OSError."""
    with socket.create_connection(("127.0.0.1", port), timeout=REPLY_S_MAX) as peer:
        talk = _Conversation(peer, request)
        talk.send(0.0)
        while (reply := talk.receive()) is None:
            pass
        return reply


class ClosedLoop:
    """So many connections, each of which has had one request answered already: what it costs to
    connect, and to begin, is no part of what is measured. Raises ValueError for a reply that is an
    error, here and later.

    They share out `targets`, a port on 127.0.0.1 and what is asked there; each keeps to its own.
    """

    def __init__(self, *targets: tuple[int, Request], connections: int) -> None:
        self._epoll = select.epoll()
        self._talks: dict[int, _Conversation] = {}
        for port, request in islice(cycle(targets), connections):
            peer = socket.create_connection(("127.0.0.1", port))
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._epoll.register(peer, select.EPOLLIN)
            self._talks[peer.fileno()] = _Conversation(peer, request)
        self.run(0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for talk in self._talks.values():
            talk.socket.close()
        self._epoll.close()

    def run(self, seconds: float) -> Sample:
        """Replies per second, their latency, and how many processors' worth of time the client
        took: at 1 it can do no more. Every request that was sent is answered before it ends."""
        talks, durations_ms, is_over = self._talks, list[float](), False
        watch = Watch(time.thread_time)
        until = time.perf_counter() + seconds
        for talk in talks.values():
            talk.send(time.perf_counter())
        owed_count = len(talks)
        while owed_count:
            events = self._epoll.poll(REPLY_S_MAX)
            if not events:
                raise TimeoutError(f"no reply for {REPLY_S_MAX:.0f} s")
            for number, _ in events:
                talk = talks[number]
                reply = talk.receive()
                if reply is None:
                    continue
                now = time.perf_counter()
                if talk.request.is_good(reply):
                    durations_ms.append((now - talk.sent_at) * 1000)
                elif talk.request.is_end(reply):
                    is_over = True
                else:
                    raise ValueError(f"the server answered {reply[:200]!r}")
                if is_over or now >= until:
                    owed_count -= 1
                else:
                    talk.send(now)
        count = len(durations_ms)
        sample = watch.read(count)
        if not count:
            raise ValueError("the server had nothing to answer with")
        return sample | {"messages": count} | latencies(durations_ms)


def _reply(received: bytes, prefix: struct.Struct) -> bytes | None:
    """If it is complete."""
    if len(received) < prefix.size:
        return None
    (size,) = prefix.unpack_from(received)
    whole = received[prefix.size : prefix.size + size]
    return whole if len(whole) == size else None
