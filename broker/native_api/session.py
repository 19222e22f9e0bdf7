"""One native connection: frames in, framed replies out. Implements `ports.Session`."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import anyio
import structlog

from broker.errors import RequestError
from broker.native_api import commands, handlers, strangers
from broker.native_api.commands import CommandError, Get, Metrics, Put, Register, State, parse
from broker.native_api.cursor import Ticket
from broker.native_api.framing import EMPTY, INVALID_LENGTH, OK, error, is_error
from broker.native_api.handlers import Context, refusal
from broker.native_api.packer import Pack
from broker.ports import Finish, Pending, Reply, TopicView
from broker.telemetry.metrics import RequestMeter, RequestStats

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

GETS_IN_FLIGHT_MAX: Final = 32
"""Per connection, taken and not yet answered: what a client loses that goes away, and what its
messages may occupy. Further GETs wait before they take anything."""

_VERBS: Final[dict[type[commands.Command], str]] = {
    Register: "REGISTER",
    Put: "PUT",
    Get: "GET",
    State: "STATE",
    Metrics: "METRICS",
}


class NativeSession:
    """The protocol of one connection.

    A connection sees its own commands take effect in order, also when it does not wait for the
    answers: a GET waits for the PUTs before it, and a PUT for the GETs before it.
    """

    __slots__ = (
        "_ctx",
        "_get_stats",
        "_gets",
        "_is_first",
        "_meter",
        "_monotonic",
        "_peer",
        "_put_stats",
        "_unsettled",
        "_untaken",
    )

    def __init__(
        self, ctx: Context, meter: RequestMeter, monotonic: Callable[[], float], peer: str
    ) -> None:
        self._ctx = ctx
        self._meter = meter
        self._put_stats, self._get_stats = meter.of("PUT"), meter.of("GET")
        self._monotonic = monotonic
        self._peer = peer
        self._is_first = True
        self._unsettled: deque[Pack] = deque()
        """What this connection's PUTs wait for, in order; what is done leaves from the front."""
        self._untaken: deque[Ticket] = deque()
        """What its GETs wait for."""
        self._gets = anyio.Semaphore(GETS_IN_FLIGHT_MAX, fast_acquire=True)

    def begin_now(self, frame: memoryview, *, is_alone: bool, is_next: bool) -> Pending | None:
        """Stage 1 of a PUT behind which no GET of this connection is under way, or of a GET behind
        which no PUT is."""
        data = bytes(frame)
        if data.startswith(b"PUT "):
            return self._put_now(data, is_alone=is_alone)
        if data.startswith(b"GET "):
            return self._get_now(data, is_alone=is_alone)
        return None

    def _put_now(self, data: bytes, *, is_alone: bool) -> Pending | None:
        if self._untaken:
            _drop_done(self._untaken)
        words = data.split(b" ", 2)
        if self._untaken or len(words) != 3:
            return None
        try:
            topic = handlers.public_topic(self._ctx, words[1].decode())
        except (UnicodeDecodeError, RequestError):
            return None  # The general way has the words for it.
        self._is_first = False
        began_at = self._monotonic()
        pack = self._ctx.packer.put(topic, words[2], is_alone=is_alone)
        put = _Put(self, topic, pack, began_at)
        if pack.done.is_set():
            put.settle()
        else:
            pack.puts.append(put)
            self._remember(pack)
        return put

    def _get_now(self, data: bytes, *, is_alone: bool) -> Pending | None:
        if self._unsettled:
            _drop_done(self._unsettled)
        if self._unsettled or not self._gets.value:
            return None
        try:
            topic = handlers.public_topic(self._ctx, data[4:].decode())
        except (UnicodeDecodeError, RequestError):
            return None  # The general way has the words for it, or knows what stands behind.
        began_at = self._monotonic()
        ticket = self._ctx.cursors.get_now(topic, is_alone=is_alone)
        if ticket is None:
            return None
        self._is_first = False
        self._gets.acquire_nowait()
        get = _Get(self, topic, ticket, began_at)
        if ticket.done.is_set():
            get.settle()
        else:
            ticket.pending = get
            _drop_done(self._untaken)
            self._untaken.append(ticket)
        return get

    def _remember(self, pack: Pack) -> None:
        """What a GET of this connection must wait for."""
        unsettled = self._unsettled
        _drop_done(unsettled)
        if not unsettled or unsettled[-1] is not pack:
            unsettled.append(pack)

    def answer_put(self, topic: TopicView, pack: Pack, began_at: float) -> Reply:
        """The reply to a PUT whose pack is settled."""
        failure = pack.failure
        reply = OK if failure is None else refusal(failure, topic.name, topic)
        outcome = "OK" if failure is None else "ERR"
        self._put_stats.record(outcome, self._monotonic() - began_at)
        return reply

    def answer_get(self, topic: TopicView, ticket: Ticket, began_at: float) -> Reply:
        """The reply to a GET whose ticket is done."""
        self._gets.release()
        reply = handlers.answer_get(topic, ticket)
        self._get_stats.record(_outcome(reply), self._monotonic() - began_at)
        return reply

    async def begin(self, frame: memoryview) -> Finish:
        """Stage 1. Never the peer's last word: whatever a frame holds, it is answered."""
        self._is_first = False
        started_at = self._monotonic()
        if not frame:
            return self._timed("invalid", started_at, _saying(error(INVALID_LENGTH)))
        try:
            command = parse(bytes(frame))
        except CommandError as failure:
            return self._timed("invalid", started_at, _saying(error(str(failure))))
        try:
            finish = await self._begin(command)
        except RequestError as failure:
            name = "" if isinstance(command, Metrics) else command.topic
            finish = _saying(refusal(failure, name, self._known(name)))
        return self._timed(_VERBS[type(command)], started_at, finish)

    def frame_refused(self, size: int) -> Reply:
        """The original's words; the connection cannot stay in step, so it closes after them."""
        if self._is_first and (hint := strangers.of_size(size)):
            _log.warning("a stranger on the native port", peer=self._peer, hint=hint)
        return error(INVALID_LENGTH)

    async def _begin(self, command: commands.Command) -> Finish:
        match command:
            case Put():
                return await self._begin_put(command)
            case Get():
                return await self._begin_get(command)
            case Register():
                return await handlers.begin_register(self._ctx, command)
            case State():
                return await handlers.begin_state(self._ctx, command)
            case Metrics():
                return await handlers.begin_metrics(self._ctx)

    async def _begin_put(self, command: Put) -> Finish:
        while self._untaken:
            await self._untaken.popleft().done.wait()
        pack, finish = await handlers.begin_put(self._ctx, command)
        self._remember(pack)
        return finish

    async def _begin_get(self, command: Get) -> Finish:
        while self._unsettled:
            await self._unsettled.popleft().done.wait()
        _drop_done(self._untaken)
        await self._gets.acquire()
        try:
            ticket, finish = await handlers.begin_get(self._ctx, command)
        except BaseException:
            self._gets.release()
            raise
        self._untaken.append(ticket)
        return partial(self._finish_get, finish)

    async def _finish_get(self, finish: Finish) -> Reply:
        try:
            return await finish()
        finally:
            self._gets.release()

    def _known(self, name: str) -> TopicView | None:
        try:
            return self._ctx.controller.topic(name)
        except RequestError:
            return None

    def _timed(self, verb: str, started_at: float, finish: Finish) -> Finish:
        return partial(self._finish, self._meter.of(verb), started_at, finish)

    async def _finish(self, stats: RequestStats, started_at: float, finish: Finish) -> Reply:
        reply = await finish()
        stats.record(_outcome(reply), self._monotonic() - started_at)
        return reply


class _Put(Pending):
    """One PUT for which no task waits."""

    __slots__ = ("_began_at", "_session", "_topic", "pack")

    def __init__(
        self, session: NativeSession, topic: TopicView, pack: Pack, began_at: float
    ) -> None:
        super().__init__()
        self._session = session
        self._topic = topic
        self.pack = pack
        self._began_at = began_at

    def take(self) -> Reply:
        return self._session.answer_put(self._topic, self.pack, self._began_at)


class _Get(Pending):
    """One GET for which no task waits."""

    __slots__ = ("_began_at", "_session", "_ticket", "_topic")

    def __init__(
        self, session: NativeSession, topic: TopicView, ticket: Ticket, began_at: float
    ) -> None:
        super().__init__()
        self._session = session
        self._topic = topic
        self._ticket = ticket
        self._began_at = began_at

    def take(self) -> Reply:
        return self._session.answer_get(self._topic, self._ticket, self._began_at)


def _drop_done(waited_for: deque[Pack] | deque[Ticket]) -> None:
    """What is done leaves from the front."""
    while waited_for and waited_for[0].done.is_set():
        waited_for.popleft()


def _saying(reply: Reply) -> Finish:
    async def finish() -> Reply:
        return reply

    return finish


def _outcome(reply: Reply) -> str:
    if is_error(reply):
        return "ERR"
    return "EMPTY" if reply is EMPTY else "OK"
