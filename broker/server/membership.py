"""This node among others: the peer port, Raft on it, and how a node comes in.

A node alone forms a cluster of one. A node with `--join` asks any of the listed ones to let it in,
and waits as long as it takes: nodes may be started in any order. With `--bootstrap`, too, it may
form one itself (see `founding`). Whoever has been a member knows the others from its own files and
needs none of this.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

import anyio
import msgspec
from anyio.abc import TaskGroup

from broker.config import Config
from broker.controller.data_dir import DataDir
from broker.controller.metadata import Metadata
from broker.peer import Identity, PeerPort, RaftLinks
from broker.replication.network import Network
from broker.server.admission import Admission, MembershipError
from broker.server.introductions import Introductions
from raft.node import RaftNode
from raft.state import ClusterState

MEET_S = 1.0
"""How often a node that wants to be let in asks who else there is."""


class Membership:
    """One node's place in its cluster."""

    def __init__(
        self, config: Config, data: DataDir, *, on_failure: Callable[[BaseException], None]
    ) -> None:
        """Raises MembershipError for a secret that cannot be read or is too short."""
        self._config = config
        self._data = data
        self._bound_port = config.raft_port
        self._metadata: Metadata | None = None
        self._port = peer_port(config, self._identity)
        self._links = RaftLinks(self._port, SystemRandom())
        self.network = Network(self._port, address=self._address)
        self._introductions = Introductions(self._port, self._known)
        self._met: frozenset[tuple[str, int]] = frozenset()
        self.raft = RaftNode(
            directory=data.raft_path,
            voter_id=data.identity.disk_id,
            joins=data.identity.joins,
            link=self._links,
            rng=SystemRandom(),
            debug=config.verify,
            on_failure=on_failure,
            may_vote=is_registered,
        )

    @property
    def advertised(self) -> tuple[str, int]:
        """Where other nodes dial this one."""
        return _advertised(self._config, self._bound_port)

    async def start(self, tasks: TaskGroup, metadata: Metadata) -> None:
        """Open the peer port and keep Raft's connections up. `network.serve` comes before.

        Raises MembershipError when the port is taken.
        """
        self._metadata = metadata
        await tasks.start(self._links.run, self.raft)
        tasks.start_soon(self.network.run)
        host, port = self._config.raft_host, self._config.raft_port
        try:
            self._bound_port = await tasks.start(self._port.listen, host, port)
        except OSError as error:
            raise MembershipError(
                f"cannot listen on {host}:{port} for other nodes: {error.strerror or error};"
                " choose another with --raft-port"
            ) from error
        metadata.listen(self._addresses_changed)
        self._dial(metadata.state)
        tasks.start_soon(self._meet_others)

    async def _meet_others(self) -> None:
        """Whoever was named to us need not be the one that lets us in, nor, where all have moved to
        new addresses, the one that leads."""
        assert self._metadata is not None
        while self._is_nobody or self.raft.leader is None:
            for peer in self._config.join:
                self._met |= await self._introductions.ask(peer.host, peer.port)
            self._dial(self._metadata.state)
            await anyio.sleep(MEET_S)

    def _known(self) -> set[tuple[str, int]]:
        """Peer addresses of all nodes."""
        brokers = () if self._metadata is None else self._metadata.state.brokers.values()
        return {(broker.raft_host, broker.raft_port) for broker in brokers}

    async def take_part(self) -> None:
        """Return when this node's view of the metadata is that of the cluster, and no other live
        node has its id.

        Raises MembershipError.
        """
        assert self._metadata is not None
        if self._is_nobody and not self._config.join:
            raise MembershipError(
                "this data directory belongs to a node that was to join a cluster and was never let"
                " in: name a node of that cluster with --join, or, to form a cluster, start with"
                " an empty --data-dir"
            )
        admission = Admission(
            node=self._config.node_id,
            raft=self.raft,
            metadata=self._metadata,
            call_soon=asyncio.get_running_loop().call_soon_threadsafe,
        )
        await admission.take_part(joins=self._data.identity.joins)

    @property
    def _is_nobody(self) -> bool:
        """Nobody has let us in yet, as far as we have heard."""
        return not self.raft.members.voters

    # -- addresses

    def _identity(self) -> Identity:
        identity = own_identity(self._config, self._data, self._bound_port)
        if not identity.cluster_id and self._metadata is not None:
            return msgspec.structs.replace(identity, cluster_id=self._metadata.state.cluster_id)
        return identity

    def _address(self, node: int) -> tuple[str, int] | None:
        assert self._metadata is not None
        broker = self._metadata.state.brokers.get(node)
        return None if broker is None else (broker.raft_host, broker.raft_port)

    def _addresses_changed(self, before: ClusterState, after: ClusterState) -> None:
        if before.brokers is not after.brokers:
            self._dial(after)

    def _dial(self, state: ClusterState) -> None:
        known = {(broker.raft_host, broker.raft_port) for broker in state.brokers.values()}
        listed = {(peer.host, peer.port) for peer in self._config.join}
        self._links.set_addresses(frozenset((known | listed | self._met) - {self.advertised}))


def is_registered(state: ClusterState, voter: str) -> bool:
    """Whoever is let in and then refused its id, or never comes to register, would be a voter that
    every majority has to do without, and that nobody misses."""
    return any(broker.disk.hex() == voter for broker in state.brokers.values())


def peer_port(config: Config, identity: Callable[[], Identity]) -> PeerPort:
    """Raises MembershipError for a secret that cannot be read or is too short."""
    try:
        return PeerPort(identity, _secret(config.cluster_secret_file))
    except ValueError as error:
        raise MembershipError(f"{error} (cluster_secret_file)") from error


def own_identity(config: Config, data: DataDir, bound_port: int) -> Identity:
    """What this node says of itself to others, as far as its files know."""
    host, port = _advertised(config, bound_port)
    return Identity(data.identity.disk_id, config.node_id, data.identity.cluster_id, host, port)


def _advertised(config: Config, bound_port: int) -> tuple[str, int]:
    return config.raft_advertise_host or config.raft_host, bound_port


def _secret(path: Path | None) -> bytes:
    """The cluster's secret without white space at its ends; b"" for none."""
    if path is None:
        return b""
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise MembershipError(f"the cluster secret cannot be read: {error}") from error
