"""What the OpenMessaging Benchmark's Kafka driver asks of a broker, asked in the same order.

The benchmark itself is run by hand: see bench/omb.
"""

from pathlib import Path

import pytest

from harness.groups import positions
from harness.java import VERSIONS, Java
from harness.server import Server

pytestmark = [pytest.mark.java, pytest.mark.confluent]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("count", [1, pytest.param(50, marks=pytest.mark.full)])
def test_benchmark_that_never_starts(
    version: str, count: int, server: Server, topic: str, tmp_path: Path
) -> None:
    java = Java(version, tmp_path)
    said = java.run("OmbDriver.java", server.kafka, topic, str(count), "200")
    assert said.splitlines() == ["closed"]
    for number in range(count):
        name = f"{topic}-{number:07}"
        # Every commit was asynchronous, and closing waited for the last.
        assert positions(server.kafka, f"sub-000-{name}") == {name: 201}
