"""Topics, nodes and leadership, as the protocols see them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from broker.ports.exchange import Buffer
from broker.ports.log import AnyPartition, Appended, Partition, QuickPartition, Readable
from broker.ports.views import BrokerAddress, LogDir, TopicView


class Controller(Protocol):
    """Topics, nodes and leadership: the replicated metadata, seen and changed from this node."""

    @property
    def node_id(self) -> int: ...

    @property
    def cluster_id(self) -> str: ...

    def brokers(self, listener: str, *, lately: bool = False) -> tuple[BrokerAddress, ...]:
        """Live nodes with the address their listener of that name advertises; with `lately` those,
        too, that lived until a moment ago."""

    def topics(self) -> Sequence[TopicView]: ...

    def topic(self, name: str) -> TopicView:
        """Raises UnknownTopic."""

    def topic_by_id(self, topic_id: UUID) -> TopicView:
        """Raises UnknownTopicId."""

    async def create_topic(
        self,
        name: str,
        *,
        configs: Mapping[str, str],
        replication_factor: int = -1,
        validate_only: bool = False,
    ) -> TopicView:
        """Visible here when this returns. Raises InvalidTopic, InvalidConfig, TopicExists."""

    async def delete_topic(self, topic_id: UUID) -> None:
        """Raises UnknownTopicId. The name is free when this returns."""

    def partition(self, topic: TopicView) -> Partition:
        """Raises NotLeader when another node, or no node yet, leads it, and UnknownTopicId when it
        is gone."""

    def led(self, name: str) -> QuickPartition | None:
        """The partition of the topic of that name, if this node leads it."""

    def anywhere(self, topic: TopicView, *, resends: bool = True) -> AnyPartition:
        """The partition wherever it is led. Asks again through failovers; a batch whose outcome is
        unknown is sent again only if it `resends`: then it must carry a producer id and sequence.
        """

    async def producer_id(self) -> int:
        """A producer id nobody has had before, in this cluster's whole life."""


EditConfigs = Callable[[Mapping[str, str]], Mapping[str, str]]
"""From what is set to what is to be set; raises RequestError for what cannot be meant."""


class AdminController(Controller, Protocol):
    """What Kafka's clients and admin tools ask beyond that."""

    async def caught_up(self) -> None:
        """Wait until this node sees every change of the metadata that was made before. Raises
        MetadataUnavailable."""

    async def answers(self, node_id: int) -> bool:
        """Whether that node can be reached just now, and knows what this one knows of the metadata.
        One that has just died counts as live for about a second more."""

    async def send_on(
        self, topic: TopicView, batch: Buffer, *, acks: int
    ) -> tuple[AnyPartition, Appended] | None:
        """For a batch of a topic that another node leads: send it there if this node has handed the
        topic over lately, so that its client need not pause; committed when this returns. None if
        the client is to be told where to go."""

    def sealed_copies(self, topic: TopicView) -> Readable:
        """What this node holds of a topic that another one leads. Raises UnknownTopicId."""

    async def configure(
        self, topic_id: UUID, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        """Put `edit(configs)` in the place of what is set for a topic.

        `edit` is called again when somebody else was faster; what it raises passes through. Raises
        UnknownTopicId, InvalidConfig, InvalidTopic for an internal topic, MetadataUnavailable.
        """

    def group_configs(self, group: str) -> Mapping[str, str]:
        """What is set for a consumer group, whether there is such a group or not. Raises
        InvalidRequest for what cannot be a name."""

    async def configure_group(
        self, group: str, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        """As `configure`. Raises InvalidRequest, InvalidConfig, MetadataUnavailable."""

    async def delete_records(self, topic: TopicView, before_offset: int) -> int:
        """Give up everything below `before_offset`, or below the high watermark for -1; the log
        start that holds now.

        Only where the topic is led. Raises NotLeader, UnknownTopicId, MetadataUnavailable, and
        OffsetOutOfRange beyond the high watermark.
        """

    async def log_dir(self) -> LogDir:
        """What this node's disk holds. Counts as of this moment."""
