"""The metadata: is each command that is applied one that the specification allows there?

A topic is a chain of segments, and this is about its links: how they open, are to be sealed, and
end, who holds what has ended, and what may be lost of it once an operator has said so.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from raft import machine as raft_machine
from raft.commands import Applied, Envelope
from raft.invariants import InvariantViolated, check_invariants
from raft.state import ClusterState, Segment, SegmentState, Topic
from tests.sim.cluster.model import Key
from tests.sim.cluster.watch.facts import Facts, Steps, majority, name_of

Holders = tuple[tuple[int, bytes], ...]
"""Nodes and their disks."""


class Losing(Protocol):
    """See `losses.Losses`."""

    def given_up(self, key: Key) -> Iterator[bytes]: ...
    def ended(self, key: Key, end_offset: int) -> None: ...


class Chains:
    """All topics' chains."""

    def __init__(self, facts: Facts, losses: Losing) -> None:
        self._facts = facts
        self._model = facts.model
        self._violated = facts.violated
        self._losses = losses
        self._possible: dict[bytes, int] = {}
        """Topic id → how many replicas its last segment could have had when it was opened."""

    def steps(self) -> Steps:
        return ((raft_machine, "apply", self._watch_apply),)

    def _watch_apply(self, apply: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(
            state: ClusterState, index: int, envelope: Envelope
        ) -> tuple[ClusterState, Applied]:
            after, answer = apply(state, index, envelope)
            if after.revision > self._facts.state.revision:
                before, self._facts.state = self._facts.state, after
                self._applied(before, after)
            return after, answer

        return wrapped

    def _applied(self, before: ClusterState, after: ClusterState) -> None:
        """DomainConsistency, OnlyLastIsOpen, Contiguous, SealedCountsStable, and those below."""
        try:
            check_invariants(after, before if before.revision else None)
        except InvariantViolated as error:
            self._violated(f"metadata: {error}")
        self._note_new_disks(before, after)
        for topic_id, topic in after.topics.items():
            old = before.topics.get(topic_id)
            if topic is not old:
                self._facts.topics[topic_id] = topic
                self._changed(old, topic)

    def _note_new_disks(self, before: ClusterState, after: ClusterState) -> None:
        """`Restart` with a new disk: it is `void` for the segments that have not ended."""
        for node, broker in after.brokers.items():
            old = before.brokers.get(node)
            if old is not None and old.disk != broker.disk:
                for topic_id, topic in after.topics.items():
                    if node in topic.last.replicas:
                        self._model.void[broker.disk, (topic_id, topic.last.sid)] = topic.epoch

    def _changed(self, old: Topic | None, topic: Topic) -> None:
        last = topic.last
        for segment in topic.segments:
            before = self._model.segments.get((topic.topic_id, segment.sid))
            self._model.segments[topic.topic_id, segment.sid] = segment
            if segment is not before and not topic.is_emptied(segment):
                self._check_holders(topic, segment, () if before is None else before.holders)
        if old is None or old.last.sid != last.sid:
            self._opened(topic)
        if old is not None and old.last.sid != last.sid:
            self._ended(old.last, topic)
        if last.state is SegmentState.SEALING:
            key = (topic.topic_id, last.sid)
            with self._facts.step(key):
                self._model.begin_seal(key, last.seal_epoch, last.recoverer)

    def _opened(self, topic: Topic) -> None:
        """OpenedForRegistered."""
        last = topic.last
        broker = self._facts.state.brokers.get(last.writer)
        if broker is None or broker.incarnation != last.writer_incarnation:
            self._violated(f"{name_of(topic, last.sid)} was opened for a process that is not there")
        brokers = self._facts.state.brokers
        possible = min(topic.replication_factor, sum(not each.leaving for each in brokers.values()))
        # Who proposed it may not have known yet of a node that has just joined.
        known = min(possible, self._possible.get(topic.topic_id, 1))
        self._possible[topic.topic_id] = possible
        if len(last.replicas) < known // 2 + 1:
            self._violated(f"{name_of(topic, last.sid)} was opened on {last.replicas} alone")
        self._facts.disks_at_first[topic.topic_id, last.sid] = {
            node: brokers[node].disk for node in last.replicas if node in brokers
        }

    def _ended(self, was: Segment, topic: Topic) -> None:
        """`ApplyRoll`, `CommitSeal`; ExactSeal, NoAckBeyondSeal, SealedInTurn, SealedIsDurable."""
        key, model = (topic.topic_id, was.sid), self._model
        segment = topic.segment(was.sid)
        end = was.base_offset if segment is None else segment.end_offset
        at = f"{name_of(topic, was.sid)} ended at {end}"
        if was.accepts_loss:
            self._check_loss(key, end, at)
            self._losses.ended(key, end)
        elif model.acked.get(key, 0) > end:
            self._violated(f"{at}, was acknowledged to {model.acked[key]}")
        with self._facts.step(key):
            if was.state is SegmentState.SEALING:
                holders = () if segment is None else segment.holders
                model.commit_seal(key, was.seal_epoch, end, self._there(holders))
            else:
                model.apply_roll(key, end)
        model.ends[key] = end
        if segment is None:
            return
        if end not in {next_offset for next_offset, _ in model.frames.get(key, {}).values()}:
            self._violated(f"{at}, where nobody ever wrote")
        if len(segment.holders) < majority(segment):
            self._violated(f"{at} with holders {segment.holders}")

    def _check_loss(self, key: Key, end: int, at: str) -> None:
        """An operator has given up some disks: what is on any other is kept."""
        given_up = set(self._losses.given_up(key))
        for node, disk in self._facts.disks_at_first.get(key, {}).items():
            is_there = self._facts.disk(node) == disk and disk not in given_up
            if is_there and (durable := self._facts.durable_end(node, key)) > end:
                self._violated(f"{at}, and node {node}, which is there, is durable to {durable}")
        if not given_up:
            self._violated(f"{at} with a loss that nobody had to accept")

    def _check_holders(self, topic: Topic, segment: Segment, before: Holders) -> None:
        """Whoever becomes a holder has all of it, and would have it after a power cut."""
        key, end = (topic.topic_id, segment.sid), segment.end_offset
        for node, disk in self._there(tuple(set(segment.holders) - set(before))).items():
            if (disk, key) in self._facts.harmed:
                continue  # What was said of it before was true.
            if (durable := self._facts.durable_end(node, key)) < end:
                at = f"{name_of(topic, segment.sid)}, which ended at {end}"
                self._violated(f"node {node} is a holder of {at}, and is durable to {durable}")

    def _there(self, holders: Holders) -> dict[int, bytes]:
        """Who is named with a disk that is gone by now said the truth: the loss came after it."""
        return {node: disk for node, disk in holders if self._facts.disk(node) == disk}
