"""The sizes that admin tools see are those of the files."""

from pathlib import Path

import anyio

from broker.controller.retention import HIGH_WATERMARK
from tests.broker.cluster import cluster
from tests.broker.one_node import TOPICS, put, running


async def test_what_is_told_is_what_is_there(tmp_path: Path) -> None:
    async with running(tmp_path, entries_max=5, monitor_interval_ms=10) as node:
        partition = await node.topic()
        await node.topic("empty")
        for _ in range(12):
            await put(partition, b"x" * 100)
        found = await node.controller.log_dir()
        size = sum(segment.size for segment in partition.log.segments())
        assert found.path == str(TOPICS)
        told = {log.topic: (log.size, log.offset_lag) for log in found.logs}
        assert told == {"t": (size, 0), "empty": (0, 0)}
        assert size > 1200
        await node.controller.delete_records(partition.topic, HIGH_WATERMARK)
        with anyio.fail_after(10):
            while (await node.controller.log_dir()).logs[1].size:
                await anyio.sleep(0.01)


async def test_every_replica_tells_its_own_copy(tmp_path: Path) -> None:
    async with cluster(tmp_path, entries_max=5, monitor_interval_ms=20) as made:
        await made.controller(1).create_topic("t", configs={})
        for _ in range(20):
            await made.put(b"x" * 100)
        with anyio.fail_after(20):
            while True:
                dirs = [await made.controller(node).log_dir() for node in (1, 2, 3)]
                sizes = {log.size for one in dirs for log in one.logs}
                lags = {log.offset_lag for one in dirs for log in one.logs}
                if len(sizes) == 1 and lags == {0}:
                    break
                await anyio.sleep(0.02)
        assert sizes.pop() > 2000
