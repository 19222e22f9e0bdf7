"""Five machines, and one of them that leads, falls, and leads again; scene after scene.

Its first reign leaves entries with one friend, who acknowledges them. Others overrule them. In its
second reign another friend alone hears it, while the first one's old words come again; then the
rest go on without either. Whoever counts words of a past reign loses here what it has answered."""

from collections.abc import Callable, Iterator
from functools import partial

from tests.sim.raft.rounds import SETTLE_S, Rounds

REIGNS_SIZE = 5
"""Machines: a leader, one who follows, and one who is thought to, make a majority."""
HEAL_S = (0.1, 0.4)
"""Until everybody has caught up, more or less."""
REIGN_S = (0.02, 0.15)
SOON_S = (0.005, 0.03)
LATER_S = (0.01, 0.08)


class Reigns(Rounds):
    """Lasts from `begin` to the end. Roles and times are dealt anew for each scene."""

    ASKS = (3, 6, 12, 20)
    SAID_MAX = 400

    def begin(self) -> None:
        """A scene, and those after it. Fewer than four machines cannot play it."""
        names = self._rng.sample(sorted(self._cluster.members), len(self._cluster.members))
        if self._scheduler.now >= self._end or len(names) < 4:
            return
        self._king, self._friend, self._heir, *self._others = names
        self._until = self._end
        self._changes_members = False
        self._network.reconnect_s = (0.001, 0.01)
        self._network.patience_s = (0.01, 0.1)
        for delay_s, act in self._scene():
            if self._scheduler.now + delay_s < self._end:
                self._scheduler.after(delay_s, act)

    def _scene(self) -> Iterator[tuple[float, Callable[[], None]]]:
        """What happens, and after how many seconds."""
        king, friend, heir, others = self._king, self._friend, self._heir, self._others
        everybody = [king, friend, heir, *others]
        rest = [friend, *others]
        ask = (partial(self._ask, king), SOON_S)
        at = 0.0
        for company, leader, stay_s, acts in (
            (everybody, king, HEAL_S, ()),
            ([king, friend], "", REIGN_S, (ask, ask, ask)),
            ([heir, *others], self._rng.choice(others), REIGN_S, ((self._fall, SOON_S),)),
            (everybody, "", REIGN_S, ()),
            (everybody, king, REIGN_S, (ask, ask, (self._remember, LATER_S))),
            (rest, self._rng.choice(rest), REIGN_S, ()),
        ):
            yield at, partial(self._gather, company)
            if leader == king and at > 0:
                yield at, self._whisper
            at += SETTLE_S
            if leader:
                yield at, partial(self._elect, company, leader)
            for act, when_s in acts:
                yield at + self._rng.uniform(*when_s), act
            at += self._rng.uniform(*stay_s)
        yield at, self.begin

    def _gather(self, company: list[str]) -> None:
        """Only these hear each other, and so do the others."""
        names = sorted(self._cluster.members)
        cut = {(a, b) for a in names for b in names if (a in company) != (b in company)}
        self._network.set_cut(cut, 0.0)
        self._left.clear()

    def _whisper(self) -> None:
        """From now on the king's entries reach the heir alone."""
        for name in (self._friend, *self._others):
            self._left[self._king, name] = 0

    def _fall(self) -> None:
        """The king's process dies, and with it all that was asked of it: nobody asks the next
        leader for the same again, and the places of its entries stay free."""
        member = self._cluster.members.get(self._king)
        if member is not None and self._rng.random() < 0.8:
            member.kill(power=self._rng.random() < 0.3)
            self._cluster.restart_later(member, 0.02)

    def _remember(self) -> None:
        """The king hears again what the friend has said to it."""
        said = [each for each in self._said.get(self._king, ()) if each[0] == self._friend]
        for source, data in said[-self._rng.choice([20, 100, 400]) :]:
            self._network.repeat(source, self._king, data)
