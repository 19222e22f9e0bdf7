"""What this node's disk holds, topic by topic, for admin tools."""

import shutil

from broker.ports import LogDir, StoredLog
from broker.replication.store import Store
from raft.state import ClusterState, Topic


def stored_logs(node: int, state: ClusterState, store: Store) -> tuple[StoredLog, ...]:
    """The logs of every topic that has a copy here, or is about to have one."""
    return tuple(
        log
        for _, topic in sorted(state.topics.items())
        if (log := _stored(node, topic, store)) is not None
    )


async def log_dir(node: int, state: ClusterState, store: Store) -> LogDir:
    """Those logs, and the file system they are on."""
    logs = stored_logs(node, state, store)
    path = store.wal.directory
    try:
        usage = await store.run(lambda: shutil.disk_usage(path))
    except OSError:
        return LogDir(str(path), -1, -1, logs)
    return LogDir(str(path), usage.total, usage.free, logs)


def _stored(node: int, topic: Topic, store: Store) -> StoredLog | None:
    """None where nothing of the topic is here.

    Only the leader knows how far the open segment is committed, and it never lags. A follower's lag
    is told against the segments that are closed.
    """
    segments = store.log(topic.name, topic.topic_id).segments()
    last = topic.last
    if not segments and node not in last.replicas:
        return None
    lag = 0
    if node in last.replicas and node != last.writer:
        end_offset = segments[-1].end_offset if segments else topic.log_start_offset
        lag = max(0, last.base_offset - end_offset)
    return StoredLog(topic.name, sum(segment.size for segment in segments), lag)
