"""The port that nodes use among themselves: one listener, many channels, nobody trusted before the
handshake.

A connection carries one channel, named in the handshake: Raft's messages, and later streams and
forwards, so that none of them waits for another. Whoever does not finish the handshake in time, or
sends anything else, is closed, and the log says who and why, if it has not just done so; there is
a limit to how many may try at once."""

import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from secrets import token_bytes

import anyio
import structlog
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

from broker.errors import FrameError, PeerError
from broker.peer.channel import Channel
from broker.peer.handshake import (
    NONCE_SIZE,
    PREFIX_SIZE,
    SECRET_SIZE_MIN,
    Accepting,
    Dialing,
    HandshakeError,
    Identity,
    Session,
    size_of,
)

HANDSHAKE_TIMEOUT_S = 5.0
STRANGERS_MAX = 64
"""Connections that have not proved anything yet; more are closed at once."""

UNHEARD_MS = 5_000
"""How long what was sent may go without word that it has come. The kernel repeats it, each time
after twice as long: when a network that was cut for a minute is whole again, it may be another
minute before an old connection takes note. A new one is there at once."""

IDLE_S = 5
"""Where nothing is said, so often is asked whether the other end is still there."""

SAY_AGAIN_S = 60.0
"""A node that is refused dials again several times a second: so long passes until the same reason
is logged again for the same host."""

SAID_MAX = 256
"""Hosts and reasons remembered for that. Beyond it all are forgotten."""

ACCEPT_PAUSE_S = 0.1
"""How long to wait when a connection could not be accepted, most likely for want of descriptors."""

_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}

Serve = Callable[[Channel], Awaitable[None]]

_OPTIONS = (
    (socket.TCP_NODELAY, 1),
    (socket.TCP_USER_TIMEOUT, UNHEARD_MS),
    (socket.TCP_KEEPIDLE, IDLE_S),
    (socket.TCP_KEEPINTVL, IDLE_S),
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class PeerPort:
    """Listens for other nodes and dials them."""

    def __init__(self, identity: Callable[[], Identity], secret: bytes) -> None:
        """`identity` is asked at each handshake: the cluster's id becomes known on the way.
        `secret` is b"" for none, and then peers elsewhere than on this machine are neither accepted
        nor dialled.

        Raises ValueError for a secret that is too short.
        """
        if secret and len(secret) < SECRET_SIZE_MIN:
            raise ValueError(
                f"the cluster secret has {len(secret)} bytes; it needs {SECRET_SIZE_MIN} or more"
            )
        self._identity = identity
        self._secret = secret
        self._channels: dict[str, Serve] = {}
        self._stranger_count = 0
        self._said_at: dict[tuple[str, str], float] = {}
        self.refused_count = 0
        """Connections closed for want of a handshake, also where the log does not tell again."""

    def serve(self, channel: str, handler: Serve) -> None:
        """Let `handler` have each connection for `channel`; it is closed when the handler
        returns."""
        self._channels[channel] = handler

    async def listen(
        self, host: str, port: int, *, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept until cancelled. Starts with the port that is bound. Raises OSError."""
        if not self._secret:
            _log.warning("no cluster secret: nodes on other machines are refused")
        async with await anyio.create_tcp_listener(local_host=host, local_port=port) as listener:
            bound: int = listener.extra_attributes[SocketAttribute.local_port]()
            async with anyio.create_task_group() as tasks:
                task_status.started(bound)
                while True:
                    try:
                        await listener.serve(self._accepted, tasks)
                    except (OSError, ExceptionGroup) as failure:
                        if not _is_passing(failure):
                            raise
                        _log.error("another node cannot be let in now", reason=str(failure))
                        await anyio.sleep(ACCEPT_PAUSE_S)

    async def dial(self, host: str, port: int, channel: str) -> Channel:
        """A trusted connection. Raises PeerError (HandshakeError) or OSError, TimeoutError
        included."""
        with anyio.fail_after(HANDSHAKE_TIMEOUT_S):
            try:
                stream = await anyio.connect_tcp(host, port)
            except UnicodeError as wrong:  # Some other node has registered it.
                raise OSError(f"{host!r} cannot be the name of a host: {wrong}") from wrong
            try:
                self._prepare(stream)
                dialing = Dialing(self._secret, self._identity(), channel, token_bytes(NONCE_SIZE))
                await stream.send(dialing.hello())
                await stream.send(dialing.challenged(await _message(stream)))
                return Channel(stream, dialing.welcomed(await _message(stream)))
            except BaseException as failure:
                await anyio.aclose_forcefully(stream)
                if isinstance(failure, anyio.EndOfStream | anyio.BrokenResourceError):
                    raise HandshakeError("the peer closed the connection: see its log") from failure
                raise

    # ---- accepting -------------------------------------------------------------------------------

    async def _accepted(self, stream: SocketStream) -> None:
        try:
            async with stream:
                session = await self._known(stream)
                if session is not None:
                    async with Channel(stream, session) as channel:
                        await self._channels[session.channel](channel)
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        except FrameError as wrong:
            _log.warning("a node is cut off", reason=str(wrong))
        except Exception:  # noqa: BLE001  Whatever it is, it befell this connection alone.
            _log.exception("a connection of another node failed by a fault of ours")

    async def _known(self, stream: SocketStream) -> Session | None:
        """The handshake, within its limits; None for a stranger."""
        if self._stranger_count >= STRANGERS_MAX:
            self.refused_count += 1
            return None
        self._stranger_count += 1
        who: tuple[str, int] | None = None
        try:
            who = _address(stream)
            with anyio.fail_after(HANDSHAKE_TIMEOUT_S):
                return await self._welcome(stream)
        except (PeerError, OSError, anyio.EndOfStream, anyio.BrokenResourceError) as wrong:
            self.refused_count += 1
            self._say_refused(who, _text(wrong))
            return None
        finally:
            self._stranger_count -= 1

    def _say_refused(self, who: tuple[str, int] | None, reason: str) -> None:
        key = (who[0] if who else "", reason)
        now = anyio.current_time()
        if now - self._said_at.get(key, float("-inf")) < SAY_AGAIN_S:
            return
        if len(self._said_at) >= SAID_MAX:
            self._said_at.clear()
        self._said_at[key] = now
        _log.warning("refused at the peer port", peer=who, reason=reason)

    async def _welcome(self, stream: SocketStream) -> Session:
        self._prepare(stream)
        accepting = Accepting(self._secret, self._identity(), token_bytes(NONCE_SIZE))
        await stream.send(accepting.hello(await _message(stream)))
        welcome, session = accepting.proven(await _message(stream))
        if session.channel not in self._channels:
            raise HandshakeError(f"a peer asks for channel {session.channel[:32]!r}")
        await stream.send(welcome)
        return session

    def _prepare(self, stream: SocketStream) -> None:
        check_reachable(_address(stream)[0], self._secret)
        raw = stream.extra_attributes[SocketAttribute.raw_socket]()
        for option, value in _OPTIONS:
            raw.setsockopt(socket.IPPROTO_TCP, option, value)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def is_refused(failure: BaseException) -> bool:
    """Was a connection refused, by each address that was tried? Then nothing listens there: a
    listener that is slow, stopped or has too many callers lets them wait."""
    if isinstance(failure, BaseExceptionGroup):
        return all(map(is_refused, failure.exceptions))
    if isinstance(failure, ConnectionRefusedError):
        return True
    return failure.__cause__ is not None and is_refused(failure.__cause__)


def _is_passing(failure: BaseException) -> bool:
    """Whether the next connection may well be accepted."""
    if isinstance(failure, BaseExceptionGroup):
        return all(map(_is_passing, failure.exceptions))
    return isinstance(failure, OSError) and failure.errno in _PASSING


def check_reachable(host: str, secret: bytes) -> None:
    """Raises HandshakeError for another machine (by its address) when nobody can prove anything."""
    if not secret and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise HandshakeError(f"{host} is another machine, and there is no cluster secret")


async def _message(stream: SocketStream) -> bytes:
    """One handshake message; never reads beyond it."""
    return await _exactly(stream, size_of(await _exactly(stream, PREFIX_SIZE)))


async def _exactly(stream: SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive(size - len(data))
    return data


def _text(wrong: BaseException) -> str:
    if isinstance(wrong, TimeoutError):
        return f"no handshake within {HANDSHAKE_TIMEOUT_S:g} s"
    return str(wrong) or "it hung up"


def _address(stream: SocketStream) -> tuple[str, int]:
    """(host, port). Raises HandshakeError for somebody who is gone already."""
    attribute = stream.extra_attributes.get(SocketAttribute.remote_address)
    if attribute is None:
        raise HandshakeError("it hung up")
    host, port = attribute()[:2]
    return str(host), int(port)
