"""The last disk of a cluster, half turned into a cluster of its own, or turned for nothing."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.controller.data_dir import DataDir, DataDirError, read_identity
from broker.controller.metadata_recovery import MetadataRecovery
from raft.node import RaftNode
from raft.state import SegmentState
from tests.broker.survivors import OLD_CLUSTER, make_survivor


class Crash(BaseException):
    """The process is gone."""


def opened(path: Path) -> tuple[DataDir, RaftNode]:
    """As a start does it."""
    data = DataDir(path, node_id=3, joins=True)
    raft = RaftNode(
        directory=data.raft_path,
        voter_id=data.identity.disk_id,
        joins=data.identity.joins,
        rng=random.Random(1),
        debug=True,
    )
    raft.open()
    return data, raft


def recovery(path: Path) -> MetadataRecovery:
    return MetadataRecovery(DataDir(path, node_id=3))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture
def survivor(tmp_path: Path) -> Path:
    make_survivor(tmp_path / "data", sizes={1: 1000, 2: 400})
    return tmp_path / "data"


def test_what_is_at_stake_is_said_topic_by_topic(survivor: Path) -> None:
    found = recovery(survivor)
    assert found.cluster_id == OLD_CLUSTER
    t, t2, t3 = found.stakes()
    assert (t.name, t.sid, t.base_offset, t.size, t.dropped_count) == ("t", 2, 10, 400, 1)
    assert (t.needs_a_decision, t.lost) == (True, ())
    assert (t2.name, t2.replicas, t2.needs_a_decision) == ("t2", (2,), True)
    assert (t3.name, t3.replicas, t3.needs_a_decision) == ("t3", (3,), False)


def test_a_hole_that_nobody_can_fill_is_named(tmp_path: Path) -> None:
    make_survivor(tmp_path, sizes={1: 999, 3: 5})
    t, _, _ = recovery(tmp_path).stakes()
    assert (t.sid, t.dropped_count, t.lost) == (3, 0, ((0, 10), (10, 20)))


def test_the_files_as_they_were_are_kept(survivor: Path) -> None:
    before = content(survivor / "raft") | {"identity": (survivor / "identity").read_bytes()}
    found = recovery(survivor)
    found.recover("new-cluster")
    assert content(found.backup) == before


def test_the_node_is_the_first_of_a_new_cluster(survivor: Path) -> None:
    found = recovery(survivor)
    producer_id = found.stored.state.next_producer_id
    found.recover("new-cluster")
    found._data.release()
    data, raft = opened(survivor)
    assert data.identity.cluster_id == raft.state.cluster_id == "new-cluster"
    assert raft.is_leader
    assert raft.members.voters == (data.identity.disk_id,)
    assert [node for node, one in raft.state.brokers.items() if not one.fenced] == [3]
    assert raft.state.next_producer_id > producer_id
    topic = raft.state.topic_named("t")
    assert topic is not None
    assert [one.state for one in topic.segments] == [SegmentState.SEALED, SegmentState.SEALING]


def test_a_node_that_needs_nobody_is_left_alone(survivor: Path) -> None:
    found = recovery(survivor)
    found.recover("new-cluster")
    with pytest.raises(DataDirError, match="nothing to recover"):
        MetadataRecovery(found._data)


def test_a_node_that_was_never_let_in_has_nothing_to_recover(tmp_path: Path) -> None:
    data = DataDir(tmp_path, node_id=3, joins=True)
    with pytest.raises(DataDirError, match="never let in"):
        MetadataRecovery(data)
    assert not data.raft_path.exists()


def test_damaged_metadata_is_refused_as_by_a_start(survivor: Path) -> None:
    journal = survivor / "raft" / "journal"
    data = bytearray(journal.read_bytes())
    data[30] ^= 1
    journal.write_bytes(data)
    with pytest.raises(DataDirError, match="journal, position 20"):
        recovery(survivor)


def test_a_crash_at_any_step_leaves_the_old_cluster_or_the_new_one(
    survivor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    step = 0
    while True:
        step += 1
        path = survivor.with_name(f"data-{step}")
        shutil.copytree(survivor, path)
        found = recovery(path)
        with monkeypatch.context() as patch:
            _crash_at(patch, step)
            try:
                found.recover("new-cluster")
                is_done = True
            except Crash:
                is_done = False
        found._data.release()
        seen.append(_cluster_after_a_start(path))
        assert is_done or _can_be_recovered_now(path)
        if is_done:
            break
    assert seen == sorted(seen, reverse=True), "once it is the new one it stays that"
    assert {seen[0], seen[-1]} == {OLD_CLUSTER, "new-cluster"}


def _crash_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """In place of the sync or rename of that number."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                raise Crash
            return real(*args)

        return call

    patch.setattr(os, "fsync", counted(os.fsync))
    patch.setattr(os, "fdatasync", counted(os.fdatasync))
    patch.setattr(Path, "replace", counted(Path.replace))


def _cluster_after_a_start(path: Path) -> str:
    """Of a copy: a start changes the files."""
    started = path.with_name(path.name + "-started")
    shutil.copytree(path, started)
    data, raft = opened(started)
    is_new = raft.state.cluster_id == "new-cluster"
    assert (len(raft.members.voters), raft.is_leader) == ((1, True) if is_new else (3, False))
    assert raft.state.brokers[1].fenced == is_new
    data.joined(raft.state.cluster_id)
    data.release()
    return raft.state.cluster_id


def _can_be_recovered_now(path: Path) -> bool:
    """After a crash the same command does the rest, or says that it is done."""
    try:
        found = recovery(path)
    except DataDirError as error:
        return "nothing to recover" in str(error)
    found.recover("later-cluster")
    return read_identity(path).cluster_id == "later-cluster"
