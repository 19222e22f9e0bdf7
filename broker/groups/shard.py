"""The groups of one shard: their machines and their offsets in memory, every change in the log.

Memory is ahead of the log: a commit counts for the next event at once, and is told to nobody before
it is durable. Should an append fail, all of this is thrown away and loaded anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from uuid import UUID

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from broker.errors import NotLeader, RequestError
from broker.groups import records
from broker.groups.counts import Counts
from broker.groups.group import Group
from broker.groups.keyed import Change
from broker.groups.messages import (
    Answer,
    Effect,
    GroupRefused,
    JoinAnswer,
    Refusal,
    Save,
    SyncAnswer,
)
from broker.groups.records import GroupValue, LiveGroup, OffsetValue
from broker.groups.state_log import Durable, StateLog
from broker.groups.states import GroupLimits, State
from broker.groups.timers import Timers
from broker.ports import Clock, Wake

_log = structlog.get_logger(__name__)

COMMIT_SIZE_MAX: Final = 8 * 1024 * 1024
"""Bytes of one commit: what does not fit a batch would cost every group of the shard its place."""

A = TypeVar("A", JoinAnswer, SyncAnswer)


class Waiting(Generic[A]):
    """The ticket of a request: the answer, as soon as there is one."""

    __slots__ = ("_answer", "_answered")

    def __init__(self) -> None:
        self._answered = anyio.Event()
        self._answer: A | None = None

    def put(self, answer: A) -> None:
        self._answer = answer
        self._answered.set()

    async def answer(self) -> A:
        await self._answered.wait()
        assert self._answer is not None
        return self._answer


@dataclass(slots=True)
class Entry:
    """One group: its members' machine and its positions."""

    group: Group
    offsets: dict[UUID, OffsetValue] = field(default_factory=dict)
    is_saved: bool = False
    """The log knows the group itself, not only offsets of it."""
    since_ms: int = -1
    """When the group was last saved, in milliseconds since 1970."""


class Shard:
    """Made from a loaded log, whose `run` is the caller's business."""

    def __init__(
        self,
        log: StateLog,
        *,
        limits: GroupLimits,
        counts: Counts,
        timers: Timers,
        clock: Clock,
        tasks: TaskGroup,
    ) -> None:
        self.log = log
        self.entries: dict[str, Entry] = {}
        self._limits = limits
        self._counts = counts
        self._timers = timers
        self._clock = clock
        self._tasks = tasks
        for key, value in log.live.items():
            self._restore(records.decode(key, value))

    def _restore(self, live: LiveGroup | records.LiveOffset) -> None:
        entry = self.entries.get(live.group) or self._new_entry(live.group)
        if isinstance(live, LiveGroup):
            now_ms = self._timers.now_ms()
            entry.group = Group.restored(live.group, self._limits, live.value, now_ms, self._counts)
            entry.is_saved, entry.since_ms = True, live.value.state_time_ms
            self._timers.set(entry.group)
        else:
            entry.offsets[live.topic_id] = live.value

    def _new_entry(self, group_id: str) -> Entry:
        entry = self.entries[group_id] = Entry(Group(group_id, self._limits, self._counts))
        return entry

    def entry(self, group_id: str, *, room: bool | None = None) -> Entry:
        """The entry of a group. One that is missing is made if there is `room`; None means it is
        not to be made. Raises GroupRefused."""
        entry = self.entries.get(group_id)
        if entry is not None:
            return entry
        if room is None:
            raise GroupRefused(Refusal.UNKNOWN_GROUP)
        if not room:
            raise GroupRefused(Refusal.GROUP_FULL)
        return self._new_entry(group_id)

    # ---- what the machines ask for ---------------------------------------------------------------

    def now_ms(self) -> int:
        """The clock that groups live by."""
        return self._timers.now_ms()

    def apply(self, entry: Entry, effects: Sequence[Effect]) -> None:
        """Do what a machine asks for."""
        for effect in effects:
            if isinstance(effect, Answer):
                assert isinstance(effect.ticket, Waiting)
                effect.ticket.put(effect.answer)
            else:
                self._save(entry, effect)
        self._timers.set(entry.group)
        if entry.group.is_idle and not entry.offsets and not entry.is_saved:
            self.entries.pop(entry.group.group_id, None)

    def _save(self, entry: Entry, save: Save) -> None:
        group_id = entry.group.group_id
        entry.is_saved, entry.since_ms = True, self._clock.now_ms()
        value: GroupValue = msgspec.structs.replace(save.value, state_time_ms=entry.since_ms)
        durable = self.log.put([(records.group_key(group_id), records.encode(value))])
        self._tasks.start_soon(self._saved, entry, save, durable)

    async def _saved(self, entry: Entry, save: Save, durable: Durable) -> None:
        try:
            await durable()
        except RequestError as error:
            self.close(error)
            return
        with self.confined():
            self.apply(entry, entry.group.saved(save, self._timers.now_ms()))

    @contextmanager
    def confined(self) -> Iterator[None]:
        """For what no request asked for: a mistake of ours costs this shard, which is read back,
        and not the node."""
        try:
            yield
        except Exception:  # noqa: BLE001 - whatever it is
            _log.exception("a group failed", topic=self.log.partition.topic.name)
            self.close()

    def tick(self, group: Group) -> None:
        """Time has passed for a group that is, or was, one of these."""
        entry = self.entries.get(group.group_id)
        if entry is not None and entry.group is group and self.log.failure is None:
            self.apply(entry, group.tick(self._timers.now_ms()))

    def release(self) -> None:
        """Keep no request waiting: the node stops, or the shard has moved."""
        for entry in list(self.entries.values()):
            for effect in entry.group.close(Refusal.MOVED):
                assert isinstance(effect, Answer)
                assert isinstance(effect.ticket, Waiting)
                effect.ticket.put(effect.answer)

    def close(self, reason: RequestError | None = None) -> None:
        """This is no longer the shard's state."""
        if self.log.failure is None or self.entries:
            self.log.fail(reason or NotLeader("the groups of this shard are coordinated elsewhere"))
            self.release()
            self.entries.clear()

    # ---- offsets ---------------------------------------------------------------------------------

    def commit(self, entry: Entry, offsets: Mapping[UUID, OffsetValue]) -> Durable:
        """The new positions of a group, in one batch. Raises GroupRefused, and what ended the
        log."""
        if not offsets:
            return self.log.settled()
        group_id = entry.group.group_id
        changes = [
            (records.offset_key(group_id, topic_id), records.encode(value))
            for topic_id, value in offsets.items()
        ]
        if sum(len(key) + len(value) for key, value in changes) > COMMIT_SIZE_MAX:
            raise GroupRefused(Refusal.COMMIT_TOO_LARGE)
        durable = self.log.put(changes)
        entry.offsets.update(offsets)
        return durable

    def commit_now(
        self, entry: Entry, topic_id: UUID, value: OffsetValue, wake: Wake, *, is_alone: bool
    ) -> bool:
        """`commit` of one position without a task; see `StateLog.put_now`."""
        change = records.offset_key(entry.group.group_id, topic_id), records.encode(value)
        if not self.log.put_now([change], wake, is_alone=is_alone):
            return False
        entry.offsets[topic_id] = value
        return True

    def forget(self, entry: Entry, topic_ids: Sequence[UUID]) -> Durable:
        """Positions that are no more. Raises what ended the log."""
        group_id = entry.group.group_id
        durable = self.log.put([(records.offset_key(group_id, one), None) for one in topic_ids])
        for topic_id in topic_ids:
            entry.offsets.pop(topic_id, None)
        return durable

    def delete(self, entry: Entry) -> Durable:
        """The group and everything it has. Nobody may be in it. Raises what ended the log."""
        assert entry.group.state is State.EMPTY
        group_id = entry.group.group_id
        changes: list[Change] = [(records.offset_key(group_id, one), None) for one in entry.offsets]
        if entry.is_saved:
            changes.append((records.group_key(group_id), None))
        durable = self.log.put(changes) if changes else self.log.settled()
        self.apply(entry, entry.group.close(Refusal.UNKNOWN_GROUP))
        self.entries.pop(group_id, None)
        return durable

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self.entries.values()))
