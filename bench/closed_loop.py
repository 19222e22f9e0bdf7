"""Many connections that each send a request, wait for its reply, and send the next: pure latency.

One thread and one selector, so that the client costs little beside the server.
"""

import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.stats import Sample, latencies
from harness import wire

REPLY_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """A framed request, and how to read the reply to it."""

    frame: bytes
    prefix: struct.Struct
    is_good: Callable[[bytes], bool]


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
        prefix.pack(len(command)) + command, prefix, lambda reply: reply.startswith(b"OK")
    )


@dataclass(slots=True)
class _Conversation:
    socket: socket.socket
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


def closed_loop(port: int, request: Request, *, connections: int, seconds: float) -> Sample:
    """Replies per second, and their latency. A reply that is not good ends the run; that the first
    one is not raises ValueError."""
    selector = selectors.DefaultSelector()
    talks = [
        _Conversation(socket.create_connection(("127.0.0.1", port))) for _ in range(connections)
    ]
    for talk in talks:
        talk.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(talk.socket, selectors.EVENT_READ, talk)
    durations_ms: list[float] = []
    began = time.perf_counter()
    try:
        for talk in talks:
            talk.sent_at = time.perf_counter()
            talk.socket.sendall(request.frame)
        _converse(selector, request, durations_ms, began + seconds, count_min=connections)
        took_s = time.perf_counter() - began
    finally:
        for talk in talks:
            talk.socket.close()
        selector.close()
    if not durations_ms:
        raise ValueError("the server answered no request")
    count = len(durations_ms)
    return {"messages_per_s": count / took_s, "messages": count, **latencies(durations_ms)}


def _converse(
    selector: selectors.BaseSelector,
    request: Request,
    durations_ms: list[float],
    until: float,
    *,
    count_min: int,
) -> None:
    """Until the time is over, and as many replies have come as there are connections: fewer would
    say nothing of what many at once are like."""
    while True:
        events = selector.select(REPLY_S_MAX)
        if not events:
            raise TimeoutError(f"no reply for {REPLY_S_MAX:.0f} s")
        for key, _ in events:
            talk: _Conversation = key.data
            talk.received += talk.socket.recv(1 << 16)
            reply = _reply(talk.received, request.prefix)
            if reply is None:
                continue
            if not request.is_good(reply):
                return
            talk.received.clear()
            now = time.perf_counter()
            durations_ms.append((now - talk.sent_at) * 1000)
            if now > until and len(durations_ms) >= count_min:
                return
            talk.sent_at = now
            talk.socket.sendall(request.frame)


def _reply(received: bytearray, prefix: struct.Struct) -> bytes | None:
    if len(received) < prefix.size:
        return None
    (size,) = prefix.unpack_from(received)
    whole = bytes(received[prefix.size : prefix.size + size])
    return whole if len(whole) == size else None
