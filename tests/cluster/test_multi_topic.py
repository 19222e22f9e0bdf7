"""A hundred topics at once, each with its own order and its own end."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.clients import get_all, native, numbered, put
from tests.cluster.conftest import MakeCluster
from tests.cluster.processes import Cluster, Node

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

TOPIC_COUNT = 100
MESSAGE_COUNT = 5
CLIENT_COUNT = 8


def _topics(client: int) -> list[str]:
    return [f"topic-{number}" for number in range(client, TOPIC_COUNT, CLIENT_COUNT)]


def _write(node: Node, client_number: int) -> None:
    with native(node) as client:
        for topic in _topics(client_number):
            client.register(topic)
        for number in range(MESSAGE_COUNT):
            for topic in _topics(client_number):
                (payload,) = numbered(topic, [number], 1024)
                put(client, topic, payload)


def _read(node: Node, client_number: int) -> None:
    with native(node) as client:
        for topic in _topics(client_number):
            assert get_all(client, topic) == numbered(topic, range(MESSAGE_COUNT), 1024)


def _each(cluster: Cluster, work: object, shift: int) -> None:
    assert callable(work)
    nodes = list(cluster.nodes.values())
    with ThreadPoolExecutor(CLIENT_COUNT) as pool:
        futures = [pool.submit(work, nodes[(n + shift) % 3], n) for n in range(CLIENT_COUNT)]
        for future in futures:
            future.result()


def test_topics_that_mix(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    _each(cluster, _write, 0)
    _each(cluster, _read, 1)
