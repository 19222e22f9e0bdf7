"""A network in virtual time: delays, cuts in one or both directions, and connections that take what
they carry along.

Within one connection messages arrive in order, as over TCP. A cut breaks it: what was under way is
lost, both ends hear of it a little later, and a new connection comes up some time after the cut has
healed. Silent loss (a cut nobody hears of) happens too, until somebody's patience ends."""

import heapq
import random
from collections.abc import Callable
from typing import Protocol

RECONNECT_S = (0.01, 0.4)
PATIENCE_S = (0.05, 2.0)
"""How long a connection that lost something goes on."""
ECHO_S = (0.005, 0.2, 2.0, 8.0)
LOST = float("inf")
"""Arrival of everything behind a lost message."""


class Scheduler:
    """Virtual time: callbacks in the order of their time, then of their arrival."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time: float, callback: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (max(time, self.now), self._count, callback))

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.at(self.now + delay_s, callback)

    def run_until(self, time: float) -> None:
        while self._queue and self._queue[0][0] <= time:
            self.now, _count, callback = heapq.heappop(self._queue)
            callback()
        self.now = time


class Endpoint(Protocol):
    """What the network needs of a node."""

    def receive(self, voter: str, data: bytes) -> None: ...
    def connected(self, voter: str) -> None: ...
    def disconnected(self, voter: str) -> None: ...


class Network:
    """All links between all nodes."""

    def __init__(self, scheduler: Scheduler, seed: int) -> None:
        self._scheduler = scheduler
        self._seed = seed
        self._rngs: dict[tuple[str, str], random.Random] = {}
        self.nodes: dict[str, Endpoint] = {}
        self._connections: dict[frozenset[str], int] = {}
        """Number of the connection that is up between two nodes."""
        self._arrivals: dict[tuple[str, str, int], float] = {}
        self._count = 0
        self.cut: set[tuple[str, str]] = set()
        """(from, to) in which nothing arrives."""
        self.delay_s = (0.0005, 0.005)
        self.echo_rate = 0.0
        """Share of the messages that arrive once more, or at last, much later, whatever became of
        the connection: what a receiver reads from a socket whose peer has long dialled anew."""
        self.echo_s: tuple[float, ...] = ECHO_S
        """How much later, at most; one of these."""
        self.reconnect_s = RECONNECT_S
        self.patience_s = PATIENCE_S
        self.may_pass: Callable[[str, str, bytes], bool] = lambda _from, _to, _data: True
        """What does not is lost, with the connection."""
        self.on_message: Callable[[str, str, bytes], None] = lambda _from, _to, _data: None
        self._last_words: set[int] = set()
        """Connections whose messages still arrive, though one end is gone."""

    def _rng(self, source: str, target: str) -> random.Random:
        """Each link has its own, so that the order in which a node sends does not change what
        happens elsewhere."""
        rng = self._rngs.get((source, target))
        if rng is None:
            rng = self._rngs[source, target] = random.Random(f"{self._seed} {source} {target}")
        return rng

    # ---- nodes come and go ---------------------------------------------------------------------

    def attach(self, name: str, node: Endpoint) -> None:
        self.nodes[name] = node
        for other in sorted(self.nodes):
            if other != name:
                self._dial_later(name, other)

    def detach(self, name: str, *, is_heard: bool = False) -> None:
        """The process is gone: its connections break. What it had sent may still be heard."""
        del self.nodes[name]
        if is_heard:
            self._last_words |= {n for pair, n in self._connections.items() if name in pair}
        for other in sorted(self.nodes):
            self._break(name, other)

    def _dial_later(self, one: str, other: str) -> None:
        delay_s = self._rng(one, other).uniform(*self.reconnect_s)
        self._scheduler.after(delay_s, lambda: self._dial(one, other))

    def _dial(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        if pair in self._connections or one not in self.nodes or other not in self.nodes:
            return
        if (one, other) in self.cut or (other, one) in self.cut:
            self._dial_later(one, other)
            return
        self._count += 1
        self._connections[pair] = self._count
        self.nodes[one].connected(other)
        self.nodes[other].connected(one)

    def _break(self, one: str, other: str) -> None:
        """Both ends hear of it; what was under way is lost; they dial again."""
        if self._connections.pop(frozenset((one, other)), None) is None:
            return
        for name, peer in ((one, other), (other, one)):
            if name in self.nodes:
                self.nodes[name].disconnected(peer)
        self._dial_later(one, other)

    # ---- trouble -------------------------------------------------------------------------------

    def set_cut(self, cut: set[tuple[str, str]], notice_s: float) -> None:
        """Cut these directions, and only these. The ends of a broken connection notice after a
        while."""
        fresh = cut - self.cut
        self.cut = set(cut)
        for one, other in sorted(fresh):
            pair = frozenset((one, other))
            number = self._connections.get(pair)
            if number is not None:
                self._scheduler.after(notice_s, lambda p=pair, n=number: self._reset(p, n))  # type: ignore[misc]

    def _reset(self, pair: frozenset[str], number: int) -> None:
        """A connection that lost something can only be reset: nothing after a gap may arrive."""
        if self._connections.get(pair) == number:
            one, other = sorted(pair)
            self._break(one, other)

    def reset_all(self) -> None:
        for name in sorted(self.nodes):
            self.reset(name)

    def reset(self, name: str) -> None:
        """All connections of this node break, and are dialled anew."""
        for pair in sorted((pair for pair in self._connections if name in pair), key=sorted):
            self._break(*sorted(pair))

    # ---- messages ------------------------------------------------------------------------------

    def send(self, source: str, target: str, data: bytes) -> bool:
        number = self._connections.get(frozenset((source, target)))
        if number is None:
            return False
        self._echo_later(source, target, data)
        if (source, target) in self.cut:
            self._lose(source, target, number)
            return True
        key = (source, target, number)
        if self._arrivals.get(key) == LOST:
            return True
        if not self.may_pass(source, target, data):
            self._lose(source, target, number)
            return True
        delay_s = self._rng(source, target).uniform(*self.delay_s)
        arrival = max(self._scheduler.now + delay_s, self._arrivals.get(key, 0.0) + 1e-9)
        self._arrivals[key] = arrival
        self._scheduler.at(arrival, lambda: self._deliver(source, target, number, data))
        return True

    def _echo_later(self, source: str, target: str, data: bytes) -> None:
        rng = self._rng(source, target)
        if self.echo_rate and rng.random() < self.echo_rate:
            late_s = self.delay_s[1] + rng.uniform(0.0, rng.choice(self.echo_s))
            self._scheduler.after(late_s, lambda: self._echo(source, target, data))

    def _echo(self, source: str, target: str, data: bytes) -> None:
        if (source, target) not in self.cut:
            self.repeat(source, target, data)

    def repeat(self, source: str, target: str, data: bytes) -> None:
        """Deliver what was said at some time, as if it had waited at the target since."""
        if target in self.nodes:
            self.on_message(source, target, data)
            self.nodes[target].receive(source, data)

    def _lose(self, source: str, target: str, number: int) -> None:
        """TCP would repeat it until the connection dies: so it dies."""
        pair = frozenset((source, target))
        patience_s = self._rng(source, target).uniform(*self.patience_s)
        self._scheduler.after(patience_s, lambda: self._reset(pair, number))
        self._arrivals[source, target, number] = LOST

    def _deliver(self, source: str, target: str, number: int, data: bytes) -> None:
        is_up = self._connections.get(frozenset((source, target))) == number
        is_up = is_up or (number in self._last_words and source not in self.nodes)
        if not is_up or target not in self.nodes:
            return
        if (source, target) in self.cut:
            self._lose(source, target, number)
            return
        self.on_message(source, target, data)
        self.nodes[target].receive(source, data)
