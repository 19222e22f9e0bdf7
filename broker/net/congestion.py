"""Congestion control: the system's own, but no pacing between two processes of one machine.

BBR paces: it arms a timer for nearly each packet, so that a network's queues stay short. Where
there is no network the timers are all that it does, and they cost more than the sending
(docs/performance.md). A socket that has once been paced stays so, whatever it is told later;
therefore accepted ones are born without, and those of other machines are given the system's own
back before they send.
"""

import socket
from typing import Final

PACING: Final = frozenset({b"bbr", b"bbr2", b"bbr3"})
UNPACED: Final = b"reno"
"""Every Linux has it, and lets every process use it."""

_NAME_SIZE_MAX: Final = 16
"""TCP_CA_NAME_MAX."""


class CongestionControl:
    """Of the connections that one process accepts. Does nothing where the system does not pace."""

    def __init__(self) -> None:
        self._system: bytes | None = None
        """Its name, if it paces and may be chosen."""
        with socket.socket() as probe:
            name = congestion_control(probe)
            if name in PACING:
                try:
                    _set(probe, UNPACED)
                    _set(probe, name)
                    self._system = name
                except OSError:
                    pass

    def prepare(self, listening: socket.socket) -> None:
        """Before it listens. Raises OSError."""
        if self._system is not None:
            _set(listening, UNPACED)

    def settle(self, accepted: socket.socket, peer: str) -> None:
        """Before it sends. `peer` is the other side's address. Raises OSError."""
        if self._system is not None and peer != accepted.getsockname()[0]:
            _set(accepted, self._system)


def congestion_control(sock: socket.socket) -> bytes:
    """The name of a socket's."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _NAME_SIZE_MAX).rstrip(b"\0")


def _set(sock: socket.socket, name: bytes) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
