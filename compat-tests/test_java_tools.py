"""Kafka's own command line, unmodified, judged by its exit codes and by what it prints."""

import json
import re
from pathlib import Path

import pytest

from harness.clients import CODECS, Message, confluent_read_all, confluent_write, values
from harness.groups import create, positions
from harness.java import VERSIONS, Java
from harness.server import Server

pytestmark = [pytest.mark.java, pytest.mark.confluent]

TOOLS = "org.apache.kafka.tools"
GROUPS = f"{TOOLS}.consumer.group.ConsumerGroupCommand"


@pytest.fixture(params=VERSIONS)
def java(request: pytest.FixtureRequest, tmp_path: Path) -> Java:
    return Java(request.param, tmp_path)


@pytest.mark.full
def test_topic_that_the_command_line_cannot_manage(java: Java, server: Server, topic: str) -> None:
    to = ("--bootstrap-server", server.kafka)
    topics = f"{TOOLS}.TopicCommand"
    java.run(topics, *to, "--create", "--topic", topic, "--config", "retention.ms=1234567")
    said = java.run(topics, *to, "--describe", "--topic", topic)
    assert "PartitionCount: 1" in said
    assert "retention.ms=1234567" in said
    assert topic in java.run(topics, *to, "--list").splitlines()
    said = java.run(topics, *to, "--alter", "--topic", topic, "--partitions", "2", succeeds=False)
    assert "topics have one partition here" in said

    configs = ("kafka.admin.ConfigCommand", *to, "--entity-type", "topics", "--entity-name", topic)
    java.run(*configs, "--alter", "--add-config", "max.message.bytes=2000000")
    java.run(*configs, "--alter", "--delete-config", "retention.ms")
    said = java.run(*configs, "--describe")
    assert "max.message.bytes=2000000" in said
    assert "retention.ms" not in said

    java.run(topics, *to, "--delete", "--topic", topic)
    assert topic not in java.run(topics, *to, "--list").splitlines()


@pytest.mark.full
def test_group_whose_configs_the_command_line_cannot_change(
    server: Server, topic: str, tmp_path: Path
) -> None:
    java = Java("4.3.1", tmp_path)  # 3.9 knows no configs of groups
    to = ("--bootstrap-server", server.kafka)
    configs = ("kafka.admin.ConfigCommand", *to, "--entity-type", "groups", "--entity-name", topic)
    java.run(*configs, "--alter", "--add-config", "consumer.session.timeout.ms=50000")
    assert "consumer.session.timeout.ms=50000" in java.run(*configs, "--describe")
    java.run(*configs, "--alter", "--delete-config", "consumer.session.timeout.ms")
    assert "consumer.session.timeout.ms" not in java.run(*configs, "--describe")


@pytest.mark.full
def test_offset_that_the_command_line_sees_elsewhere(
    java: Java, server: Server, topic: str
) -> None:
    to = ("--bootstrap-server", server.kafka)
    messages = [Message(b"%d" % number, timestamp_ms=1_000 + number) for number in range(20)]
    confluent_write(server.kafka, topic, messages)
    offsets = (f"{TOOLS}.GetOffsetShell", *to, "--topic", topic, "--time")
    asked = {"latest": 20, "earliest": 0, "max-timestamp": 19, "1005": 5}
    for time, offset in asked.items():
        assert java.run(*offsets, time).split() == [f"{topic}:0:{offset}"]
    where = [{"topic": topic, "partition": 0, "offset": 7}]
    (java.folder / "offsets.json").write_text(json.dumps({"partitions": where, "version": 1}))
    said = java.run(f"{TOOLS}.DeleteRecordsCommand", *to, "--offset-json-file", "offsets.json")
    assert f"partition: {topic}-0\tlow_watermark: 7" in said
    assert java.run(*offsets, "earliest").split() == [f"{topic}:0:7"]
    said = java.run(f"{TOOLS}.LogDirsCommand", *to, "--describe", "--topic-list", topic)
    found = json.loads(said.splitlines()[-1])
    (partition,) = found["brokers"][0]["logDirs"][0]["partitions"]
    assert partition["partition"] == f"{topic}-0"
    assert partition["size"] > 0
    said = java.run(
        *(f"{TOOLS}.LeaderElectionCommand", *to, "--election-type", "preferred"),
        *("--topic", topic, "--partition", "0"),
        succeeds=False,
    )
    assert "does not support ELECT_LEADERS" in said


@pytest.mark.full
def test_group_that_the_command_line_cannot_manage(java: Java, server: Server, topic: str) -> None:
    to = ("--bootstrap-server", server.kafka)
    group = ("--group", topic)
    confluent_write(server.kafka, topic, [Message(b"%d" % number) for number in range(10)])
    said = java.run(
        *(f"{TOOLS}.VerifiableConsumer", *to, "--topic", topic, "--group-id", topic),
        *("--max-messages", "10", "--reset-policy", "earliest"),
    )
    assert [event["count"] for event in _events(said, "records_consumed")] == [10]
    assert topic in java.run(GROUPS, *to, "--list").splitlines()
    said = java.run(GROUPS, *to, "--describe", *group)
    assert re.search(rf"{topic}\s+{topic}\s+0\s+10\s+10\s+0\s", said), said
    assert "Empty" in java.run(GROUPS, *to, "--describe", "--state", *group)
    reset = ("--reset-offsets", "--topic", topic, "--to-offset", "3", "--execute")
    java.run(GROUPS, *to, *group, *reset)
    assert positions(server.kafka, topic) == {topic: 3}
    java.run(GROUPS, *to, *group, "--delete-offsets", "--topic", topic)
    java.run(GROUPS, *to, *group, "--reset-offsets", "--topic", topic, "--to-latest", "--execute")
    java.run(GROUPS, *to, *group, "--delete")
    assert topic not in java.run(GROUPS, *to, "--list").splitlines()


def test_line_lost_between_two_consoles(java: Java, server: Server, topic: str) -> None:
    old = java.version.startswith("3")
    producer = "kafka.tools.ConsoleProducer" if old else f"{TOOLS}.ConsoleProducer"
    to = ("--bootstrap-server", server.kafka, "--topic", topic)
    for codec in CODECS:
        java.run(producer, *to, "--compression-codec", codec, stdin=f"{codec} 1\n{codec} 2\n")
    consumer = f"{TOOLS}.consumer.ConsoleConsumer"
    said = java.run(consumer, *to, "--from-beginning", "--max-messages", str(2 * len(CODECS)))
    wanted = [f"{codec} {number}" for codec in CODECS for number in (1, 2)]
    assert said.split("\n")[: len(wanted)] == wanted


def test_load_that_does_not_arrive(java: Java, server: Server, topic: str) -> None:
    """The programs that measure Kafka, and the producer that verifies it."""
    create(server.kafka, topic)
    given = ("--num-records", "20000", "--record-size", "100", "--throughput", "-1")
    props = ("--producer-props", f"bootstrap.servers={server.kafka}", "acks=all")
    said = java.run(f"{TOOLS}.ProducerPerformance", "--topic", topic, *given, *props)
    assert "20000 records sent" in said
    to = ("--bootstrap-server", server.kafka)
    said = java.run(f"{TOOLS}.ConsumerPerformance", *to, "--topic", topic, "--messages", "20000")
    assert re.search(r" 20000, ", said), said
    said = java.run(f"{TOOLS}.EndToEndLatency", server.kafka, topic, "50", "all", "100")
    assert "Percentiles" in said
    said = java.run(f"{TOOLS}.VerifiableProducer", *to, "--topic", topic, "--max-messages", "100")
    acked = [event["offset"] for event in _events(said, "producer_send_success")]
    assert acked == list(range(20_050, 20_150))
    assert values(confluent_read_all(server.kafka, topic))[-100:] == [
        b"%d" % number for number in range(100)
    ]


def _events(said: str, name: str) -> list[dict[str, int]]:
    """What a verifiable program tells, one JSON object a line."""
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [event for event in found if event["name"] == name]
