"""Whether two nodes went the same way: trails at chosen entries, remembered for comparison (pure).

A state's trail (`state.ClusterState.trail`) is a hash over everything that led to it, so nodes that
compare it every so often notice that they have parted, at the next comparison at the latest."""

from collections import OrderedDict

from raft.errors import REMEDY
from raft.invariants import InvariantViolated

CHECK_EVERY = 64
"""Entries between two comparisons."""
CHECKS_MAX = 64
"""Past comparisons remembered: a follower is rarely further behind."""


class StateDiverged(InvariantViolated):
    """This node's state is not the leader's at the same index."""


class Trails:
    """Index to trail, of the entries where nodes compare."""

    def __init__(self) -> None:
        self._trails: OrderedDict[int, int] = OrderedDict()

    def passed(self, index: int, trail: int) -> None:
        """Entry `index` was applied, and this is the trail now."""
        if index % CHECK_EVERY == 0:
            self._trails[index] = trail
            if len(self._trails) > CHECKS_MAX:
                self._trails.popitem(last=False)

    @property
    def newest(self) -> tuple[int, int] | None:
        """(index, trail) for others to compare."""
        return next(reversed(self._trails.items()), None)

    def clear(self) -> None:
        """A snapshot jumped over entries."""
        self._trails.clear()

    def compare(self, leader: str, index: int, trail: int) -> None:
        """Raises StateDiverged. An index that is not, or no longer, remembered compares equal."""
        ours = self._trails.get(index, trail)
        if ours != trail:
            raise StateDiverged(
                f"at entry {index} the state here is {ours:016x}, and that of leader {leader} is"
                f" {trail:016x}. {REMEDY}"
            )
