"""The copies of segments on a machine's disk, as a power cut would leave them, for whoever damages
them or takes them away."""

from collections.abc import Iterator

from engine.backends._memory_fs import Directory, File
from engine.format import META_NAME, FormatError, unpack_meta
from engine.format import SegmentState as CopyState
from raft.state import ClusterState, Segment, Topic
from tests.sim.cluster.durable import directory_of
from tests.sim.cluster.node import Machine


def kept(state: ClusterState) -> Iterator[tuple[Topic, Segment]]:
    """All segments that can hold records."""
    for topic in state.topics.values():
        for segment in topic.kept:
            yield topic, segment


def folder_of(machine: Machine, topic: Topic, segment: Segment) -> Directory | None:
    """None if it has no copy."""
    parent = directory_of(machine, topic)
    folder = None if parent is None else parent.synced.get(str(segment.sid))
    return folder if isinstance(folder, Directory) else None


def file_of(machine: Machine, topic: Topic, segment: Segment, name: str) -> File | None:
    """None if its copy has no such file."""
    folder = folder_of(machine, topic, segment)
    file = None if folder is None else folder.synced.get(name)
    return file if isinstance(file, File) else None


def put_file(
    machine: Machine, topic: Topic, segment: Segment, name: str, data: bytes | bytearray
) -> None:
    """In place of another one, which whoever has it open may keep."""
    folder = folder_of(machine, topic, segment)
    assert folder is not None
    folder.entries[name] = folder.synced[name] = File(bytearray(data), bytearray(data))


def is_closed(machine: Machine, topic: Topic, segment: Segment) -> bool:
    """As the disk has it."""
    meta = file_of(machine, topic, segment, META_NAME)
    if meta is None:
        return False
    try:
        return unpack_meta(bytes(meta.synced))[0].state is CopyState.SEALED
    except FormatError:
        return False


def take_away(machine: Machine, topic: Topic, segment: Segment) -> None:
    """What an operator does with a closed copy that is damaged (docs/operations.md): the node is
    stopped, and makes it anew when it starts without it."""
    machine.kill(power=True)
    parent = directory_of(machine, topic)
    assert parent is not None
    del parent.synced[str(segment.sid)]
    parent.entries = dict(parent.synced)
