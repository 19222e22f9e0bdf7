"""Topics that this node has handed to another leader, and whose records it goes on sending there.

A Kafka client that is told of a new leader pauses before it goes there, most of them for 100 ms: a
planned rollover would cost its records that pause, though the cluster needs a few milliseconds. So
the old leader says nothing yet and sends on what it gets, until the client has asked for the
metadata by itself, as all do every few minutes. A client that brings much is told at once: for that
one, a long way costs more than a pause. So is everybody after the first record that the new leader
has not taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker.controller.router import Routed
from broker.errors import NotLeader, OutcomeUnknown
from broker.ports import Appended, Buffer, TopicView

KEPT_S: Final = 330.0
"""A little longer than the usual clients go without asking for the metadata."""

RATE_SIZE: Final = 1024 * 1024
"""Bytes per second that are sent on for one topic; as much may come at once."""

REQUEST_SIZE: Final = 1024
"""What a request counts beside its records."""

PATIENCE_S: Final = 2.0
"""How long the new leader may take for one batch."""

Route = Callable[[TopicView, float], Routed]
"""(topic, patience in seconds) → the partition wherever it is led; sends nothing twice."""


@dataclass(slots=True)
class _Topic:
    until: float
    """Monotonic seconds, as the next."""
    filled_at: float
    room_size: float = RATE_SIZE


class HandedOn:
    """By topic id. `is_in_touch` says whether this node hears what the cluster decides."""

    def __init__(
        self, *, monotonic: Callable[[], float], route: Route, is_in_touch: Callable[[], bool]
    ) -> None:
        self._monotonic = monotonic
        self._route = route
        self._is_in_touch = is_in_touch
        self._topics: dict[bytes, _Topic] = {}

    def add(self, topic_id: bytes) -> None:
        """By a planned rollover, just now."""
        now = self._monotonic()
        self._topics.pop(topic_id, None)
        self._topics[topic_id] = _Topic(now + KEPT_S, now)
        # The oldest are first. Nobody else forgets a topic whose clients never come again.
        while self._topics[oldest := next(iter(self._topics))].until < now:
            del self._topics[oldest]

    def forget(self, topic_id: bytes) -> None:
        """Whoever comes with its records is to be told where to go."""
        self._topics.pop(topic_id, None)

    async def append(
        self, topic: TopicView, batch: Buffer, *, acks: int
    ) -> tuple[Routed, Appended] | None:
        """A batch that has come here, to whoever leads its topic now: committed when this returns.
        None if its client is to bring it there itself. Raises what `Routed.append` raises."""
        topic_id = topic.topic_id.bytes
        if not self._takes(topic_id, len(batch) + REQUEST_SIZE):
            # For good: what a client sends after a batch that was refused must not overtake it.
            self.forget(topic_id)
            return None
        routed = self._route(topic, PATIENCE_S)
        try:
            return routed, await routed.append(batch, acks=acks)
        except (NotLeader, OutcomeUnknown):
            self.forget(topic_id)
            raise

    def _takes(self, topic_id: bytes, size: int) -> bool:
        found, now = self._topics.get(topic_id), self._monotonic()
        if found is None or now > found.until or not self._is_in_touch():
            return False
        found.room_size = min(RATE_SIZE, found.room_size + (now - found.filled_at) * RATE_SIZE)
        found.filled_at = now
        found.room_size -= size
        return found.room_size >= 0
