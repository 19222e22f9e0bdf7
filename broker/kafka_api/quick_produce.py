"""Requests that begin and end without a task of their own: the usual Produce.

A second way beside `KafkaSession.begin` for the one request that comes by the thousand and small.
It does what the general way would do with the same frame, at a third of the cost. Whatever is
unusual about a request, its topic or its fate is left to the general way, or answered by it.
"""

from collections.abc import Callable
from typing import Final

from broker import ports
from broker.errors import BatchRefused, RequestError
from broker.kafka_api import produce_wire
from broker.kafka_api.context import Context
from broker.kafka_api.outcome import NONE
from broker.kafka_api.produce_wire import Asked
from broker.ports import ACKS_ALL, ACKS_LEADER, Appended, Reply
from broker.telemetry.metrics import RequestStats

_ACKS: Final = (ACKS_ALL, ACKS_LEADER)

Fail = Callable[[memoryview, Exception, float], Reply]
"""The general way to answer a Produce of which every partition failed: its frame, why, and when it
began."""


class PendingProduce(ports.Pending):
    """One Produce that was appended, or at which we failed."""

    __slots__ = ("_quick", "appended", "asked", "began_at", "correlation_id", "failure", "frame")

    def __init__(
        self,
        quick: "QuickProduce",
        frame: memoryview,
        correlation_id: int,
        asked: Asked,
        began_at: float,
    ) -> None:
        super().__init__()
        self._quick = quick
        self.frame = frame
        self.correlation_id = correlation_id
        self.asked = asked
        self.began_at = began_at
        self.appended: Appended | None = None
        self.failure: Exception | None = None

    def refused(self, error: Exception) -> None:
        self._quick.refused(self, error)
        self.committed(error)

    def committed(self, failure: Exception | None) -> None:
        self.failure = failure
        self.settle()

    def take(self) -> Reply:
        return self._quick.reply(self)


class QuickProduce:
    """The quick way of one connection."""

    __slots__ = (
        "_behind",
        "_ctx",
        "_fail",
        "_led",
        "_monotonic",
        "_refused",
        "_stats",
        "_wait_s",
        "_wait_s_max",
        "last",
    )

    def __init__(self, ctx: Context, stats: RequestStats, fail: Fail) -> None:
        self._ctx = ctx
        self._monotonic = ctx.clock.monotonic
        self._led = ctx.controller.led
        self._behind = ctx.behind
        self._refused = ctx.behind.topics
        self._wait_s_max = ctx.config.produce_wait_ms_max / 1000
        self._stats = stats
        self._fail = fail
        self.last: Asked | None = None
        """What the last usual one has said."""
        self._wait_s = 0.0
        """How long that one may wait for its followers."""

    def begin(
        self,
        frame: memoryview,
        position: int,
        version: int,
        correlation_id: int,
        *,
        is_alone: bool,
    ) -> PendingProduce | None:
        """Append what the Produce brings whose body starts at `position`; None, and nothing was
        done, if it is not a usual one."""
        read = produce_wire.read(frame, position, version)
        if read is None or read[0].acks not in _ACKS:
            return None
        asked, records = read
        self.last = asked
        self._wait_s = min(max(asked.timeout_ms / 1000, 0.0), self._wait_s_max)
        return self._append(frame, correlation_id, asked, records, is_alone=is_alone)

    def begin_again(
        self, frame: memoryview, last: Asked, *, is_alone: bool
    ) -> PendingProduce | None:
        """`begin` of one that says the same as the `last` one, before its records."""
        read = produce_wire.read_again(frame, last)
        if read is None:
            return None
        correlation_id, records = read
        return self._append(frame, correlation_id, last, records, is_alone=is_alone)

    def forget(self) -> None:
        """The client says something new of itself."""
        self.last = None

    def _append(
        self,
        frame: memoryview,
        correlation_id: int,
        asked: Asked,
        records: memoryview,
        *,
        is_alone: bool,
    ) -> PendingProduce | None:
        partition = self._led(asked.topic)
        if partition is None or partition.topic.is_internal:
            return None
        if asked.topic in self._refused:
            return None
        began_at = self._monotonic()
        pending = PendingProduce(self, frame, correlation_id, asked, began_at)
        try:
            if not is_alone:
                if partition.append_soon(records, pending, acks=asked.acks, timeout_s=self._wait_s):
                    return pending
                if asked.topic in self._refused:
                    return None  # What came before it in this turn was refused just now.
            appended = partition.append_now(records, acks=asked.acks, is_alone=is_alone)
            if appended is None:
                return None
            pending.appended = appended
            partition.when_committed(
                appended.end_offset, pending.committed, acks=asked.acks, timeout_s=self._wait_s
            )
        except BatchRefused as refusal:
            pending.committed(refusal)  # It would be refused the general way, too.
        except RequestError:
            return None  # The general way may know what to do.
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs this request alone
            pending.committed(error)
        return pending

    def refused(self, pending: PendingProduce, error: Exception) -> None:
        """What it brought was not appended after all."""
        read = produce_wire.read_again(pending.frame, pending.asked)
        assert read is not None
        self._behind.refused(pending.asked.topic, read[1], error)

    def reply(self, pending: PendingProduce) -> Reply:
        """What is to be said of it."""
        if pending.failure is not None:
            return self._fail(pending.frame, pending.failure, pending.began_at)
        asked, appended = pending.asked, pending.appended
        assert appended is not None
        self._stats.record(NONE, self._monotonic() - pending.began_at)
        return (
            produce_wire.answer(
                asked.topic,
                asked.version,
                pending.correlation_id,
                base_offset=appended.base_offset,
                log_append_time_ms=appended.log_append_time_ms,
                log_start_offset=appended.log_start_offset,
            ),
        )
