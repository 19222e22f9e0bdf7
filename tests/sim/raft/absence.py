"""Somebody is away while a machine joins, and is then asked to let that machine go.

Whoever is away has a log in which the newcomer never was; whoever takes that for an answer takes
the machine away, and it is a member still."""

from collections.abc import Callable
from functools import partial

from tests.sim.raft.rounds import Rounds

WISH_S = 6.0
"""After it has joined, no wish that it join is left by then; a late one would bring it back."""
RETURN_S = (0.5, 3.0)


class Absence(Rounds):
    """Scene after scene, to the end."""

    def begin(self) -> None:
        """Cut one off, and let another one join. Fewer than three machines cannot play it."""
        if len(self._cluster.members) < 3:
            return
        self._network.set_cut(set(), 0.0)
        absent = self._rng.choice(sorted(self._cluster.members))
        self._later(self._rng.uniform(*RETURN_S), partial(self._leave_out, absent))

    def _leave_out(self, absent: str) -> None:
        others = [name for name in self._cluster.members if name != absent]
        cut = {(absent, name) for name in others} | {(name, absent) for name in others}
        known = set(self._cluster.members)
        self._cluster.change_members(joins=True)
        (newcomer,) = set(self._cluster.members) - known or {""}
        self._network.set_cut(cut | {(absent, newcomer), (newcomer, absent)}, 0.0)
        self._later(1.0, partial(self._joined, newcomer))

    def _joined(self, newcomer: str) -> None:
        """Go on when it has; who was away is still so, if nothing else healed the network."""
        if self._cluster.change is None:
            self._later(WISH_S, partial(self._let_go, newcomer))
        else:
            self._later(1.0, partial(self._joined, newcomer))

    def _let_go(self, newcomer: str) -> None:
        """Somebody is asked, again and again, and perhaps it is the one who was away."""
        if self._cluster.change is None and newcomer in self._cluster.members:
            self._cluster.change_members(joins=False, leaves=newcomer)
        self._later(self._rng.uniform(*RETURN_S), self.begin)

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        if self._scheduler.now + delay_s < self._end:
            self._scheduler.after(delay_s, act)
