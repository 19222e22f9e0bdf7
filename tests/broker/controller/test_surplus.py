"""Copies that were made while a node was away: they go when they are told to, and not before it is
back with its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from broker.controller import placement
from broker.controller.surplus import Dropped
from raft.commands import AnyCommand, Applied
from raft.state import Segment, Topic
from tests.broker.cluster import Cluster, cluster
from tests.broker.one_node import read_all, values

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)


def topic(made: Cluster) -> Topic:
    found = made.raft.state.topic_named("t")
    assert found is not None
    return found


def holders(made: Cluster) -> list[set[int]]:
    return [{node for node, _ in segment.holders} for segment in topic(made).segments[:-1]]


def is_here(made: Cluster, node: int, segment: Segment) -> bool:
    log = made.network.nodes[node].store.log("t", topic(made).topic_id)
    return log.get(segment.sid) is not None


async def closed_segments(made: Cluster, count: int) -> dict[int, bytes]:
    """Closed one after the other; what they hold, by offset."""
    known = {}
    for number in range(count):
        known[await made.put(b"%d" % number)] = b"%d" % number
        partition = await made.leader()
        leader = made.broker(partition.metadata.last.writer).leading
        assert await leader.roll_in_place(partition, "the test")
    return known


@dataclass
class Grown:
    """A cluster in which a fourth node has copied what a replica held that is away."""

    made: Cluster
    replicas: set[int]
    spare: int
    away: int
    known: dict[int, bytes]


@asynccontextmanager
async def grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> AsyncIterator[Grown]:
    monkeypatch.setattr("broker.controller.housekeeping.AWAY_S", 0.0)
    monkeypatch.setattr("broker.controller.housekeeping.CHECK_S", 0.05)
    async with cluster(tmp_path, 4) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await closed_segments(made, count)
        replicas = set(topic(made).last.replicas)
        await until(lambda: all(held >= replicas for held in holders(made)))
        (spare,) = {1, 2, 3, 4} - replicas
        away = next(node for node in replicas if node != topic(made).last.writer)
        made.raft_leader = topic(made).last.writer
        made.kill(away)
        await until(lambda: all(spare in held for held in holders(made)))
        yield Grown(made, replicas, spare, away, known)


async def test_copies_for_a_node_that_is_back_go_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with grown(tmp_path, monkeypatch, 3) as at:
        made, replicas, spare, away, known = at.made, at.replicas, at.spare, at.away, at.known
        assert await made.broker(spare).drop_surplus() == Dropped(), "the third copies"

        await made.start(away)
        await until(lambda: not made.raft.state.brokers[away].fenced)
        closed = [one for one in topic(made).segments if away in one.replicas and one.holders]
        for node in replicas:
            assert await made.broker(node).drop_surplus() == Dropped(), "the ones that were meant"
        dropped = await made.broker(spare).drop_surplus()
        assert dropped.segments == len(closed) == 3
        assert dropped.size == sum(segment.size for segment in closed)
        assert not any(is_here(made, spare, segment) for segment in closed)
        assert all(
            replicas == {node for node, _ in one.holders} for one in closed_now(made, closed)
        )
        assert await made.broker(spare).drop_surplus() == Dropped()
        assert values(await read_all(await made.leader())) == list(known.values())

        made.kill(away)
        await until(lambda: all(spare in held for held in holders(made)[:3]))
        assert values(await read_all(await made.leader())) == list(known.values())


def closed_now(made: Cluster, before: list[Segment]) -> list[Segment]:
    now = [topic(made).segment(segment.sid) for segment in before]
    return [segment for segment in now if segment is not None]


async def test_a_copy_that_the_others_lose_just_then_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the command a holder dies: the metadata refuses, and the file stays."""
    async with grown(tmp_path, monkeypatch, 1) as at:
        made, spare = at.made, at.spare
        (segment,) = topic(made).segments[:1]
        monkeypatch.setattr(placement, "is_surplus", lambda *_: True)
        refused: list[Applied] = []
        metadata = made.broker(spare).controller._metadata
        propose = metadata.propose

        async def noted(command: AnyCommand) -> Applied:
            refused.append(await propose(command))
            return refused[-1]

        monkeypatch.setattr(metadata, "propose", noted)
        assert await made.broker(spare).drop_surplus() == Dropped()
        assert "too few holders" in [str(one.refusal) for one in refused]
        assert is_here(made, spare, segment)
