"""Is every step that a node takes one that the specification allows, and do its invariants hold?

The steps are the product's own: whatever changes a variable of `spec/Replication.tla` is wrapped
while a run lasts. When it is done, `model.py` is asked whether an action of the specification does
the same, and what must hold of the variable is looked at. `spec/README.md` has the tables of the
variables and of the actions.

chains.py    the metadata: segments that open, are to be sealed, and have ended
appends.py   the data: what is read back, appended, told and committed
ends.py      on the way to an end: what is proposed, promised, chosen and closed
facts.py     what all three go by, and never ask the code that is watched for
"""

from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from raft.state import ClusterState
from tests.sim.cluster.model import Key
from tests.sim.cluster.watch.appends import Appends
from tests.sim.cluster.watch.chains import Chains, Losing
from tests.sim.cluster.watch.ends import Ends
from tests.sim.cluster.watch.facts import Facts, Watched


class Watch:
    """One run's; `looking` while it lasts."""

    def __init__(
        self, world: Watched, *, harmed: Container[tuple[bytes, Key]], losses: Losing
    ) -> None:
        """`harmed` are (disk, segment) of the copies that were damaged: no step of anybody's."""
        self._facts = facts = Facts(world, harmed)
        self._chains = Chains(facts, losses)
        self._appends = Appends(facts)
        self._ends = Ends(facts)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Wrap the steps of the product."""
        steps = (*self._chains.steps(), *self._appends.steps(), *self._ends.steps())
        with ExitStack() as stack:
            for target, name, wrap in steps:
                stack.enter_context(patch.object(target, name, wrap(getattr(target, name))))
            yield

    @property
    def state(self) -> ClusterState:
        """After the newest command that anybody applied."""
        return self._facts.state

    def disks_at_first(self, topic_id: bytes, sid: int) -> dict[int, bytes]:
        """Of the replicas, when the segment was opened."""
        return self._facts.disks_at_first.get((topic_id, sid), {})

    def is_rolling(self, key: Key) -> bool:
        """May a roll still close it?"""
        return bool(self._facts.model.rolls.get(key))

    def committed(self, topic_id: bytes, end_offset: int, what: str) -> None:
        """Everything below `end_offset` was acknowledged or served: it must be committed, by what
        was seen here."""
        self._appends.check_committed(topic_id, end_offset, what)
