"""Two of three metadata disks are gone: what the third one knows is lost, or half rewritten."""

import random
from pathlib import Path

import msgspec
import pytest

from raft import commands as c
from raft.commands import Applied
from raft.invariants import check_invariants
from raft.members import Members
from raft.messages import Append
from raft.node import RaftNode
from raft.recovery import (
    EPOCH_JUMP,
    PRODUCER_IDS_JUMP,
    TERM_JUMP,
    Stored,
    found_anew,
    last_with_records,
    look,
    sole_survivor,
)
from raft.state import ClusterState, Segment, SegmentState, Topic
from tests.raft.lab import Lab
from tests.raft.support import DISKS, World, register, topic_id, world
from tests.sim.raft.disk import PowerCut, SimDisk

ME = (3, DISKS[3])


def looked(disk: SimDisk) -> Stored:
    """At a disk that nobody may write to."""

    def refuse(operation: str) -> None:
        pytest.fail(f"looking writes: {operation}")

    before, disk.on_operation = disk.on_operation, refuse
    stored = look(disk)
    disk.on_operation = before
    assert stored is not None
    return stored


def lost(**options: int) -> Lab:
    """Three voters with a past, of which "c" is the one that will be left."""
    lab = Lab("abc", **options)
    lab.elect("a")
    for command in (c.FormCluster("old"), register(1), register(2), register(3)):
        (answer,) = _answered(lab, command)
        assert isinstance(answer, Applied)
    lab.run(0.2)
    return lab


def _answered(lab: Lab, command: c.AnyCommand) -> list[object]:
    outcomes = lab.ask("a", command)
    lab.run(0.1)
    return list(outcomes)


def opened(disk: SimDisk, voter: str = "c") -> RaftNode:
    node = RaftNode(
        directory=Path(voter),
        voter_id=voter,
        disk=disk,
        rng=random.Random(1),
        clock=lambda: 5000.0,
        debug=True,
    )
    node.open()
    return node


def new_state(stored: Stored) -> ClusterState:
    return sole_survivor(
        stored.state, node=3, disk=DISKS[3], cluster_id="new", held=lambda _topic, _segment: 0
    )


# ---- what is taken over ------------------------------------------------------------------------


def test_a_disk_without_metadata_has_none() -> None:
    assert look(SimDisk(random.Random(1))) is None


@pytest.mark.parametrize("options", [{}, {"compact_entries": 2, "trailing_entries": 0}])
def test_what_the_cluster_knew_is_what_is_found(options: dict[str, int]) -> None:
    lab = lost(**options)
    known, index = lab.nodes["c"].state, lab.nodes["c"]._journal.last_index
    lab.kill("c")
    stored = looked(lab.disks["c"])
    assert stored.state == known
    assert stored.members == Members(("a", "b", "c"))
    assert stored.index == index


def test_an_entry_that_was_acknowledged_before_this_node_heard_so_is_kept() -> None:
    """The leader commits and answers with this node's copy, and then everybody but it is gone."""
    lab = lost()
    lab.isolate("b")
    lab.held = {("a", "c")}
    outcomes = lab.ask("a", c.AllocateProducerIds(7))
    lab.held = set()
    lab.run(0.02)
    assert [type(one) for one in outcomes] == [Applied]
    before = lab.nodes["c"].state
    lab.kill("c")
    stored = looked(lab.disks["c"])
    assert stored.commit_index < stored.index
    assert stored.state.next_producer_id == before.next_producer_id + 7


def test_a_torn_last_write_is_not_cut_off_by_looking() -> None:
    lab = lost()
    lab.kill("c")
    disk = lab.disks["c"]
    whole = looked(disk)
    data = disk.read("journal")
    assert data is not None
    disk.write("journal", data + b"\x30\x00\x00\x00 and no more")
    assert looked(disk) == whole
    assert disk.read("journal") != data


# ---- how it is written -------------------------------------------------------------------------


def test_the_survivor_leads_a_cluster_of_its_own_and_others_join_it() -> None:
    lab = lost()
    for name in "abc":
        lab.kill(name)
    stored = looked(lab.disks["c"])
    found_anew(lab.disks["c"], stored, new_state(stored), "c")
    lab.names = ("c",)
    node = lab.start("c")
    assert node.is_leader
    assert node.members == Members(("c",))
    assert node.state.cluster_id == "new"
    assert node.term > stored.term + TERM_JUMP
    lab.add("d")
    lab.start("d", joins=True)
    node.connected("d")
    node.change_members(joins="d", on_done=lambda _error: None)
    lab.run(2)
    assert node.members == Members(("c", "d"))
    assert lab.nodes["d"].state == node.state


def test_a_log_of_which_every_entry_is_known_to_be_committed_gives_way() -> None:
    lab = lost()
    lab.nodes["c"].stop()
    stored = looked(lab.disks["c"])
    assert stored.commit_index == stored.index
    found_anew(lab.disks["c"], stored, new_state(stored), "c")
    assert _whole(lab.disks["c"].after_power_cut()) == "new"


def test_a_term_that_this_disk_has_heard_of_is_not_used_again() -> None:
    lab = lost()
    lab.inject("b", "c", Append(50 + TERM_JUMP, 1, 0, 1, ()))
    lab.nodes["c"].stop()
    stored = looked(lab.disks["c"])
    found_anew(lab.disks["c"], stored, new_state(stored), "c")
    assert opened(lab.disks["c"]).term > 50 + 2 * TERM_JUMP


def test_a_crash_leaves_the_old_cluster_or_the_new_one() -> None:
    """At every step, of the process and of the machine."""
    lab = lost()
    lab.kill("c")
    seen = set[str]()
    step = 0
    while True:
        step += 1
        disk = lab.disks["c"].after_kill()
        is_done = _recover_until(disk, step)
        for survivor in (disk.after_kill(), *(disk.after_power_cut() for _ in range(20))):
            seen.add(_whole(survivor))
        if is_done:
            break
    assert seen == {"old", "new"}
    assert _whole(disk.after_power_cut()) == "new"


def _recover_until(disk: SimDisk, step: int) -> bool:
    """Whether it came to its end before operation number `step`."""
    count = 0

    def die(_operation: str) -> None:
        nonlocal count
        count += 1
        if count == step:
            raise PowerCut

    stored = looked(disk)
    disk.on_operation = die
    try:
        found_anew(disk, stored, new_state(stored), "c")
    except PowerCut:
        return False
    return True


def _whole(disk: SimDisk) -> str:
    """Which of the two a start finds there; what `look` finds is the same."""
    stored = looked(disk)
    node = opened(disk)
    if stored.state.cluster_id == "old":
        assert stored.members == node.members == Members(("a", "b", "c"))
        assert not node.is_leader
        assert node._journal.last_index == stored.index
    else:
        assert stored.members == node.members == Members(("c",))
        assert node.is_leader
        assert node.state.brokers[1].fenced
        assert not node.state.brokers[3].fenced
        assert node.state == stored.state
    return stored.state.cluster_id


def test_a_crash_before_the_decision_can_be_recovered_again() -> None:
    lab = lost()
    lab.kill("c")
    disk = lab.disks["c"]
    assert not _recover_until(disk, 3)
    again = disk.after_power_cut()
    assert _recover_until(again, 10_000)
    assert _whole(again) == "new"


# ---- the state of the new cluster --------------------------------------------------------------


def survived(state: ClusterState, held: dict[int, int] | None = None) -> ClusterState:
    """Node 3 is left, and has so many bytes of segment sid."""
    made = sole_survivor(
        state,
        node=3,
        disk=DISKS[3],
        cluster_id="new",
        held=lambda _topic, segment: (held or {}).get(segment.sid, 0),
    )
    check_invariants(made)
    return made


def rolled(*ends: int) -> World:
    """A topic whose segments have these ends, the first one with base 0; then an open one."""
    made = world(3)
    made.create(replicas=(1, 2, 3))
    for end in ends:
        made.roll(end)
    return made


def holders(world_: World, *nodes: int) -> ClusterState:
    """The same, but that only these hold the closed segments."""
    topic = world_.topic()
    segments = tuple(
        msgspec.structs.replace(one, holders=tuple((node, DISKS[node]) for node in nodes))
        if one.state is SegmentState.SEALED
        else one
        for one in topic.segments
    )
    topic = msgspec.structs.replace(topic, segments=segments)
    topics = world_.state.topics.set(topic.topic_id, topic)
    return msgspec.structs.replace(world_.state, topics=topics)


def topic_of(state: ClusterState) -> Topic:
    return state.topics[topic_id(1)]


def test_numbers_that_the_lost_nodes_may_have_given_out_are_not_given_again() -> None:
    made = rolled(10)
    after = survived(made.state)
    assert after.next_producer_id == made.state.next_producer_id + PRODUCER_IDS_JUMP
    assert topic_of(after).epoch == made.topic().epoch + EPOCH_JUMP
    assert topic_of(after).next_sid == made.topic().next_sid


def test_a_node_that_comes_back_empty_does_not_vouch_for_what_its_lost_disk_had() -> None:
    """It would say that the segment has no record, and with another such one be believed."""
    made = rolled(10)
    last = topic_of(survived(made.state, {2: 50})).last
    assert last.state is SegmentState.SEALING
    assert (last.recoverer, last.replicas) == (3, (1, 2, 3))
    assert last.void == ((1, DISKS[1]), (2, DISKS[2]))
    again = World(survived(made.state, {2: 50}))
    again.register(1, disk=b"n" * 16)
    assert again.topic().last.void == last.void


def test_a_topic_whose_loss_was_accepted_once_needs_that_word_again() -> None:
    made = rolled(10)
    topic = made.topic()
    accepted = msgspec.structs.replace(topic.last, accepts_loss=True)
    topic = msgspec.structs.replace(topic, segments=(*topic.segments[:-1], accepted))
    state = msgspec.structs.replace(made.state, topics=made.state.topics.set(topic.topic_id, topic))
    assert not topic_of(survived(state)).last.accepts_loss


def test_lost_copies_of_closed_segments_are_not_looked_for() -> None:
    after = topic_of(survived(rolled(10, 20).state))
    assert [segment.holders for segment in after.segments] == [(ME,), (ME,), ()]


def test_a_copy_that_is_whole_before_the_metadata_heard_of_it_counts() -> None:
    after = topic_of(survived(holders(rolled(10, 20), 1, 2), {1: 1000, 2: 1000, 3: 9}))
    assert [segment.holders for segment in after.segments] == [(ME,), (ME,), ()]


def test_a_topic_goes_on_behind_the_last_record_that_this_disk_has() -> None:
    """What comes later is nowhere: nobody could open a segment behind one that nobody has."""
    state = holders(rolled(10, 20, 30), 1, 2)
    after = topic_of(survived(state, {1: 1000, 2: 400}))
    assert [segment.sid for segment in after.segments] == [1, 2]
    last = after.last
    assert (last.state, last.base_offset, last.end_offset) == (SegmentState.SEALING, 10, -1)
    assert ME in last.void, "it is known to lack what was acknowledged"
    assert after.next_sid == topic_of(state).next_sid, "files of the others may be about"


@pytest.mark.parametrize(
    ("held", "at"),
    [
        pytest.param({4: 1}, 3, id="it has of the open one"),
        pytest.param({1: 1000, 2: 1000, 3: 1000}, 3, id="all that is closed"),
        pytest.param({1: 1000, 2: 1000}, 2, id="the newest closed one is lost"),
        pytest.param({1: 1000, 2: 999}, 1, id="a part"),
        pytest.param({1: 1000, 3: 1}, 2, id="a part, and a hole before it"),
        pytest.param({}, 0, id="nothing"),
    ],
)
def test_where_the_chain_of_a_topic_is_taken_up(held: dict[int, int], at: int) -> None:
    topic = topic_of(holders(rolled(10, 20, 30), 1, 2))

    def size(_topic: Topic, segment: Segment) -> int:
        return held.get(segment.sid, 0)

    assert last_with_records(topic, ME, size) == at


def test_records_that_were_deleted_do_not_come_back() -> None:
    made = rolled(10, 20, 30)
    made.ok(c.DeletePrefix(topic_id(1), 25))
    state = holders(made, 1, 2)
    after = topic_of(survived(state))
    assert after.log_start_offset == 25
    assert [one.sid for one in after.segments] == [one.sid for one in topic_of(state).segments]


def test_a_copy_made_for_others_has_a_say_where_they_are_gone() -> None:
    """One with an empty disk would be asked else, and the segment would end at its beginning."""
    made = world(3)
    made.create(replicas=(1, 2))
    made.roll(10)
    last = topic_of(survived(holders(made, 1, 2), {1: 400})).last
    assert (last.sid, last.replicas) == (1, (1, 2, 3))


def test_a_segment_of_nodes_that_left_long_ago_can_be_taken_up() -> None:
    made = world(3)
    made.create(replicas=(1, 2))
    made.roll(10, writer=2)
    state = holders(made, 1, 2)
    state = msgspec.structs.replace(state, brokers=state.brokers.remove(1))
    topic = topic_of(state)
    last = msgspec.structs.replace(topic.last, replicas=(2,))
    topic = msgspec.structs.replace(topic, segments=(*topic.segments[:-1], last))
    state = msgspec.structs.replace(state, topics=state.topics.set(topic.topic_id, topic))
    last = topic_of(survived(state, {1: 400})).last
    assert (last.sid, last.writer, last.replicas) == (1, 3, (2, 3))


def test_a_segment_that_was_never_written_does_not_bar_the_one_before_it() -> None:
    """It left no trace but its id, which is beyond that of the segment taken up again."""
    made = rolled(10)
    made.roll(10)
    assert made.topic().deleted_up_to_sid == 2
    after = topic_of(survived(holders(made, 1, 2), {1: 400}))
    assert (after.last.sid, after.deleted_up_to_sid) == (1, 0)
