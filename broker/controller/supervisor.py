"""What the Raft leader does for the others: fence who is gone or has fallen silent, and have
somebody seal what they left open, or left to a writer that can do nothing without them.

`decide` is pure; `Supervisor` asks it whenever something may have changed and proposes what it
says. Every proposal is a compare-and-set, so two supervisors at once (an old leader that does not
know) do no harm."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf

import anyio
import structlog

from broker.controller import placement
from broker.controller.absence import Absence
from broker.controller.liveness import LATE_S, TIME_TO_LIVE_S, Liveness
from broker.controller.metadata import Metadata
from broker.controller.topic_config import TopicConfig
from broker.errors import RequestError
from broker.ports import Clock
from broker.replication.peers import Peers
from broker.replication.quorum import ack_quorum, seal_quorum
from raft.commands import BeginSeal, FenceBroker
from raft.state import ClusterState, Segment, SegmentState, Topic

_log = structlog.get_logger(__name__)

CHECK_S = 0.1
"""How often the leader looks. A silent node is fenced after its time to live and this; one whose
process has ended, after two looks."""

GRACE_S = 2 * TIME_TO_LIVE_S
"""A new leader has heard of nobody: how long it waits before it takes silence for death. Its
predecessor has been silent before, or there would have been no election: for that one a time to
live is enough."""

DEAF_S = TIME_TO_LIVE_S / 2
"""A leader that has not looked for so long takes nobody's silence for death."""

SEAL_PATIENCE_S = 5.0
"""How long a recoverer may take before another one is asked."""


@dataclass(frozen=True, slots=True)
class Silence:
    """What the leader knows about time: all in seconds on its own clock."""

    now: float
    seen: Mapping[int, float]
    """When each node was last heard of."""
    led_since: float
    sealing_since: Mapping[bytes, tuple[int, float]]
    """Topic id → (seal epoch, when it was first seen)."""
    predecessor: int | None = None
    """The node that led before this one, if it is known."""
    gone: Collection[int] = ()
    """Nodes whose process has ended, as far as their machines tell."""


def decide(
    state: ClusterState, silence: Silence, topics: Iterable[Topic]
) -> list[FenceBroker | BeginSeal]:
    """The commands that are due. `topics` are the `unsettled` ones."""
    due: list[FenceBroker | BeginSeal] = []
    for node, broker in sorted(state.brokers.items()):
        grace_s = TIME_TO_LIVE_S if node == silence.predecessor else GRACE_S
        last_heard = max(silence.seen.get(node, 0.0), silence.led_since + grace_s - TIME_TO_LIVE_S)
        is_silent = silence.now - last_heard > TIME_TO_LIVE_S
        if not broker.fenced and (is_silent or node in silence.gone):
            due.append(FenceBroker(node, broker.incarnation))
    for topic in topics:
        if _needs_seal(state, topic, silence):
            recoverer = _recoverer(state, topic)
            if recoverer is not None:
                due.append(
                    BeginSeal(topic.topic_id, topic.segments[-1].sid, topic.epoch, recoverer)
                )
    return due


def _needs_seal(state: ClusterState, topic: Topic, silence: Silence) -> bool:
    last = topic.segments[-1]
    if last.state is SegmentState.OPEN:
        return not _is_written(state, last) or _is_stranded(state, topic)
    recoverer = state.brokers.get(last.recoverer)
    if recoverer is None or recoverer.fenced:
        return True
    epoch, since = silence.sealing_since.get(topic.topic_id, (-1, silence.now))
    return epoch == last.seal_epoch and silence.now - since > SEAL_PATIENCE_S


def _is_written(state: ClusterState, last: Segment) -> bool:
    writer = state.writer_of(last)
    return writer is not None and not writer.fenced


def _is_stranded(state: ClusterState, topic: Topic) -> bool:
    """Its writer lives, and too few of its other replicas to acknowledge anything: as long as an
    append waits, the writer cannot even close the segment. Those that are left can tell where it
    ends, and there are nodes to go on with."""
    last = topic.segments[-1]
    void = {node for node, _ in last.void}
    live = [node for node in last.replicas if node not in void and _is_live(state, node)]
    count = len(last.replicas)
    if len(live) == count or len(live) < seal_quorum(count):
        return False
    min_insync_replicas = TopicConfig.of(topic.configs).min_insync_replicas
    if len(live) >= ack_quorum(count, min_insync_replicas, state.staying_count):
        return False
    return placement.with_all_asked_for(state, topic, live) is not None


def _recoverer(state: ClusterState, topic: Topic) -> int | None:
    """A live replica; another one each time, so that one that cannot does not stand in the way."""
    last = topic.segments[-1]
    live = [node for node in last.replicas if _is_live(state, node)]
    if not live:
        return None
    before = last.recoverer if last.state is SegmentState.SEALING else last.writer
    return min(live, key=lambda node: (node <= before, node))


def _is_live(state: ClusterState, node: int) -> bool:
    broker = state.brokers.get(node)
    return broker is not None and not broker.fenced


def unsettled(state: ClusterState, topics: Iterable[Topic]) -> tuple[Topic, ...]:
    """Those of `topics` whose last segment is being sealed, or is to be: its writer is gone, or too
    few of its replicas are left to it."""
    alive = {(node, one.incarnation) for node, one in state.brokers.items() if not one.fenced}
    live = {node for node, _ in alive}
    return tuple(
        topic
        for topic in topics
        if (last := topic.segments[-1]).state is not SegmentState.OPEN
        or (last.writer, last.writer_incarnation) not in alive
        or (not live.issuperset(last.replicas) and _is_stranded(state, topic))
    )


class Unsettled:
    """The same of all topics. Only those are looked at that have changed since the last time,
    unless a node has: the supervisor asks ten times a second, and there may be thousands."""

    def __init__(self) -> None:
        self._of: ClusterState | None = None
        self._topics: dict[bytes, Topic] = {}

    def topics(self, state: ClusterState) -> tuple[Topic, ...]:
        before, self._of = self._of, state
        if before is None or before.brokers is not state.brokers:
            self._topics = {}
            self._add(state, state.topics.values())
        elif before.topics is not state.topics:
            changed = state.topics.changed_since(before.topics)
            for topic_id in changed:
                self._topics.pop(topic_id, None)
            self._add(state, filter(None, map(state.topics.get, changed)))
        return tuple(self._topics.values())

    def _add(self, state: ClusterState, topics: Iterable[Topic]) -> None:
        self._topics |= {topic.topic_id: topic for topic in unsettled(state, topics)}


class Supervisor:
    """Runs on every node; acts on the one that leads Raft."""

    def __init__(
        self,
        *,
        node: int,
        metadata: Metadata,
        liveness: Liveness,
        peers: Peers,
        clock: Clock,
        leader: Callable[[], int | None],
    ) -> None:
        """`leader` says which broker leads Raft now, None if that is unknown."""
        self._node = node
        self._metadata = metadata
        self._liveness = liveness
        self._clock = clock
        self._leader = leader
        self._absence = Absence(peers)
        self._predecessor: int | None = None
        self._led_since: float | None = None
        self._known: dict[int, int] = {}
        self._sealing_since: dict[bytes, tuple[int, float]] = {}
        self._unsettled = Unsettled()
        self._looked_at = 0.0
        """When it last looked, and how long it has done something else since then."""

    async def run(self) -> None:
        """Until cancelled."""
        self._looked_at = self._clock.monotonic()
        while True:
            await anyio.sleep(CHECK_S)
            now, looked_before = self._clock.monotonic(), self._looked_at
            self._looked_at = now
            leader = self._leader()
            if leader != self._node:
                self._led_since = None
                self._predecessor = self._predecessor if leader is None else leader
                self._meet()
                continue
            if self._led_since is None:
                self._led_since = now
                self._liveness.seen.clear()
            if now - looked_before > DEAF_S:
                # This process itself stood still, and what the others said waits to be read:
                # everybody gets a time to live from now on.
                self._led_since = max(self._led_since, now - GRACE_S + TIME_TO_LIVE_S)
            self._liveness.seen[self._node] = now  # whoever decides is alive
            for node in self._meet():
                self._liveness.seen[node] = now  # it has just spoken, by registering
            gone = await self._absence.look(self._late(now), patience_s=CHECK_S)
            if await self._act(now, self._led_since, gone):
                # Whoever was fenced may have left something to be sealed.
                await self._act(now, self._led_since, gone)

    async def _act(self, now: float, led_since: float, gone: Collection[int]) -> bool:
        """Propose what is due; True if somebody was fenced. All at the same time: a dead node may
        have written a thousand topics, and each of these is a round among the others."""
        state = self._metadata.state
        topics = self._unsettled.topics(state)
        self._watch_seals(topics, now)
        silence = Silence(
            now, self._liveness.seen, led_since, self._sealing_since, self._predecessor, gone
        )
        due, fenced = decide(state, silence, topics), list[int]()
        if due:
            began_at = self._clock.monotonic()
            async with anyio.create_task_group() as tasks:
                for command in due:
                    tasks.start_soon(self._propose, command, fenced)
            # However long that took, it was no standstill: the others were heard meanwhile.
            self._looked_at += self._clock.monotonic() - began_at
        return bool(fenced)

    def _late(self, now: float) -> list[int]:
        """Live nodes that nothing was heard of lately; of a new leader, all."""
        seen = self._liveness.seen
        return [
            node
            for node, broker in sorted(self._metadata.state.brokers.items())
            if not broker.fenced and now - seen.get(node, -inf) > LATE_S
        ]

    def _meet(self) -> list[int]:
        """Nodes with an incarnation that was not there at the last look."""
        brokers = self._metadata.state.brokers
        known, self._known = self._known, {node: one.incarnation for node, one in brokers.items()}
        return [node for node, incarnation in self._known.items() if known.get(node) != incarnation]

    def _watch_seals(self, topics: Iterable[Topic], now: float) -> None:
        last = {topic.topic_id: topic.segments[-1] for topic in topics}
        sealing = {key: one for key, one in last.items() if one.state is SegmentState.SEALING}
        for topic_id in self._sealing_since.keys() - sealing.keys():
            del self._sealing_since[topic_id]
        for topic_id, segment in sealing.items():
            if self._sealing_since.get(topic_id, (-1, 0.0))[0] != segment.seal_epoch:
                self._sealing_since[topic_id] = (segment.seal_epoch, now)

    async def _propose(self, command: FenceBroker | BeginSeal, fenced: list[int]) -> None:
        try:
            applied = await self._metadata.propose(command)
        except RequestError as error:
            _log.warning("not decided", command=type(command).__name__, why=str(error))
            return
        if isinstance(command, FenceBroker) and not applied.refusal:
            fenced.append(command.node)
            _log.warning("a node has fallen silent", node=command.node)
