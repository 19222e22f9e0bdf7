"""What every command writes to: the next state, all of it or nothing (pure)."""

from typing import Any

import msgspec

from raft.commands import Applied, Uuid
from raft.state import Broker, ClusterState, Refusal, Topic

NUMBER_MAX = 2**62
"""Bound of every offset, size and id that a client hands in: what is stored must always fit a
signed 64-bit field."""


class Refused(Exception):
    """The command changes nothing, and this is why."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


def require(holds: bool, refusal: Refusal) -> None:
    """Raises Refused."""
    if not holds:
        raise Refused(refusal)


class Draft:
    """The next state while one command writes to it. Remembers what was written, for the trail."""

    def __init__(self, state: ClusterState, index: int) -> None:
        self.state = state
        self.index = index
        self.written: list[object] = []

    def set(self, **fields: Any) -> None:
        """Fields of `ClusterState`. Topics and brokers go through the two below."""
        self.state = msgspec.structs.replace(self.state, **fields)

    def put_topic(self, topic: Topic) -> None:
        """Note it with the segments that are new or changed: a chain may be long, and most of it
        never changes again."""
        before = self.state.topics.get(topic.topic_id)
        old = set() if before is None else {id(segment) for segment in before.segments}
        fresh = tuple(segment for segment in topic.segments if id(segment) not in old)
        self.written.append((msgspec.structs.replace(topic, segments=fresh), len(topic.segments)))
        self.set(topics=self.state.topics.set(topic.topic_id, topic))

    def put_broker(self, broker: Broker) -> None:
        self.written.append(broker)
        self.set(brokers=self.state.brokers.set(broker.node, broker))

    def remove_broker(self, node: int) -> None:
        self.written.append(node)
        self.set(brokers=self.state.brokers.remove(node))

    def topic(self, topic_id: Uuid) -> Topic:
        """Raises Refused."""
        topic = self.state.topics.get(topic_id)
        if topic is None:
            raise Refused(Refusal.UNKNOWN_TOPIC)
        return topic

    def applied(self, value: int = 0, *items: tuple[Uuid, int, int]) -> Applied:
        """The answer of a command that was carried out."""
        return Applied(refusal="", revision=self.index, value=value, items=items)
