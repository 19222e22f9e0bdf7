"""Raft over real sockets, in real processes that are killed, stopped and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.processes import wait_until

SECRET = "0123456789abcdef0123456789abcdef"
ROOT = Path(__file__).parents[3]


class Process:
    """One member, spoken to by lines (see `raft_process.py`)."""

    def __init__(self, folder: Path, name: str, ports: dict[str, int], secret: str) -> None:
        others = ",".join(f"{other}={port}" for other, port in ports.items() if other != name)
        module = "tests.broker.peer.raft_process"
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder / name), name, str(ports[name]), others],
            cwd=ROOT,
            env={**os.environ, "SECRET": secret},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.hear() == {"ready": True}

    def ask(self, line: str) -> dict[str, Any]:
        self.say(line)
        return self.hear()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Processes:
    """Three of them."""

    def __init__(self, folder: Path, secret: str = SECRET) -> None:
        self._folder = folder
        self._secret = secret
        self._ports = dict(zip("abc", _free_ports(3), strict=True))
        self.running = {name: self._start(name) for name in self._ports}

    def _start(self, name: str) -> Process:
        return Process(self._folder, name, self._ports, self._secret)

    def restart(self, name: str) -> None:
        self.running[name] = self._start(name)

    def leader(self) -> Process:
        """Whoever leads now; asks until somebody does."""

        def found() -> Process | None:
            each = self.running.values()
            return next((one for one in each if one.ask("status")["status"]["is_leader"]), None)

        return wait_until(found, "a leader")

    def settled_hashes(self) -> set[int]:
        """The hashes of their states, once all are at the same revision."""

        def settled() -> set[int] | None:
            answers = [process.ask("status") for process in self.running.values()]
            is_settled = len({answer["revision"] for answer in answers}) == 1
            return {answer["hash"] for answer in answers} if is_settled else None

        return wait_until(settled, "one revision of all")

    def end(self) -> None:
        for process in self.running.values():
            process.end()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.end()


@pytest.mark.crash
@pytest.mark.timeout(120)
def test_three_processes_killed_and_stopped_in_turn_lose_nothing(processes: Processes) -> None:
    firsts: list[int] = []
    for round_number in range(8):
        victim = processes.leader() if round_number % 2 else processes.running["a"]
        others = [each for each in processes.running.values() if each is not victim]
        if round_number % 3 == 2:
            victim.signal(signal.SIGSTOP)
        else:
            victim.end()
        for each in others:
            answer = each.ask("ids 20 1")
            assert answer["errors"] == []
            firsts += answer["firsts"]
        if round_number % 3 == 2:
            victim.signal(signal.SIGCONT)
        else:
            processes.restart(victim.name)
        answer = processes.running[victim.name].ask("ids 5 1")
        assert answer["errors"] == []
        firsts += answer["firsts"]
    assert len(set(firsts)) == len(firsts) == 8 * 45
    assert len(processes.settled_hashes()) == 1


@pytest.mark.crash
@pytest.mark.timeout(60)
def test_a_leader_that_is_stopped_politely_is_replaced_before_it_is_missed(
    processes: Processes,
) -> None:
    leader = processes.leader()
    leader.ask("ids 1 1")
    leader.say("hand_over")
    wait_until(lambda: not leader.ask("status")["status"]["is_leader"], "another leader")
    assert processes.leader() is not leader
