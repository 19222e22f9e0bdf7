"""A cluster with the logs of `fakes.py`, as one node sees it.

What a test needs to go wrong (a node that is silent, a topic that is elsewhere) is set on the
object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import anyio

from broker.controller import group_config
from broker.controller.topic_config import validate
from broker.controller.topic_name import check_topic_name
from broker.errors import (
    InvalidRequest,
    NotLeader,
    OffsetOutOfRange,
    TopicExists,
    UnknownTopic,
    UnknownTopicId,
)
from broker.ports import (
    Appended,
    BrokerAddress,
    Buffer,
    EditConfigs,
    LogDir,
    SegmentView,
    StoredLog,
    TopicView,
)
from tests.broker.kafka_api.fakes import FakeClock, FakePartition


class FakeController:
    """Node 1 of a cluster, whose live nodes are in `live`."""

    node_id = 1
    cluster_id = "walrus-test-cluster"

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.lived: list[BrokerAddress] = []
        """Until a moment ago."""
        self.live = [BrokerAddress(1, "127.0.0.1", 9092), BrokerAddress(2, "127.0.0.2", 9092, "b")]
        self.silent: set[int] = set()
        """Nodes that have just died, or cannot be reached from here."""
        self.partitions: dict[str, FakePartition] = {}
        self.routes: dict[str, FakePartition] = {}
        """Where `anywhere` finds a topic, if not here."""
        self.handed_on: dict[str, FakePartition] = {}
        """Where `send_on` sends."""
        self.sealed: dict[str, FakePartition] = {}
        """Sealed copies of topics that others lead."""
        self.configs_of_groups: dict[str, dict[str, str]] = {}
        self.next_producer_id = 4000
        self.producer_id_error: Exception | None = None
        self.create_wait = anyio.Event()
        self.create_wait.set()

    async def other_clocks(self) -> list[int]:
        return []

    def brokers(self, listener: str, *, lately: bool = False) -> tuple[BrokerAddress, ...]:
        port_offset = {"PLAINTEXT": 0, "OUTSIDE": 10_000}[listener]
        listed = (*self.live, *self.lived) if lately else self.live
        return tuple(replace(one, port=one.port + port_offset) for one in listed)

    async def answers(self, node_id: int) -> bool:
        return node_id not in self.silent

    def topics(self) -> Sequence[TopicView]:
        return [partition.view for partition in self.partitions.values()]

    def topic(self, name: str) -> TopicView:
        if name not in self.partitions:
            raise UnknownTopic(f"no topic {name!r}")
        return self.partitions[name].view

    def topic_by_id(self, topic_id: UUID) -> TopicView:
        for partition in self.partitions.values():
            if partition.view.topic_id == topic_id:
                return partition.view
        raise UnknownTopicId(f"no topic with id {topic_id}")

    async def create_topic(
        self,
        name: str,
        *,
        configs: Mapping[str, str],
        replication_factor: int = -1,
        validate_only: bool = False,
        is_internal: bool = False,
    ) -> TopicView:
        check_topic_name(name)
        validate(configs)
        if name in self.partitions:
            raise TopicExists(f"{name} exists")
        await self.create_wait.wait()
        if name in self.partitions:
            raise TopicExists(f"{name} exists")
        view = self.view(name, configs, max(replication_factor, 1))
        if not validate_only:
            self.partitions[name] = FakePartition(view, self.clock)
        return view

    @staticmethod
    def view(name: str, configs: Mapping[str, str], replication_factor: int) -> TopicView:
        return TopicView(
            name=name,
            topic_id=uuid4(),
            leader_id=1,
            leader_epoch=3,
            replicas=(1,),
            in_sync=(1,),
            offline=(),
            is_internal=name.startswith("__"),
            replication_factor=replication_factor,
            configs=dict(configs),
            log_start_offset=0,
            segments=(SegmentView(0, 0, None, 1, 3, None),),
        )

    def group_configs(self, group: str) -> Mapping[str, str]:
        if not group:
            raise InvalidRequest("a group has a name")
        return self.configs_of_groups.get(group, {})

    async def configure_group(
        self, group: str, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        configs = edit(self.group_configs(group))
        group_config.validate(configs)
        if not validate_only:
            self.configs_of_groups[group] = dict(configs)

    def led(self, name: str) -> FakePartition | None:
        partition = self.partitions.get(name)
        return partition if partition is not None and partition.view.leader_id == 1 else None

    async def configure(
        self, topic_id: UUID, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        partition = self.partitions[self.topic_by_id(topic_id).name]
        configs = edit(partition.view.configs)
        validate(configs)
        if not validate_only:
            partition.view = replace(partition.view, configs=dict(configs))

    async def delete_records(self, topic: TopicView, before_offset: int) -> int:
        partition = self.partition(topic)
        end_offset = partition.high_watermark
        offset = end_offset if before_offset == -1 else before_offset
        if not 0 <= offset <= end_offset:
            raise OffsetOutOfRange(f"{offset} of {end_offset}")
        start = max(offset, partition.log_start_offset)
        partition.view = replace(partition.view, log_start_offset=start)
        return start

    async def log_dir(self) -> LogDir:
        logs = tuple(
            StoredLog(name, sum(len(data) for _, _, data in partition.batches), 0)
            for name, partition in self.partitions.items()
        )
        return LogDir("/data", 1000, 400, logs)

    async def delete_topic(self, topic_id: UUID) -> None:
        view = self.topic_by_id(topic_id)
        self.partitions.pop(view.name).wake()

    def sealed_copies(self, topic: TopicView) -> FakePartition:
        found = self.sealed.get(topic.name)
        if found is None:
            raise NotLeader(f"nothing of {topic.name} is held here")
        return found

    def anywhere(self, topic: TopicView, *, resends: bool = True) -> FakePartition:
        return self.routes.get(topic.name) or self.partition(topic)

    async def send_on(
        self, topic: TopicView, batch: Buffer, *, acks: int
    ) -> tuple[FakePartition, Appended] | None:
        partition = self.handed_on.get(topic.name)
        return None if partition is None else (partition, await partition.append(batch, acks=acks))

    async def caught_up(self) -> None:
        return

    def partition(self, topic: TopicView) -> FakePartition:
        partition = self.partitions.get(topic.name)
        if partition is None or partition.view.topic_id != topic.topic_id:
            raise UnknownTopicId(f"{topic.name} is gone")
        if partition.view.leader_id != self.node_id:
            raise NotLeader(f"node {partition.view.leader_id} leads {topic.name}")
        return partition

    async def producer_id(self) -> int:
        if self.producer_id_error is not None:
            raise self.producer_id_error
        self.next_producer_id += 1
        return self.next_producer_id - 1
