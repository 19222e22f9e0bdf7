"""Who writes next and who holds copies: every node must come to the same answer."""

from collections.abc import Collection

import msgspec
import pytest

from broker.controller import placement
from raft.state import EMPTY, Broker, ClusterState, Segment, SegmentState, Topic

LIVE_5 = (1, 2, 3, 4, 5)


def state(live: Collection[int], fenced: Collection[int] = ()) -> ClusterState:
    brokers = EMPTY.brokers
    for node in (*live, *fenced):
        brokers = brokers.set(
            node,
            Broker(node, 100 + node, bytes([node]) * 16, "h", 1, (), None, node in fenced),
        )
    return type(EMPTY)(brokers=brokers)


def topic(
    writer: int = 1,
    replicas: tuple[int, ...] = (1, 2, 3),
    *,
    target: int = 3,
    pinned: bool = False,
    holders: Collection[int] = (),
) -> Topic:
    values = {
        "sid": 1, "state": SegmentState.OPEN, "epoch": 1, "writer": writer,
        "writer_incarnation": 100 + writer, "replicas": replicas, "void": (), "base_offset": 0,
        "end_offset": -1, "size": -1, "digest": -1, "max_timestamp": -1,
        "holders": tuple((node, bytes([node]) * 16) for node in holders),
        "seal_epoch": 0, "recoverer": -1,
    }  # fmt: skip
    fields = {name: values[name] for name in Segment.__struct_fields__ if name in values}
    last = Segment(**fields)  # type: ignore[arg-type]
    return Topic(
        topic_id=bytes(16), name="t", configs={}, config_revision=0, replication_factor=target,
        internal=False, pinned=pinned, epoch=1, next_sid=2, log_start_offset=0, segments=(last,),
        deleted_up_to_sid=0, created_revision=1,
    )  # fmt: skip


def wanting(one: Topic, min_insync_replicas: int) -> Topic:
    return msgspec.structs.replace(one, configs={"min.insync.replicas": str(min_insync_replicas)})


def test_the_leader_goes_round_and_takes_only_who_has_everything() -> None:
    everybody = state((1, 2, 3))
    turns = []
    writer = 1
    for _ in range(4):
        chosen = placement.for_roll(everybody, topic(writer), {1, 2, 3})
        assert chosen is not None
        writer = chosen.writer
        turns.append(writer)
    assert turns == [2, 3, 1, 2]
    behind = placement.for_roll(everybody, topic(1), {1, 3})
    assert behind is not None
    assert behind.writer == 3


KEEPS_ITS_LEADER = msgspec.structs.replace(topic(1), configs={"walrus.leader.rotation": "false"})


@pytest.mark.parametrize("pinned", [topic(1, pinned=True), KEEPS_ITS_LEADER])
def test_a_pinned_topic_keeps_its_leader_unless_the_node_leaves(pinned: Topic) -> None:
    everybody = state((1, 2, 3))
    stays = placement.for_roll(everybody, pinned, {1, 2, 3})
    leaves = placement.for_roll(everybody, pinned, {1, 2, 3}, leaving=True)
    assert stays is not None and leaves is not None
    assert (stays.writer, leaves.writer) == (1, 2)
    assert 1 not in leaves.replicas


def test_the_last_node_of_a_cluster_has_nobody_to_leave_its_topics_to() -> None:
    assert placement.for_roll(state((1,), fenced=(2, 3)), topic(1), {1}, leaving=True) is None


def test_a_segment_never_opens_on_fewer_disks_than_it_promises() -> None:
    assert placement.after_seal(state((1,), fenced=(2, 3)), topic(2), {1}) is None
    opened = placement.after_seal(state((1, 3), fenced=(2,)), topic(2), {1, 3})
    assert opened is not None
    assert opened.replicas == (1, 3)


def test_a_segment_with_too_few_replicas_for_acks_all_opens_only_when_there_is_no_other_way() -> (
    None
):
    at, wants_all = state((1, 3), fenced=(2,)), wanting(topic(3), 3)
    assert placement.with_all_asked_for(at, wants_all, {1, 3}) is None
    assert placement.for_roll(at, wants_all, {1, 3}) is None, "it could go on as it is"
    opened = placement.after_seal(at, wants_all, {1, 3})
    assert opened is not None
    assert opened.replicas == (1, 3)
    assert placement.for_roll(at, wanting(topic(3, (1, 3)), 3), {1, 3}) is not None
    assert placement.misplaced(state((1, 2, 3)), wanting(topic(3, (1, 3)), 3))


def test_more_copies_asked_for_than_the_topic_has_keep_it_from_nothing() -> None:
    one = wanting(msgspec.structs.replace(topic(1, (1,)), replication_factor=1), 2)
    for opened in (
        placement.for_roll(state((1, 2, 3)), one, {1}),
        placement.with_all_asked_for(state((1, 2, 3)), one, {1}),
    ):
        assert opened is not None
        assert opened.replicas == (1,)


def test_after_a_seal_only_a_holder_writes() -> None:
    opened = placement.after_seal(state((1, 2, 3)), topic(2), {3})
    assert opened is not None
    assert opened.writer == 3


def test_a_writer_that_lives_writes_on_after_a_seal_and_one_that_died_does_not() -> None:
    """Its node may be back already, as a process that nobody follows yet and no client finds."""
    alive = state((1, 2, 3))
    back = msgspec.structs.replace(alive.brokers[2], incarnation=999)
    restarted = msgspec.structs.replace(alive, brokers=alive.brokers.set(2, back))
    writers = [
        placement.after_seal(at, topic(2), holders)
        for at, holders in ((alive, {1, 2, 3}), (restarted, {1, 2, 3}), (restarted, {2}))
    ]
    assert [opened and opened.writer for opened in writers] == [2, 3, 2]


def test_a_node_that_joined_is_wanted_and_a_full_set_is_left_alone() -> None:
    assert placement.misplaced(state((1, 2, 3)), topic(1, (1, 2)))
    assert not placement.misplaced(state((1, 2, 3)), topic(1, (1, 2, 3)))
    assert not placement.misplaced(state((1, 2), fenced=(3,)), topic(1, (1, 2, 3)))
    assert placement.misplaced(state((1, 2, 4), fenced=(3,)), topic(1, (1, 2, 3)))


def test_thousands_of_idle_topics_are_not_looked_at_again_until_something_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, looked_at = placement.Misplaced(), 0
    misplaced = placement.misplaced

    def counted(at: ClusterState, one: Topic) -> str:
        nonlocal looked_at
        looked_at += 1
        return misplaced(at, one)

    monkeypatch.setattr(placement, "misplaced", counted)
    all_live, one, other = state((1, 2, 3)), topic(1), topic(1, (1, 2))
    for _ in range(3):
        assert not found.why(all_live, one)
    assert looked_at == 1
    assert found.why(all_live, other), "the topic has changed"
    one_gone = state((1, 2, 4), fenced=(3,))
    for _ in range(3):
        assert found.why(one_gone, one), "the brokers have"
    assert not found.why(all_live, one), "and are back"
    assert looked_at == 4


def test_a_segment_is_not_left_to_disks_that_can_never_say_where_it_ends() -> None:
    """One after the other they are replaced; each copy is whole again, and none of them counts."""
    full = topic(1, (1, 2, 3))
    one = _with_void(full, (2, b"old" + bytes(13)))
    assert placement.misplaced(state((1, 2, 3)), one)
    assert not placement.misplaced(state((1, 3), fenced=(2,)), one), "nowhere else to go yet"
    after = placement.for_roll(state((1, 2, 3)), one, (1, 2, 3))
    assert after is not None
    assert after.replicas == (1, 2, 3)
    assert not placement.misplaced(state((1, 2, 3)), full)


def _with_void(one: Topic, *void: tuple[int, bytes]) -> Topic:
    last = msgspec.structs.replace(one.last, void=void)
    return msgspec.structs.replace(one, segments=(last,))


@pytest.mark.parametrize(
    ("holders", "fenced", "away", "copies"),
    [
        ((1, 2, 3), (), (), 0),
        ((1, 2), (), (), 1),
        ((1,), (), (), 2),
        ((1, 2, 3), (3,), (3,), 0),
        ((1, 2, 3), (3,), (), 1),
        ((3,), (3,), (), 0),
    ],
    ids=["enough", "one missing", "two missing", "away for a while", "gone", "no source"],
)
def test_exactly_as_many_copies_are_made_as_are_missing(
    holders: tuple[int, ...], fenced: tuple[int, ...], away: tuple[int, ...], copies: int
) -> None:
    live = [node for node in LIVE_5 if node not in fenced]
    known = topic(holders=holders)
    chosen = [
        node
        for node in live
        if placement.should_copy(state(live, fenced), known, known.segments[0], node, away)
    ]
    assert len(chosen) == copies
    assert not set(chosen) & set(holders)


def test_a_replaced_disk_counts_for_nothing() -> None:
    known = topic(holders=(1, 2))
    swapped = state((1, 2, 3))
    swapped = type(EMPTY)(
        brokers=swapped.brokers.set(2, Broker(2, 200, b"new disk 0123456", "h", 1, (), None, False))
    )
    chosen = [
        node
        for node in (1, 2, 3)
        if placement.should_copy(swapped, known, known.segments[0], node, ())
    ]
    assert set(chosen) == {2, 3}


def leaving(made: ClusterState, *nodes: int) -> ClusterState:
    brokers = made.brokers
    for node in nodes:
        brokers = brokers.set(node, msgspec.structs.replace(brokers[node], leaving=True))
    return msgspec.structs.replace(made, brokers=brokers)


def test_who_leaves_gets_nothing_more() -> None:
    at = leaving(state((1, 2, 3, 4)), 2)
    for name in ("a", "b", "c", "d"):
        chosen = placement.for_new_topic(at, name, 3)
        assert chosen is not None
        assert chosen.replicas == (1, 3, 4)
    assert "node 2 is leaving" in placement.misplaced(at, topic())
    rolled = placement.for_roll(at, topic(2), {1, 2, 3})
    assert rolled is not None
    assert (rolled.writer, rolled.replicas) == (3, (1, 3, 4))
    sealed = placement.after_seal(at, topic(2), {2, 3})
    assert sealed is not None
    assert (sealed.writer, sealed.replicas) == (3, (1, 3, 4))


def test_a_pinned_topic_leaves_with_its_leader() -> None:
    at = leaving(state((1, 2, 3, 4)), 2)
    rolled = placement.for_roll(at, topic(2, pinned=True), {1, 2, 3}, keep_leader=True)
    assert rolled is not None
    assert rolled.writer == 3


def test_who_leaves_writes_on_while_nobody_else_has_what_came_before() -> None:
    at = leaving(state((1, 2, 3)), 2)
    rolled = placement.for_roll(at, topic(2), {2})
    assert rolled is not None
    assert rolled.writer == 2


def test_what_who_leaves_holds_is_copied_to_who_stays() -> None:
    at = leaving(state(LIVE_5), 2)
    sealed = topic(holders=(1, 2, 3)).segments[0]
    makers = [node for node in LIVE_5 if placement.should_copy(at, topic(), sealed, node, away=())]
    assert len(makers) == 1
    assert makers[0] in (4, 5)


def test_two_nodes_of_which_one_leaves_still_serve() -> None:
    at = leaving(state((1, 2)), 2)
    opened = placement.after_seal(at, wanting(topic(2, (1, 2)), 2), {1, 2})
    assert opened is not None
    assert opened.replicas == (1,)


def fenced(made: ClusterState, *nodes: int) -> ClusterState:
    brokers = made.brokers
    for node in nodes:
        brokers = brokers.set(node, msgspec.structs.replace(brokers[node], fenced=True))
    return msgspec.structs.replace(made, brokers=brokers)


@pytest.mark.parametrize("leaving_writer", [False, True])
def test_no_roll_opens_a_segment_whose_records_one_disk_alone_would_hold(
    leaving_writer: bool,
) -> None:
    """One of three is down, and the leader of another is stopped by an operator, or taken for
    dead."""
    at = fenced(state((1, 2, 3)), 1)
    if leaving_writer:
        assert placement.for_roll(at, topic(2), {2, 3}, leaving=True) is None
    else:
        assert placement.for_roll(fenced(at, 2), topic(2), {2, 3}) is None
    rolled = placement.for_roll(at, topic(2), {2, 3})
    assert rolled is not None
    assert rolled.replicas == (2, 3)


def test_who_leaves_helps_while_another_one_is_down() -> None:
    """Or the topic would have no leader until that one is back."""
    at = fenced(leaving(state((1, 2, 3)), 1), 2)
    for opened in (
        placement.after_seal(at, topic(1), {1, 3}),
        placement.for_roll(at, topic(1), {1, 3}),
    ):
        assert opened is not None
        assert opened.replicas == (1, 3)


def test_a_topic_is_not_made_on_one_node_while_the_others_are_down() -> None:
    assert placement.for_new_topic(fenced(state((1, 2, 3)), 2, 3), "t", 3) is None
    opened = placement.for_new_topic(fenced(state((1, 2, 3)), 2), "t", 3)
    assert opened is not None
    assert opened.replicas == (1, 3)
    alone = placement.for_new_topic(fenced(state((1, 2, 3)), 2, 3), "t", 1)
    assert alone is not None
    assert alone.replicas == (1,)


def test_a_topic_that_who_leaves_must_help_with_is_not_rolled_for_ever() -> None:
    """While another node is down, every look of the monitor would close a segment and open one on
    the same nodes."""
    at = fenced(leaving(state((1, 2, 3)), 3), 2)
    rolled = placement.for_roll(at, topic(1), {1, 3})
    assert rolled is not None
    assert not placement.misplaced(at, topic(rolled.writer, rolled.replicas))
    assert "leaving" in placement.misplaced(leaving(state((1, 2, 3)), 3), topic(1, (1, 3)))


def test_who_leaves_helps_with_a_topic_whose_other_replica_went_down() -> None:
    at = fenced(leaving(state((1, 2, 3)), 3), 2)
    assert placement.misplaced(at, topic(1, (1, 2)))


def test_topics_are_made_while_one_node_leaves_and_another_is_down() -> None:
    """Those of the consumer groups, too."""
    opened = placement.for_new_topic(fenced(leaving(state((1, 2, 3)), 3), 2), "t", 3)
    assert opened is not None
    assert opened.replicas == (1, 3)
