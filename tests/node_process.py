"""A node as a process of its own on loopback, as an operator would start it."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

ROOT = Path(__file__).parents[1]

WALRUS = str(Path(sys.executable).with_name("walrus"))

START_S_MAX = 60.0
STOP_S_MAX = 60.0

_FIRST_PORT, _LAST_PORT = 18_000, 32_000
"""Below the range from which the kernel takes ports for outgoing connections: while a node is down
between two starts, no client's own socket may take its port."""

_random = random.Random(os.getpid() ^ time.time_ns())
_given: set[int] = set()


def free_port() -> int:
    """A port on which nobody listens, and which this process has not given before."""
    while True:
        port = _random.randint(_FIRST_PORT, _LAST_PORT)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            _given.add(port)
            return port


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of a node that happen to be there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WALRUS_")}
    # Where hypothesis is installed kio prepares it, which takes seconds in a folder without its
    # cache. Users have no hypothesis.
    cache = {"HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis")}
    return kept | cache | dict(extra or {})


@dataclass
class NodeProcess:
    """One node. It may be started again after `kill` or `stop`: same ports, same data."""

    page_s_max: ClassVar[float] = 10.0
    """How long a page of the admin port may take."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    arguments: Sequence[str] = field(default=(), kw_only=True)
    prefix: Sequence[str] = field(default=(), kw_only=True)
    """A program that runs the node, `strace` for one."""
    native_port: int = field(default_factory=free_port, kw_only=True)
    kafka_port: int = field(default_factory=free_port, kw_only=True)
    admin_port: int = field(default_factory=free_port, kw_only=True)
    raft_port: int = field(default_factory=free_port, kw_only=True)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _is_ended: bool = field(default=False, init=False)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def log_path(self) -> Path:
        return self.folder / "node.log"

    @property
    def kafka(self) -> str:
        """What clients call bootstrap servers."""
        return f"127.0.0.1:{self.kafka_port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def flags(self) -> dict[str, object]:
        """By their names, without dashes."""
        return {
            "node_id": 1,
            "data_dir": self.data_dir,
            "client_port": self.native_port,
            "kafka_port": self.kafka_port,
            "admin_port": self.admin_port,
            "raft_port": self.raft_port,
        }

    def command(self, **changed: object) -> list[str]:
        """The command line; `changed` are flags with other values, as `node_id=2`."""
        flags = self.flags() | changed
        if "--kafka-listener" in self.arguments:
            del flags["kafka_port"]  # the two exclude each other; one of the listeners has it
        given = [
            part
            for name, value in flags.items()
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        return [*self.prefix, WALRUS, "serve", *given, *self.arguments]

    # ---- life ------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> Self:
        """Start it, and return when it says it is ready."""
        assert not self.is_running, "it is running"
        self._is_ended = False
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=clean_environment(self.environment),
                start_new_session=True,
            )
        if wait:
            self.wait_until_ready()
        return self

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_until_ready(self) -> None:
        """Raises AssertionError with the log when it ends instead, or takes too long."""
        assert self.process is not None
        deadline = time.monotonic() + START_S_MAX
        while not self.is_ready():
            code = self.process.poll()
            assert code is None, f"{self.folder.name} ended with {code}:\n{self.log_tail()}"
            is_late = time.monotonic() >= deadline
            assert not is_late, f"{self.folder.name} is not ready:\n{self.log_tail()}"
            time.sleep(0.02)

    def is_ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        """What a power cut is to a process: no goodbye."""
        assert self.process is not None
        if self.is_running:
            self._is_ended = True
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S_MAX)

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        assert self.process is not None
        if self.is_running:
            self._is_ended = True
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S_MAX)

    def close(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        if self.process is None:
            return
        self.kill()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    # ---- what can be seen of it ------------------------------------------------------------------

    def has_died(self) -> bool:
        """Ended, and neither `kill` nor `stop` ended it."""
        return self.process is not None and not self._is_ended and self.process.poll() is not None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self) -> str:
        return "\n".join(self.log().splitlines()[-30:])

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page of the admin port. Raises OSError when nobody answers."""
        address = f"http://127.0.0.1:{self.admin_port}{path}"
        try:
            with urllib.request.urlopen(address, timeout=self.page_s_max) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def json(self, path: str) -> Any:
        return json.loads(self.get(path)[1])
