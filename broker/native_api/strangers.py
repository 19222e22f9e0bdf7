"""Who is it, when the first bytes on a connection are no native frame (pure)?

The usual stranger is a Kafka client that was given the wrong port. Its frames begin with their
length in big-endian, which reads here as an enormous little-endian one.
"""

from typing import Final

KAFKA_SIZE_MIN: Final = 10
"""Bytes of the smallest Kafka request: key, version, correlation id and an empty client id."""

KAFKA_SIZE_MAX: Final = 100 * 1024 * 1024

_TEXT_PROTOCOLS: Final = {
    b"GET ": "an HTTP client",
    b"POST": "an HTTP client",
    b"HEAD": "an HTTP client",
    b"PUT ": "an HTTP client, or a native one that sends no frame length",
    b"REGI": "a native client that sends no frame length",
    b"STAT": "a native client that sends no frame length",
    b"METR": "a native client that sends no frame length",
    b"SSH-": "an SSH client",
}
_TLS_HANDSHAKE: Final = b"\x16\x03"


def of_size(size: int) -> str:
    """A guess from the four bytes that were read as a frame's length; "" for none."""
    prefix = size.to_bytes(4, "little")
    if prefix in _TEXT_PROTOCOLS:
        return f"this looks like {_TEXT_PROTOCOLS[prefix]} on the native port"
    if prefix.startswith(_TLS_HANDSHAKE):
        return "this looks like a TLS client: this listener speaks plain TCP"
    kafka_size = int.from_bytes(prefix, "big")
    if KAFKA_SIZE_MIN <= kafka_size <= KAFKA_SIZE_MAX:
        return (
            f"this looks like a Kafka request of {kafka_size} bytes: "
            "a Kafka client on the native port?"
        )
    return ""
