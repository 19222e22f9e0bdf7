"""What a power cut at this very moment would leave on the machines' disks.

This is read off the simulated disks and never asked of the product: a sync that is forgotten, or a
directory that is not synced, shows here and nowhere else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crc32c import crc32c

from engine.backends._memory_fs import Directory, File
from engine.batch import HEADER_SIZE
from engine.format import META_NAME, FormatError, log_name, topic_directory, unpack_meta
from raft.state import Segment, Topic
from tests.sim.cluster.node import TOPICS, Machine


class DurableDisks:
    """All machines' disks. Logs only grow, so each is read once."""

    def __init__(self, machines: Mapping[int, Machine]) -> None:
        self._machines = machines
        self._read: dict[tuple[int, bytes, int], tuple[File, int, int]] = {}
        """(node, topic id, sid) → file, bytes of it that were read, the end offset there."""

    def end_offset(self, node: int, topic: Topic, segment: Segment) -> int:
        """Where the log of this copy would end; its base offset if there were none."""
        file = self._file(node, topic, segment.sid, log_name(segment.base_offset))
        if file is None:
            return segment.base_offset
        key = (node, topic.topic_id, segment.sid)
        known, size, end_offset = self._read.get(key, (file, 0, segment.base_offset))
        if known is not file or size > len(file.synced):
            size, end_offset = 0, segment.base_offset
        size, end_offset = read_on(file.synced, size, end_offset)
        self._read[key] = file, size, end_offset
        return end_offset

    def promised_epoch(self, node: int, topic: Topic, sid: int) -> int:
        """The highest promise that would be remembered."""
        file = self._file(node, topic, sid, META_NAME)
        if file is None:
            return 0
        try:
            return unpack_meta(bytes(file.synced))[0].promised_epoch
        except FormatError:
            return 0

    def _file(self, node: int, topic: Topic, sid: int, name: str) -> File | None:
        found: Any = directory_of(self._machines[node], topic)
        for part in (str(sid), name):
            if not isinstance(found, Directory):
                return None
            found = found.synced.get(part)
        return found if isinstance(found, File) else None


def directory_of(machine: Machine, topic: Topic) -> Directory | None:
    """Of a topic, as a power cut would leave it."""
    found: Any = machine.root if machine.process is None else machine.process.backend.fs.root
    for part in (*Path(TOPICS).parts[1:], topic_directory(topic.name, topic.topic_id)):
        if not isinstance(found, Directory):
            return None
        found = found.synced.get(part)
    return found if isinstance(found, Directory) else None


def read_on(data: bytearray, position: int, end_offset: int) -> tuple[int, int]:
    """How far whole batches reach from `position` on, where `end_offset` is: both, there."""
    while position + HEADER_SIZE <= len(data):
        size = 12 + int.from_bytes(data[position + 8 : position + 12])
        base_offset = int.from_bytes(data[position : position + 8])
        if base_offset != end_offset or size < HEADER_SIZE or position + size > len(data):
            break
        crc = int.from_bytes(data[position + 17 : position + 21])
        if crc32c(data[position + 21 : position + size]) != crc:
            break  # Torn: the file had grown before its bytes came.
        end_offset += int.from_bytes(data[position + 23 : position + 27]) + 1
        position += size
    return position, end_offset
