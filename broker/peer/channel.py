"""One trusted connection between two nodes: payloads in both directions, in order, bounded in
memory."""

import socket
from collections.abc import Sequence

import anyio
from anyio.abc import AsyncResource, SocketAttribute, SocketStream

from broker.peer.frames import Opener, Sealer
from broker.peer.handshake import Identity, Session
from broker.ports import Buffer

RECEIVE_SIZE = 256 * 1024


class Channel(AsyncResource):
    """Payloads over a TCP connection. `send` waits while the peer does not read: each channel has
    its own connection, so a slow one holds up no other."""

    def __init__(self, stream: SocketStream, session: Session) -> None:
        self._stream = stream
        self._session = session
        self.sealer = Sealer(session.send_key)
        self.opener = Opener(session.receive_key)
        self._lock = anyio.Lock()

    @property
    def peer(self) -> Identity:
        """Who is at the other end, as it proved."""
        return self._session.peer

    @property
    def name(self) -> str:
        """Which channel it is."""
        return self._session.channel

    async def send(self, *payloads: Sequence[Buffer]) -> None:
        """All of them, in order, each given in one or several parts. Raises
        anyio.BrokenResourceError when the connection is gone."""
        async with self._lock:
            frames = [self.sealer.seal(*parts) for parts in payloads]
            await self._stream.send(frames[0] if len(frames) == 1 else b"".join(frames))

    async def receive(self) -> list[bytes]:
        """At least one payload. Raises anyio.EndOfStream, anyio.BrokenResourceError, FrameError."""
        while True:
            payloads = self.opener.feed(await self._stream.receive(RECEIVE_SIZE))
            if payloads:
                return payloads

    def share(self) -> socket.socket:
        """The connection once more, for a thread that must not wait for the event loop; never
        blocks.

        Whoever takes it has one direction for itself, with `sealer` or `opener`. Nothing of it has
        been read ahead: anyio reads while somebody receives, and the last one to do so was the
        handshake, before the peer knew that it might go on."""
        raw: socket.socket = self._stream.extra_attributes[SocketAttribute.raw_socket]().dup()
        raw.setblocking(False)
        return raw

    async def aclose(self) -> None:
        await self._stream.aclose()
