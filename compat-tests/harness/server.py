"""A broker as a process of its own, on free ports, with its data in a temporary folder."""

import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WALRUS = str(Path(sys.executable).with_name("walrus"))
WALRUS_CLI = str(Path(sys.executable).with_name("walrus-cli"))

ROOT = Path(__file__).parents[2]

START_S_MAX = 40.0
STOP_S_MAX = 40.0

_FIRST_PORT, _LAST_PORT = 18_000, 32_000
"""Below the range from which the kernel takes ports for outgoing connections: while a broker is
down between two starts, no client's own socket may take its port."""

DESCRIPTOR_COUNT = 10_000
"""Enough for thousands of connections, in this process and in the servers, which inherit it."""

_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(_soft, min(_hard, DESCRIPTOR_COUNT)), _hard))

_random = random.Random(os.getpid() ^ time.time_ns())


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    while True:
        port = _random.randint(_FIRST_PORT, _LAST_PORT)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of a node that happen to be there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WALRUS_")}
    # Where hypothesis is installed kio prepares it, which takes seconds in a folder without its
    # cache. Users have no hypothesis.
    cache = {"HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis")}
    return kept | cache | dict(extra or {})


@dataclass
class Server:
    """One node. `start` may be called again after `kill` or `stop`: same ports, same data."""

    folder: Path
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    """A program that runs the broker, `strace` for one."""
    native_port: int = field(default_factory=free_port)
    kafka_port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    raft_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    _is_ended: bool = False

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def log_path(self) -> Path:
        return self.folder / "server.log"

    @property
    def kafka(self) -> str:
        """What clients call bootstrap servers."""
        return f"127.0.0.1:{self.kafka_port}"

    @property
    def native(self) -> str:
        """What walrus-cli calls the address."""
        return f"127.0.0.1:{self.native_port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def command(self, **changed: object) -> list[str]:
        """The command line; `changed` are flags with other values, as `node_id=2`."""
        flags: dict[str, object] = {
            "node_id": 1,
            "data_dir": self.data_dir,
            "client_port": self.native_port,
            "kafka_port": self.kafka_port,
            "admin_port": self.admin_port,
            "raft_port": self.raft_port,
        } | changed
        if "--kafka-listener" in self.arguments:
            del flags["kafka_port"]  # the two exclude each other; one of the listeners has it
        given = [
            part
            for name, value in flags.items()
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        return [*self.prefix, WALRUS, "serve", *given, *self.arguments]

    # ---- life ------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> "Server":
        """Start it, and return when it says it is ready."""
        assert self.process is None or self.process.poll() is not None, "it is running"
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

    def wait_until_ready(self) -> None:
        """Raises AssertionError with the log when it ends instead, or takes too long."""
        assert self.process is not None
        deadline = time.monotonic() + START_S_MAX
        while not self.is_ready():
            code = self.process.poll()
            assert code is None, f"the server ended with {code}:\n{self.log()}"
            assert time.monotonic() < deadline, f"the server is not ready:\n{self.log()}"
            time.sleep(0.02)

    def is_ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        """What a power cut is to a process: no goodbye."""
        assert self.process is not None
        self._is_ended = True
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S_MAX)

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        assert self.process is not None
        self._is_ended = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S_MAX)

    def close(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.kill()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    # ---- what can be seen of it ------------------------------------------------------------------

    def has_died(self) -> bool:
        """Ended, and neither `kill` nor `stop` ended it."""
        return self.process is not None and not self._is_ended and self.process.poll() is not None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page of the admin port. Raises OSError when nobody answers."""
        address = f"http://127.0.0.1:{self.admin_port}{path}"
        try:
            with urllib.request.urlopen(address, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def json(self, path: str) -> Any:
        return json.loads(self.get(path)[1])

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of `name` that carry `labels`."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            sample = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if sample and sample[1] == name:
                found = dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or ""))
                if labels.items() <= found.items():
                    total += float(sample[3])
        return total

    def memory_size(self, field_name: str = "VmRSS") -> int:
        """Bytes of memory of the process now (`VmRSS`) or at most so far (`VmHWM`)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"^{field_name}:\s+(\d+) kB", status, re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024

    def segment_files(self) -> list[Path]:
        """Every file of records, in the order of their offsets for each topic."""
        return sorted(self.data_dir.rglob("*.log"))
