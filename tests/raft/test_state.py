"""The state under random histories: total, deterministic, the same after a detour over disk."""

import random
from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from raft import commands as c
from raft import snapshot
from raft.apply import apply
from raft.invariants import check_invariants
from raft.members import Members
from raft.snapshot import Snapshot
from raft.state import EMPTY, REFUSALS, ClusterState, state_hash
from tests.raft.strategies import COMMANDS
from tests.raft.support import World, sealed_end, seeded, topic_id, world

CLIENTS = [bytes([n]) * 16 for n in range(3)]


def replay(log: Sequence[bytes], state: ClusterState = EMPTY) -> ClusterState:
    for data in log:
        state, _ = apply(state, state.revision + 1, c.decode(data))
    return state


def through_disk(state: ClusterState) -> ClusterState:
    taken = Snapshot(state.revision, 1, Members(("a",)), state)
    return snapshot.decode(b"".join(snapshot.encode(taken)), "test").state


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(CLIENTS), st.integers(1, 30), COMMANDS), max_size=40))
def test_any_history_keeps_every_invariant_and_replays_to_the_same_state(
    history: list[tuple[bytes, int, c.AnyCommand]],
) -> None:
    state, log = world().state, []
    start = state
    for client, sequence, command in history:
        envelope = c.Envelope(c.FORMAT_VERSION, client, sequence, command)
        log.append(c.encode(envelope))
        before = state
        state, answer = apply(before, before.revision + 1, envelope)
        check_invariants(state, before)
        assert answer.refusal == "" or answer.refusal in REFUSALS
        assert state.revision == before.revision + 1
    again = replay(log, start)
    assert (state_hash(again), again.trail) == (state_hash(state), state.trail)
    assert state_hash(through_disk(state)) == state_hash(state)
    middle = len(log) // 2
    resumed = replay(log[middle:], through_disk(replay(log[:middle], start)))
    assert (state_hash(resumed), resumed.trail) == (state_hash(state), state.trail)


def test_a_long_life_of_topics_keeps_every_invariant() -> None:
    rng = seeded(random.randrange(2**32))
    at = world(3)
    for _ in range(600):
        _live_a_little(at, rng)
    check_invariants(at.state)
    log = [c.encode(envelope) for envelope in at.log]
    assert state_hash(replay(log)) == state_hash(at.state) == state_hash(through_disk(at.state))


def _live_a_little(at: World, rng: random.Random) -> None:
    """One of the commands that brokers send, well-timed."""
    number = rng.randint(1, 6)
    if topic_id(number) not in at.state.topics:
        at.create(number, f"t{number}", rng.sample([1, 2, 3], 3))
        return
    topic = at.topic(number)
    end = topic.last.base_offset + rng.choice([0, 5])
    match rng.randrange(6):
        case 0 | 1 if topic.last.state == 1:
            at.roll(end, number, writer=rng.choice(topic.last.replicas))
        case 2:
            at.ok(c.BeginSeal(topic.topic_id, topic.last.sid, topic.epoch, rng.randint(1, 3)))
        case 3 if topic.last.state == 2:
            at.ok(
                c.CommitSealMany(
                    (
                        c.SealItem(
                            topic.topic_id,
                            topic.last.sid,
                            topic.epoch,
                            sealed_end(topic.last.base_offset, end),
                            tuple((n, at.state.brokers[n].disk) for n in topic.last.replicas),
                            at.next(rng.choice(topic.last.replicas), topic.last.replicas),
                        ),
                    )
                )
            )
        case 4:
            node = rng.randint(1, 3)
            at.ok(c.BeginSealMany(node, at.register(node, clean=rng.random() < 0.8)))
        case 5:
            at.ok(c.DeletePrefix(topic.topic_id, rng.randint(0, topic.last.base_offset + 3)))


def test_equal_states_hash_alike_and_others_do_not() -> None:
    one, two = world(2), world(2)
    one.create(1, "a")
    one.create(2, "b")
    two.create(2, "b")
    two.create(1, "a")
    assert state_hash(one.state) != state_hash(two.state)
    assert state_hash(one.state) == state_hash(through_disk(one.state))
    changed = msgspec.structs.replace(one.state, next_producer_id=5)
    assert state_hash(changed) != state_hash(one.state)


def test_a_topic_is_found_by_its_name() -> None:
    at = world()
    topic = at.create(1, "a")
    assert at.state.topic_named("a") is topic
    assert at.state.topic_named("b") is None
    assert topic.segment(1) is topic.last
    assert topic.segment(2) is None
