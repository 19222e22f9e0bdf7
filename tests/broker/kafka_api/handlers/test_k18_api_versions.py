"""ApiVersions: the first word. Get it wrong and nothing connects at all."""

import struct

import pytest

from broker.kafka_api.apis import APIS
from tests.broker.kafka_api import layouts
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import API_VERSIONS
from tests.broker.replies import received


@pytest.mark.parametrize("version", range(5))
async def test_it_lists_the_table_and_every_range_is_upright(node: Node, version: int) -> None:
    answer = await node.connect().ask(API_VERSIONS, version, software_name="test")
    listed = {one["key"]: (one["min"], one["max"]) for one in answer["apis"]}
    assert listed == {api.key: api.advertised for api in APIS}
    assert all(low <= high for low, high in listed.values()), "aiokafka and rskafka assert it"
    assert answer["error"] == 0


async def test_produce_is_advertised_from_0_or_old_librdkafka_compresses_nothing(
    node: Node,
) -> None:
    """KAFKA-18659."""
    answer = await node.connect().ask(API_VERSIONS, 3)
    assert (answer["apis"][0]["key"], answer["apis"][0]["min"]) == (0, 0)


@pytest.mark.parametrize("version", [5, 6, 99, 32767, -1, -32768])
async def test_a_version_of_the_future_is_answered_in_v0_and_its_body_is_not_read(
    node: Node, version: int
) -> None:
    """KIP-511: a closed connection here costs minutes, or everything."""
    connection = node.connect()
    frame = struct.pack(">hhi", 18, version, 77) + b"\xff bytes of an unknown layout"
    reply = received(await (await connection.session.begin(memoryview(frame)))())
    assert reply == struct.pack(">iihihhh", 16, 77, 35, 1, 18, 0, 4)
    assert (await connection.ask(API_VERSIONS, 4))["error"] == 0, "and the client comes down"


async def test_the_response_header_is_the_old_one_in_every_version(node: Node) -> None:
    """A client reads this before it knows what the broker speaks."""
    asked = await node.connect().send(API_VERSIONS, 4)
    reply = await asked.reply()
    size, correlation_id, error = struct.unpack_from(">iih", reply)
    assert (size, correlation_id, error) == (len(reply) - 4, 1, 0)


async def test_odd_client_names_are_accepted(node: Node) -> None:
    for name in ("", "no such/name!", "ü" * 200):
        answer = await node.connect().ask(API_VERSIONS, 3, software_name=name, software_version="")
        assert answer["error"] == 0


@pytest.mark.parametrize("client_id", [None, "", "a client", "ü"])
async def test_any_client_id_will_do(node: Node, client_id: str | None) -> None:
    connection = node.connect()
    assert (await connection.ask(API_VERSIONS, 4, client_id))["error"] == 0
    assert connection.session.client.client_id == (client_id or "")


def test_the_layouts_of_the_tests_cover_the_table() -> None:
    assert [api.key for api in APIS] == [one.key for one in layouts.ALL]
