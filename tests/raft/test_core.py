"""The defects of the published library, replayed: each test ends with the outcome that is safe."""

import msgspec
import pytest

from raft import commands as c
from raft import messages
from raft.commands import Applied
from raft.messages import MESSAGE_SIZE_MAX, Append, AppendReply, Forward
from raft.trails import CHECK_EVERY, StateDiverged
from tests.raft.lab import Lab
from tests.raft.support import topic_id

ABC = ("a", "b", "c")


def test_an_index_and_a_term_never_name_two_entries() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.cut |= {("a", "b"), ("a", "c")}
    lab.ask("a", c.FormCluster("from a"))
    lab.run(0.3)
    seen = {(index, term): command for index, term, command in lab.log("a")}
    for name in ABC:
        lab.kill(name)
    lab.cut.clear()
    for name in ("b", "c"):
        lab.start(name)
    lab.elect("b")
    lab.ask("b", c.FormCluster("from b"))
    lab.run(0.3)
    lab.start("a")
    lab.run(0.3)
    for name in ABC:
        for index, term, command in lab.log(name):
            assert seen.setdefault((index, term), command) == command
        assert lab.nodes[name].state.cluster_id == "from b"


def test_an_old_append_that_arrives_again_cuts_nothing_off() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")._raft
    for _ in range(8):
        lab.ask("a")
    lab.run(0.3)
    before = lab.log("b")
    match_index = leader.match_index("b")
    entries = tuple((term, command) for command, _, term in leader.log[3:5])
    _, prev_index, prev_term = leader.log[2]
    lab.inject("a", "b", Append(leader.term, prev_index, prev_term, 4, entries))
    lab.inject("a", "b", Append(leader.term, prev_index, prev_term, 4, ()))
    assert lab.log("b") == before
    assert lab.log("b")[-1][0] >= match_index


def test_a_follower_commits_only_what_this_leader_showed_it() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")._raft
    lab.run(0.3)
    follower = lab.nodes["b"]._raft
    index, term = leader.log.last_index, leader.term
    ghost = b"\x00ghost"
    lab.inject("a", "b", Append(term, index, term, index, ((term, ghost), (term, ghost))))
    assert follower.commit_index == index
    lab.inject("a", "b", Append(term, index, term, index + 9, ()))
    assert follower.commit_index == index


def test_a_committed_entry_is_never_truncated() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")._raft
    lab.ask("a")
    lab.run(0.3)
    follower = lab.nodes["b"]
    index = follower.commit_index
    forged = Append(leader.term + 5, index - 1, leader.term, 0, ((leader.term + 5, b"\x00other"),))
    with pytest.raises(AssertionError, match="committed"):
        lab.inject("c", "b", forged)
    assert follower.commit_index == index


@pytest.mark.parametrize("size", [1, 900, 65_400 - 4096, c.COMMAND_SIZE_MAX - 200])
def test_a_command_of_any_allowed_size_gets_through(size: int) -> None:
    lab = Lab(ABC)
    lab.elect("a")
    answers = lab.ask("b", c.ChangeConfig(topic_id(1), 0, {"k": "v" * size}))
    lab.run(0.5)
    assert [type(answer) for answer in answers] == [Applied]
    assert lab.log("a") == lab.log("b") == lab.log("c")


def test_a_callback_that_raises_does_not_run_the_command_again() -> None:
    lab = Lab(ABC)
    lab.elect("a")

    def fail(_outcome: object) -> None:
        raise RuntimeError("a bug of the caller")

    before = lab.next_ids()["a"]
    lab.nodes["a"].submit(c.AllocateProducerIds(1), fail)
    lab.run(1.0)
    assert set(lab.next_ids().values()) == {before + 1}


def test_a_lost_forward_is_repeated_and_runs_once() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    before = lab.next_ids()["a"]
    lab.cut.add(("b", "a"))
    answers = lab.ask("b")
    lab.run(0.5)
    assert answers == []
    lab.cut.clear()
    lab.run(2.0)
    assert [type(answer) for answer in answers] == [Applied]
    assert set(lab.next_ids().values()) == {before + 1}


def test_the_answer_comes_even_if_a_snapshot_jumped_over_the_command() -> None:
    lab = Lab(ABC, compact_entries=5, trailing_entries=0)
    lab.elect("a")
    lab.cut |= {("a", "b"), ("b", "c"), ("c", "b")}
    answers = lab.ask("b")
    lab.run(0.2)
    for _ in range(20):
        lab.ask("a")
        lab.run(0.02)
    lab.cut.clear()
    lab.run(3.0)
    assert [type(answer) for answer in answers] == [Applied]


def test_nothing_leaves_before_it_is_durable() -> None:
    """Whatever a node says, a power cut right after must not make it a lie."""
    lab = Lab(ABC)
    lab.elect("a")
    for name in ABC:
        node = lab.nodes[name]
        send = node.send

        def checked(voter: str, message: object, send: object = send, name: str = name) -> bool:
            result = send(voter, message)  # type: ignore[operator]
            journal = lab.nodes[name]._raft.log
            assert not journal._vote_is_pending
            assert isinstance(message, Append) or not journal._pending
            if isinstance(message, AppendReply) and message.ok:
                lab_disk = lab.disks[name].after_power_cut()
                assert lab_disk.read("journal") is not None
            return bool(result)

        node.send = checked  # type: ignore[method-assign]
    for _ in range(10):
        lab.ask("b")
        lab.run(0.05)


def test_a_node_whose_state_is_not_the_leaders_stops() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    for _ in range(3):
        lab.ask("a")
    lab.run(0.3)
    victim = lab.nodes["b"]
    victim.state = msgspec.structs.replace(victim.state, trail=victim.state.trail ^ 1)
    with pytest.raises(StateDiverged, match="leader a"):
        for _ in range(2 * CHECK_EVERY):
            lab.ask("a")
            lab.run(0.02)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\x93\xa6append", bytes(MESSAGE_SIZE_MAX + 1)], ids=len
)
def test_an_unreadable_message_harms_nobody(data: bytes) -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.nodes["a"].receive("b", data)
    lab.nodes["a"].receive("b", messages.encode(Forward((b"\xc1 no command",))))
    answers = lab.ask("a")
    lab.run(0.3)
    assert [type(answer) for answer in answers] == [Applied]
    assert all(entry[:1] != b"\x00" or c.decode(entry[1:]) for _, _, entry in lab.log("c"))
