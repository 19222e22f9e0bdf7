"""Versions: a field that is misspelt would silently be left out of every answer."""

import ast
import importlib
import inspect
from dataclasses import fields, is_dataclass
from threading import Barrier, BrokenBarrierError
from typing import Any

import anyio
import pytest
from kio.index import load_payload_module
from kio.static.constants import EntityType

from broker.kafka_api import wire
from broker.kafka_api.apis import APIS, Api
from broker.kafka_api.wire import codec, maker
from tests.broker.kafka_api import group_layouts, layouts
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import Message
from tests.broker.kafka_api.test_apis import request

AIOKAFKA = {
    layouts.PRODUCE: ("produce", "ProduceResponse"),
    layouts.FETCH: ("fetch", "FetchResponse"),
    layouts.LIST_OFFSETS: ("offset", "OffsetResponse"),
    layouts.METADATA: ("metadata", "MetadataResponse"),
    layouts.API_VERSIONS: ("admin", "ApiVersionResponse"),
    layouts.CREATE_TOPICS: ("admin", "CreateTopicsResponse"),
    layouts.DELETE_TOPICS: ("admin", "DeleteTopicsResponse"),
    layouts.INIT_PRODUCER_ID: ("transaction", "InitProducerIdResponse"),
    layouts.DESCRIBE_CONFIGS: ("admin", "DescribeConfigsResponse"),
    group_layouts.OFFSET_COMMIT: ("commit", "OffsetCommitResponse"),
    group_layouts.OFFSET_FETCH: ("commit", "OffsetFetchResponse"),
    group_layouts.FIND_COORDINATOR: ("coordination", "FindCoordinatorResponse"),
    group_layouts.JOIN_GROUP: ("group", "JoinGroupResponse"),
    group_layouts.HEARTBEAT: ("group", "HeartbeatResponse"),
    group_layouts.LEAVE_GROUP: ("group", "LeaveGroupResponse"),
    group_layouts.SYNC_GROUP: ("group", "SyncGroupResponse"),
    group_layouts.DESCRIBE_GROUPS: ("admin", "DescribeGroupsResponse"),
    group_layouts.LIST_GROUPS: ("admin", "ListGroupsResponse"),
    group_layouts.DELETE_GROUPS: ("admin", "DeleteGroupsResponse"),
}


def known_to_aiokafka() -> list[tuple[Message, int, Any]]:
    found = []
    for message, (module, name) in AIOKAFKA.items():
        for version in range(message.versions[0], message.versions[1] + 1):
            response = getattr(
                importlib.import_module(f"aiokafka.protocol.{module}"), f"{name}_v{version}", None
            )
            if response is not None:
                found.append((message, version, response))
    return found


@pytest.mark.parametrize(
    ("message", "version", "response"),
    known_to_aiokafka(),
    ids=lambda value: getattr(value, "key", getattr(value, "__name__", value)),
)
async def test_aiokafka_reads_the_answer_to_its_last_byte(
    node: Node, message: Message, version: int, response: Any
) -> None:
    """A second opinion on the layouts that the other tests read with."""
    await (await node.create("t")).append(batch(b"one", b"two"), acks=-1)
    asked = await node.connect().send(message, version, **request(node, message, version))
    body = (await asked.reply())[8:]
    assert response.decode(body).encode() == body


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_every_keyword_of_every_answer_exists_in_some_served_version(api: Api) -> None:
    legal: dict[str, set[str]] = {}
    for version in range(api.served[0], api.served[1] + 1):
        module = load_payload_module(api.key, version, EntityType.response)
        for name, entity in vars(module).items():
            if is_dataclass(entity):
                legal.setdefault(name, set()).update(item.name for item in fields(entity))
    calls = 0
    for call in ast.walk(ast.parse(inspect.getsource(api.handler))):  # type: ignore[arg-type]
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            if call.func.attr in legal:
                calls += 1
                unknown = {item.arg for item in call.keywords} - legal[call.func.attr]
                assert not unknown, f"{call.func.attr} has no {unknown} in any version"
    assert calls, "the handler makes no response?"


def test_a_class_that_a_version_lacks_makes_nothing() -> None:
    assert codec(19, 2).maker.CreatableTopicConfigs(name="a", value="b") is None
    with pytest.raises(AttributeError, match="no version of this response has a Nonsense"):
        codec(19, 2).maker.Nonsense()


def test_the_maker_of_a_request_speaks_its_version() -> None:
    body = memoryview(b"\1\1\0\0\0")
    asked = codec(3, 9).read(body, 0)
    made = maker(asked).MetadataResponseBroker(node_id=1, host="h", port=9092, rack=None)
    assert type(made).__module__ == "kio.schema.metadata.v9.response"


async def test_clients_of_two_versions_that_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One was sent away: two threads that import modules of one package wait for each other."""
    meeting = Barrier(2)
    met = False

    def imported(key: int, version: int) -> None:
        nonlocal met
        try:
            meeting.wait(0.2)
            met = True
        except BrokenBarrierError:
            meeting.reset()

    monkeypatch.setattr(wire, "codec", imported)
    monkeypatch.setattr(wire, "LOADED", set())
    async with anyio.create_task_group() as clients:
        clients.start_soon(wire.load, 12, 0)
        clients.start_soon(wire.load, 12, 4)
    assert not met
    assert wire.LOADED == {(12, 0), (12, 4)}
