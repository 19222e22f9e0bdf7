"""Recovery of a segment whose writer is gone (pure): ask, take the longest, repair, commit.

    begin ─▶ AskSeal to every replica
    answered × (R - Qa + 1 definite) ─▶ Copy the missing tail to those that are shorter
    durable to the chosen end on Qa replicas ─▶ Commit

The recoverer may die at any point: another one starts with a higher epoch, and the commit is a
compare-and-set, so at most one end is ever fixed. Fewer definite answers than needed means
unavailable, never lossy, unless an operator says that what is left is enough.
"""

from dataclasses import dataclass

from broker.replication.quorum import ack_quorum, seal_quorum
from broker.replication.replica import Definite, Refused, SealAnswer, Unknown
from engine.format import SegmentEnd


@dataclass(frozen=True, slots=True)
class AskSeal:
    """Send SEAL(epoch) to `node`, again and again until it answers."""

    node: int
    seal_epoch: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Bring `target` from its own end up to `end` with bytes of `source`."""

    source: int
    target: int
    end: SegmentEnd


@dataclass(frozen=True, slots=True)
class Commit:
    """Propose this end; `holders` have all of it on disk."""

    end: SegmentEnd
    holders: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Superseded:
    """A higher seal epoch is about: stop, its recoverer carries on."""

    promised_epoch: int


SealEffect = AskSeal | Copy | Commit | Superseded


class Recovery:
    """One attempt to seal one segment at one epoch. Feed it answers; do what it says.

    `replicas` is the segment's write set, `void` those that cannot vouch for it (they are asked,
    and may receive copies, but never count as definite). `spares` are live nodes outside the write
    set: when too few replicas are there to hold what was chosen, they are given copies. They have
    no say in where the segment ends.
    """

    def __init__(
        self,
        *,
        seal_epoch: int,
        replicas: tuple[int, ...],
        void: frozenset[int] = frozenset(),
        spares: tuple[int, ...] = (),
    ) -> None:
        self.seal_epoch = seal_epoch
        self.replicas = replicas
        self.void = void
        self.spares = spares
        self._answers: dict[int, SealAnswer] = {}
        self._durable: dict[int, int] = {}
        self._chosen: SegmentEnd | None = None
        self._is_done = False
        self._accepts_loss = False
        self._awaited: frozenset[int] = frozenset()

    def begin(self) -> list[SealEffect]:
        return [AskSeal(node, self.seal_epoch) for node in self.replicas]

    def answered(self, node: int, answer: SealAnswer) -> list[SealEffect]:
        """`node` has promised (or refused). A repeated answer of one node counts once."""
        if self._is_done or node not in self.replicas or node in self._answers:
            return []
        if isinstance(answer, Refused):
            self._is_done = True
            return [Superseded(answer.promised_epoch)]
        if node in self.void and isinstance(answer, Definite):
            answer = Unknown("the metadata says this disk may have lost writes", answer.end)
        self._answers[node] = answer
        if node in self._ends():
            self._durable[node] = self._ends()[node].end_offset
        return self._choose() if self._chosen is None else self._repair(node)

    def accept_loss(self, awaited: frozenset[int] = frozenset()) -> list[SealEffect]:
        """An operator's word: choose the longest of what has been answered so far, or of the next
        answer, by disks that cannot vouch, too. Acknowledged records may be missing in it.

        `awaited` are there and can vouch: what they have is not lost because they are slow."""
        if self._is_done or self._chosen is not None:
            return []
        self._accepts_loss = True
        self._awaited = awaited
        for node, end in self._ends().items():
            self._durable[node] = end.end_offset
        return self._choose()

    def copied(self, node: int, end_offset: int) -> list[SealEffect]:
        """`node` is durable up to `end_offset` under this seal's promise."""
        self._durable[node] = max(self._durable.get(node, 0), end_offset)
        return self._commit_if_safe()

    def _ends(self) -> dict[int, SegmentEnd]:
        """The ends that count."""
        found: dict[int, SegmentEnd] = {}
        for node, answer in self._answers.items():
            counts = isinstance(answer, Definite) or self._accepts_loss
            if counts and not isinstance(answer, Refused) and answer.end is not None:
                found[node] = answer.end
        return found

    def _choose(self) -> list[SealEffect]:
        ends = self._ends()
        if len(ends) < (1 if self._accepts_loss else seal_quorum(len(self.replicas))):
            return []
        if self._accepts_loss and not self._awaited <= self._answers.keys():
            return []
        self._chosen = max(ends.values(), key=lambda end: end.end_offset)
        effects: list[SealEffect] = []
        missing = max(0, ack_quorum(len(self.replicas)) - len(self._answers))
        for node in (*self._answers, *self.spares[:missing]):
            effects += self._repair(node, commit=False)
        return effects + self._commit_if_safe()

    def _repair(self, node: int, *, commit: bool = True) -> list[SealEffect]:
        chosen = self._chosen
        assert chosen is not None
        effects: list[SealEffect] = []
        if self._durable.get(node, -1) < chosen.end_offset:
            source = next(n for n, end in self._ends().items() if end == chosen)
            effects.append(Copy(source, node, chosen))
        return effects + (self._commit_if_safe() if commit else [])

    def _commit_if_safe(self) -> list[SealEffect]:
        if self._chosen is None or self._is_done:
            return []
        holders = tuple(
            node
            for node in (*self.replicas, *self.spares)
            if self._durable.get(node, -1) >= self._chosen.end_offset
        )
        if len(holders) < ack_quorum(len(self.replicas)):
            return []
        self._is_done = True
        return [Commit(self._chosen, holders)]
