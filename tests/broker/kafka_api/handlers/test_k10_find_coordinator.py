"""FindCoordinator: whom to ask, and what the answer to a hopeless question must be."""

from typing import Any

import anyio
import pytest

from broker.kafka_api.handlers import k10_find_coordinator
from tests.broker.kafka_api.group_layouts import FIND_COORDINATOR
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import NOT_AVAILABLE, OK

TRANSACTIONAL_ID_AUTHORIZATION_FAILED, INVALID_REQUEST = 53, 42


async def ask(node: Node, version: int, key: str = "g", kind: int = 0) -> dict[str, Any]:
    values: dict[str, Any] = {"key": key} if version < 4 else {"keys": [key]}
    if version >= 1:
        values["type"] = kind
    answer = await node.connect().ask(FIND_COORDINATOR, version, **values)
    if version < 4:
        return answer
    (found,) = answer["coordinators"]
    assert found["key"] == key
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("version", range(7))
async def test_the_leader_of_the_shard_at_the_address_of_the_listener(
    node: Node, version: int
) -> None:
    found = await ask(node, version)
    assert (found["error"], found["node_id"]) == (OK, 1)
    assert (found["host"], found["port"]) == ("127.0.0.1", 9092)


async def test_many_keys_each_with_its_answer(node: Node) -> None:
    keys = [f"group {number}" for number in range(50)]
    answer = await node.connect().ask(FIND_COORDINATOR, 6, keys=keys)
    assert [one["key"] for one in answer["coordinators"]] == keys
    shards = [name for name in node.controller.partitions if name.startswith("__consumer_offsets_")]
    assert len(shards) == 8


@pytest.mark.parametrize("version", range(7))
async def test_nobody_leads_the_shard(
    node: Node, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k10_find_coordinator, "LEADER_WAIT_S", 0.05)
    await ask(node, version)
    node.depose("__consumer_offsets", leader_id=-1)
    found = await ask(node, version)
    assert (found["error"], found["node_id"]) == (NOT_AVAILABLE, -1)


async def test_a_question_in_the_middle_of_a_failover_is_answered_with_the_new_coordinator(
    node: Node,
) -> None:
    """Whoever is told that there is none may not ask again for long."""
    await ask(node, 6)
    node.depose("__consumer_offsets", leader_id=-1)
    connection = node.connect()
    asked = await connection.send(FIND_COORDINATOR, 6, keys=["g"], type=0)
    with anyio.move_on_after(0.1):
        await asked.answer()
        pytest.fail("it was answered while nobody led")
    again = await connection.send(FIND_COORDINATOR, 6, keys=["g"], type=0)
    node.depose("__consumer_offsets", leader_id=2)
    (found,) = (await again.answer())["coordinators"]
    assert (found["error"], found["node_id"]) == (OK, 2)


async def test_nobody_is_sent_to_a_coordinator_that_has_just_died(node: Node) -> None:
    """librdkafka would wait for it for ever, once the metadata does not name it any more."""
    await ask(node, 6)
    node.depose("__consumer_offsets", leader_id=2)
    node.controller.silent = {2}
    asked = await node.connect().send(FIND_COORDINATOR, 6, keys=["g"], type=0)
    with anyio.move_on_after(0.1):
        await asked.answer()
        pytest.fail("it was answered with a node that does not answer")
    again = await node.connect().send(FIND_COORDINATOR, 6, keys=["g"], type=0)
    node.depose("__consumer_offsets", leader_id=1)
    (found,) = (await again.answer())["coordinators"]
    assert (found["error"], found["node_id"]) == (OK, 1)


async def test_a_coordinator_that_this_node_alone_cannot_reach_is_named_in_the_end(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(k10_find_coordinator, "LEADER_WAIT_S", 0.05)
    await ask(node, 6)
    node.depose("__consumer_offsets", leader_id=2)
    node.controller.silent = {2}
    found = await ask(node, 6)
    assert (found["error"], found["node_id"]) == (OK, 2)


async def test_a_node_that_stops_keeps_nobody_waiting_for_a_coordinator(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections would be cut in the midst of it, at the end of the grace."""
    monkeypatch.setattr(k10_find_coordinator, "LEADER_WAIT_S", 3600)
    await ask(node, 6)
    node.depose("__consumer_offsets", leader_id=-1)
    answers: list[dict[str, Any]] = []

    async def finish() -> None:
        answers.append(await ask(node, 6))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish)
            await anyio.wait_all_tasks_blocked()
            assert not answers
            node.stopping.set()
    assert answers[0]["error"] == NOT_AVAILABLE


async def test_another_node_leads_the_shard(node: Node) -> None:
    await ask(node, 6)
    node.depose("__consumer_offsets", leader_id=2)
    found = await ask(node, 6)
    assert (found["error"], found["node_id"], found["host"]) == (OK, 2, "127.0.0.2")


@pytest.mark.parametrize("version", range(1, 7))
async def test_a_transactional_id_is_refused_so_that_nobody_retries(
    node: Node, version: int
) -> None:
    """librdkafka retries every other number until its timeout."""
    found = await ask(node, version, "t", kind=1)
    assert found["error"] == TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert "transactions" in found["error_message"]


@pytest.mark.parametrize("kind", [2, 3, -1])
async def test_other_kinds_of_coordinators(node: Node, kind: int) -> None:
    assert (await ask(node, 6, kind=kind))["error"] == INVALID_REQUEST
