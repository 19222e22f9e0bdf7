"""This node among others: the peer port, Raft on it, and how a node comes in.

A node alone forms a cluster of one. A node with `--join` asks any of the listed ones to let it in,
and waits as long as it takes: nodes may be started in any order. With `--bootstrap` it forms the
cluster itself, unless a listed peer already belongs to one. Whoever has been a member knows the
others from its own files and needs none of this.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

import anyio
from anyio.abc import TaskGroup

from broker.config import Config
from broker.controller.data_dir import DataDir
from broker.controller.metadata import Metadata
from broker.errors import PeerError
from broker.peer import Identity, PeerPort, RaftLinks
from broker.peer.links import RAFT_CHANNEL
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
        try:
            self._port = PeerPort(self._identity, _secret(config.cluster_secret_file))
        except ValueError as error:
            raise MembershipError(f"{error} (cluster_secret_file)") from error
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
        return self._config.raft_advertise_host or self._config.raft_host, self._bound_port

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
        if self._is_nobody:
            tasks.start_soon(self._meet_others)

    async def _meet_others(self) -> None:
        """Whoever was named to us need not be the one that lets us in."""
        assert self._metadata is not None
        while self._is_nobody:
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
        if self._is_nobody and (self._config.bootstrap or not self._config.join):
            raise MembershipError(
                "this data directory belongs to a node that was to join a cluster and was never let"
                " in: name a node of that cluster with --join, or, to form a cluster, start with"
                " an empty --data-dir"
            )
        if self._config.bootstrap and self._is_alone:
            await self._check_bootstrap()
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

    @property
    def _is_alone(self) -> bool:
        """Neither formed nor joined a cluster: all that others know of comes with one."""
        return not self.raft.state.cluster_id and self.raft.members.voters == (self.raft.voter_id,)

    async def _check_bootstrap(self) -> None:
        """Form a cluster only if no listed peer that answers knows of one."""
        for peer in self._config.join:
            try:
                channel = await self._port.dial(peer.host, peer.port, RAFT_CHANNEL)
            except (PeerError, OSError):
                continue
            await channel.aclose()
            if channel.peer.cluster_id:
                raise MembershipError(
                    f"--bootstrap would form a second cluster: {peer} belongs to"
                    f" {channel.peer.cluster_id}; start without --bootstrap to join it"
                )

    # -- addresses

    def _identity(self) -> Identity:
        host, port = self.advertised
        cluster_id = self._data.identity.cluster_id
        if not cluster_id and self._metadata is not None:
            cluster_id = self._metadata.state.cluster_id
        return Identity(self._data.identity.disk_id, self._config.node_id, cluster_id, host, port)

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


def _secret(path: Path | None) -> bytes:
    """The cluster's secret without white space at its ends; b"" for none."""
    if path is None:
        return b""
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise MembershipError(f"the cluster secret cannot be read: {error}") from error
