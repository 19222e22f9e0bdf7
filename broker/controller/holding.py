"""Which segments this node holds a copy of, and whom it follows for them: from the metadata alone.

A node opens a copy of every segment that names it among its replicas, and follows the segment's
writer while the segment is open. The bytes of a copy come from its writer (our own bucket, or the
follow stream); closing and completing it is `housekeeping`.
"""

from broker.replication.copies import Copies, LocalCopy
from broker.replication.follow import Followers, Following
from broker.replication.store import Store
from engine.producer_state import ProducerState
from raft.state import EMPTY, ClusterState, Segment, SegmentState, Topic


class Holding:
    """One node's copies. `on_change` is a metadata listener; `begin` starts it."""

    def __init__(self, *, node: int, store: Store, copies: Copies, followers: Followers) -> None:
        self._node = node
        self._store = store
        self._copies = copies
        self._followers = followers
        self._is_begun = False
        self._state = EMPTY
        self._followed: dict[bytes, tuple[int, int]] = {}
        """Topic id → (sid, writer) of the open segment that is followed."""

    def begin(self, state: ClusterState) -> None:
        """What was stored has been read back: take part from here on."""
        self._is_begun = True
        self._state = state
        for topic in state.topics.values():
            self._sync(topic)

    def on_change(self, before: ClusterState, after: ClusterState) -> None:
        self._state = after
        if not self._is_begun:
            return
        for topic_id in after.topics.changed_since(before.topics):
            topic = after.topics.get(topic_id)
            if topic is not None:
                self._sync(topic)
                continue
            if topic_id in self._followed:
                self._unfollow(topic_id)
            self._copies.forget_topic(topic_id)

    def resume(self, topic_id: bytes) -> None:
        """A copy of this topic that had failed was read back: go on from where it ends."""
        if topic_id in self._followed:
            self._unfollow(topic_id)
        topic = self._state.topics.get(topic_id)
        if topic is not None:
            self._sync(topic)

    def _sync(self, topic: Topic) -> None:
        last = topic.segments[-1]
        copy = self._copies.get(topic.topic_id, last.sid)
        if copy is None and self._node in last.replicas:
            copy = self._open(topic, last)
        followed = (last.sid, last.writer)
        is_follower = (
            copy is not None and last.state is SegmentState.OPEN and last.writer != self._node
        )
        if topic.topic_id in self._followed and (
            not is_follower or self._followed[topic.topic_id] != followed
        ):
            self._unfollow(topic.topic_id)
        if is_follower and topic.topic_id not in self._followed:
            assert copy is not None
            self._followed[topic.topic_id] = followed
            self._followers.follow(
                last.writer, Following(topic.topic_id, last.sid, last.epoch, copy)
            )

    def ensure(self, topic_id: bytes, sid: int) -> LocalCopy | None:
        """A copy of an unsealed segment, also where this node is no replica of it: a recoverer may
        need one more holder. None if the metadata knows no such segment here yet, or the disk has
        not been read back."""
        copy = self._copies.get(topic_id, sid)
        topic = self._state.topics.get(topic_id)
        if copy is None and topic is not None and self._is_begun:
            segment = topic.segment(sid)
            if segment is not None and segment.state is not SegmentState.SEALED:
                copy = self._open(topic, segment)
        return copy

    def _open(self, topic: Topic, last: Segment) -> LocalCopy:
        return self._copies.open(
            self._store.log(topic.name, topic.topic_id),
            topic.topic_id,
            sid=last.sid,
            base_offset=last.base_offset,
            epoch=last.epoch,
            window=self._window(topic),
        )

    def _window(self, topic: Topic) -> ProducerState | None:
        """The window as of the base of the last segment, if this node knows it at once.

        It does when it holds all of the segment before, and nothing more. Whoever needs it and does
        not have it reads it back (`windows.py`). It goes with the last segment, and is never given
        out twice: that one may end without what it has counted by then.
        """
        if len(topic.segments) == 1 and topic.segments[0].base_offset == 0:
            return ProducerState()
        for before in reversed(topic.segments[:-1]):
            copy = self._copies.get(topic.topic_id, before.sid)
            if copy is None or copy.segment.end_offset != before.end_offset:
                return None
            window, copy.window = copy.window, None
            return window
        return None

    def _unfollow(self, topic_id: bytes) -> None:
        sid, writer = self._followed.pop(topic_id)
        self._followers.unfollow(writer, topic_id, sid)
