"""Copies that are missing, and a status that does not say so."""

from collections.abc import Mapping
from typing import Any

from broker.controller.written import written_by
from broker.replication.messages import Written
from broker.replication.writer import Writer
from broker.server.overview import overview, under_replicated, unreadable
from engine.producer_state import ProducerState
from raft.members import Members
from raft.pmap import PMap
from raft.state import Broker, ClusterState, Segment, SegmentState, Topic

DISKS = {node: bytes([node]) * 16 for node in (1, 2, 3)}
TOPIC_ID = b"t" * 16


def broker(node: int, *, fenced: bool = False) -> Broker:
    listeners = (("native", "127.0.0.1", 8080 + node),)
    return Broker(node, 10 + node, DISKS[node], "127.0.0.1", 6000 + node, listeners, None, fenced)


def segment(
    sid: int, state: SegmentState, base: int, end: int, holders: tuple[int, ...] = ()
) -> Segment:
    return Segment(
        sid=sid,
        state=state,
        epoch=sid,
        writer=1,
        writer_incarnation=11,
        replicas=(1, 2, 3),
        void=(),
        base_offset=base,
        end_offset=end,
        size=100 if end >= 0 else -1,
        digest=0,
        max_timestamp=-1,
        holders=tuple((node, DISKS[node]) for node in holders),
        seal_epoch=0,
        recoverer=0,
    )


def state(*segments: Segment, fenced: tuple[int, ...] = (), log_start: int = 0) -> ClusterState:
    topic = Topic(
        topic_id=TOPIC_ID,
        name="logs",
        configs={},
        config_revision=0,
        replication_factor=3,
        internal=False,
        pinned=False,
        epoch=4,
        next_sid=9,
        log_start_offset=log_start,
        segments=segments,
        deleted_up_to_sid=0,
        created_revision=1,
    )
    brokers = PMap((node, broker(node, fenced=node in fenced)) for node in DISKS)
    return ClusterState(
        cluster_id="Zm9v",
        brokers=brokers,
        topics=PMap([(TOPIC_ID, topic)]),
        names=PMap([("logs", TOPIC_ID)]),
        revision=7,
    )


def see(
    found: ClusterState, written: Mapping[bytes, Written] | None = None, voters: int = 3
) -> dict[str, Any]:
    members = Members(tuple(DISKS[node].hex() for node in range(1, voters + 1)))
    return overview(
        found,
        node_id=1,
        raft_leader=2,
        reaches_majority=True,
        members=members,
        written=written or {},
    )


def test_a_dead_node_leaves_its_segments_short_of_a_copy() -> None:
    chain = (
        segment(1, SegmentState.SEALED, 0, 10, (1, 2, 3)),
        segment(2, SegmentState.SEALED, 10, 20, (1, 2)),
        segment(3, SegmentState.OPEN, 20, -1),
    )
    (topic,) = see(state(*chain))["topics"]
    assert topic["under_replicated_segments"] == 1
    assert [each["live_replicas"] for each in topic["segments"]] == [[1, 2, 3], [1, 2], [1, 2, 3]]
    (topic,) = see(state(*chain, fenced=(3,)))["topics"]
    assert topic["under_replicated_segments"] == 3
    assert topic["live_replicas"] == [1, 2]
    assert under_replicated(state(*chain)) == 1
    assert under_replicated(state(*chain, fenced=(3,))) == 3


def test_closed_segments_that_no_live_node_has_are_told_from_those_with_too_few_copies() -> None:
    chain = (
        segment(1, SegmentState.SEALED, 0, 10, (3,)),
        segment(2, SegmentState.SEALED, 10, 10, (3,)),
        segment(3, SegmentState.SEALED, 10, 20, (1, 3)),
        segment(4, SegmentState.SEALED, 20, 30, (3,)),
        segment(5, SegmentState.OPEN, 30, -1),
    )
    (topic,) = see(state(*chain))["topics"]
    assert topic["unreadable"] == []
    (topic,) = see(state(*chain, fenced=(3,)))["topics"]
    assert topic["unreadable"] == [(0, 10), (20, 30)]
    assert unreadable(state(*chain, fenced=(3,))) == 2


def test_what_is_deleted_is_missed_by_nobody() -> None:
    chain = (segment(1, SegmentState.SEALED, 0, 10), segment(2, SegmentState.OPEN, 10, -1))
    (topic,) = see(state(*chain, log_start=4))["topics"]
    assert topic["unreadable"] == [(4, 10)]
    (topic,) = see(state(*chain, log_start=10))["topics"]
    assert topic["unreadable"] == []


def test_a_segment_that_is_being_sealed_has_no_leader() -> None:
    (topic,) = see(state(segment(1, SegmentState.SEALING, 0, -1)))["topics"]
    assert topic["leader_id"] is None
    assert topic["segments"][0]["end_offset"] is None


def test_a_topic_whose_writer_is_dead_and_that_nobody_can_seal_is_led_by_nobody() -> None:
    (topic,) = see(state(segment(1, SegmentState.OPEN, 0, -1), fenced=(1,)))["topics"]
    assert topic["leader_id"] is None


def test_nodes_their_roles_and_what_they_lead() -> None:
    nodes = see(state(segment(1, SegmentState.OPEN, 0, -1), fenced=(3,)), voters=2)["nodes"]
    assert [node["led_topics"] for node in nodes] == [1, 0, 0]
    assert [node["is_alive"] for node in nodes] == [True, True, False]
    assert [node["is_raft_leader"] for node in nodes] == [False, True, False]
    assert [node["raft_role"] for node in nodes] == ["voter", "voter", "none"]
    assert nodes[0]["listeners"] == {"native": "127.0.0.1:8081"}


def test_lag_is_the_writers_to_tell() -> None:
    open_segment = segment(1, SegmentState.OPEN, 0, -1)
    (topic,) = see(state(open_segment))["topics"]
    assert topic["lag"] is None
    writer = Writer(
        node=1,
        disk=b"1",
        epoch=1,
        base_offset=0,
        replicas=(1, 2, 3),
        quorum=2,
        window=ProducerState(),
    )
    writer.next_offset = 30
    writer.on_durable(1, 30)
    writer.on_durable(2, 25)
    (topic,) = see(state(open_segment), {TOPIC_ID: written_by(writer, TOPIC_ID)})["topics"]
    assert topic["lag"] == {"2": 5, "3": 30}
    assert topic["high_watermark"] == 25


def test_a_member_of_the_metadata_that_is_no_node_is_shown() -> None:
    known = tuple(disk.hex() for disk in DISKS.values())
    found: Any = overview(
        state(segment(1, SegmentState.OPEN, 0, -1)),
        node_id=1,
        raft_leader=1,
        reaches_majority=True,
        members=Members(known, ("ab" * 16,)),
        written={},
    )
    assert found["unregistered_members"] == [{"member": "ab" * 16, "raft_role": "learner"}]
