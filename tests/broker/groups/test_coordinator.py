"""Groups and their offsets through kills, rollovers and deleted topics: nothing goes back."""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from broker.controller.partition import LocalPartition
from broker.errors import InvalidRequest, InvalidTopic, Loading, NotLeader, RequestError
from broker.groups.coordinator import GroupConfig
from broker.groups.messages import GroupRefused, Join, JoinAnswer, Refusal, Ticket, Who
from broker.groups.records import OffsetValue
from broker.groups.state_log import StateLog
from broker.groups.states import GroupLimits, State
from tests.broker.groups.support import (
    FAST,
    RealClock,
    commit,
    commit_as,
    commit_now,
    join,
    position,
    stable,
)
from tests.broker.one_node import OneNode, put, running


async def test_a_group_that_never_committed_has_no_position_and_makes_no_topic(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as node:
        assert await position(node, "g") is None
        assert [topic.name for topic in node.controller.topics()] == ["t"]


@pytest.mark.parametrize("seed", range(8))
async def test_commits_survive_power_cuts(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    disk = None
    committed: dict[str, int] = {}
    for _ in range(4):
        async with running(tmp_path, disk, entries_max=9, monitor_interval_ms=10) as node:
            for group, offset in committed.items():
                assert await position(node, group) == offset, f"seed {seed}"
            for _ in range(rng.randrange(30)):
                group = f"group-{rng.randrange(6)}"
                committed[group] = committed.get(group, 0) + 1
                await rng.choice([commit, commit_now])(node, group, committed[group])
            disk = node.backend.crash_clone("random", rng)


@pytest.mark.parametrize("commit_next", [commit, commit_now])
async def test_rollovers_carry_the_state_and_free_the_old_segments(
    tmp_path: Path, commit_next: Callable[[OneNode, str, int], Awaitable[None]]
) -> None:
    async with running(tmp_path, entries_max=5, monitor_interval_ms=10) as node:
        await commit(node, "early", 42)
        for offset in range(1, 60):
            await commit_next(node, "g", offset)
            await anyio.sleep(0.002)
        shards = [topic for topic in node.controller.topics() if topic.is_internal]
        busiest = max(shards, key=lambda topic: topic.log_start_offset)
        assert busiest.log_start_offset > 20
        assert len(busiest.segments) <= 3
        disk = node.backend.kill_clone()
    async with running(tmp_path, disk) as node:
        assert await position(node, "g") == 59
        assert await position(node, "early") == 42


async def test_a_topic_created_anew_starts_without_the_old_ones_position(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await commit(node, "g", 7)
        await node.controller.delete_topic((await node.topic()).topic.topic_id)
        await put(await node.topic(), b"x")
        assert await position(node, "g") is None


async def test_clients_can_neither_create_nor_delete_what_belongs_to_the_broker(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as node:
        await commit(node, "g", 7)
        internal = next(topic for topic in node.controller.topics() if topic.is_internal)
        with pytest.raises(InvalidTopic):
            await node.controller.delete_topic(internal.topic_id)
        with pytest.raises(InvalidTopic):
            await node.controller.create_topic("__consumer_offsets_99", configs={})


async def test_absurd_commit_metadata_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        topic_id = (await node.topic()).topic.topic_id
        with pytest.raises(InvalidRequest):
            await node.groups.commit("g", topic_id, 1, "x" * 5000)


async def test_members_that_lose_their_place_when_the_coordinator_restarts(tmp_path: Path) -> None:
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        joined = await stable(node, "g")
        await commit_as(node, "g", joined, 5)
        disk = node.backend.crash_clone("none")
    async with running(tmp_path, disk, clock=RealClock(), groups=FAST) as node:
        who = Who(joined.member_id)
        assert await node.groups.heartbeat("g", who, joined.generation) is None
        found = await node.groups.describe("g")
        assert (found.state, found.protocol) == (State.STABLE, "range")
        assert [one.assignment for one in found.members] == [b"everything"]
        await commit_as(node, "g", joined, 6)
        assert await position(node, "g") == 6
        assert await node.groups.heartbeat("g", who, joined.generation + 1) is (
            Refusal.ILLEGAL_GENERATION
        )


async def test_a_member_that_died_with_the_coordinator_goes_when_its_session_ends(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        await stable(node, "g", session_ms=300)
        disk = node.backend.kill_clone()
    async with running(tmp_path, disk, clock=RealClock(), groups=FAST) as node:
        assert len((await node.groups.describe("g")).members) == 1
        with anyio.fail_after(10):
            while (await node.groups.describe("g")).state is not State.EMPTY:
                await anyio.sleep(0.01)


async def test_who_waits_for_a_rebalance_when_the_shard_moves(tmp_path: Path) -> None:
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        first = await stable(node, "g")
        answers: list[JoinAnswer] = []

        async def second() -> None:
            answers.append(await join(node, "g"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second)
            with anyio.fail_after(10):
                while await node.groups.heartbeat("g", Who(first.member_id), 1) is None:
                    await anyio.sleep(0.01)
            (shard,) = [t for t in node.controller.topics() if t.is_internal]
            node.controller.partition(shard).close(NotLeader("deposed"))
        assert [answer.refusal for answer in answers] == [Refusal.MOVED]
        with pytest.raises(NotLeader):
            await node.groups.heartbeat("g", Who(first.member_id), 1)
        with pytest.raises(NotLeader):
            await node.groups.offsets("g")
        assert await node.groups.list_groups() == [], "only those that this node coordinates"


async def test_a_mistake_of_ours_in_a_timer_costs_one_shard_and_not_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        joined = await stable(node, "g", session_ms=5_000)

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError("a mistake of ours")

        monkeypatch.setattr("broker.groups.group.Group.tick", broken)
        with capture_logs() as logs, anyio.fail_after(10):
            answer = await join(node, "g", session_ms=1)  # its session makes a timer fire
        assert answer.refusal is Refusal.MOVED
        assert [line["event"] for line in logs] == ["a group failed"]
        monkeypatch.undo()
        assert await node.groups.heartbeat("g", Who(joined.member_id), 1) is None


async def test_a_shard_read_back_before_its_last_append_has_landed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The append is acknowledged when it lands, so the new state must know it."""
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        await commit(node, "g", 1)
        append, gate = LocalPartition.append, anyio.Event()

        async def parked(*arguments: Any, **options: Any) -> Any:
            await gate.wait()
            return await append(*arguments, **options)

        monkeypatch.setattr(LocalPartition, "append", parked)
        topic_id = (await node.topic()).topic.topic_id
        durable = await node.groups.commit("g", topic_id, 2)
        await anyio.wait_all_tasks_blocked()
        (shard,) = node.groups._shards
        shard.close()
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                assert await position(node, "g") == 2

            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            gate.set()
            await durable()


async def test_a_stop_that_waits_for_a_rebalance(tmp_path: Path) -> None:
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        await stable(node, "g")
        async with anyio.create_task_group() as tasks:

            async def second() -> None:
                assert (await join(node, "g")).refusal is Refusal.MOVED

            tasks.start_soon(second)
            await anyio.sleep(0.05)
            node.groups.release()
        with pytest.raises(NotLeader):
            await join(node, "g")


async def test_requests_that_are_answered_before_the_shard_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COORDINATOR_LOAD_IN_PROGRESS, and never "no such member" or "nothing committed"."""
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        joined = await stable(node, "g")
        await commit_as(node, "g", joined, 5)
        disk = node.backend.kill_clone()
    load, gate = StateLog.load, anyio.Event()

    async def slow(*arguments: Any) -> StateLog:
        await gate.wait()
        return await load(*arguments)

    monkeypatch.setattr(StateLog, "load", slow)
    monkeypatch.setattr("broker.groups.shards.LOAD_WAIT_S", 0.01)
    async with running(tmp_path, disk, clock=RealClock(), groups=FAST) as node:
        for ask in (
            lambda: node.groups.heartbeat("g", Who(joined.member_id), 1),
            lambda: node.groups.offsets("g"),
            lambda: node.groups.describe("g"),
            lambda: node.groups.leave("g", [Who(joined.member_id)]),
            lambda: node.groups.list_groups(),
            lambda: join(node, "g", joined.member_id),
            lambda: commit_as(node, "g", joined, 6),
            lambda: position(node, "g"),
        ):
            with pytest.raises(Loading):
                await ask()
        gate.set()
        with anyio.fail_after(10):
            while True:
                try:
                    assert await position(node, "g") == 5
                    break
                except Loading:
                    await anyio.sleep(0.01)


async def test_a_group_whose_disk_refuses_is_answered_and_loaded_anew(tmp_path: Path) -> None:
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        joined = await stable(node, "g")
        await commit_as(node, "g", joined, 5)
        node.backend.fail_next("sync", OSError("the disk is gone"))
        with pytest.raises(RequestError):
            await commit_as(node, "g", joined, 6)


async def test_a_commit_by_hand_under_the_members_feet(tmp_path: Path) -> None:
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        joined = await stable(node, "g")
        with pytest.raises(InvalidRequest, match="it has members"):
            await commit(node, "g", 1)
        assert await position(node, "g") is None
        assert await node.groups.leave("g", [Who(joined.member_id)]) == [None]
        await commit(node, "g", 1)
        with pytest.raises(GroupRefused) as refused:
            await commit_as(node, "unheard", joined, 1)
        assert refused.value.refusal is Refusal.ILLEGAL_GENERATION


async def test_an_offset_that_is_told_and_then_lost(tmp_path: Path) -> None:
    """OffsetFetch waits for what it saw to be durable."""
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        await commit(node, "g", 1)
        topic_id = (await node.topic()).topic.topic_id
        value = OffsetValue(2, -1, "", 0)
        await node.groups.commit_offsets("g", Who(""), -1, {topic_id: value})
        found, durable = await node.groups.offsets("g")
        assert found[topic_id].offset == 2
        await durable()
        disk = node.backend.crash_clone("none")
    async with running(tmp_path, disk, clock=RealClock(), groups=FAST) as node:
        assert await position(node, "g") == 2


async def test_a_deleted_group_that_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        joined = await stable(node, "g")
        await commit_as(node, "g", joined, 5)
        with pytest.raises(GroupRefused) as refused:
            await node.groups.delete_group("g")
        assert refused.value.refusal is Refusal.NOT_EMPTY
        await node.groups.leave("g", [Who(joined.member_id)])
        await (await node.groups.delete_group("g"))()
        disk = node.backend.crash_clone("none")
        with pytest.raises(GroupRefused):
            await node.groups.delete_group("g")
    async with running(tmp_path, disk, clock=RealClock(), groups=FAST) as node:
        assert await node.groups.list_groups() == []
        assert await position(node, "g") is None


async def test_offsets_deleted_while_a_member_reads_them(tmp_path: Path) -> None:
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        joined = await stable(node, "g")
        await commit_as(node, "g", joined, 5)
        topics = {"t": (await node.topic()).topic.topic_id}
        refusals, _ = await node.groups.delete_offsets("g", topics)
        assert refusals == {"t": Refusal.SUBSCRIBED}
        await node.groups.leave("g", [Who(joined.member_id)])
        refusals, durable = await node.groups.delete_offsets("g", topics)
        assert refusals == {"t": None}
        await durable()
        assert await position(node, "g") is None
        with pytest.raises(GroupRefused):
            await node.groups.delete_offsets("unheard", topics)


async def test_ten_thousand_groups_by_name_only(tmp_path: Path) -> None:
    """Ids that are given out and never used leave nothing behind."""
    limits = GroupConfig(limits=GroupLimits(session_ms_min=1, initial_delay_ms=0), groups_max=100)
    async with running(tmp_path, clock=RealClock(), groups=limits) as node:

        def event(fresh_id: str, ticket: Ticket) -> Join:
            return Join(
                ticket=ticket, member_id="", fresh_id=fresh_id, session_ms=2000, rebalance_ms=2000,
                protocol_type="consumer", protocols=(("range", b""),), must_know_its_id=True,
            )  # fmt: skip

        answers = [
            await (await node.groups.join(f"g{number}", event)).answer() for number in range(110)
        ]
        refusals = [answer.refusal for answer in answers]
        assert refusals.count(Refusal.MEMBER_ID_REQUIRED) == 100
        assert refusals.count(Refusal.GROUP_FULL) == 10
        with pytest.raises(InvalidRequest):
            await commit(node, "another", 1)
        with anyio.fail_after(60):
            while await node.groups.list_groups():
                await anyio.sleep(0.01)
        await commit(node, "another", 1)
