"""Many writers at once on one topic: what was acknowledged, once, and nothing else."""

import threading
import time

import pytest

from tests.chaos.verdict import read_all
from tests.cluster.clients import native, put
from tests.cluster.conftest import MakeCluster
from tests.cluster.processes import Node

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

WRITER_COUNT = 16
PAYLOAD_SIZE = 1024


def _write(
    node: Node, writer: int, seconds: float, written: list[bytes], errors: list[Exception]
) -> None:
    deadline = time.monotonic() + seconds
    try:
        with native(node) as client:
            while time.monotonic() < deadline:
                payload = b"%02d-%08d" % (writer, len(written))
                payload = payload.ljust(PAYLOAD_SIZE, b"x")
                put(client, "stress", payload)
                written.append(payload)
    except Exception as error:  # noqa: BLE001 - the test shows what a thread met
        errors.append(error)


def test_sixteen_writers_through_every_node(make_cluster: MakeCluster, seconds: float) -> None:
    cluster = make_cluster(max_segment_entries=1000, monitor_check_ms=200)
    cluster.register("stress")
    errors: list[Exception] = []
    written: list[list[bytes]] = [[] for _ in range(WRITER_COUNT)]
    nodes = list(cluster.nodes.values())
    threads = [
        threading.Thread(target=_write, args=(nodes[n % 3], n, seconds, written[n], errors))
        for n in range(WRITER_COUNT)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert all(written), "a writer that wrote nothing"
    stored = read_all(cluster.bootstrap, "stress")
    assert [offset for offset, _ in stored] == list(range(len(stored)))
    for writer, payloads in enumerate(written):
        prefix = b"%02d-" % writer
        assert [value for _, value in stored if value.startswith(prefix)] == payloads
    print(f"{len(stored) / seconds:.0f} acknowledged PUTs of 1 KiB per second")
