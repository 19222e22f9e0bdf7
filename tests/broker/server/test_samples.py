"""A fault of ours that nobody is told of, because the figure never reaches who watches."""

from functools import partial
from pathlib import Path

import anyio.to_thread
from structlog.testing import capture_logs

from broker.admin.app import make_app
from broker.replication.space import Usage
from broker.server.samples import Samples
from broker.telemetry.metrics import Registry
from tests.broker import one_node
from tests.broker.admin.fakes import no_surplus, nobody, nothing, overview, status, unknown
from tests.broker.admin.http import get
from tests.broker.net import harness
from tests.broker.net.harness import EchoSession, Running
from tests.broker.one_node import OneNode

FAULTS = 'walrus_connection_faults_total{listener="echo"}'


def registry_of(one: OneNode, server: Running) -> Registry:
    """As a node's, over these parts."""
    samples = Samples(
        status=status,
        controller=one.controller,
        state=lambda: one.controller.seen,
        net=server.server.stats,
        budget=server.budget,
        open_files=one.controller._store.wal.open_files,
        space=one.controller._store.space,
        raft=one.controller._metadata._raft,
        clock=server.clock,
    )
    registry = Registry()
    registry.register(samples.collect)
    return registry


async def test_metrics_of_a_disk_that_hangs_are_those_of_the_last_look(tmp_path: Path) -> None:
    async with (
        one_node.running(tmp_path) as one,
        harness.running(lambda _: EchoSession()) as server,
    ):
        registry = await anyio.to_thread.run_sync(registry_of, one, server)
        assert b"disk_free" not in registry.render(), "nobody has looked yet"

        one.controller._store.space.usage = Usage(total_size=1000, free_size=250)

        lines = registry.render().decode().splitlines()
        assert "walrus_storage_disk_total_bytes 1000.0" in lines
        assert "walrus_storage_disk_free_bytes 250.0" in lines


async def test_connections_that_ended_by_a_fault_of_ours_are_told_to_who_watches(
    tmp_path: Path,
) -> None:
    async with (
        one_node.running(tmp_path) as one,
        harness.running(lambda _: EchoSession()) as server,
    ):
        registry = await anyio.to_thread.run_sync(registry_of, one, server)
        app = make_app(
            status=status,
            topics=list,
            cluster=partial(overview, "Zm9v"),
            registry=registry,
            leave=nobody,
            forget=unknown,
            unclean_seal=nothing,
            drop_surplus=no_surplus,
        )

        async def shown() -> list[str]:
            lines = (await get(app, "/metrics")).body.decode().splitlines()
            return [line for line in lines if line.startswith(FAULTS)]

        assert await shown() == [f"{FAULTS} 0.0"]
        with capture_logs():
            for word in (b"crash", b"peer", b"late crash"):
                client = await server.connect()
                await client.send(word)
                await client.at_end()
        assert await shown() == [f"{FAULTS} 2.0"], "the peer's own mistake is none of ours"
