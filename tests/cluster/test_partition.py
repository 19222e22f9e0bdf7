"""Two halves of a cluster that both take writes, or none."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.chaos.network import Network
from tests.chaos.verdict import read_all
from tests.cluster.clients import native, numbered, put
from tests.cluster.processes import Cluster, Node, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def _put_all(node: Node, payloads: list[bytes]) -> None:
    with native(node) as client:
        for payload in payloads:
            put(client, "logs", payload)


REFUSED_S_MAX = 60.0
"""A Raft leader that was cut off takes records for up to 2.5 s more, in which the majority may have
another writer already. It can acknowledge none of them, and says so when a PUT's 30 s are over."""


def _refuses(node: Node) -> bool:
    try:
        reply = node.native(b"PUT logs from-the-minority", timeout_s=REFUSED_S_MAX)
    except OSError:
        return False
    return reply.startswith(b"ERR")


def _leads_elsewhere(cluster: Cluster, isolated: Node) -> bool:
    for node in cluster.nodes.values():
        if node is not isolated:
            topic = node.topic("logs")
            if topic is not None and topic["leader_id"] not in (-1, isolated.node_id):
                return True
    return False


async def _scenario(cluster: Cluster, network: Network) -> None:
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.register, "logs")
    before, during, after = (numbered(word, range(20)) for word in ("before", "during", "after"))
    await asyncio.to_thread(_put_all, cluster.nodes[1], before)

    isolated = await asyncio.to_thread(cluster.leader, "logs")
    assert isolated is not None
    others = [node for node in cluster.nodes.values() if node is not isolated]
    network.isolate(isolated.node_id)
    begun_at = time.monotonic()
    await asyncio.to_thread(
        wait_until, lambda: _leads_elsewhere(cluster, isolated), "the majority has a writer"
    )
    await asyncio.to_thread(_put_all, others[0], during)
    print(f"the majority wrote {time.monotonic() - begun_at:.1f} s after the cut")
    assert await asyncio.to_thread(_refuses, isolated), "the minority took a write"

    network.cut(frozenset())
    await asyncio.to_thread(cluster.wait_ready)
    await asyncio.to_thread(_put_all, isolated, after)
    stored = await asyncio.to_thread(read_all, isolated.kafka, "logs")
    assert stored == list(enumerate([*before, *during, *after]))


def test_a_writer_that_is_cut_off(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Cluster(tmp_path, behind_proxy=True)
        network = Network(cluster.nodes)
        await network.start()
        try:
            await _scenario(cluster, network)
        finally:
            await asyncio.to_thread(cluster.close)
            await network.close()

    asyncio.run(main())
