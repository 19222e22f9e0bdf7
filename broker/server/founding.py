"""Whether a new node with `--bootstrap` forms a cluster, or comes back to one with a new disk.

It is started with the same words both times. So it asks the listed peers first, and forms a
cluster only when no peer knows of one and, with itself, a majority has been heard: where one disk
is lost, any majority of the others remembers.
"""

import signal

import anyio
import structlog

from broker.config import Config
from broker.config.values import HostPort
from broker.controller.data_dir import DataDir
from broker.errors import PeerError
from broker.peer import PeerPort
from broker.peer.links import RAFT_CHANNEL
from broker.server.membership import own_identity, peer_port

ASK_AGAIN_S = 0.2
"""A first start waits for whoever starts beside it."""

_log = structlog.get_logger(__name__)


async def settle(config: Config, data: DataDir) -> bool:
    """Decide it for an undecided data directory, and note it there. False: asked to stop meanwhile.

    Raises MembershipError.
    """
    port = peer_port(config, lambda: own_identity(config, data, config.raft_port))
    is_settled = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_at_signal, tasks.cancel_scope)
        if not await _is_there_a_cluster(config, port):
            await anyio.to_thread.run_sync(data.founds)
        is_settled = True
        tasks.cancel_scope.cancel()
    return is_settled


async def _is_there_a_cluster(config: Config, port: PeerPort) -> bool:
    """Returns when a peer knows of one, or enough have said that they do not."""
    heard = set[HostPort]()
    is_told = False
    while True:
        for peer in config.join:
            try:
                channel = await port.dial(peer.host, peer.port, RAFT_CHANNEL)
            except (PeerError, OSError):
                continue
            await channel.aclose()
            if channel.peer.cluster_id:
                _log.info("there is a cluster", id=channel.peer.cluster_id, known_by=str(peer))
                return True
            heard.add(peer)
        if 2 * (1 + len(heard)) > 1 + len(config.join):
            return False
        if not is_told:
            _log.warning(
                "waiting for a majority to say whether there is a cluster already",
                unheard=[str(peer) for peer in config.join if peer not in heard],
            )
            is_told = True
        await anyio.sleep(ASK_AGAIN_S)


async def _cancel_at_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
