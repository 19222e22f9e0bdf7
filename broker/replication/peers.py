"""What replication asks of the network between nodes. Implemented by the peer transport, and by the
simulation."""

from collections.abc import Sequence
from typing import Protocol

from broker.errors import BrokerError
from broker.ports import Buffer


class PeerUnreachable(BrokerError):
    """The node cannot be reached, did not answer in time, or closed the conversation."""


class NeverConnected(PeerUnreachable):
    """No connection to the node came about: it has seen nothing of what was asked."""


class PeerGone(NeverConnected):
    """Its machine says that nothing listens there: the process has ended, or not begun. Silence, a
    connection that broke and a handshake that failed say nothing of the kind."""


class Conversation(Protocol):
    """A stream of frames between two nodes, in order, with back-pressure. Either side may close."""

    async def send(self, frame: Sequence[Buffer]) -> None:
        """Waits for room. Raises PeerUnreachable."""

    async def receive(self) -> memoryview:
        """The next frame; valid until the next `receive`. Raises PeerUnreachable at the end."""

    async def aclose(self) -> None:
        """Also while being cancelled; does not wait for the other side."""


class Peers(Protocol):
    """The other nodes, by broker id."""

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        """One question, one answer. Raises PeerUnreachable (NeverConnected, PeerGone)."""

    async def converse(self, node: int) -> Conversation:
        """Open a follow stream to `node`. Raises PeerUnreachable."""
