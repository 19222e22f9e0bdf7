"""Fetches that begin and end without a task of their own: the usual ones, of records that are in
memory and go out at once, and those that wait for the next records.

A second way beside the handler, for what consumers ask by the thousand. Whatever is unusual about a
request, or would have to wait for the disk or for room, is left to the general way; a Fetch that
turns out to be so while it waits goes on there (`ports.Unfinished`).
"""

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

from broker import ports
from broker.errors import NotLeader
from broker.kafka_api import fetch_wire
from broker.kafka_api.context import Context
from broker.kafka_api.fetch_sessions import EPOCH_FINAL, ID_VERSION_MIN, Asked, Plan
from broker.kafka_api.fetch_wire import Row, Usual
from broker.kafka_api.outcome import NONE
from broker.ports import QuickPartition, Reply, Sendable
from broker.telemetry.metrics import RequestStats

GoOn = Callable[[memoryview, Plan, float, float], ports.Finish]
"""Stage 2 of a Fetch the general way: its frame, what it asks, its deadline, and when it began."""


class PendingFetch(ports.Pending):
    """One Fetch. Something with `set()`: it looks again when something has moved."""

    __slots__ = (
        "_is_due",
        "_is_over",
        "_quick",
        "_timer",
        "_watched",
        "began_at",
        "correlation_id",
        "deadline",
        "found",
        "frame",
        "plan",
        "usual",
    )

    def __init__(
        self,
        quick: "QuickFetch",
        frame: memoryview,
        correlation_id: int,
        usual: Usual,
        plan: Plan,
        began_at: float,
        deadline: float,
    ) -> None:
        super().__init__()
        self._quick = quick
        self.frame = frame
        self.correlation_id = correlation_id
        self.usual = usual
        self.plan = plan
        self.began_at = began_at
        self.deadline = deadline
        self.found: list[Row] | None = None
        """None: a task must look."""
        self._watched: list[QuickPartition] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        self._is_over = False
        """It has waited for as long as it may."""

    def park(self, partitions: list[QuickPartition], wait_s: float) -> None:
        """Wait. In the same turn of the loop in which what was found was not enough."""
        self._watched = partitions
        for partition in partitions:
            partition.watch(self)
        self._quick.stopping.watch(self)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._expire)

    def set(self) -> None:
        """Something that it waits for has moved. It looks when whoever moved it is done, and once
        for all that moved in one turn."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._look)

    def _expire(self) -> None:
        self._is_over = True
        self._look()

    def _look(self) -> None:
        self._is_due = False
        if self._timer is None:
            return  # It has its reply, or nobody waits for it any more.
        self.found = self._quick.find(self.plan.asked, self.usual)
        if self.found is None or self._is_over or self._quick.is_enough(self.found, self.usual):
            self.drop()
            self.settle()
        else:
            self.found = None

    def drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._quick.stopping.unwatch(self)
            for partition in self._watched:
                partition.unwatch(self)

    def take(self) -> Reply:
        return self._quick.reply(self)


class QuickFetch:
    """The quick way of one connection."""

    __slots__ = (
        "_controller",
        "_go_on",
        "_memory",
        "_monotonic",
        "_sessions",
        "_size_max",
        "_stats",
        "_wait_s_max",
        "stopping",
    )

    def __init__(self, ctx: Context, stats: RequestStats, go_on: GoOn) -> None:
        self.stopping = ctx.stopping
        self._controller = ctx.controller
        self._sessions = ctx.sessions
        self._memory = ctx.memory
        self._monotonic = ctx.clock.monotonic
        self._size_max = ctx.config.fetch_size_max
        self._wait_s_max = ctx.config.fetch_wait_ms_max / 1000
        self._stats = stats
        self._go_on = go_on

    def begin(
        self, frame: memoryview, position: int, version: int, correlation_id: int
    ) -> ports.Pending | None:
        """Begin the Fetch whose body starts at `position`, when nothing is owed before it: what it
        finds leaves at once. None, and nothing has happened, if it is not a usual one."""
        usual = fetch_wire.read(frame, position, version)
        if usual is None:
            return None
        plan = self._plan(usual)
        if not plan.asked:
            return None
        now = self._monotonic()
        found = self.find(plan.asked, usual)
        if found is None:
            return None
        if plan.session is not None:
            self._sessions.go_on(plan.session, usual.named, now)
        wait_s = min(usual.wait_ms / 1000, self._wait_s_max)
        pending = PendingFetch(self, frame, correlation_id, usual, plan, now, now + wait_s)
        if wait_s <= 0 or self.is_enough(found, usual):
            pending.found = found
            pending.is_ready = True
        else:
            pending.park([self._led(row.topic) for row in found], wait_s)
        return pending

    def _plan(self, usual: Usual) -> Plan:
        """What is asked; nothing, if the general way has to find out."""
        if usual.epoch == EPOCH_FINAL:
            return Plan(usual.named)
        by_id = usual.version >= ID_VERSION_MIN
        session = self._sessions.expecting(usual.session_id, usual.epoch, by_id=by_id)
        asked = None if session is None else session.asked_after(usual.named)
        return Plan(asked or (), session, is_full=False)

    def find(self, asked: Sequence[Asked], usual: Usual) -> list[Row] | None:
        """What there is now, as the general way shares the limits among what is asked; None if it
        must be waited for, or is an error."""
        try:
            return self._find(asked, max(min(usual.size_max, self._size_max), 0))
        except Exception:  # noqa: BLE001 - the general way meets it again, and has the words for it
            return None

    def _find(self, asked: Sequence[Asked], size_max: int) -> list[Row] | None:
        size_asked = 0
        for one in asked:
            size_asked += max(one.size_max, 0)
        if not self._memory.has_room(min(size_max, size_asked)):
            return None
        found = []
        size_left, is_first = size_max, True
        for one in asked:
            topic = one.topic
            if topic is None or one.partition:
                return None
            partition = self._led(topic)
            partition.check_epoch(one.leader_epoch)
            part_max = max(min(one.size_max, size_left), 0)
            records: Sendable = b""
            if is_first or part_max:
                data = partition.fetch_now(one.offset, size_max=part_max)
                if data is None:
                    return None
                # Otherwise one batch that is larger than what is left: its turn comes.
                if data and (is_first or len(data) <= part_max):
                    records = data
                    size_left -= len(data)
                    is_first = False
            high_watermark = max(partition.high_watermark, one.offset)
            found.append(Row(topic, high_watermark, partition.log_start_offset, records))
        return found

    def _led(self, topic: str | UUID) -> QuickPartition:
        """Raises UnknownTopicId and NotLeader."""
        if isinstance(topic, str):
            partition = self._controller.led(topic)
        else:
            partition = self._controller.led(self._controller.topic_by_id(topic).name)
            if partition is not None and partition.topic.topic_id != topic:
                partition = None
        if partition is None:
            raise NotLeader(f"this node does not lead {topic}")
        return partition

    def is_enough(self, found: Sequence[Row], usual: Usual) -> bool:
        """Whether the answer need not wait for more."""
        for row in found:
            if row.records:
                return True
        return self.stopping.is_set or min(usual.size_min, usual.size_max, self._size_max) <= 0

    def reply(self, pending: PendingFetch) -> Reply:
        """What is to be said of it. Raises Unfinished if that is for a task to find out."""
        found, plan = pending.found, pending.plan
        if found is None:
            raise ports.Unfinished(
                self._go_on(pending.frame, plan, pending.deadline, pending.began_at)
            )
        if (session := plan.session) is not None:
            found = [
                row
                for asked, row in zip(plan.asked, found, strict=True)
                if session.tell(asked, row[1:3], has_records=bool(row.records))
            ]
        self._stats.record(NONE, self._monotonic() - pending.began_at)
        return fetch_wire.answer(pending.usual, pending.correlation_id, found)
