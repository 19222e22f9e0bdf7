"""Offline: the data directory of a node whose cluster has lost the majority of its metadata's disks
becomes that of a cluster of its own. See `raft/recovery.py` for what is taken over.

The new cluster has another id, so no node of the old one that turns up after all is listened to.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from broker.controller.data_dir import DataDir, DataDirError
from broker.replication.quorum import seal_quorum
from engine.format import log_name, topic_directory
from raft import recovery
from raft.disk import Disk, OsDisk
from raft.errors import StoredStateError
from raft.journal import JOURNAL_NAME
from raft.recovery import Stored
from raft.snapshot import SNAPSHOT_NAME
from raft.state import ClusterState, Segment, SegmentState, Topic

BACKUP_PREFIX = "before-recovery-"
"""Of the folder that keeps the files as they were; the old cluster's id comes behind it."""

STORED_NAMES = (JOURNAL_NAME, SNAPSHOT_NAME)


@dataclass(frozen=True, slots=True)
class Stake:
    """What of one topic depends on the lost disks."""

    name: str
    sid: int
    """Of the segment that waits to be sealed."""
    base_offset: int
    replicas: tuple[int, ...]
    size: int
    """Bytes of it on this disk."""
    needs_a_decision: bool
    """Too few of its replicas are left to say where it ends."""
    dropped_count: int
    """Segments behind it of which this disk has no record."""
    lost: tuple[tuple[int, int], ...]
    """(base, end) offsets of closed segments of which no whole copy is known here."""


class MetadataRecovery:
    """Of one data directory, which the caller has locked."""

    def __init__(self, data: DataDir, *, disk: Disk | None = None) -> None:
        """Changes nothing. Raises DataDirError when there is nothing to recover, or the metadata is
        damaged, and OSError."""
        self._data = data
        self.node = data.identity.node_id
        self._me = (self.node, bytes.fromhex(data.identity.disk_id))
        if not data.raft_path.is_dir():
            raise DataDirError(f"{data.path} holds no metadata: this node was never let in")
        self._disk = disk or OsDisk(data.raft_path)
        try:
            stored = recovery.look(self._disk)
        except StoredStateError as error:
            raise DataDirError(str(error)) from error
        if stored is None or not stored.state.cluster_id:
            raise DataDirError(f"{data.path} holds no metadata: this node was never let in")
        self.stored: Stored = stored
        if stored.members.voters == (data.identity.disk_id,):
            raise DataDirError(
                f"node {self.node} is the only one that cluster {self.cluster_id}'s metadata needs:"
                " there is nothing to recover, start it"
            )

    @property
    def cluster_id(self) -> str:
        return self.stored.state.cluster_id

    @property
    def written_at(self) -> float:
        """Seconds since 1970: when this node wrote to its metadata for the last time."""
        paths = [self._data.raft_path / name for name in STORED_NAMES]
        return max(path.stat().st_mtime for path in paths if path.exists())

    @property
    def backup(self) -> Path:
        """Where the files will be kept as they are now."""
        return self._data.path / f"{BACKUP_PREFIX}{self.cluster_id}"

    def stakes(self) -> list[Stake]:
        """Of every topic, by name."""
        before = self.stored.state.topics
        after = self._state("the same").topics
        found = [self._stake(before[topic_id], after[topic_id]) for topic_id in after]
        return sorted(found, key=lambda stake: stake.name)

    def _stake(self, before: Topic, after: Topic) -> Stake:
        last = after.last
        void = {node for node, _ in last.void}
        vouching = [node for node in last.replicas if node not in void]
        closed = [one for one in after.segments if one.state is SegmentState.SEALED]
        return Stake(
            name=after.name,
            sid=last.sid,
            base_offset=last.base_offset,
            replicas=last.replicas,
            size=self._held(before, last),
            needs_a_decision=len(vouching) < seal_quorum(len(last.replicas)),
            dropped_count=len(before.segments) - len(after.segments),
            lost=tuple(
                (one.base_offset, one.end_offset)
                for one in closed
                if self._me not in one.holders and not after.is_emptied(one)
            ),
        )

    def _state(self, cluster_id: str) -> ClusterState:
        node, disk = self._me
        return recovery.sole_survivor(
            self.stored.state, node=node, disk=disk, cluster_id=cluster_id, held=self._held
        )

    def _held(self, topic: Topic, segment: Segment) -> int:
        folder = self._data.topics_path / topic_directory(topic.name, topic.topic_id)
        try:
            return (folder / str(segment.sid) / log_name(segment.base_offset)).stat().st_size
        except FileNotFoundError:
            return 0

    def recover(self, cluster_id: str) -> None:
        """Do it, under this new id. A crash leaves what was there, or all of the new cluster.

        Raises OSError.
        """
        state = self._state(cluster_id)
        self._keep()
        # Without one of its own a directory is of the cluster that its metadata is of.
        self._data.belongs_to("")
        recovery.found_anew(self._disk, self.stored, state, self._data.identity.disk_id)
        self._data.belongs_to(cluster_id)

    def _keep(self) -> None:
        """Copy the files as they are; only a whole copy gets the name."""
        scratch = self.backup.with_name(self.backup.name + ".new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        sources = [self._data.raft_path / name for name in STORED_NAMES]
        for source in (self._data.path / "identity", *sources):
            if source.exists():
                _sync(Path(shutil.copy2(source, scratch)))
        _sync(scratch)
        shutil.rmtree(self.backup, ignore_errors=True)
        scratch.replace(self.backup)
        _sync(self._data.path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
