"""`walrus dev --nodes 3`: one command, three nodes, and nothing left of them afterwards."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.native import Native
from tests.cluster.clients import get_all, put
from tests.cluster.processes import wait_until
from tests.node_process import ROOT, free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


class Dev:
    """The command as a process, and what it says."""

    def __init__(self, folder: Path) -> None:
        flags = [f"--{name}-port={free_port()}" for name in ("client", "kafka", "admin", "raft")]
        kept = {name: text for name, text in os.environ.items() if not name.startswith("WALRUS_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "broker.cli.main", "dev", "--nodes", "3", *flags],
            cwd=folder,
            env=kept | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ""
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.said += line

    def ports(self, kind: str) -> list[int]:
        """Of the three nodes, as the banner names them."""
        wait_until(lambda: "cluster status" in self.said, "the banner", timeout_s=120)
        return [int(port) for port in re.findall(rf"node \d .*{kind} \S*:(\d+)", self.said)]

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def end(self) -> int:
        """Ctrl-C at a terminal: everybody in the process group hears it."""
        os.killpg(self._process.pid, signal.SIGINT)
        code = self._process.wait(90)
        self._listener.join()
        return code

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._listener.join()


def test_nodes_that_do_not_find_each_other_or_do_not_end(tmp_path: Path) -> None:
    dev = Dev(tmp_path)
    try:
        ports = dev.ports("native")
        assert len(set(ports)) == 3, dev.said
        with Native(ports[0]) as client:
            client.register("hello")
        with Native(ports[1]) as client:
            put(client, "hello", b"hello world")
        with Native(ports[2]) as client:
            assert get_all(client, "hello") == [b"hello world"]
        pids = dev.pids()
        assert len(pids) == 3
        assert dev.end() == 0, dev.said
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert re.search(r"^node-3 \| .*asked to stop", dev.said, re.MULTILINE)
    finally:
        dev.close()


def test_a_node_that_is_killed_leaves_the_others_and_a_way_back(tmp_path: Path) -> None:
    dev = Dev(tmp_path)
    try:
        ports = dev.ports("native")
        os.kill(dev.pids()[2], signal.SIGKILL)
        wait_until(lambda: "To start it again" in dev.said, "it says what happened")
        assert "node 3 ended by signal 9" in dev.said
        deadline = time.monotonic() + 60
        with Native(ports[0]) as client:
            client.register("hello")
            while True:
                try:
                    put(client, "hello", b"with two of three")
                except Exception:  # noqa: BLE001 - refused until the node is known to be gone
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
                else:
                    break
    finally:
        dev.end()
        dev.close()
