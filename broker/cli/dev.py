"""`walrus dev`: one node, or several as child processes, to try things out on this machine."""

import shlex
import signal
import socket
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE

import anyio
import anyio.to_thread
import click
from anyio.abc import Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from broker.cli.banner import durability
from broker.cli.options import settings_options
from broker.cli.serve import run_node, walrus_cli
from broker.config import SETTINGS, Config, Origins, plain

NODES_MAX = 9

_PORTS = ("client_port", "kafka_port", "admin_port", "raft_port")
_NOT_SHARED = ("node_id", "data_dir", "join", "bootstrap", "kafka_advertise", "kafka_listener")
"""Settings that several nodes cannot have in common."""

_LINE_SIZE_MAX = 1024 * 1024
_POLL_S = 0.1
_PORTS_TRIED_MAX = 1000


@click.command()
@click.option(
    "--nodes",
    type=click.IntRange(1, NODES_MAX),
    default=1,
    metavar="N",
    help=f"How many nodes, each a process of its own, up to {NODES_MAX}.  [default: 1]",
)
@settings_options(preset={"data_dir": "./walrus-data"})
def dev(config: Config, origins: Origins, nodes: int) -> None:
    """Run a node, or a cluster of them, to try things out: data in ./walrus-data.

    With several nodes each has a folder below it and the next free ports; Ctrl-C stops all.
    Acknowledged records are as durable as with `walrus serve`; `--fsync none` is quicker.
    """
    if nodes == 1:
        sys.exit(run_node(config, origins))
    for name in _NOT_SHARED:
        if origins[name].layer != "default" and name != "data_dir":
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} ({origins[name]}) is for one node, not for {nodes}")
    sys.exit(anyio.run(_Dev(config, origins, nodes).run))


@dataclass
class _Child:
    """One node: its settings beside the common ones, and its process."""

    node_id: int
    data_dir: Path
    ports: dict[str, int]
    process: Process | None = None
    is_ready: bool = False

    def address(self, config: Config, port: str) -> str:
        host = getattr(config, port.replace("_port", "_host"))
        return f"{host}:{self.ports[port]}"


class _Dev:
    """The parent of the nodes. `run` answers the exit code."""

    def __init__(self, config: Config, origins: Origins, count: int) -> None:
        self._config = config
        self._origins = origins
        self._is_stopping = False
        taken: set[int] = set()
        self._children = [
            _Child(
                number,
                config.data_dir / f"node-{number}",
                {name: _free_port(config, name, number - 1, taken) for name in _PORTS},
            )
            for number in range(1, count + 1)
        ]

    async def run(self) -> int:
        code = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._wait_for_signals)
            for child in self._children:
                child.process = await anyio.open_process(
                    self._command(child), stdout=DEVNULL, stderr=PIPE
                )
                tasks.start_soon(self._relay, child)
            tasks.start_soon(self._announce)
            async with anyio.create_task_group() as waiting:
                for child in self._children:
                    waiting.start_soon(self._watch, child)
            code = 0 if self._is_stopping and all(map(_ended_well, self._children)) else 1
            tasks.cancel_scope.cancel()
        return code

    # -- the children

    def _command(self, child: _Child) -> list[str]:
        """`walrus serve` as one would type it."""
        others = [
            other.address(self._config, "raft_port")
            for other in self._children
            if other is not child
        ]
        given: dict[str, object] = {
            setting.name: getattr(self._config, setting.name)
            for setting in SETTINGS
            if self._origins[setting.name].layer == "flag"
        }
        if self._origins["log_format"].layer == "default":
            given["log_format"] = "console"
        given |= {"node_id": child.node_id, "data_dir": child.data_dir, "join": ",".join(others)}
        given |= child.ports
        words = [sys.executable, "-m", "broker.cli.main", "serve"]
        # Who is new and the first forms the cluster; whoever has data knows the others from it.
        words += ["--bootstrap"] if child.node_id == 1 else []
        for name, value in given.items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words.append(f"--{flag}={plain(value)}")
        return words

    async def _relay(self, child: _Child) -> None:
        """Its log, each line with its name in front."""
        assert child.process is not None and child.process.stderr is not None
        stream = BufferedByteReceiveStream(child.process.stderr)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.ClosedResourceError):
            while True:
                line = await stream.receive_until(b"\n", _LINE_SIZE_MAX)
                _say(f"node-{child.node_id} | {line.decode(errors='replace')}", err=True)

    async def _watch(self, child: _Child) -> None:
        assert child.process is not None
        code = await child.process.wait()
        if self._is_stopping:
            return
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        _say(f"walrus dev: node {child.node_id} ended {how}", err=True)
        if not all(other.is_ready for other in self._children):
            self._stop()
        elif any(_is_running(other) for other in self._children):
            _say(f"The others go on. To start it again:\n  {shlex.join(self._command(child))}")

    def _stop(self) -> None:
        self._is_stopping = True
        for child in self._children:
            if child.process is not None and _is_running(child):
                with suppress(ProcessLookupError):
                    child.process.send_signal(signal.SIGTERM)

    async def _wait_for_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                # A second one reaches the nodes, too, and ends them at once.
                self._stop()

    # -- what it says

    async def _announce(self) -> None:
        async with anyio.create_task_group() as waiting:
            for child in self._children:
                waiting.start_soon(self._wait_ready, child, waiting)
        if not self._is_stopping and all(child.is_ready for child in self._children):
            _say(self._banner())

    async def _wait_ready(self, child: _Child, waiting: TaskGroup) -> None:
        url = f"http://{child.address(self._config, 'admin_port')}/readyz"
        while not self._is_stopping:
            if await anyio.to_thread.run_sync(_answers, url, abandon_on_cancel=True):
                child.is_ready = True
                return
            await anyio.sleep(_POLL_S)
        waiting.cancel_scope.cancel()

    def _banner(self) -> str:
        config, first, last = self._config, self._children[0], self._children[-1]
        rows = [
            f"  node {child.node_id}      native {child.address(config, 'client_port')}"
            f"   kafka {child.address(config, 'kafka_port')}"
            f"   admin http://{child.address(config, 'admin_port')}"
            for child in self._children
        ]
        cli = f"{walrus_cli()} --addr"
        brokers = ",".join(child.address(config, "kafka_port") for child in self._children)
        second = self._children[1].address(config, "client_port")
        status = walrus_cli("walrus")
        return "\n".join(
            [
                f"Walrus is serving with {len(self._children)} nodes. Ctrl-C stops them.",
                "",
                *rows,
                f"  data        {config.data_dir.absolute()}",
                f"  durability  {durability(config.fsync)}",
                "",
                "Create, produce, consume, each at another node:",
                f"  {cli} {first.address(config, 'client_port')} register hello",
                f"  {cli} {second} put hello 'hello world'",
                f"  {cli} {last.address(config, 'client_port')} get hello",
                "The same topic with a Kafka client:",
                f"  kcat -b {brokers} -t hello -C -o beginning -e",
                "What the cluster looks like:",
                f"  {status} cluster status --addr {first.address(config, 'admin_port')}",
            ]
        )


def _is_running(child: _Child) -> bool:
    return child.process is not None and child.process.returncode is None


def _ended_well(child: _Child) -> bool:
    return child.process is not None and child.process.returncode == 0


def _free_port(config: Config, name: str, index: int, taken: set[int]) -> int:
    """The setting's port plus `index`, or the next one that nobody has."""
    host, first = getattr(config, name.replace("_port", "_host")), getattr(config, name)
    for port in range(first + index, min(first + _PORTS_TRIED_MAX, 65_536)) if first else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
        if found not in taken:
            taken.add(found)
            return found
    flag = name.replace("_", "-")
    raise click.ClickException(f"no free port from {first + index} on; choose another --{flag}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - a node of ours
            return True
    except OSError:
        return False


def _say(text: str, *, err: bool = False) -> None:
    # Nobody needs to listen for the nodes to serve.
    with suppress(OSError):
        click.echo(text.rstrip("\n"), err=err)
