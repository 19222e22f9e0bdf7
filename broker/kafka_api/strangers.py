"""Who is it, when the first bytes on a connection are no Kafka (pure)?

The usual stranger is a client of our own native protocol that was given the wrong port. Its frames
begin with their length in little-endian, which reads here as an enormous big-endian one.
"""

from typing import Final

NATIVE_SIZE_MAX: Final = 16 * 1024 * 1024
"""Bytes of a native frame that is still believable."""

NATIVE_VERBS: Final = (b"REGISTER ", b"PUT ", b"GET ", b"STATE ", b"METRICS")

_TEXT_PROTOCOLS: Final = {
    b"GET ": "an HTTP client",
    b"POST": "an HTTP client",
    b"HEAD": "an HTTP client",
    b"PUT ": "an HTTP client",
    b"OPTI": "an HTTP client",
    b"PRI ": "an HTTP/2 client",
    b"SSH-": "an SSH client",
}
_TLS_HANDSHAKE: Final = b"\x16\x03"


def of_size(size: int) -> str:
    """A guess from the four bytes that were read as a frame's length; "" for none."""
    prefix = (size & 0xFFFFFFFF).to_bytes(4, "big")
    if prefix in _TEXT_PROTOCOLS:
        return f"this looks like {_TEXT_PROTOCOLS[prefix]} on the Kafka port"
    if prefix.startswith(_TLS_HANDSHAKE):
        return "this looks like a TLS client: this listener speaks plain Kafka"
    native_size = int.from_bytes(prefix, "little")
    if 0 < native_size <= NATIVE_SIZE_MAX:
        return (
            f"this looks like a frame of {native_size} bytes of the native protocol: "
            "a native client on the Kafka port?"
        )
    return ""


def of_frame(frame: memoryview) -> str:
    """A guess from a first frame that could not be read, to end a sentence with; "" for none."""
    if bytes(frame[:9]).startswith(NATIVE_VERBS):
        return " (this looks like the native protocol: a native client on the Kafka port?)"
    return ""
