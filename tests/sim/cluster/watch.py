"""The invariants of the specification, asserted on the nodes themselves while they run.

Every few milliseconds the state of all nodes is read as the specification's variables (`spec/`):
who writes a segment, its high watermark, the durable ends of its copies, its sealed end.
"""

from typing import Protocol

import anyio

from broker.controller.bucket import Bucket
from broker.controller.partition import LocalPartition
from broker.replication.quorum import ack_quorum
from raft.state import ClusterState, Segment, SegmentState, Topic
from tests.sim.cluster.node import Machine, Process

LOOK_S = 0.02


class Watched(Protocol):
    """What is looked at."""

    machines: dict[int, Machine]

    def violated(self, what: str) -> None: ...

    def state(self) -> ClusterState: ...


class Watch:
    """One run's. `run` it beside the cluster."""

    def __init__(self, world: Watched) -> None:
        self._world = world
        self._writers: dict[tuple[bytes, int], tuple[int, int]] = {}
        self._sealed: dict[tuple[bytes, int], tuple[int, int, int, int]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            state = self._world.state()
            for topic in state.topics.values():
                for segment in topic.segments:
                    self._check_sealed(topic, segment)
            for machine in self._world.machines.values():
                process = machine.process
                if process is not None and process.is_ready:
                    for partition in process.controller.led_partitions():
                        if partition.bucket is not None:
                            self._check_writer(state, process, partition, partition.bucket)

    def _check_sealed(self, topic: Topic, segment: Segment) -> None:
        """SealedIsFinal: the end of a segment is fixed once."""
        if segment.state is SegmentState.SEALED:
            end = (segment.base_offset, segment.end_offset, segment.size, segment.digest)
            key = (topic.topic_id, segment.sid)
            if self._sealed.setdefault(key, end) != end:
                self._world.violated(f"seal changed: {topic.name} segment {segment.sid}")

    def _check_writer(
        self, state: ClusterState, process: Process, partition: LocalPartition, bucket: Bucket
    ) -> None:
        topic = state.topics.get(partition.metadata.topic_id)
        segment = None if topic is None else topic.segment(bucket.sid)
        if topic is None or segment is None:
            return
        what = f"{topic.name} segment {bucket.sid}"
        me = (process.node, process.controller.incarnation)
        writer = self._writers.setdefault((topic.topic_id, bucket.sid), me)
        if writer != me:
            self._world.violated(f"second writer: {what} is written by {me}, was by {writer}")
        mark = max(bucket.writer.high_watermark, partition.high_watermark)
        if segment.state is SegmentState.SEALED and mark > segment.end_offset:
            self._world.violated(
                f"beyond the seal: {what} is committed to {mark}, ends {segment.end_offset}"
            )
        ends = sorted(self._durable_end(node, topic, segment) for node in segment.replicas)
        safe = ends[-ack_quorum(len(ends))]
        if mark > safe:
            self._world.violated(f"not safe: {what} is committed to {mark}, is durable to {safe}")

    def _durable_end(self, node: int, topic: Topic, segment: Segment) -> float:
        """Of one copy; a node that is not up may have everything."""
        process = self._world.machines[node].process
        if process is None or not process.is_ready:
            return float("inf")
        copy = process.store.log(topic.name, topic.topic_id).get(segment.sid)
        return segment.base_offset if copy is None else copy._appender.synced_offset
