"""Every listed API at every served version: requests and answers fit the protocol guide."""

import uuid
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker.kafka_api.apis import APIS
from tests.broker.kafka_api import admin_layouts, group_layouts, layouts
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import Message

EVERY = [
    (message, version)
    for message in layouts.ALL
    for version in range(message.versions[0], message.versions[1] + 1)
]


def by_topic(node: Node, version: int, name: str, **rest: Any) -> dict[str, Any]:
    if version < 13:
        return {"topic": name, **rest}
    partition = node.controller.partitions.get(name)
    return {"topic_id": partition.view.topic_id if partition else uuid.uuid4(), **rest}


def request(node: Node, message: Message, version: int) -> dict[str, Any]:
    """Something good and something bad of each."""
    partition = {"partition": 0, "fetch_offset": 0}
    if message is layouts.PRODUCE:
        good = {"name": "t", "partitions": [{"index": 0, "records": batch(b"a")}, {"index": 1}]}
        bad = {"name": "missing", "partitions": [{"index": 0, "records": batch(b"a")}]}
        return {"topics": [good, bad]}
    if message is layouts.FETCH:
        return {
            "topics": [
                by_topic(node, version, "t", partitions=[partition, {"partition": 7}]),
                by_topic(node, version, "missing", partitions=[partition]),
            ]
        }
    if message is layouts.LIST_OFFSETS:
        wanted = [{"partition": 0, "timestamp": -1}, {"partition": 1, "timestamp": -2}]
        return {
            "topics": [
                {"name": "t", "partitions": wanted},
                {"name": "missing", "partitions": wanted},
            ]
        }
    if message is layouts.METADATA:
        return {"topics": [{"name": "t"}, {"name": "missing"}, {"name": "bad name"}]}
    if message is layouts.CREATE_TOPICS:
        return {
            "topics": [
                {"name": "new", "configs": [{"name": "retention.ms", "value": "5"}]},
                {"name": "t"},
            ]
        }
    if message is layouts.DELETE_TOPICS:
        if version < 6:
            return {"names": ["t", "missing"]}
        return {"topics": [{"name": "t"}, {"topic_id": uuid.uuid4()}]}
    if message is layouts.DESCRIBE_CONFIGS:
        return {
            "resources": [
                {"type": 2, "name": "t"},
                {"type": 2, "name": "missing"},
                {"type": 4, "name": "1"},
            ]
        }
    if message in group_layouts.ALL:
        return group_layouts.request(message, version)
    if message in admin_layouts.ALL:
        return admin_layouts.request(message)
    return {}


@pytest.mark.parametrize(
    ("message", "version"), EVERY, ids=lambda value: getattr(value, "key", value)
)
async def test_an_answer_fits_the_protocol_guide(
    node: Node, message: Message, version: int
) -> None:
    node.configure(auto_create_topics=False)
    partition = await node.create("t")
    await partition.append(batch(b"one", b"two"), acks=-1)
    answer = await node.connect().ask(message, version, **request(node, message, version))
    assert answer


@pytest.mark.parametrize(
    ("message", "version"), EVERY, ids=lambda value: getattr(value, "key", value)
)
async def test_an_unforeseen_error_costs_one_request_and_is_told_in_its_own_version(
    node: Node, message: Message, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (api,) = [api for api in APIS if api.key == message.key]
    await node.create("t")
    values = request(node, message, version)

    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(api.handler, "begin", broken)
    connection = node.connect()
    with capture_logs() as logs:
        answer = await connection.ask(message, version, **values)
    assert [type(line["exc_info"]) for line in logs] == [ZeroDivisionError]
    assert b"-1" in repr(answer).encode() or message is layouts.METADATA and version < 13
    assert node.counters.failures[api.name, "ZeroDivisionError"] == 1
    monkeypatch.undo()
    assert await connection.ask(message, version, **values)


def test_the_table_serves_what_the_layouts_describe() -> None:
    served = {(api.key, api.served, api.first_flexible) for api in APIS}
    assert served == {(one.key, one.versions, one.first_flexible) for one in layouts.ALL}
