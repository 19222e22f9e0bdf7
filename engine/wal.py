"""The public face of the engine: all logs under one directory, one backend, one durability policy.

    wal = Wal(directory, choose(), FsyncPolicy.parse("each"), wake=loop_should_call_flush)
    segment = wal.log("orders", topic_id).open(1, base_offset=0, epoch=1, head=bytes)
    segment.on_durable = acknowledge
    segment.append([(header, [batch])])
    wal.flush()     # soon after `wake`: everything that came meanwhile goes in one submission
    wal.reap()      # when `fileno()` is readable: callbacks run here

One thread owns a Wal. Nothing blocks it but the methods that say so.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.backends import Backend, Fs
from engine.durability import FsyncPolicy, GroupCommit
from engine.format import (
    DELETED_SUFFIX,
    NEW_SUFFIX,
    parse_segment_directory,
    parse_topic_directory,
    parse_window,
    topic_directory,
)
from engine.index import INTERVAL_DEFAULT
from engine.log import TopicLog
from engine.open_files import COUNT_MAX, OpenFiles
from engine.segment_files import remove_tree
from engine.services import Services

WRITE_QUEUE_SIZE_MAX = 64 * 1024 * 1024
"""Bytes, over all segments, that may wait for the disk before appends are refused (Kafka has none
but the socket's)."""


class StoredSegment(NamedTuple):
    """A segment directory, or the window of a segment that is emptied, as found on disk."""

    topic_id: bytes
    name: str
    """The topic's, cut to 200 characters."""
    sid: int
    path: Path
    is_emptied: bool


class Wal:
    """Opens logs and runs their writes."""

    def __init__(
        self,
        directory: Path,
        backend: Backend,
        policy: FsyncPolicy,
        *,
        wake: Callable[[], None],
        index_interval: int = INTERVAL_DEFAULT,
        write_queue_size_max: int = WRITE_QUEUE_SIZE_MAX,
        open_count_max: int = COUNT_MAX,
    ) -> None:
        """Blocking: makes `directory` if it is missing (its parent must exist). Raises OSError.

        `open_count_max` is how many log files may be open at once; 1 or more.
        `wake()` is called when `flush` should be called soon, at most once until then.
        """
        self.directory = directory
        self.backend = backend
        self.policy = policy
        self._commit = GroupCommit(backend, policy, wake, queue_size_max=write_queue_size_max)
        self.open_files = OpenFiles(
            backend.fs, count_max=open_count_max, on_short=self._commit.sync_soon
        )
        self._services = Services(backend, self._commit, self.open_files, index_interval)
        self._logs: dict[bytes, TopicLog] = {}
        if not backend.fs.exists(directory):
            backend.fs.mkdir(directory)
            backend.fs.fsync_dir(directory.parent)

    @property
    def queue_size(self) -> int:
        """Bytes appended and not yet written."""
        return self._commit.queue_size

    def flush(self) -> None:
        """Start the next operation of every dirty segment that has none in flight: one submission
        for all."""
        self._commit.flush()

    def sync_due(self) -> None:
        """Under a policy of milliseconds, to be called every so many; does nothing under the
        others."""
        self._commit.sync_due()

    def fileno(self) -> int:
        """Readable when `reap` has work."""
        return self.backend.fileno()

    def reap(self) -> None:
        """Run the callbacks of everything that has finished. Never blocks."""
        self.backend.reap()

    def log(self, name: str, topic_id: bytes) -> TopicLog:
        """The log of a topic; the same object for the same id. No I/O. Raises ValueError for a name
        that no topic has."""
        log = self._logs.get(topic_id)
        if log is None:
            directory = self.directory / topic_directory(name, topic_id)
            log = self._logs[topic_id] = TopicLog(directory, self._services)
        return log

    def forget(self, topic_id: bytes) -> None:
        """Drop the object of a topic that was deleted."""
        self._logs.pop(topic_id, None)

    def stored(self) -> list[StoredSegment]:
        """Blocking, for start-up. Every segment directory and window on disk, whatever the metadata
        says of it.

        Clears away what an unfinished creation or deletion left. Raises OSError.
        """
        fs = self.backend.fs
        found = []
        for directory in _directories(fs, self.directory):
            topic = parse_topic_directory(directory.name)
            if topic is None:
                continue
            name, topic_id = topic
            for path in _directories(fs, directory):
                sid = parse_segment_directory(path.name)
                window_sid = parse_window(path.name)
                if sid is not None:
                    found.append(StoredSegment(topic_id, name, sid, path, False))
                elif window_sid is not None:
                    found.append(StoredSegment(topic_id, name, window_sid, path, True))
        return found

    def close(self) -> None:
        """Blocking: write and sync everything queued, leave no zeros behind it, close all files.
        The backend stays open."""
        segments = [segment for log in self._logs.values() for segment in log.segments()]
        remaining = len(segments)

        def drained() -> None:
            nonlocal remaining
            remaining -= 1

        for segment in segments:
            segment.drain(drained)
        while remaining:
            self._commit.flush()
            self.backend.wait()
            self.backend.reap()
        for segment in segments:
            segment.cut_zeros()
        self.open_files.close()


def _directories(fs: Fs, parent: Path) -> list[Path]:
    """The entries of `parent` in order, without those that were being made or deleted, which go
    now."""
    entries = []
    for name in sorted(fs.listdir(parent)):
        if name.endswith((NEW_SUFFIX, DELETED_SUFFIX)):
            remove_tree(fs, parent / name)
        else:
            entries.append(parent / name)
    return entries
