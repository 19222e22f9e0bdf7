"""Requests that are damaged on the way, for the tests of two ways to read the same request."""

from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class Damage:
    """One byte is another one, some are missing at the end, and some are there instead."""

    position: int
    """In the body."""
    byte: int
    cut_size: int
    more: bytes

    def of(self, frame: memoryview, body_position: int) -> memoryview:
        data = bytearray(frame)
        data[min(body_position + self.position, len(data) - 1)] = self.byte
        return memoryview(bytes(data[: len(data) - self.cut_size]) + self.more)


damages = st.builds(
    Damage,
    position=st.integers(0, 90),
    byte=st.integers(0, 255),
    cut_size=st.integers(0, 40),
    more=st.binary(max_size=5),
)
