"""A cluster of one: durable before it answers, the same after every kind of death."""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raft import commands as c
from raft.commands import Applied
from raft.disk import Disk, OsDisk
from raft.errors import (
    CommandTooLarge,
    CorruptJournalError,
    CorruptSnapshotError,
    RaftError,
    Stopped,
    StoredStateError,
)
from raft.journal import JOURNAL_NAME
from raft.node import RaftNode
from raft.snapshot import SNAPSHOT_NAME
from raft.state import ClusterState, state_hash
from tests.raft.support import DISKS, register, seeded, topic_id
from tests.sim.raft.disk import PowerCut, SimDisk

VOTER = "0" * 32


def inline(work: Callable[[], None]) -> Callable[[], None]:
    """A thread that is over at once."""
    work()
    return lambda: None


def opened(disk: Disk, rng: random.Random, *, compact_entries: int = 4096) -> RaftNode:
    """A node that ticks when it is told to."""
    node = RaftNode(
        directory=Path("disk"),
        voter_id=VOTER,
        rng=rng,
        disk=disk,
        clock=lambda: 1000.0,
        compact_entries=compact_entries,
        trailing_entries=2,
        debug=True,
        spawn=inline,
    )
    node.open()
    return node


def ask(node: RaftNode, command: c.AnyCommand) -> Applied | RaftError:
    """Submit, tick, and answer."""
    outcomes: list[Applied | RaftError] = []
    node.submit(command, outcomes.append)
    node.tick()
    (outcome,) = outcomes
    return outcome


def tell(node: RaftNode, command: c.AnyCommand) -> Applied:
    outcome = ask(node, command)
    assert isinstance(outcome, Applied)
    assert outcome.refusal == ""
    return outcome


@pytest.fixture
def rng() -> random.Random:
    return seeded(random.randrange(2**32))


@pytest.fixture
def node(tmp_path: Path, rng: random.Random) -> Iterator[RaftNode]:
    """A running node on a real disk."""
    node = RaftNode(directory=tmp_path / "raft", voter_id=VOTER, rng=rng, debug=True)
    node.start()
    yield node
    node.stop()


def wait_for(node: RaftNode, command: c.AnyCommand) -> Applied | RaftError:
    done = threading.Event()
    outcomes: list[Applied | RaftError] = []

    def on_done(outcome: Applied | RaftError) -> None:
        outcomes.append(outcome)
        done.set()

    node.submit(command, on_done)
    assert done.wait(10)
    return outcomes[0]


def test_a_sole_voter_leads_when_start_returns(node: RaftNode) -> None:
    assert node.is_leader
    assert node.leader == VOTER
    assert node.status()["applied_index"] == node.commit_index


def test_an_answer_means_that_the_state_shows_it(node: RaftNode) -> None:
    answer = wait_for(node, c.FormCluster("one"))
    assert isinstance(answer, Applied)
    assert node.state.cluster_id == "one"
    assert node.state.revision >= answer.revision
    refused = wait_for(node, c.FormCluster("two"))
    assert isinstance(refused, Applied)
    assert refused.refusal == "wrong cluster"


def test_many_threads_may_ask_at_once(node: RaftNode) -> None:
    firsts: list[int] = []

    def work() -> None:
        for _ in range(50):
            outcome = wait_for(node, c.AllocateProducerIds(10))
            assert isinstance(outcome, Applied)
            firsts.append(outcome.value)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(firsts)) == 200
    assert all(first % 10 == 0 for first in firsts)


def test_listeners_hear_of_every_burst_with_the_newest_state(node: RaftNode) -> None:
    heard: list[ClusterState] = []
    node.subscribe(heard.append)
    wait_for(node, c.FormCluster("one"))
    wait_for(node, c.Barrier())
    assert heard[-1].cluster_id == "one"
    assert [state.revision for state in heard] == sorted(state.revision for state in heard)


def test_a_callback_that_fails_harms_nobody(node: RaftNode) -> None:
    def fail(_: object) -> None:
        raise ValueError("a bug of the caller")

    node.subscribe(fail)
    node.submit(c.FormCluster("one"), fail)
    assert isinstance(wait_for(node, c.Barrier()), Applied)
    assert node.state.cluster_id == "one"


def test_an_oversize_command_is_refused(node: RaftNode) -> None:
    huge = c.ChangeConfig(topic_id(1), 0, {"k": "v" * c.COMMAND_SIZE_MAX})
    assert isinstance(wait_for(node, huge), CommandTooLarge)


def test_a_future_has_the_answer_or_the_reason_why_not(node: RaftNode) -> None:
    assert node.propose(c.FormCluster("one")).result(10).refusal == ""
    revision = node.barrier().result(10).revision
    assert node.state.revision >= revision
    node.stop()
    with pytest.raises(Stopped):
        node.barrier().result(10)


def test_a_stopped_node_says_so(node: RaftNode) -> None:
    node.stop()
    node.stop()
    outcomes: list[Applied | RaftError] = []
    node.submit(c.Barrier(), outcomes.append)
    assert [type(outcome) for outcome in outcomes] == [Stopped]


def test_a_restart_replays_to_the_same_state(tmp_path: Path, rng: random.Random) -> None:
    def run() -> RaftNode:
        node = RaftNode(
            directory=tmp_path / "raft", voter_id=VOTER, rng=rng, debug=True, compact_entries=40
        )
        node.start()
        return node

    node = run()
    wait_for(node, c.FormCluster("one"))
    for number in range(100):
        wait_for(node, register(1 + number % 3, disk=DISKS[1 + number % 3]))
    node.stop()
    again = run()
    assert state_hash(again.state) == state_hash(node.state)
    assert again.state.trail == node.state.trail
    assert again.term > node.term
    again.stop()


def live(node: RaftNode, rng: random.Random) -> None:
    """One more thing that happens to the metadata."""
    state = node.state
    if not state.cluster_id:
        tell(node, c.FormCluster("one"))
    elif 1 not in state.brokers or rng.random() < 0.1:
        tell(node, register(1))
    elif rng.random() < 0.5:
        opens = c.Next(1, state.brokers[1].incarnation, (1,))
        number = len(state.topics) + 1
        command = c.CreateTopic(topic_id(number), f"t{number}", {}, 1, False, False, opens)
        tell(node, command)
    else:
        tell(node, c.AllocateProducerIds(5))


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power cut"])
def test_nothing_that_was_answered_is_lost_whenever_the_node_dies(
    rng: random.Random, power: bool
) -> None:
    """Death at any disk operation at all, compactions and snapshots included."""
    disk = SimDisk(rng)
    for _ in range(150):
        left = rng.randrange(1, 60)
        disk.on_operation = _bomb(left)
        answered = ClusterState()
        try:
            node = opened(disk, rng, compact_entries=rng.choice([3, 10, 4096]))
            assert node.state.revision >= answered.revision
            while True:
                answered = node.state
                live(node, rng)
        except PowerCut:
            pass
        disk = disk.after_power_cut() if power else disk.after_kill()
        node = opened(disk, rng)
        assert set(answered.topics) <= set(node.state.topics)
        assert answered.next_producer_id <= node.state.next_producer_id
        assert node.state.cluster_id == answered.cluster_id or not answered.cluster_id
        assert state_hash(opened(disk.after_kill(), rng).state) == state_hash(node.state)
        disk = disk.after_kill()


def _bomb(left: int) -> Callable[[str], None]:
    def count(_operation: str) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise PowerCut

    return count


def test_nothing_is_answered_before_it_is_durable(rng: random.Random) -> None:
    disk = SimDisk(rng)
    node = opened(disk, rng)
    for _ in range(30):
        live(node, rng)
        reopened = opened(disk.after_power_cut(), rng)
        assert reopened.state.trail == node.state.trail


def test_a_disk_that_fails_stops_the_node_and_every_waiting_command(
    tmp_path: Path, rng: random.Random
) -> None:
    disk = SimDisk(rng)
    failures: list[BaseException] = []
    node = RaftNode(
        directory=tmp_path, voter_id=VOTER, rng=rng, disk=disk, on_failure=failures.append
    )
    node.start()

    def fail(_operation: str) -> None:
        raise OSError("I/O error")

    disk.on_operation = fail
    outcome = wait_for(node, c.FormCluster("one"))
    assert isinstance(outcome, Stopped)
    node.stop()
    assert node.state.cluster_id == ""
    assert [str(failure) for failure in failures] == ["I/O error"]
    assert isinstance(node.failure, OSError)
    assert isinstance(wait_for(node, c.Barrier()), Stopped)


def test_an_entry_nobody_can_read_is_skipped(rng: random.Random) -> None:
    node = opened(SimDisk(rng), rng)
    node._raft.propose(b"\xc1 what is this")
    node.tick()
    tell(node, c.FormCluster("one"))
    assert node.state.cluster_id == "one"


@pytest.mark.parametrize("name", [JOURNAL_NAME, SNAPSHOT_NAME])
def test_a_damaged_file_is_named_and_refused(tmp_path: Path, rng: random.Random, name: str) -> None:
    node = opened(OsDisk(tmp_path), rng, compact_entries=5)
    for _ in range(20):
        live(node, rng)
    node.stop()
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(bytes(data))
    with pytest.raises(StoredStateError, match=f"{name}, position .* copy of this disk"):
        opened(OsDisk(tmp_path), rng)


def test_files_that_do_not_belong_together_are_refused(rng: random.Random) -> None:
    disk = SimDisk(rng)
    node = opened(disk, rng, compact_entries=5)
    for _ in range(10):
        live(node, rng)
    early = disk.read(SNAPSHOT_NAME)
    assert early is not None
    for _ in range(20):
        live(node, rng)
    mixed = disk.after_kill()
    mixed.write(SNAPSHOT_NAME, early)
    with pytest.raises(CorruptSnapshotError, match="what lies between is gone"):
        opened(mixed, rng)
    amnesic = disk.after_kill()
    amnesic.remove(JOURNAL_NAME)
    with pytest.raises(CorruptJournalError, match="vote of this node"):
        opened(amnesic, rng)


def test_litter_of_a_crash_is_ignored(rng: random.Random) -> None:
    disk = SimDisk(rng)
    live(opened(disk, rng), rng)
    disk.write("journal.new", b"half")
    disk.write("snapshot.new", b"half")
    node = opened(disk, rng)
    assert node.state.cluster_id == "one"
    assert disk.read("journal.new") is disk.read("snapshot.new") is None


def test_the_log_is_compacted_and_the_disk_stays_small(rng: random.Random) -> None:
    disk = SimDisk(rng)
    node = opened(disk, rng, compact_entries=50)
    for _ in range(1000):
        tell(node, c.Barrier())
    assert len(disk.read(JOURNAL_NAME) or b"") < 20_000
    assert len(disk.read(SNAPSHOT_NAME) or b"") < 20_000
