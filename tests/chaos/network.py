"""The wires between the nodes: a proxy that can cut or slow each direction of each link.

A node binds one loopback address and advertises another, on which the proxy listens. Who dials is
found in /proc by the socket's inode, because every node dials the same address. A cut link holds
its bytes back, as a real one does: TCP would send them again after it healed. For a process that
has ended the proxy does not listen: who dials it is refused.
"""

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cluster.processes import Node

Link = tuple[int, int]
"""(from node, to node): the direction in which bytes go."""

_CHUNK_SIZE = 64 * 1024

_LOOK_S = 0.02
"""How often is looked who has ended, and who listens."""


class Network:
    """One proxy for all nodes. `cut` and `delay_s` may be changed at any time."""

    def __init__(self, nodes: Mapping[int, Node]) -> None:
        self._nodes = nodes
        self._cut: frozenset[Link] = frozenset()
        self._healed = asyncio.Event()
        self.delay_s: dict[Link, float] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._listen()
        self._add(asyncio.create_task(self._keep_listening()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers.values():
            server.close()

    async def _keep_listening(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._listen()

    async def _listen(self) -> None:
        """For each process from when it listens until it ends; and on cut links, over which nobody
        is told of a refusal."""
        for node_id, node in self._nodes.items():
            is_cut = any(node_id in link for link in self._cut)
            server = self._servers.get(node_id)
            if server is not None and not is_cut and not node.is_running:
                self._servers.pop(node_id).close()
            elif server is None and (is_cut or (node.is_running and _is_listening(node))):
                self._servers[node_id] = await asyncio.start_server(
                    self._accept(node), node.raft_advertise_host, node.raft_port
                )

    def _add(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cut(self, links: frozenset[Link]) -> None:
        """These links, and no others, carry nothing from now on."""
        self._cut = links
        event, self._healed = self._healed, asyncio.Event()
        event.set()

    def isolate(self, node_id: int) -> None:
        others = [other for other in self._nodes if other != node_id]
        self.cut(
            frozenset((node_id, other) for other in others)
            | frozenset((other, node_id) for other in others)
        )

    def _accept(self, node: Node) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._add(asyncio.create_task(self._connection(node, reader, writer)))

        return accepted

    async def _connection(
        self, node: Node, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        source = self._who(writer.get_extra_info("peername")[1])
        there, back = (source, node.node_id), (node.node_id, source)
        try:
            await self._until_open(there)
            far_reader, far_writer = await asyncio.open_connection(node.raft_host, node.raft_port)
        except OSError:
            writer.transport.abort()
            return
        pumps = (
            asyncio.ensure_future(self._pump(reader, far_writer, there)),
            asyncio.ensure_future(self._pump(far_reader, writer, back)),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.transport.abort()
            far_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link
    ) -> None:
        try:
            while chunk := await reader.read(_CHUNK_SIZE):
                await self._until_open(link)
                if delay_s := self.delay_s.get(link):
                    await asyncio.sleep(delay_s)
                writer.write(chunk)
                await writer.drain()
        except OSError:
            # One end is gone; the caller tells the other.
            pass

    async def _until_open(self, link: Link) -> None:
        while link in self._cut:
            await self._healed.wait()

    def _who(self, port: int) -> int:
        """The node whose socket has this local port; 0 when it is already gone."""
        inode = _inode_of(port)
        for node in self._nodes.values():
            if inode and node.is_running and inode in _sockets_of(node.pid):
                return node.node_id
        return 0


def _is_listening(node: Node) -> bool:
    host = int.from_bytes(socket.inet_aton(node.raft_host), sys.byteorder)
    local = f"{host:08X}:{node.raft_port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(fields[1] == local and fields[3] == "0A" for fields in map(str.split, lines))


def _inode_of(port: int) -> str:
    suffix = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(suffix):
            return fields[9]
    return ""


def _sockets_of(pid: int) -> set[str]:
    found = set()
    folder = Path(f"/proc/{pid}/fd")
    try:
        for entry in folder.iterdir():
            try:
                target = str(entry.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        return set()
    return found
