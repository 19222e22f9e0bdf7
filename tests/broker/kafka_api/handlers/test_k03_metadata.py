"""Metadata: one wrong id here and a client loops, panics or never finds its leader."""

import uuid
from dataclasses import replace

import pytest

from broker.errors import MetadataUnavailable, NotLeader, OutcomeUnknown, RequestError
from broker.ports import BrokerAddress, TopicView
from tests.broker.kafka_api.fake_controller import FakeController
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import METADATA, ZERO_ID, decode_response
from tests.broker.replies import received


async def test_an_empty_list_means_all_in_v0_and_none_later(node: Node) -> None:
    await node.create("b")
    await node.create("a")
    assert [one["name"] for one in (await node.metadata(0, topics=[]))["topics"]] == ["a", "b"]
    answer = await node.metadata(1, topics=[])
    assert answer["topics"] == []
    assert len(answer["brokers"]) == 2, "aiokafka bootstraps with this"
    assert len((await node.metadata(1, topics=None))["topics"]) == 2


@pytest.mark.parametrize("version", range(14))
async def test_a_topic_in_every_version(node: Node, version: int) -> None:
    partition = await node.create("t")
    answer = await node.metadata(version, topics=[{"name": "t"}])
    (topic,) = answer["topics"]
    assert (topic["error"], topic["name"]) == (0, "t")
    assert topic.get("topic_id", partition.view.topic_id) == partition.view.topic_id
    (one,) = topic["partitions"]
    assert (one["error"], one["partition"], one["leader_id"]) == (0, 0, 1)
    assert one.get("leader_epoch", 3) == 3
    assert (one["replicas"], one["isr"], one.get("offline", [])) == ([1], [1], [])
    assert answer.get("cluster_id", "walrus-test-cluster") == "walrus-test-cluster"
    assert answer.get("error", 0) == 0


async def test_the_addresses_are_those_of_the_listener_the_client_came_in_by(node: Node) -> None:
    inside = await node.connect("PLAINTEXT").ask(METADATA, 8)
    outside = await node.connect("OUTSIDE").ask(METADATA, 8)
    assert [one["port"] for one in inside["brokers"]] == [9092, 9092]
    assert [one["port"] for one in outside["brokers"]] == [19092, 19092]
    assert [one["rack"] for one in inside["brokers"]] == [None, "b"]


async def test_the_controller_is_a_live_broker_of_the_same_answer(node: Node) -> None:
    """-1 makes Java's admin client ask for metadata for ever."""
    assert (await node.metadata())["controller_id"] == 1
    node.controller.live = [BrokerAddress(2, "127.0.0.2", 9092)]
    answer = await node.metadata()
    assert answer["controller_id"] == 2 == answer["brokers"][0]["node_id"]


async def test_a_broker_that_died_just_now_is_listed_and_is_no_leader(node: Node) -> None:
    """librdkafka forgets whom it was told to follow if the one before is missing in that answer."""
    partition = await node.create("t")
    node.controller.live = [BrokerAddress(2, "127.0.0.2", 9092)]
    node.controller.lived = [BrokerAddress(1, "127.0.0.1", 9092)]
    partition.view = replace(partition.view, leader_id=1, replicas=(1, 2, 3), in_sync=(2, 3))
    answer = await node.metadata(topics=[{"name": "t"}])
    assert sorted(one["node_id"] for one in answer["brokers"]) == [1, 2]
    assert answer["controller_id"] == 2
    assert answer["topics"][0]["partitions"][0]["leader_id"] == -1


@pytest.mark.parametrize("leader_id", [-1, 7])
@pytest.mark.parametrize(
    ("in_sync", "error", "named"),
    [((1, 2), 0, 1), ((2, 7), 5, -1), ((2,), 5, -1), ((), 5, -1)],
    ids=["a majority lives", "one is not listed", "a minority lives", "nobody lives"],
)
async def test_a_leader_that_is_not_live_is_no_leader(
    node: Node, leader_id: int, in_sync: tuple[int, ...], error: int, named: int
) -> None:
    """While the next one is made out a replica stands in: kafka-go gives records up for good
    when it is told that there is no leader."""
    partition = await node.create("t")
    partition.view = replace(
        partition.view, leader_id=leader_id, replicas=(7, 1, 2), in_sync=in_sync
    )
    (topic,) = (await node.metadata(topics=[{"name": "t"}]))["topics"]
    assert topic["error"] == 0
    assert (topic["partitions"][0]["error"], topic["partitions"][0]["leader_id"]) == (error, named)
    assert topic["partitions"][0]["leader_epoch"] == 3


async def test_librdkafka_asks_for_all_topics_with_three_bytes_too_many(node: Node) -> None:
    """As librdkafka 2.16 sends it (v13): a count of four bytes where one belongs. Kafka reads
    the first as null and ignores the rest; refusing it breaks every `list_topics()`."""
    await node.create("t")
    frame = bytes.fromhex("0003000d00000003000772646b61666b61" + "00" + "00000000010000")
    finish = await node.connect().session.begin(memoryview(bytearray(frame)))
    _, answer = decode_response(METADATA, 13, received(await finish()))
    assert [one["name"] for one in answer["topics"]] == ["t"]


class TestAutoCreate:
    async def test_a_missing_topic_is_created_and_answered_finished(self, node: Node) -> None:
        """Some suites count the attempts."""
        (topic,) = (await node.metadata(topics=[{"name": "new"}]))["topics"]
        assert (topic["error"], topic["partitions"][0]["leader_id"]) == (0, 1)
        assert topic["topic_id"] == node.controller.topic("new").topic_id

    async def test_not_when_the_request_forbids_it(self, node: Node) -> None:
        answer = await node.metadata(topics=[{"name": "new"}], allow_auto_create=False)
        assert answer["topics"][0]["error"] == 3
        assert not node.controller.partitions

    async def test_not_when_the_node_forbids_it(self, node: Node) -> None:
        node.configure(auto_create_topics=False)
        assert (await node.metadata(topics=[{"name": "new"}]))["topics"][0]["error"] == 3
        assert not node.controller.partitions

    async def test_versions_before_4_cannot_forbid_it(self, node: Node) -> None:
        assert (await node.metadata(3, topics=[{"name": "new"}]))["topics"][0]["error"] == 0

    @pytest.mark.parametrize("is_allowed", [True, False])
    @pytest.mark.parametrize("name", ["a b", "..", "", "x" * 250])
    async def test_a_bad_name_is_said_to_be_bad_and_never_created(
        self, node: Node, name: str, is_allowed: bool
    ) -> None:
        """The name is checked first."""
        node.configure(auto_create_topics=is_allowed)
        assert (await node.metadata(topics=[{"name": name}]))["topics"][0]["error"] == 17
        assert not node.controller.partitions

    async def test_two_clients_at_once_both_get_the_one_topic(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create_topic = FakeController.create_topic

        async def create_twice(self: FakeController, name: str, **rest: object) -> TopicView:
            await create_topic(self, name, configs={})
            return await create_topic(self, name, configs={})

        monkeypatch.setattr(FakeController, "create_topic", create_twice)
        (topic,) = (await node.metadata(topics=[{"name": "new"}]))["topics"]
        assert topic["topic_id"] == node.controller.topic("new").topic_id

    @pytest.mark.parametrize(
        "error", [NotLeader("moved"), OutcomeUnknown("slow"), MetadataUnavailable("no quorum")]
    )
    async def test_a_creation_that_cannot_be_done_now_is_asked_for_again(
        self, node: Node, error: RequestError, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object, **__: object) -> TopicView:
            raise error

        monkeypatch.setattr(FakeController, "create_topic", fail)
        assert (await node.metadata(topics=[{"name": "new"}]))["topics"][0]["error"] == 5

    async def test_a_creation_that_never_ends_does_not_hold_the_connection(
        self, node: Node
    ) -> None:
        node.configure(admin_wait_ms_max=1)
        node.controller.create_wait = type(node.controller.create_wait)()
        assert (await node.metadata(topics=[{"name": "new"}]))["topics"][0]["error"] == 5


class TestTopicIds:
    @pytest.mark.parametrize("version", [12, 13])
    async def test_a_topic_is_found_by_its_id(self, node: Node, version: int) -> None:
        partition = await node.create("t")
        wanted = [{"topic_id": partition.view.topic_id, "name": None}]
        (topic,) = (await node.metadata(version, topics=wanted))["topics"]
        assert (topic["error"], topic["name"]) == (0, "t")

    @pytest.mark.parametrize("version", [12, 13])
    async def test_an_id_with_the_name_that_java_leaves_empty(
        self, node: Node, version: int
    ) -> None:
        partition = await node.create("t")
        wanted = [
            {"topic_id": partition.view.topic_id, "name": ""},
            {"topic_id": uuid.UUID(int=7), "name": ""},
        ]
        found, unknown = (await node.metadata(version, topics=wanted))["topics"]
        assert (found["error"], found["name"]) == (0, "t")
        assert (unknown["error"], unknown["name"], unknown["topic_id"]) == (
            *(100, None),
            uuid.UUID(int=7),
        )

    async def test_an_unknown_id_is_told_with_the_id_and_without_a_name(self, node: Node) -> None:
        topic_id = uuid.uuid4()
        (topic,) = (await node.metadata(topics=[{"topic_id": topic_id, "name": None}]))["topics"]
        assert (topic["error"], topic["name"], topic["topic_id"]) == (100, None, topic_id)

    @pytest.mark.parametrize("version", [10, 11])
    async def test_versions_without_lookup_by_id_say_so(self, node: Node, version: int) -> None:
        wanted = [{"topic_id": uuid.uuid4(), "name": None}]
        (topic,) = (await node.metadata(version, topics=wanted))["topics"]
        assert (topic["error"], topic["name"]) == (42, "")

    async def test_neither_name_nor_id(self, node: Node) -> None:
        (topic,) = (await node.metadata(topics=[{"name": None}]))["topics"]
        assert (topic["error"], topic["topic_id"]) == (42, ZERO_ID)

    async def test_a_recreated_topic_has_a_new_id(self, node: Node) -> None:
        old = (await node.create("t")).view.topic_id
        await node.controller.delete_topic(old)
        await node.create("t")
        (topic,) = (await node.metadata(topics=[{"name": "t"}]))["topics"]
        assert topic["topic_id"] not in {old, ZERO_ID}


async def test_authorized_operations_are_a_bit_field_when_asked_and_absent_otherwise(
    node: Node,
) -> None:
    """kafka-python cannot read the absent value when it did ask."""
    await node.create("t")
    wanted = {"include_cluster_operations": True, "include_topic_operations": True}
    asked = await node.metadata(8, topics=None, **wanted)
    assert (asked["cluster_operations"], asked["topics"][0]["operations"]) == (8096, 3576)
    silent = await node.metadata(8, topics=None)
    assert silent["cluster_operations"] == silent["topics"][0]["operations"] == -(2**31)


async def test_internal_topics_are_listed_as_internal(node: Node) -> None:
    await node.create("__state")
    assert [one["is_internal"] for one in (await node.metadata(topics=None))["topics"]] == [True]


async def test_answers_keep_the_order_and_the_number_of_what_was_asked(node: Node) -> None:
    await node.create("a")
    wanted = [{"name": name} for name in ("missing", "a", "a", "missing")]
    answer = await node.metadata(topics=wanted, allow_auto_create=False)
    assert [(one["name"], one["error"]) for one in answer["topics"]] == [
        ("missing", 3),
        ("a", 0),
        ("a", 0),
        ("missing", 3),
    ]
