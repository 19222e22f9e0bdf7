"""What one peer, and all peers together, may ask of the network layer, and what was asked so
far."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every bound of `connection.py` and `listener.py`. Sizes are bytes, `_s` is seconds."""

    connections_max: int = 10_000
    """Over all listeners; one more is closed at once. Kafka: unlimited; nginx: 512 per worker;
    Redis: 10,000."""

    requests_in_flight_max: int = 1_024
    """Per connection, begun and not answered; then its socket is not read. Java clients send 5,
    librdkafka any."""

    reply_queue_size_max: int = 1024 * 1024
    """Per connection: with more than this unsent, the next reply is not asked for."""

    idle_s: float = 600.0
    """Nothing received, owed or sent for so long: closed. Kafka's `connections.max.idle.ms`."""

    frame_stall_s: float = 30.0
    """A frame that has begun and of which nothing more came for so long: closed. nginx and Apache
    wait 60, 20."""

    frame_pace_min: int = 1_024
    """Bytes per second that a frame must come with once it took longer than `frame_stall_s` in
    all."""

    write_stall_s: float = 300.0
    """A peer that took nothing of its replies for so long: closed. As long as Kafka's
    `max.poll.interval.ms`, since a Java consumer reads its socket only when it polls."""

    stall_pressed_s: float = 5.0
    """Both stalls while other connections wait for the memory that the stalled one occupies."""

    linger_s: float = 2.0
    """How long a closing connection waits for the peer to read the last reply. A close with unread
    bytes in the socket is a reset, which would destroy that reply on its way."""

    linger_size_max: int = 4 * 1024 * 1024
    """Bytes thrown away meanwhile."""


@dataclass(slots=True)
class ListenerStats:
    """Plain integers, read by whoever exposes them."""

    connections: int = 0
    """Open now."""
    accepted: int = 0
    refused: int = 0
    """Closed at once because of `connections_max`."""
    peer_errors: int = 0
    """Connections closed because the peer broke the protocol or a limit."""
    faults: int = 0
    """Connections closed because of a fault of ours."""
    requests: int = 0
    received_size: int = 0
    """Bytes."""
    sent_size: int = 0
    """Bytes."""


@dataclass(slots=True)
class NetStats:
    """The counters of each listener, by its name."""

    listeners: dict[str, ListenerStats] = field(default_factory=dict)
