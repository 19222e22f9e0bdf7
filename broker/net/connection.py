"""One client connection: three loops around a session.

    socket ─ read ─▶ session.begin(frame) ─▶ slots ─ answer ─▶ await finish() ─▶ replies ─ write ─▶
    socket

  * `_read` begins every request in order. It stops reading while too many are unanswered or memory
    is spent.
  * `_answer` awaits the finishes in the order of the requests, so replies never overtake each
    other.
  * `_write` sends whatever is ready with one system call; it is its own loop so that ready replies
    leave while the next finish waits. A finish that has nothing to wait for should therefore not
    yield to the event loop: its reply would be sent alone. A reply behind which nothing is owed
    does not wait for this loop: it is sent where it is made, as far as the socket takes it.

The three sleep through requests that no task needs to wait for: those which `session.begin_now`
takes are begun where their bytes arrive, and answered and sent where they are settled (`_pump`),
still in the order of all requests. The loops take over where a request needs them, a limit is
reached or the socket is full.

The end of a connection runs down the same pipe: the reader puts END behind the last request, and
everything that was begun is answered and sent before the socket closes. Only a peer that is gone, a
fault of ours or a limit (`overdue`) ends it at once.

A `PeerError` closes the connection after what was said before it is sent. `session.client_id`, if
the session has one, is named in the log lines.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import anyio.lowlevel
import structlog

from broker.bell import Bell
from broker.errors import PeerError
from broker.net.budget import Account
from broker.net.framing import PREFIX_SIZE, FrameDecoder
from broker.net.last_words import let_arrive
from broker.net.limits import Limits, ListenerStats
from broker.net.outbox import Outbox
from broker.net.stream import ReceiveOn, Stream
from broker.ports import Clock, Finish, Pending, Reply, Sendable, Session, Unfinished

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_Slot = tuple[Finish | Pending, int]
"""A request that was begun, and the bytes it holds."""


class Connection:
    """One accepted peer. `run` it in a task; it owns the stream and closes it."""

    __slots__ = (
        "_account",
        "_decoder",
        "_frame_wait_s",
        "_in_flight_max",
        "_is_pump_due",
        "_is_ready_begun",
        "_is_stopping",
        "_limits",
        "_listener",
        "_loop",
        "_now",
        "_outbox",
        "_peer",
        "_peer_finished",
        "_refused",
        "_scope",
        "_session",
        "_slot_put",
        "_slot_taken",
        "_slots",
        "_stats",
        "_stream",
        "_waiting_since",
        "_was_in_frame",
    )

    def __init__(
        self,
        stream: Stream,
        session: Session,
        decoder: FrameDecoder,
        *,
        listener: str,
        peer: str,
        account: Account,
        limits: Limits,
        clock: Clock,
        stats: ListenerStats,
    ) -> None:
        self._stream = stream
        self._session = session
        self._decoder = decoder
        self._listener = listener
        self._peer = peer
        self._account = account
        self._limits = limits
        self._in_flight_max = limits.requests_in_flight_max
        self._now = clock.monotonic
        self._stats = stats
        self._scope = anyio.CancelScope()

        self._slots: deque[_Slot | None] = deque()
        """Begun and not answered, in order; None is the END."""
        self._slot_put, self._slot_taken = Bell(), Bell()
        self._outbox = Outbox(
            stream, account, stats, clock.monotonic, size_max=limits.reply_queue_size_max
        )
        self._loop = asyncio.get_running_loop()
        self._is_pump_due = False
        self._is_ready_begun = False
        """A request had its reply when it was begun, and that is not sent yet."""
        self._refused: memoryview | None = None
        """The frame that was last found to need a task: to find it again may cost as much."""
        self._was_in_frame = False
        """When room for what has come was asked for."""
        self._is_stopping = False
        """Begin no further request."""
        self._peer_finished = False

        self._waiting_since: float | None = None
        """Since when the reader waits for bytes, and for nothing else."""
        self._frame_wait_s = 0.0
        """How long it has waited for the frame that has begun, without the present wait."""

    async def run(self) -> None:
        """Serve until the peer, a limit or `drain` ends it. Raises nothing but cancellation."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    for loop in (self._read, self._answer, self._write):
                        tasks.start_soon(self._guard, loop)
        finally:
            self._account.close()
            self._stream.close()
            for slot in self._slots:
                if slot is not None and isinstance(slot[0], Pending):
                    slot[0].drop()
            # What is left must not wait for the garbage collector.
            self._slots.clear()
            self._outbox.drop()

    def drain(self) -> None:
        """Begin nothing more; answer what was begun, then close."""
        self._is_stopping = True
        self._stream.stop_receiving()
        self._account.wake()
        self._slot_taken.ring()

    def abort(self, reason: str) -> None:
        """Close at once, and complain about the peer."""
        self._stats.peer_errors += 1
        self._stream.reset()
        self._warn("connection closed", reason)
        self._scope.cancel()

    def cut(self, reason: str) -> None:
        """Close at once; the peer did nothing wrong."""
        _log.debug("connection closed", reason=reason, **self._who())
        self._scope.cancel()

    def is_idle(self) -> bool:
        """Nothing was received, owed or sent for the time that is allowed."""
        if self._waiting_since is None or self._slots or self._outbox:
            return False
        if self._decoder.pending_size:
            return False
        return self._now() - max(self._waiting_since, self._outbox.sent_at) > self._limits.idle_s

    def overdue(self, *, is_pressed: bool) -> str | None:
        """Why this peer has used up our patience; None while it has not.

        `is_pressed`: others wait for the memory it holds.
        """
        limits, now = self._limits, self._now()
        pressed_s = limits.stall_pressed_s if is_pressed else limits.write_stall_s
        write_stall_s = min(limits.write_stall_s, pressed_s)
        if self._outbox and now - self._outbox.sent_at > write_stall_s:
            return f"the peer read none of its replies for {write_stall_s:g} s"
        size = self._decoder.pending_size
        if not size or self._waiting_since is None:
            return None
        frame_stall_s = min(limits.frame_stall_s, pressed_s)
        stall_s = now - self._waiting_since
        if stall_s > frame_stall_s:
            return f"a frame stalled for {frame_stall_s:g} s after {size} bytes"
        if self._frame_wait_s + stall_s > limits.frame_stall_s + size / limits.frame_pace_min:
            return f"a frame came too slowly: {size} bytes in {self._frame_wait_s + stall_s:.0f} s"
        return None

    # ---- the sink of `stream.receive`: both run in the loop's callback, with nothing in between

    def buffer(self) -> memoryview | None:
        """Room for what has come; None while the memory of all connections is spent."""
        self._was_in_frame = in_frame = self._decoder.pending_size > 0
        if not self._account.may_receive(in_frame=in_frame):
            return None
        return self._decoder.buffer()

    def advance(self, size: int) -> list[memoryview] | ReceiveOn | None:
        """The frames that are complete now and need the reading loop; else it sleeps on."""
        self._stats.received_size += size
        was_last = self._account.received(size)
        frames = self._decoder.advance(size)
        since, self._waiting_since = self._waiting_since, self._now()
        if not frames:
            if self._was_in_frame and since is not None:
                # What a frame waits for memory, or for an earlier request, is not the peer's.
                self._frame_wait_s += self._waiting_since - since
            return ReceiveOn.NOW if self._decoder.refused is None else []
        self._frame_wait_s = 0.0
        is_alone = was_last and len(frames) == 1
        begun_count = 0
        try:
            for frame in frames:
                if not self._begin_now(frame, is_alone=is_alone):
                    return frames[begun_count:]
                begun_count += 1
        finally:
            if self._is_ready_begun:
                self._pump()
        return None if self._decoder.refused is None else []

    # ---- without a task

    def _begin_now(self, frame: memoryview, *, is_alone: bool = False) -> bool:
        """Begin a request for which no task has to wait. False: the reading loop must begin it."""
        if self._is_stopping or len(self._slots) >= self._in_flight_max:
            return False
        is_next = not self._slots and not self._outbox
        pending = self._session.begin_now(frame, is_alone=is_alone, is_next=is_next)
        if pending is None:
            self._refused = frame
            return False
        self._stats.requests += 1
        if pending.is_ready:
            self._is_ready_begun = True  # Nobody is told: who begins it looks.
        pending.on_ready = self._on_ready
        self._slots.append((pending, PREFIX_SIZE + len(frame)))
        return True

    def _on_ready(self) -> None:
        """A request without a task has its reply."""
        if not self._slots:
            return  # It is being begun, or the connection is gone.
        last, _ = self._slots[-1] or _END
        if isinstance(last, Pending) and last.is_ready:
            self._pump()  # Probably all are ready; nothing else could share the system call.
        elif not self._is_pump_due:
            self._is_pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Answer from the front what is ready and needs no task; send it with one system call."""
        self._is_pump_due = self._is_ready_begun = False
        slots, outbox = self._slots, self._outbox
        replies: list[Sendable] = []
        released_size = reply_size = 0
        while slots:
            pending, size = slots[0] or _END
            if not isinstance(pending, Pending) or outbox.is_choked(reply_size):
                self._slot_put.ring()  # The answering loop has to do with it.
                break
            if not pending.is_ready:
                break
            try:
                reply = pending.take()
            except Unfinished as rest:
                slots[0] = (rest.finish, size)
                self._slot_put.ring()
                break
            except Exception as error:  # noqa: BLE001  Also answered by that loop.
                slots[0] = (partial(_raise, error), size)
                self._slot_put.ring()
                break
            slots.popleft()
            released_size += size
            for part in reply:
                reply_size += len(part)
            replies += reply
        if released_size:
            self._account.release(released_size)
            self._slot_taken.ring()
        if replies:
            try:
                outbox.put_all(replies, reply_size)
            except anyio.BrokenResourceError as error:
                self._lost(error)

    # ---- the loops

    async def _guard(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except anyio.BrokenResourceError as error:
            self._lost(error)
        except Exception:  # noqa: BLE001  Whatever it is, only this connection may suffer.
            self._stats.faults += 1
            _log.exception("connection closed by a fault of ours", **self._who())
            self._scope.cancel()

    def _lost(self, error: anyio.BrokenResourceError) -> None:
        _log.debug("connection lost", reason=str(error.__cause__), **self._who())
        self._scope.cancel()

    async def _read(self) -> None:
        try:
            while not self._is_stopping:
                for frame in await self._receive():
                    await self._begin(frame)
                if self._decoder.refused is not None:
                    self._refuse(self._decoder.refused)
                    return
        except anyio.EndOfStream:
            self._peer_finished = not self._is_stopping
        except PeerError as error:
            self._peer_failed(error)
        finally:
            self._account.pass_turn()
            self._slots.append(None)
            self._slot_put.ring()

    async def _receive(self) -> list[memoryview]:
        self._waiting_since = self._now()
        try:
            frames = await self._stream.receive(self)
        finally:
            self._waiting_since = None
        if frames is None:
            await self._account.room(in_frame=self._was_in_frame)
            return []
        return frames

    async def _begin(self, frame: memoryview) -> None:
        while len(self._slots) >= self._in_flight_max and not self._is_stopping:
            await self._slot_taken.wait()
        if self._is_stopping:
            return
        if frame is not self._refused and self._begin_now(frame):
            self._pump()
            return
        self._refused = None  # It may be large.
        self._stats.requests += 1
        finish = await self._session.begin(frame)
        self._slots.append((finish, PREFIX_SIZE + len(frame)))
        self._slot_put.ring()

    def _refuse(self, size: int) -> None:
        """The length prefix is out of bounds: the session may say so, as its last word."""
        reply = self._session.frame_refused(size)

        async def finish() -> Reply:
            return reply

        self._slots.append((finish, 0))
        self._stats.peer_errors += 1
        reason = f"a frame of {size} bytes was announced; its first bytes: {self._decoder.head!r}"
        self._warn("connection refused", reason)

    async def _answer(self) -> None:
        try:
            while True:
                self._pump()
                await self._outbox.room()
                slot = self._slots[0] if self._slots else _NONE
                if slot is None:
                    return
                finish, size = slot
                if isinstance(finish, Pending):
                    if not finish.is_ready:
                        await self._slot_put.wait()
                    continue
                reply = await finish()
                self._slots.popleft()
                self._outbox.put(reply, is_last=not self._slots)
                del reply  # What is sent must not stay for as long as this waits.
                self._slot_taken.ring()
                self._account.release(size)
        except PeerError as error:
            self._peer_failed(error)
        finally:
            self._outbox.complete()

    async def _write(self) -> None:
        await self._outbox.send_all()
        is_being_read = self._now() - self._outbox.sent_at <= self._limits.linger_s
        if is_being_read and not self._peer_finished:
            await self._linger()
        self._scope.cancel()

    async def _linger(self) -> None:
        self._is_stopping = True
        while self._waiting_since is not None:  # The reader still holds the receiving side.
            self._stream.stop_receiving()
            await anyio.lowlevel.checkpoint()
        await let_arrive(self._stream, self._limits)

    def _peer_failed(self, error: PeerError) -> None:
        self._stats.peer_errors += 1
        self._warn("connection closed", str(error))
        self.drain()

    def _warn(self, event: str, reason: str) -> None:
        _log.warning(event, reason=reason, **self._who())

    def _who(self) -> dict[str, object]:
        who: dict[str, object] = {"listener": self._listener, "peer": self._peer}
        if client_id := getattr(self._session, "client_id", None):
            who["client_id"] = client_id
        return who


_END = (None, 0)

_NONE: _Slot = (Pending(), 0)
"""Stands for the next request, which has not come."""


async def _raise(error: Exception) -> Reply:
    raise error
