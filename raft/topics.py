"""Commands about topics as such: their names, configs and log starts (pure)."""

from collections.abc import Iterable, Mapping

import msgspec

from raft import segments
from raft.commands import Applied, ChangeConfig, CreateTopic, DeletePrefix, DeleteTopic
from raft.draft import Draft, require
from raft.segments import REPLICAS_MAX
from raft.state import EPOCH_FIRST, SID_FIRST, TOMBSTONES_MAX, Refusal, Topic

NAME_SIZE_MAX = 249
"""Kafka's limit for topic names."""
CONFIGS_MAX = 128
"""Configs set for one topic; Kafka knows about forty."""
CONFIGS_SIZE_MAX = 32 * 1024
"""Characters of keys and values together."""

_replace = msgspec.structs.replace


def create_topic(draft: Draft, command: CreateTopic) -> Applied:
    """Creating the same topic, by its id, again is fine."""
    require(
        len(command.topic_id) == 16 and 0 < len(command.name) <= NAME_SIZE_MAX, Refusal.BAD_COMMAND
    )
    require(1 <= command.replication_factor <= REPLICAS_MAX, Refusal.BAD_COMMAND)
    _check_configs(command.configs)
    require(command.topic_id not in draft.state.deleted_topics, Refusal.TOPIC_DELETED)
    taken_by = draft.state.names.get(command.name)
    if taken_by == command.topic_id:
        topic = draft.state.topics[taken_by]
        return draft.applied(topic.epoch, (topic.topic_id, topic.last.sid, topic.epoch))
    require(taken_by is None and command.topic_id not in draft.state.topics, Refusal.TOPIC_EXISTS)
    collides = command.unlike_others and alike(command.name, draft.state.names) is not None
    require(not collides, Refusal.NAME_COLLIDES)
    segments.check_next(draft.state, command.next)
    topic = Topic(
        topic_id=command.topic_id,
        name=command.name,
        configs=command.configs,
        config_revision=0,
        replication_factor=command.replication_factor,
        internal=command.internal,
        pinned=command.pinned,
        epoch=EPOCH_FIRST,
        next_sid=SID_FIRST + 1,
        log_start_offset=0,
        segments=(segments.opened(SID_FIRST, EPOCH_FIRST, 0, command.next),),
        deleted_up_to_sid=0,
        created_revision=draft.index,
    )
    draft.set(names=draft.state.names.set(topic.name, topic.topic_id))
    draft.put_topic(topic)
    return draft.applied(topic.epoch, (topic.topic_id, SID_FIRST, topic.epoch))


def alike(name: str, others: Iterable[str]) -> str | None:
    """Which of the `others` differs from `name` by '.' and '_' only: Kafka's metrics cannot tell
    these apart, and Kafka takes no such pair."""
    unified, size = name.replace(".", "_"), len(name)
    if "_" not in unified:
        return None
    for other in others:
        if len(other) == size and other.replace(".", "_") == unified and other != name:
            return other
    return None


def delete_topic(draft: Draft, command: DeleteTopic) -> Applied:
    """Deleting what is already deleted is fine: that is what the sender wanted."""
    if command.topic_id in draft.state.deleted_topics:
        return draft.applied()
    topic = draft.topic(command.topic_id)
    tombstones = {**draft.state.deleted_topics, topic.topic_id: topic.name}
    if len(tombstones) > TOMBSTONES_MAX:
        del tombstones[next(iter(tombstones))]
    draft.set(
        topics=draft.state.topics.remove(topic.topic_id),
        names=draft.state.names.remove(topic.name),
        deleted_topics=tombstones,
    )
    return draft.applied()


def change_config(draft: Draft, command: ChangeConfig) -> Applied:
    """None as a value takes the key away."""
    topic = draft.topic(command.topic_id)
    require(topic.config_revision == command.expect_revision, Refusal.STALE_REVISION)
    changed: dict[str, str | None] = {**topic.configs, **command.changes}
    configs = {key: value for key, value in changed.items() if value is not None}
    _check_configs(configs)
    topic = _replace(topic, configs=configs, config_revision=topic.config_revision + 1)
    draft.put_topic(topic)
    return draft.applied(topic.config_revision)


def _check_configs(configs: Mapping[str, str]) -> None:
    size = sum(len(key) + len(value) for key, value in configs.items())
    require(len(configs) <= CONFIGS_MAX and size <= CONFIGS_SIZE_MAX, Refusal.TOO_MANY_CONFIGS)


def delete_prefix(draft: Draft, command: DeletePrefix) -> Applied:
    """The open segment never leaves: the log start stops at its base. A start that is already past
    is no news. If every other one is to go, the newest stays, emptied: the open one may have no
    header yet, and what is known of the producers would be nowhere."""
    topic = draft.topic(command.topic_id)
    log_start_offset = max(
        topic.log_start_offset, min(command.log_start_offset, topic.last.base_offset)
    )
    sealed = topic.segments[:-1]
    below = [segment.sid for segment in sealed if segment.end_offset <= log_start_offset]
    gone = below[:-1] if len(below) == len(sealed) else below
    if log_start_offset != topic.log_start_offset or gone:
        draft.put_topic(
            _replace(
                topic,
                log_start_offset=log_start_offset,
                segments=topic.segments[len(gone) :],
                deleted_up_to_sid=max(topic.deleted_up_to_sid, *gone)
                if gone
                else topic.deleted_up_to_sid,
            )
        )
    return draft.applied(log_start_offset)
