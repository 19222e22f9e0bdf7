"""What one client writes, every client reads: same bytes, same offsets, whatever the codec."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from harness.clients import (
    CODECS,
    Message,
    aiokafka_read,
    aiokafka_write,
    confluent_read,
    confluent_write,
    kcat_read,
    kcat_write,
    offsets,
    values,
)
from harness.native import Native
from harness.server import Server

pytestmark = [pytest.mark.kcat, pytest.mark.confluent, pytest.mark.aiokafka]

HEADERS = (("trace", b"7f"), ("tenant", b"north"))

MESSAGES = [
    Message(
        value=f"value {number} ".encode() * (number % 7 + 1),
        key=f"k{number}".encode(),
        headers=HEADERS,
    )
    for number in range(500)
]

Write = Callable[[str, str, str], Coroutine[Any, Any, None]]


async def _by_aiokafka(kafka: str, topic: str, codec: str) -> None:
    assert await aiokafka_write(kafka, topic, MESSAGES, codec=codec) == list(range(500))


async def _by_confluent(kafka: str, topic: str, codec: str) -> None:
    written = confluent_write(kafka, topic, MESSAGES, compression_type=codec, linger_ms=20)
    assert written == list(range(500))


async def _by_kcat(kafka: str, topic: str, codec: str) -> None:
    kcat_write(kafka, topic, MESSAGES, codec=codec)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(_by_aiokafka, id="aiokafka"),
        pytest.param(_by_confluent, id="confluent"),
        pytest.param(_by_kcat, id="kcat"),
    ],
)
async def test_codec_that_only_its_own_client_understands(
    server: Server, topic: str, write: Write, codec: str
) -> None:
    await write(server.kafka, topic, codec)

    by_confluent = confluent_read(server.kafka, topic, 500, check_crcs=True)
    by_aiokafka = await aiokafka_read(server.kafka, topic, 500)
    by_kcat = kcat_read(server.kafka, topic, "-X", "check.crcs=true")

    for found in (by_confluent, by_aiokafka, by_kcat):
        assert [message.content() for message in found] == MESSAGES
        assert offsets(found) == list(range(500))
    assert by_confluent == by_aiokafka == by_kcat, "timestamps differ"


@pytest.mark.parametrize("codec", CODECS)
async def test_compressed_batch_that_a_native_reader_cannot_open(
    server: Server, topic: str, codec: str
) -> None:
    await aiokafka_write(server.kafka, topic, MESSAGES[:100], codec=codec)
    with Native(server.native_port) as native:
        assert native.get_all(topic) == values(MESSAGES[:100])


async def test_mixed_writers_that_disagree_about_the_order(server: Server, topic: str) -> None:
    """Five codecs, two clients and native PUTs in one topic; everybody reads one sequence."""
    expected: list[bytes | None] = []
    with Native(server.native_port) as native:
        native.register(topic)
        for turn, codec in enumerate(CODECS):
            part = [Message(f"{codec} {turn} {number}".encode()) for number in range(20)]
            confluent_write(server.kafka, topic, part, compression_type=codec)
            native.put(topic, f"native {turn}".encode())
            await aiokafka_write(server.kafka, topic, part, codec=codec)
            expected += [*values(part), f"native {turn}".encode(), *values(part)]
        assert native.get_all(topic) == expected

    count = len(expected)
    assert values(await aiokafka_read(server.kafka, topic, count)) == expected
    assert values(confluent_read(server.kafka, topic, count)) == expected
    by_kcat = kcat_read(server.kafka, topic)
    assert values(by_kcat) == expected
    assert offsets(by_kcat) == list(range(count))


async def test_batch_read_from_its_middle(server: Server, topic: str) -> None:
    """Every offset of a topic of large compressed batches is a place to start."""
    confluent_write(server.kafka, topic, MESSAGES, compression_type="zstd", linger_ms=200)
    for start in (0, 1, 17, 250, 498, 499):
        for found in (
            confluent_read(server.kafka, topic, 500 - start, start=start),
            await aiokafka_read(server.kafka, topic, 500 - start, start=start),
            kcat_read(server.kafka, topic, start=str(start)),
        ):
            assert offsets(found) == list(range(start, 500))
            assert [message.content() for message in found] == MESSAGES[start:]
