"""Seals the segments that the metadata has given to this node to seal.

The metadata says who recovers what, at which seal epoch; this is where it is noticed and done, a
task for each. Ends that become known in the same moment are proposed in one command. A higher seal
epoch, or another recoverer, ends our attempt: its commit would be refused anyway.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import anyio
import structlog
from anyio.abc import TaskGroup

from broker.controller import placement
from broker.controller.metadata import Metadata
from broker.errors import RequestError
from broker.replication.recoverer import Patient, Recoverer
from broker.replication.seal import Commit
from raft.commands import CommitSealMany, SealedEnd, SealItem
from raft.state import ClusterState, SegmentState, Topic

_log = structlog.get_logger(__name__)

SEALS_PER_COMMAND_MAX = 150
"""Keeps a CommitSealMany well below the largest command."""

RUNNING_MAX = 64
"""Recoveries at the same time; each is a few syncs."""

RETRY_PAUSE_S = 0.2
"""Between two proposals while too few nodes are live to open a successor."""


@dataclass(frozen=True, slots=True)
class _Found:
    """An end that is to be proposed."""

    topic: Topic
    commit: Commit
    disks: Mapping[int, bytes]
    """Of all nodes, as they were before any of them was asked."""


class Sealing:
    """One node's recoveries. `on_change` is a metadata listener; `run` does the work."""

    def __init__(
        self,
        *,
        node: int,
        metadata: Metadata,
        recoverer: Recoverer,
        now_ms: Callable[[], int],
    ) -> None:
        self._node = node
        self._now_ms = now_ms
        self._metadata = metadata
        self._recoverer = recoverer
        self._running: dict[bytes, tuple[int, anyio.CancelScope]] = {}
        self._earlier: dict[bytes, int] = {}
        """Topic id → seal epoch of attempts that an earlier process of this node may have begun."""
        self._limiter = anyio.CapacityLimiter(RUNNING_MAX)
        self._found: list[_Found] = []
        self._wake = anyio.Event()
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled. Attempts of earlier processes are left alone: what they have chosen is
        not known here. `Restart.begin_seals` has them begun anew, each with its own epoch."""
        self._earlier = {
            topic_id: topic.segments[-1].seal_epoch
            for topic_id, topic in self._metadata.state.topics.items()
        }
        async with anyio.create_task_group() as self._tasks:
            try:
                for topic in self._metadata.state.topics.values():
                    self._begin(topic)
                await self._commit_all()
            finally:
                self._tasks = None

    async def _commit_all(self) -> None:
        while True:
            self._wake = anyio.Event()
            while self._found:
                found = self._found[:SEALS_PER_COMMAND_MAX]
                del self._found[:SEALS_PER_COMMAND_MAX]
                await self._commit(found)
            await self._wake.wait()

    def on_change(self, before: ClusterState, after: ClusterState) -> None:
        """Start what is new, stop what is no longer ours."""
        if self._tasks is None:
            return
        for topic_id, (seal_epoch, scope) in list(self._running.items()):
            topic = after.topics.get(topic_id)
            if topic is None or not self._is_ours(topic, seal_epoch):
                scope.cancel()
                del self._running[topic_id]
        for topic_id in after.topics.changed_since(before.topics):
            if (topic := after.topics.get(topic_id)) is not None:
                self._begin(topic)

    def _begin(self, topic: Topic) -> None:
        last = topic.segments[-1]
        if self._is_ours(topic, last.seal_epoch) and topic.topic_id not in self._running:
            assert self._tasks is not None
            scope = anyio.CancelScope()
            self._running[topic.topic_id] = (last.seal_epoch, scope)
            self._tasks.start_soon(self._recover, topic, scope)

    def _is_ours(self, topic: Topic, seal_epoch: int) -> bool:
        last = topic.segments[-1]
        return (
            last.state is SegmentState.SEALING
            and last.recoverer == self._node
            and last.seal_epoch == seal_epoch > self._earlier.get(topic.topic_id, 0)
        )

    async def _recover(self, topic: Topic, scope: anyio.CancelScope) -> None:
        last = topic.segments[-1]
        void = frozenset(node for node, _ in last.void)
        if void and len(last.replicas) == 1:
            _log.error(
                "this disk may have lost acknowledged writes, and there is no other copy:"
                " keeping the longest valid prefix",
                topic=topic.name,
                sid=last.sid,
            )
            void = frozenset()
        # A disk that is replaced after it has answered must not count for what it answered.
        disks = {node: broker.disk for node, broker in self._metadata.state.brokers.items()}
        live = placement.live_nodes(self._metadata.state)
        patient = Patient(
            topic.name,
            topic.topic_id,
            last.sid,
            last.seal_epoch,
            last.replicas,
            void,
            spares=tuple(node for node in live if node not in last.replicas),
            accepts_loss=last.accepts_loss,
            awaited=frozenset(live) & {*last.replicas} - void,
        )
        with scope:
            async with self._limiter:
                decision = await self._recoverer.recover(patient)
            if isinstance(decision, Commit):
                self._found.append(_Found(topic, decision, disks))
                self._wake.set()

    async def _commit(self, found: list[_Found]) -> None:
        state = self._metadata.state
        proposed = []
        for one in found:
            item = _item(state, one, self._now_ms())
            if item is None:
                _log.warning("too few live nodes to go on", topic=one.topic.name)
                self._later(one)
            else:
                proposed.append((one, item))
        if not proposed:
            return
        items = tuple(item for _, item in proposed)
        try:
            applied = await self._metadata.propose(CommitSealMany(items))
        except RequestError as error:
            _log.warning("the end of a segment is not known to be fixed", error=str(error))
            for one, _ in proposed:
                self._later(one)
            return
        for (one, item), (topic_id, sid, epoch) in zip(proposed, applied.items, strict=True):
            topic_now = self._metadata.state.topics.get(topic_id)
            if sid >= 0:
                _log.info(
                    "sealed",
                    topic=topic_now.name if topic_now else "?",
                    sid=item.sid,
                    end_offset=item.end.end_offset,
                    next_writer=item.next.writer,
                    leader_epoch=epoch,
                )
            elif topic_now is not None and self._is_ours(topic_now, item.seal_epoch):
                self._later(one)

    def _later(self, found: _Found) -> None:
        """Propose again soon, if it is still ours to do. If it never can be (a disk was replaced
        meanwhile), the supervisor begins anew."""

        async def again() -> None:
            await anyio.sleep(RETRY_PAUSE_S)
            now = self._metadata.state.topics.get(found.topic.topic_id)
            if now is not None and self._is_ours(now, found.topic.segments[-1].seal_epoch):
                self._found.append(replace(found, topic=now))
                self._wake.set()

        if self._tasks is not None:
            self._tasks.start_soon(again)


def _item(state: ClusterState, found: _Found, now_ms: int) -> SealItem | None:
    topic, commit = found.topic, found.commit
    last = topic.segments[-1]
    opened = placement.after_seal(state, topic, commit.holders)
    if opened is None:
        return None
    return SealItem(
        topic_id=topic.topic_id,
        sid=last.sid,
        seal_epoch=last.seal_epoch,
        end=SealedEnd(*commit.end, appended_ms=now_ms),
        holders=tuple((node, found.disks[node]) for node in commit.holders),
        next=opened,
    )
