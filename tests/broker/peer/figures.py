"""The figures of docs/metadata.md: `python -m tests.broker.peer.figures --kills 30`.

Three real processes on loopback, and one node with the metadata of 1,000 topics of 100 segments.
Run it on a machine that does nothing else: a commit is mostly waiting for a disk and for a turn.
"""

import argparse
import random
import tempfile
import time
import tracemalloc
from pathlib import Path

from raft import commands as c
from raft import snapshot
from raft.disk import OsDisk
from raft.journal import Journal
from raft.members import Members
from raft.node import RaftNode
from raft.pmap import PMap
from raft.snapshot import Snapshot
from raft.state import EPOCH_FIRST, ClusterState, Segment, SegmentState, Topic, state_hash
from tests.broker.peer.test_links import Processes

TOPICS, SEGMENTS = 1000, 100
VOTER = "0" * 32


def main() -> None:
    """Measure and say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="leaders to kill")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cluster(Path(folder), options.kills)
    with tempfile.TemporaryDirectory() as folder:
        big_state(Path(folder))


def cluster(folder: Path, kills: int) -> None:
    """Latency from the leader and from a follower, commands per second, time without a leader."""
    processes = Processes(folder)
    try:
        leader = processes.leader()
        follower = next(each for each in processes.running.values() if each is not leader)
        for name, process in (("leader", leader), ("follower", follower)):
            times = process.ask("time 1000")
            print(
                f"commit from the {name}: p50 {times['p50_ms']:.2f} ms, p99 {times['p99_ms']:.2f}"
            )
            burst = process.ask("ids 3000 1")
            done = len(burst["firsts"]) / burst["seconds"]
            print(
                f"pipelined from the {name}: {done:.0f} commands/s, {len(burst['errors'])} errors"
            )
        waits = sorted(kill_leader(processes) for _ in range(kills))
        p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        print(f"leader killed to next answer: p50 {p50:.2f} s, p99 {p99:.2f} s, of {kills}")
    finally:
        processes.end()


def kill_leader(processes: Processes) -> float:
    """Seconds until a command is answered again."""
    leader = processes.leader()
    other = next(each for each in processes.running.values() if each is not leader)
    leader.end()
    started = time.perf_counter()
    assert other.ask("ids 1 1")["errors"] == []
    waited_s = time.perf_counter() - started
    processes.restart(leader.name)
    return waited_s


def big_state(folder: Path) -> None:
    """Memory and snapshot time, and how long a node is held up by one."""
    state = _state()
    taken = Snapshot(1000, 1, Members((VOTER,)), state)
    data = b"".join(snapshot.encode(taken))
    tracemalloc.start()
    back = snapshot.decode(data, "figures")
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    started = time.perf_counter()
    assert state_hash(back.state) == state_hash(state)
    hash_s = (time.perf_counter() - started) / 2
    print(f"{TOPICS} topics of {SEGMENTS} segments: {size / 1e6:.0f} MB")
    print(f"on disk: {len(data) / 1e6:.0f} MB")
    print(f"whole hash: {hash_s * 1e3:.0f} ms")
    _begin_with(folder, taken)
    node = RaftNode(directory=folder, voter_id=VOTER, rng=random.Random(), compact_entries=10**9)
    started = time.perf_counter()
    node.start()
    print(f"start: {time.perf_counter() - started:.2f} s")
    _hold_up(node)
    node.stop()


def _hold_up(node: RaftNode) -> None:
    longest_s = 0.0
    tick = node.tick

    def timed() -> None:
        nonlocal longest_s
        started = time.perf_counter()
        tick()
        longest_s = max(longest_s, time.perf_counter() - started)

    node.tick = timed  # type: ignore[method-assign]
    started = time.perf_counter()
    node._inbox.put(node.take_snapshot)
    node.barrier().result()
    while node._snapshots.is_busy:
        node.barrier().result()
    took_s = time.perf_counter() - started
    print(f"snapshot: {took_s:.2f} s, longest tick meanwhile {longest_s * 1e3:.1f} ms")
    register = c.RegisterBroker(1, b"d" * 16, "h", 1, (), None, True)
    incarnation = node.propose(register).result().value
    longest_s = 0.0
    node.propose(c.BeginSealMany(1, incarnation)).result()
    node.barrier().result()
    print(f"sealing all {TOPICS} topics: longest tick {longest_s * 1e3:.1f} ms")


def _begin_with(folder: Path, taken: Snapshot) -> None:
    disk = OsDisk(folder)
    snapshot.write(disk, taken)
    journal = Journal(disk)
    journal.setCurrentTerm(1, None)
    journal.reset(taken.index, taken.term)
    journal.close()


def _state() -> ClusterState:
    topics = [_topic(number) for number in range(TOPICS)]
    return ClusterState(
        cluster_id="figures",
        topics=PMap((topic.topic_id, topic) for topic in topics),
        names=PMap((topic.name, topic.topic_id) for topic in topics),
        revision=1000,
    )


def _topic(number: int) -> Topic:
    segments = tuple(_segment(sid) for sid in range(1, SEGMENTS + 1))
    return Topic(
        topic_id=number.to_bytes(16, "big"),
        name=f"topic-{number}",
        configs={"retention.ms": "1"},
        config_revision=0,
        replication_factor=3,
        internal=False,
        pinned=False,
        epoch=SEGMENTS,
        next_sid=SEGMENTS + 1,
        log_start_offset=0,
        segments=segments,
        deleted_up_to_sid=0,
        created_revision=5,
    )


def _segment(sid: int) -> Segment:
    is_open = sid == SEGMENTS
    return Segment(
        sid=sid,
        state=SegmentState.OPEN if is_open else SegmentState.SEALED,
        epoch=EPOCH_FIRST - 1 + sid,
        writer=1,
        writer_incarnation=5,
        replicas=(1, 2, 3),
        void=(),
        base_offset=(sid - 1) * 1_000_000,
        end_offset=-1 if is_open else sid * 1_000_000,
        size=-1 if is_open else 123_456_789 + sid,
        digest=-1 if is_open else sid * 7919,
        max_timestamp=-1 if is_open else 1_700_000_000_000 + sid,
        holders=() if is_open else tuple((node, bytes([node]) * 16) for node in (1, 2, 3)),
        seal_epoch=0,
        recoverer=-1,
    )


if __name__ == "__main__":
    main()
