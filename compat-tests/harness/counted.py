"""What the serving thread of a node does for some requests, counted in the interpreter's
instructions: see `counting.py`, which runs there."""

import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.server import Server

COUNT = 25
"""Requests that are counted together, one after the other; as many go before."""

ROUNDS = 4
"""The cheapest is taken: what the node does beside the requests falls into some of them."""

ROUNDS_MAX = 30
"""Before a round that takes too much memory, or too many calls, is believed. One more goes before,
uncounted."""


def counting_server(folder: Path, environment: Mapping[str, str] | None = None) -> Server:
    """Not started yet. How often it asks for events while it waits is a matter of time, and so no
    part of what is counted."""
    program = Path(__file__).parent / "counting.py"
    return Server(
        folder,
        prefix=(sys.executable, str(program)),
        environment={
            "COUNTS": str(folder / "counts.json"),
            "WALRUS_IDLE_POLL_US": "0",
            **(environment or {}),
        },
    )


def repeat(ask: Callable[[], object]) -> None:
    for _ in range(COUNT):
        ask()


def instructions(server: Server, ask: Callable[[], object]) -> Counter[str]:
    """Those of the cheapest round, COUNT requests, by function."""
    repeat(ask)
    rounds = [_counted(server, ask) for _ in range(ROUNDS)]
    return min(rounds, key=lambda counts: sum(counts.values()))


def memory(server: Server, ask: Callable[[], object], *, enough: int) -> Counter[str]:
    """The bytes that COUNT requests, one after the other, take `at_most` and keep `at_end`, and the
    objects that they leave `in_cycles`: the first round that takes no more than `enough`, or the
    last of many. A node that has just started still loads what clients will need, beside the
    requests. The server has COUNTED=memory."""
    repeat(ask)
    for _ in range(ROUNDS_MAX):
        counts = _counted(server, ask)
        if counts["at_most"] <= enough:
            break
    return counts


def _counted(server: Server, ask: Callable[[], object]) -> Counter[str]:
    _signalled(server, signal.SIGUSR1, "counting")
    repeat(ask)
    _signalled(server, signal.SIGUSR2, "counted")
    return Counter(json.loads(Path(server.environment["COUNTS"]).read_text()))


def _signalled(server: Server, number: signal.Signals, answer: str) -> None:
    """Send the signal, and return when the server has said `answer`."""
    with server.log_path.open() as log:
        log.seek(0, 2)
        assert server.process is not None
        server.process.send_signal(number)
        said = ""
        while answer not in said:
            assert server.process.poll() is None
            said += log.read()
