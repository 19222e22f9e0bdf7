"""One trusted connection between two nodes: payloads in both directions, in order, bounded in
memory.

The handshake is anyio's; what follows goes straight to the socket. A frame leaves where it is made,
and what arrives is taken in the event loop's own callback: between two nodes a record takes four
frames, and each pass through a general stream costs several turns of the loop.
"""

import asyncio
import socket
from collections.abc import Sequence

import anyio
from anyio.abc import AsyncResource, SocketAttribute, SocketStream

from broker.bell import Bell
from broker.errors import FrameError
from broker.peer.frames import Opener, Sealer
from broker.peer.handshake import Identity, Session
from broker.ports import Buffer

RECEIVE_SIZE = 256 * 1024


class Channel(AsyncResource):
    """Payloads over a TCP connection. `send` waits while the peer does not read: each channel has
    its own connection, so a slow one holds up no other."""

    def __init__(self, stream: SocketStream, session: Session) -> None:
        """`stream` is past its handshake, and nobody else's from now on."""
        self._stream = stream
        self._session = session
        self.sealer = Sealer(session.send_key)
        self.opener = Opener(session.receive_key)
        self._socket = self.share()
        self._loop = asyncio.get_running_loop()
        self._unsent: Buffer = b""
        self._went_on = Bell()
        self._is_writing = False
        self._failure: Exception | None = None
        """Why nothing more can be sent."""
        self._receiver: asyncio.Future[list[bytes]] | None = None
        self._is_reading = False

    @property
    def peer(self) -> Identity:
        """Who is at the other end, as it proved."""
        return self._session.peer

    @property
    def name(self) -> str:
        """Which channel it is."""
        return self._session.channel

    async def send(self, *payloads: Sequence[Buffer]) -> None:
        """All of them, in order, each given in one or several parts. Who is cancelled while it
        waits for the peer has sent them nevertheless. Raises anyio.BrokenResourceError when the
        connection is gone, anyio.ClosedResourceError after `aclose`."""
        while self._unsent:
            await self._went_on.wait()
        if self._failure is None:
            frames = [self.sealer.seal(*parts) for parts in payloads]
            self._unsent = frames[0] if len(frames) == 1 else b"".join(frames)
            self._write()
            if self._unsent:
                self._loop.add_writer(self._socket, self._write)
                self._is_writing = True
            while self._unsent:
                await self._went_on.wait()
        if self._failure is not None:
            raise self._failure

    async def receive(self) -> list[bytes]:
        """At least one payload. Who is cancelled may have lost some. Raises anyio.EndOfStream,
        anyio.BrokenResourceError, FrameError, and anyio.ClosedResourceError when it is closed
        meanwhile."""
        assert self._receiver is None, "two tasks receive on one channel"
        self._receiver = self._loop.create_future()
        if not self._is_reading:
            self._loop.add_reader(self._socket, self._read)
            self._is_reading = True
        try:
            return await self._receiver
        finally:
            self._receiver = None

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
        """What is not sent yet is not sent."""
        if self._socket.fileno() >= 0:
            self._stop_reading()
            self._stop_sending(anyio.ClosedResourceError())
            self._tell(anyio.ClosedResourceError())
            self._socket.close()
        await self._stream.aclose()

    # ---- in the loop's callbacks -----------------------------------------------------------------

    def _write(self) -> None:
        try:
            size = self._socket.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._stop_sending(_broken(error))
            return
        if size < len(self._unsent):
            self._unsent = memoryview(self._unsent)[size:]
        else:
            self._stop_sending(None)

    def _stop_sending(self, failure: Exception | None) -> None:
        self._failure = failure
        self._unsent = b""
        if self._is_writing:
            self._loop.remove_writer(self._socket)
            self._is_writing = False
        self._went_on.ring()

    def _read(self) -> None:
        if self._receiver is None or self._receiver.done():
            self._stop_reading()  # Nobody asks for more now: the peer has to wait.
            return
        try:
            data = self._socket.recv(RECEIVE_SIZE)
            payloads = self.opener.feed(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._tell(_broken(error))
        except FrameError as wrong:
            self._tell(wrong)
        else:
            if not data:
                self._tell(anyio.EndOfStream())
            elif payloads:
                self._receiver.set_result(payloads)

    def _tell(self, end: Exception) -> None:
        self._stop_reading()
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_exception(end)

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._loop.remove_reader(self._socket)
            self._is_reading = False


def _broken(error: OSError) -> anyio.BrokenResourceError:
    """For who sends or receives; they are not there to see it raised."""
    broken = anyio.BrokenResourceError()
    broken.__cause__ = error
    return broken
