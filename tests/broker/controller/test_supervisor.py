"""Who is taken for dead: the silent, and nobody else."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import anyio
import msgspec
import pytest

from broker.controller.liveness import LATE_S, TIME_TO_LIVE_S, Liveness
from broker.controller.metadata import Metadata
from broker.controller.supervisor import (
    GRACE_S,
    Silence,
    Supervisor,
    Unsettled,
    decide,
    unsettled,
)
from broker.errors import NotProposed
from broker.ports import Buffer
from broker.replication.peers import Conversation, PeerGone, PeerUnreachable
from raft.commands import AnyCommand, Applied, BeginSeal, FenceBroker
from raft.state import EMPTY, Broker, ClusterState, Segment, SegmentState, Topic


def cluster(*nodes: int) -> ClusterState:
    brokers = EMPTY.brokers
    for node in nodes:
        brokers = brokers.set(
            node, Broker(node, 100 + node, bytes([node]) * 16, "h", 1, (), None, False)
        )
    return type(EMPTY)(brokers=brokers)


def commands(state: ClusterState, silence: Silence) -> list[FenceBroker | BeginSeal]:
    return decide(state, silence, unsettled(state, state.topics.values()))


def fenced(now: float, seen: dict[int, float], led_since: float = -GRACE_S) -> list[int]:
    due = commands(cluster(1, 2, 3), Silence(now, seen, led_since, {}))
    return [command.node for command in due if isinstance(command, FenceBroker)]


def test_a_node_is_fenced_when_its_time_to_live_is_over_and_not_before() -> None:
    seen = {1: 10.0, 2: 10.0, 3: 10.0 - TIME_TO_LIVE_S}
    assert fenced(10.0, seen) == []
    assert fenced(10.0 + TIME_TO_LIVE_S / 2, seen) == [3]


def test_a_new_leader_has_heard_of_nobody_and_waits() -> None:
    assert fenced(10.0, {}, led_since=10.0) == []
    assert fenced(10.0 + GRACE_S - 0.1, {}, led_since=10.0) == []
    assert fenced(10.0 + GRACE_S + 0.1, {}, led_since=10.0) == [1, 2, 3]


def test_a_leader_that_was_lost_is_waited_for_once_and_not_twice() -> None:
    state, led_since = cluster(1, 2, 3), 10.0
    now = led_since + TIME_TO_LIVE_S + 0.1
    due = commands(state, Silence(now, {1: now}, led_since, {}, predecessor=2))
    assert [command.node for command in due if isinstance(command, FenceBroker)] == [2]
    heard = commands(state, Silence(now, {1: now, 2: now - 0.5}, led_since, {}, predecessor=2))
    assert heard == []


def with_topic(state: ClusterState, writer: int, segment: SegmentState) -> ClusterState:
    """A topic that `writer` writes, or wrote."""
    last = Segment(1, segment, 1, writer, 100 + writer, (1, 2, 3), (), 0, -1, -1, -1, -1, (), 0, -1)
    topic = Topic(bytes(16), "t", {}, 0, 3, False, False, 1, 2, 0, (last,), 0, 0)
    return msgspec.structs.replace(state, topics=EMPTY.topics.set(topic.topic_id, topic))


def with_writer(state: ClusterState, **changes: object) -> ClusterState:
    """Node 2, changed."""
    changed = msgspec.structs.replace(state.brokers[2], **changes)
    return msgspec.structs.replace(state, brokers=state.brokers.set(2, changed))


def begun(state: ClusterState) -> list[int]:
    """The recoverers of the seals that are due while everybody is heard of."""
    seen = dict.fromkeys(state.brokers, 10.0)
    due = commands(state, Silence(10.0, seen, 0.0, {}))
    return [command.recoverer for command in due if isinstance(command, BeginSeal)]


def on(state: ClusterState, replicas: tuple[int, ...], **changes: object) -> ClusterState:
    """The topic's last segment, opened by node 2 on these nodes only."""
    (topic,) = state.topics.values()
    last = msgspec.structs.replace(topic.segments[-1], replicas=replicas)
    topic = msgspec.structs.replace(topic, segments=(last,), **changes)
    return msgspec.structs.replace(state, topics=state.topics.set(topic.topic_id, topic))


def without(state: ClusterState, *nodes: int) -> ClusterState:
    """These are fenced."""
    brokers = state.brokers
    for node in nodes:
        brokers = brokers.set(node, msgspec.structs.replace(brokers[node], fenced=True))
    return msgspec.structs.replace(state, brokers=brokers)


def test_a_writer_whose_only_follower_is_lost_for_good_is_not_left_alone() -> None:
    """Opened on two nodes while the others were away, which are back now: what was appended then
    would wait for the one that is gone, and nobody could write any more."""
    state = on(with_topic(cluster(1, 2, 3), 2, SegmentState.OPEN), (1, 2))
    assert begun(state) == []
    assert begun(without(state, 1)) == [2]
    assert begun(without(state, 1, 3)) == [], "there is nowhere to go on"
    assert begun(without(state, 3)) == [], "it can go on as it is"


def test_a_writer_that_cannot_tell_where_its_segment_ends_is_left_alone() -> None:
    """A majority of the replicas is gone: what they may have had must be waited for."""
    state = on(with_topic(cluster(1, 2, 3, 4), 2, SegmentState.OPEN), (1, 2, 3))
    assert begun(without(state, 1)) == []
    assert begun(without(state, 1, 3)) == []


def test_a_topic_that_wants_all_of_its_replicas_goes_on_elsewhere_when_one_is_lost() -> None:
    state = on(
        with_topic(cluster(1, 2, 3, 4), 2, SegmentState.OPEN),
        (1, 2, 3),
        configs={"min.insync.replicas": "3"},
    )
    assert begun(without(state, 1)) == [3]
    assert begun(without(state, 1, 4)) == []


def test_a_topic_whose_writer_dies_later_is_not_overlooked() -> None:
    """What needs care is remembered between two looks, as long as nothing has changed."""
    found = Unsettled()
    open_one = with_topic(cluster(1, 2, 3), 2, SegmentState.OPEN)
    dead = with_writer(open_one, fenced=True)
    back = with_writer(open_one, incarnation=999)
    sealing = with_topic(open_one, 2, SegmentState.SEALING)
    gone = msgspec.structs.replace(sealing, topics=EMPTY.topics)
    states = ((open_one, 0), (dead, 1), (back, 1), (open_one, 0), (sealing, 1), (gone, 0))
    for state, count in states:
        for _ in range(2):
            assert len(found.topics(state)) == count
    due = commands(dead, Silence(10.0, {1: 10.0, 2: 10.0, 3: 10.0}, 0.0, {}))
    assert [type(command) for command in due] == [BeginSeal]


class Ports:
    """The peer ports of others. Who is not among the `gone` does not answer either."""

    def __init__(self) -> None:
        self.gone: set[int] = set()
        self.asked: list[int] = []

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        self.asked.append(node)
        raise PeerGone("refused") if node in self.gone else PeerUnreachable("no answer")

    async def converse(self, node: int) -> Conversation:
        raise AssertionError("nobody follows here")


class Clock:
    """Each look at it is `step` later than the last one."""

    def __init__(self) -> None:
        self.now, self.step = 100.0, 0.1

    def now_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


async def fenced_by(
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Clock, dict[int, float]], None],
    looks: int,
    ports: Ports | None = None,
    *,
    proposal_s: float = 0.0,
) -> set[int]:
    """Let node 1 lead three nodes for so many looks; `act` happens before each of them, and a
    proposal takes so long."""
    monkeypatch.setattr("broker.controller.supervisor.CHECK_S", 0)
    proposed: list[AnyCommand] = []
    clock, seen = Clock(), dict[int, float]()
    state = cluster(1, 2, 3)
    if proposal_s:
        state = with_topic(state, 9, SegmentState.OPEN)  # at each look there is something to do
    left = looks

    async def propose(command: AnyCommand) -> Applied:
        clock.now += proposal_s
        if isinstance(command, BeginSeal):
            raise NotProposed("too much at once")
        proposed.append(command)
        return Applied(revision=1, refusal="")

    def leader() -> int:
        nonlocal left
        left -= 1
        act(clock, seen)
        return 1

    supervisor = Supervisor(
        node=1,
        metadata=cast(Metadata, SimpleNamespace(state=state, propose=propose)),
        liveness=cast(Liveness, SimpleNamespace(seen=seen)),
        peers=ports or Ports(),
        clock=clock,
        leader=leader,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        with anyio.fail_after(10):
            while left > 0:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    return {command.node for command in proposed if isinstance(command, FenceBroker)}


async def test_the_silent_are_fenced_and_the_one_who_decides_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def node_2_speaks(clock: Clock, seen: dict[int, float]) -> None:
        seen[2] = clock.now

    assert await fenced_by(monkeypatch, node_2_speaks, 60) == {3}


async def test_a_leader_that_stood_still_blames_nobody_for_the_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the others said meanwhile waits in its sockets."""
    looks = 0

    def stands_still_once(clock: Clock, seen: dict[int, float]) -> None:
        nonlocal looks
        looks += 1
        if looks == 30:
            clock.now += 5 * TIME_TO_LIVE_S
        elif looks != 31:  # what was said meanwhile is read one look later
            seen[2] = seen[3] = clock.now

    assert await fenced_by(monkeypatch, stands_still_once, 60) == set()


async def test_a_node_falls_silent_while_every_proposal_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A leader that is busy hears the others all the same: it is not one that stood still."""

    def node_2_speaks(clock: Clock, seen: dict[int, float]) -> None:
        seen[2] = clock.now

    assert await fenced_by(monkeypatch, node_2_speaks, 20, proposal_s=0.6) == {3}


async def test_a_killed_node_is_fenced_long_before_its_time_to_live_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two looks after its last heartbeat was due; the others are heard of all the time."""
    ports = Ports()
    killed_at = 0.0
    ended_at = 0.0

    def kill(clock: Clock, seen: dict[int, float]) -> None:
        nonlocal killed_at, ended_at
        ended_at = clock.now
        seen[3] = clock.now
        if clock.now < 101.0:
            seen[2] = killed_at = clock.now
        else:
            ports.gone.add(2)

    assert await fenced_by(monkeypatch, kill, 15, ports) == {2}
    assert ended_at - killed_at < TIME_TO_LIVE_S
    assert set(ports.asked) == {2}


@pytest.mark.parametrize("what", ["it is heard of", "it refuses every second time", "it is silent"])
async def test_one_refusal_is_not_enough(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A node between two starts, one for which a firewall speaks, one that stands still."""
    ports = Ports()
    looks = 0

    def trouble(clock: Clock, seen: dict[int, float]) -> None:
        nonlocal looks
        looks += 1
        seen[3] = clock.now
        if looks < 5 or what == "it is heard of":
            seen[2] = clock.now - LATE_S / 2
        ports.gone = {
            "it is heard of": {2},
            "it refuses every second time": {2} if looks % 2 else set(),
            "it is silent": set(),
        }[what]

    assert await fenced_by(monkeypatch, trouble, 11, ports) == set()


async def test_the_topics_of_a_dead_node_do_not_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.controller.supervisor.CHECK_S", 0)
    dead = with_writer(with_topic(cluster(1, 2, 3), 2, SegmentState.OPEN), fenced=True)
    (one,) = dead.topics.values()
    for number in range(1, 50):
        topic = msgspec.structs.replace(one, topic_id=number.to_bytes(16, "big"), name=f"{number}")
        dead = msgspec.structs.replace(dead, topics=dead.topics.set(topic.topic_id, topic))
    under_way: set[bytes] = set()

    async def propose(command: AnyCommand) -> Applied:
        assert isinstance(command, BeginSeal)
        under_way.add(command.topic_id)
        await anyio.sleep_forever()
        raise AssertionError

    clock = Clock()
    supervisor = Supervisor(
        node=1,
        metadata=cast(Metadata, SimpleNamespace(state=dead, propose=propose)),
        liveness=cast(Liveness, SimpleNamespace(seen={2: clock.now, 3: clock.now})),
        peers=Ports(),
        clock=clock,
        leader=lambda: 1,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        with anyio.fail_after(10):
            while len(under_way) < 50:
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
