"""Creating and deleting topics: one command each, after everything that can be refused was
refused."""

import uuid
from collections.abc import Mapping
from typing import Final

from broker.controller import placement, topic_config
from broker.controller.metadata import Metadata
from broker.controller.topic_name import check_collision, check_topic_name
from broker.errors import (
    InvalidConfig,
    InvalidTopic,
    MetadataUnavailable,
    TopicExists,
    UnknownTopicId,
)
from broker.ports import EditConfigs
from raft.apply import apply
from raft.commands import FORMAT_VERSION, ChangeConfig, CreateTopic, DeleteTopic, Envelope
from raft.segments import REPLICAS_MAX
from raft.state import ClusterState, Refusal, Topic

OFFSETS_TOPIC: Final = "__consumer_offsets"
"""Kafka's name of the offsets topic, and the stem of the shards that hold them here."""

REPLICATION_FACTOR_DEFAULT: Final = 3
"""The target of topics that ask for none."""

CREATE_ATTEMPTS_MAX: Final = 5
"""How often a topic is proposed whose first writer has died, or was started anew, meanwhile: admin
clients do not ask again."""

CONFIGURE_ATTEMPTS_MAX: Final = 20
"""How often a change of configs is tried while others change them too."""


class Topics:
    """Topic changes proposed by this node."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    async def create(
        self,
        name: str,
        *,
        configs: Mapping[str, str],
        replication_factor: int = -1,
        is_internal: bool = False,
        validate_only: bool = False,
    ) -> Topic:
        """Raises InvalidTopic, InvalidConfig, TopicExists, MetadataUnavailable.

        `replication_factor` is a target: each segment takes as many live nodes as there are, up to
        it. -1 means the default; what exceeds the possible is brought down to it.
        With `validate_only` the answer is the topic as it would be, and nothing has changed.
        """
        check_topic_name(name)
        check_collision(name, self._metadata.state.names)
        topic_config.validate(configs)
        if name.startswith(OFFSETS_TOPIC) and not is_internal:
            raise InvalidTopic(f"topic names beginning with {OFFSETS_TOPIC} belong to the broker")
        target = REPLICATION_FACTOR_DEFAULT if replication_factor == -1 else replication_factor
        target = max(1, min(target, REPLICAS_MAX))
        topic_id, refusal = uuid.uuid4().bytes, ""
        for _ in range(CREATE_ATTEMPTS_MAX):
            opened = placement.for_new_topic(self._metadata.state, name, target)
            if opened is None:
                raise MetadataUnavailable(f"too few live nodes for topic {name}")
            command = CreateTopic(
                topic_id=topic_id,
                name=name,
                configs=dict(configs),
                replication_factor=target,
                internal=is_internal,
                pinned=is_internal,
                next=opened,
                unlike_others=True,
            )
            state, refusal = await self._apply(command, validate_only=validate_only)
            if not refusal:
                return state.topics[topic_id]
            if name in state.names:
                raise TopicExists(f"topic {name} exists")
            # Another node's topic may have come between.
            check_collision(name, state.names)
        raise MetadataUnavailable(f"topic {name} could not be created: {refusal}")

    async def _apply(
        self, command: CreateTopic, *, validate_only: bool
    ) -> tuple[ClusterState, str]:
        if validate_only:
            before = self._metadata.state
            envelope = Envelope(FORMAT_VERSION, bytes(16), 1, command)
            state, applied = apply(before, before.revision + 1, envelope)
        else:
            applied = await self._metadata.propose(command)
            state = self._metadata.state
        return state, applied.refusal

    async def configure(
        self,
        topic_id: bytes,
        edit: EditConfigs,
        *,
        validate_only: bool,
    ) -> None:
        """See `ports.Controller.configure`."""
        for _ in range(CONFIGURE_ATTEMPTS_MAX):
            topic = self._metadata.state.topics.get(topic_id)
            if topic is None:
                raise UnknownTopicId("no topic has this id")
            if topic.internal:
                raise InvalidTopic(f"{topic.name} belongs to the broker")
            configs = edit(topic.configs)
            topic_config.validate(configs)
            changes = _changes(topic.configs, configs)
            if validate_only or not changes:
                return
            command = ChangeConfig(topic_id, topic.config_revision, changes)
            applied = await self._metadata.propose(command)
            if not applied.refusal:
                return
            if applied.refusal == Refusal.TOO_MANY_CONFIGS:
                raise InvalidConfig(f"{topic.name} cannot have {len(configs)} configs")
        raise MetadataUnavailable("others change the configs of this topic all the time: ask again")

    async def delete(self, topic_id: bytes) -> None:
        """Raises UnknownTopicId, InvalidTopic for an internal topic, MetadataUnavailable."""
        topic = self._metadata.state.topics.get(topic_id)
        if topic is None:
            raise UnknownTopicId("no topic has this id")
        if topic.internal:
            raise InvalidTopic(f"{topic.name} belongs to the broker")
        applied = await self._metadata.propose(DeleteTopic(topic_id))
        if applied.refusal:
            raise UnknownTopicId(f"topic {topic.name} is gone: {applied.refusal}")


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    names = before.keys() | after.keys()
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}
