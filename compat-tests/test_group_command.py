"""`walrus group`, and what the metrics say of groups, while real consumers live in them."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.groups import ConfluentMember, create, positions, until, write
from harness.server import Server
from tests.cluster.processes import Cluster
from tests.node_process import WALRUS

pytestmark = [pytest.mark.confluent]


def walrus_group(kafka: str, *arguments: str, code: int = 0) -> str:
    """What it says: its output, or its complaint where it is to fail."""
    done = subprocess.run(
        [WALRUS, "group", "--addr", kafka, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stderr if code else done.stdout


def as_json(kafka: str, *arguments: str) -> Any:
    return json.loads(walrus_group(kafka, *arguments, "--json"))


@pytest.fixture
def topics(server: Server, topic: str) -> list[str]:
    names = [f"{topic}-{number}" for number in range(2)]
    create(server.kafka, *names)
    write(server.kafka, names, ["a", "b", "c"])
    return names


@pytest.fixture
def member(server: Server, topic: str, topics: list[str]) -> Iterator[ConfluentMember]:
    """It has read and committed everything."""
    one = ConfluentMember(server.kafka, topic, topics, client_id="reader")
    try:
        until(lambda: one.committed == dict.fromkeys(topics, 3), "all is committed")
        yield one
    finally:
        one.close()


def test_lag_that_nobody_sees(
    server: Server, topic: str, topics: list[str], member: ConfluentMember
) -> None:
    kafka = server.kafka
    assert {"group": topic, "state": "Stable", "protocol_type": "consumer", "coordinator": 1} in (
        as_json(kafka, "list")
    )
    found = as_json(kafka, "describe", topic)
    assert (found["state"], found["protocol"], found["lag"]) == ("Stable", "roundrobin", 0)
    (reader,) = found["members"]
    assert (reader["client_id"], reader["topics"]) == ("reader", topics)
    assert {one["member"] for one in found["positions"]} == {reader["member_id"]}
    said = walrus_group(kafka, "describe", topic)
    assert "Stable, consumer roundrobin; 1 member; 0 records behind" in said
    member.close()
    write(kafka, topics[:1], ["d", "e"])
    found = as_json(kafka, "describe", topic)
    assert (found["state"], found["members"], found["lag"]) == ("Empty", [], 2)
    assert [
        (one["topic"], one["committed"], one["end"], one["lag"]) for one in found["positions"]
    ] == [(topics[0], 3, 5, 2), (topics[1], 3, 3, 0)]
    assert "Empty, consumer; no members; 2 records behind" in walrus_group(kafka, "describe", topic)
    assert topic in walrus_group(kafka, "list")


def test_group_that_is_moved_under_its_members(
    server: Server, topic: str, topics: list[str], member: ConfluentMember
) -> None:
    """Refused, and nothing has changed."""
    kafka = server.kafka
    assert "non empty group" in walrus_group(kafka, "delete", topic, code=1)
    assert "unknown member" in walrus_group(kafka, "seek", topic, "--to", "start", code=1)
    said = walrus_group(kafka, "delete-offsets", topic, "--topic", topics[0], code=1)
    assert "group subscribed to topic" in said
    assert positions(kafka, topic) == dict.fromkeys(topics, 3)


def test_place_that_is_missed(server: Server, topic: str, topics: list[str]) -> None:
    kafka = server.kafka
    both = [part for name in topics for part in ("--topic", name)]
    assert "name topics" in walrus_group(kafka, "seek", topic, "--to", "end", code=2)
    for place, offset in (
        ("end", 3),
        ("start", 0),
        ("2", 2),
        ("99", 3),
        ("2000-01-01T00:00:00Z", 0),
        ("2100-01-01", 3),
    ):
        walrus_group(kafka, "seek", topic, "--to", place, *both)
        assert positions(kafka, topic) == dict.fromkeys(topics, offset), place
    walrus_group(kafka, "seek", topic, "--to", "start", "--dry-run")
    assert positions(kafka, topic) == dict.fromkeys(topics, 3)
    moved = as_json(kafka, "seek", topic, "--to", "1", "--topic", topics[0])
    assert moved["positions"] == [{"topic": topics[0], "before": 3, "after": 1}]
    assert positions(kafka, topic) == {topics[0]: 1, topics[1]: 3}
    said = walrus_group(kafka, "seek", topic, "--to", "end", "--topic", "nowhere", code=2)
    assert "no topic nowhere" in said
    assert "neither" in walrus_group(kafka, "seek", topic, "--to", "soon", code=2)


def test_group_that_is_not_gone(server: Server, topic: str, topics: list[str]) -> None:
    kafka = server.kafka
    both = [part for name in topics for part in ("--topic", name)]
    walrus_group(kafka, "seek", topic, "--to", "end", *both)
    walrus_group(kafka, "delete-offsets", topic, "--topic", topics[1])
    assert positions(kafka, topic) == {topics[0]: 3}
    walrus_group(kafka, "delete", topic)
    assert "group id not found" in walrus_group(kafka, "describe", topic, code=1)
    assert "group id not found" in walrus_group(kafka, "delete", topic, code=1)
    assert topic not in [one["group"] for one in as_json(kafka, "list")]


def test_metrics_that_hide_a_group(
    server: Server, topic: str, topics: list[str], member: ConfluentMember
) -> None:
    before = server.metric("walrus_group_rebalances_total")
    assert before >= 1
    assert server.metric("walrus_group_groups", state="Stable") == 1
    assert server.metric("walrus_group_members") == 1
    second = ConfluentMember(server.kafka, topic, topics)
    try:
        until(lambda: second.assigned, "it has joined")
        assert server.metric("walrus_group_members") == 2
        assert server.metric("walrus_group_rebalances_total") > before
    finally:
        second.close()
    member.close()
    write(server.kafka, topics[:1], ["d", "e"])
    assert server.metric("walrus_group_lag_records", group=topic, topic=topics[0]) == 2
    assert server.metric("walrus_group_lag_records", group=topic, topic=topics[1]) == 0
    until(lambda: server.metric("walrus_group_members") == 0, "they have left")
    assert server.metric("walrus_group_members_dropped_total") == 0


def test_nobody_answers(tmp_path: Path) -> None:
    assert "no answer from 127.0.0.1:1" in walrus_group("127.0.0.1:1", "list", code=1)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.full
def test_coordinators_on_several_nodes_and_one_that_dies(tmp_path: Path) -> None:
    """Any node tells of all groups, and what it tells is what was committed, after a death, too."""
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        cluster.register("t")
        first, *_ = cluster.nodes.values()
        write(first.kafka, ["t"], [str(number) for number in range(10)])
        names = [f"g{number}" for number in range(10)]
        for number, name in enumerate(names):
            walrus_group(first.kafka, "seek", name, "--to", str(number % 10), "--topic", "t")
        listed = as_json(first.kafka, "list")
        assert [one["group"] for one in listed] == sorted(names)
        assert len({one["coordinator"] for one in listed}) > 1
        victim = cluster.nodes[max(one["coordinator"] for one in listed)]
        victim.kill()
        survivor = next(node for node in cluster.nodes.values() if node is not victim)
        for number, name in enumerate(names):
            (found,) = as_json(survivor.kafka, "describe", name)["positions"]
            assert (found["committed"], found["end"]) == (number % 10, 10)
    finally:
        cluster.close()
