"""What is on the disks of all nodes after a run, compared with the metadata and with each other.

This sees more than any client: a copy that differs where nobody happened to read, a segment that is
on fewer disks than was promised.
"""

from collections.abc import Iterator
from typing import Any

from crc32c import crc32c

from engine.backends._memory_fs import MemoryFs
from engine.batch import HEADER_SIZE, iter_headers
from engine.format import HEAD_NAME, parse_segment_directory, parse_topic_directory, topic_directory
from engine.segment_files import TopicDirectory, WindowFile
from raft.state import ClusterState, Segment, SegmentState, Topic
from tests.sim.cluster.node import TOPICS

Copies = dict[int, bytes]


def check_disks(
    state: ClusterState, roots: dict[int, Any], disks: dict[int, bytes]
) -> Iterator[str]:
    """Every offence there is. `roots` are the file systems by node, `disks` what they are on."""
    found = {node: dict(_files(root, ".log")) for node, root in roots.items()}
    heads = {node: dict(_files(root, HEAD_NAME)) for node, root in roots.items()}
    for topic in state.topics.values():
        yield from _check_chain(topic)
        for segment in topic.segments:
            key = (topic.topic_id, segment.sid)
            copies = {node: logs[key] for node, logs in found.items() if key in logs}
            yield from _check_prefixes(topic, segment, copies)
            if topic.is_emptied(segment):
                yield from _check_emptied(topic, segment, roots, disks)
            elif segment.state is SegmentState.SEALED:
                yield from _check_sealed(topic, segment, copies, disks)
                there = [node for node, disk in segment.holders if disks.get(node) == disk]
                if len({heads[node].get(key) for node in there}) > 1:
                    yield f"head: {topic.name} segment {segment.sid} has several headers"


def _files(root: Any, suffix: str) -> Iterator[tuple[tuple[bytes, int], bytes]]:
    fs = MemoryFs()
    fs.root = fs.root if root is None else root
    if not fs.exists(TOPICS):
        return
    for name in sorted(fs.listdir(TOPICS)):
        topic = parse_topic_directory(name)
        for folder in sorted(fs.listdir(TOPICS / name)) if topic is not None else ():
            sid = parse_segment_directory(folder)
            for file in sorted(fs.listdir(TOPICS / name / folder)) if sid is not None else ():
                if file.endswith(suffix):
                    assert topic is not None and sid is not None
                    yield (topic[1], sid), bytes(fs.contents(TOPICS / name / folder / file))


def _check_chain(topic: Topic) -> Iterator[str]:
    for before, after in zip(topic.segments, topic.segments[1:], strict=False):
        if before.end_offset != after.base_offset:
            yield (
                f"contiguity: {topic.name} {before.sid} ends {before.end_offset}, next begins"
                f" {after.base_offset}"
            )


def _check_prefixes(topic: Topic, segment: Segment, copies: Copies) -> Iterator[str]:
    """Two copies agree wherever both have data, below the end if there is one. Zeros behind it are
    none."""
    size_max = segment.size if segment.state is SegmentState.SEALED else None
    cut = {node: data[:size_max].rstrip(b"\0") for node, data in copies.items()}
    longest = max(cut.values(), key=len, default=b"")
    for node, data in cut.items():
        if not longest.startswith(data):
            yield f"prefix: {topic.name} segment {segment.sid} differs on node {node}"


def _check_emptied(
    topic: Topic, segment: Segment, roots: dict[int, Any], disks: dict[int, bytes]
) -> Iterator[str]:
    """A holder keeps the window, and not the records."""
    folder = TOPICS / topic_directory(topic.name, topic.topic_id)
    fs = MemoryFs()
    for node in [node for node, disk in segment.holders if disks.get(node) == disk]:
        fs.root = roots[node]
        if WindowFile(fs, TopicDirectory(fs, folder), segment.sid).read() is None or fs.exists(
            folder / f"{segment.sid}"
        ):
            yield f"emptied: {topic.name} segment {segment.sid} on node {node} is not just a window"


def _check_sealed(
    topic: Topic, segment: Segment, copies: Copies, disks: dict[int, bytes]
) -> Iterator[str]:
    what = f"{topic.name} segment {segment.sid}"
    for node in [node for node, disk in segment.holders if disks.get(node) == disk]:
        data = copies.get(node, b"")
        if len(data) != segment.size:
            yield f"holder: {what} on node {node} has {len(data)} bytes of {segment.size}"
            continue
        digest = 0
        end_offset = segment.base_offset
        for position, header in iter_headers(data):
            digest = crc32c(data[position : position + HEADER_SIZE], digest)
            if header.base_offset != end_offset:
                yield f"gap: {what} on node {node} at {end_offset}"
            end_offset = header.next_offset
        if (digest, end_offset) != (segment.digest, segment.end_offset):
            yield f"digest: {what} on node {node} is not what was sealed"
    # Nodes that were taken out for good hold nothing, and a cluster may shrink to one.
    if len(segment.holders) < min(len(segment.replicas), len(disks)) // 2 + 1:
        yield f"holders: {what} has {len(segment.holders)} holders"
