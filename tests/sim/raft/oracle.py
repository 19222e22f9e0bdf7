"""What must be true of a cluster at every moment, checked against everything that ever happened in
the run."""

from raft.commands import Applied
from raft.state import ClusterState, state_hash

HASH_EVERY = 128
"""Entries between two comparisons of whole states; the trail is compared at each."""


class Violation(AssertionError):
    """The cluster did what it must never do."""


class Oracle:
    """Remembers all leaders, entries, commits, states and answers of a run."""

    def __init__(self) -> None:
        self._leaders: dict[int, str] = {}
        self._entries: dict[tuple[int, int], bytes] = {}
        self._committed: dict[int, tuple[int, bytes]] = {}
        self._trails: dict[int, int] = {}
        self._hashes: dict[int, int] = {}
        self._answers: dict[int, Applied] = {}
        self.created: set[bytes] = set()
        """Topics whose creation was answered."""
        self.never: set[bytes] = set()
        """Topics whose creation was said to be without effect, for ever."""
        self.producer_ids: dict[int, str] = {}
        self.commits = 0
        self.answered_at = 0
        """The newest state that anybody was given an answer from."""

    def leads(self, voter: str, term: int) -> None:
        """One leader per term."""
        first = self._leaders.setdefault(term, voter)
        if first != voter:
            raise Violation(f"two leaders in term {term}: {first} and {voter}")

    def has_entry(self, voter: str, index: int, term: int, command: bytes) -> None:
        """Log matching: an index and a term name one command."""
        first = self._entries.setdefault((index, term), command)
        if first != command:
            raise Violation(f"two entries at index {index} of term {term}; one on {voter}")

    def commits_entry(self, voter: str, index: int, term: int, command: bytes) -> None:
        """What was committed at an index stays what it is."""
        first = self._committed.setdefault(index, (term, command))
        if first != (term, command):
            raise Violation(f"{voter} committed another entry at index {index}, of term {term}")
        self.commits = max(self.commits, index)

    def applied(self, voter: str, state: ClusterState) -> None:
        """Equal states at equal indexes."""
        index = state.revision
        if self._trails.setdefault(index, state.trail) != state.trail:
            raise Violation(f"the state of {voter} at index {index} is not that of another node")
        if index % HASH_EVERY == 0:
            found = state_hash(state)
            if self._hashes.setdefault(index, found) != found:
                raise Violation(f"the state of {voter} at index {index} has another hash")

    def answered(self, revision: int) -> None:
        self.answered_at = max(self.answered_at, revision)

    def barrier(self, voter: str, revision: int, answered_at: int) -> None:
        """What was answered before the barrier was asked for is there when it is answered."""
        if revision < answered_at:
            raise Violation(f"{voter} is at {revision} behind a barrier of {answered_at}")

    def allocated(self, voter: str, answer: Applied, count: int) -> None:
        """No producer id twice."""
        for producer_id in range(answer.value, answer.value + count):
            if self.producer_ids.setdefault(producer_id, voter) is not voter:
                raise Violation(f"producer id {producer_id} was given twice")
        for producer_id in range(answer.value, answer.value + count):
            self.producer_ids[producer_id] = "taken"

    def healed(self, voter: str, state: ClusterState) -> None:
        """After the last trouble: everything answered is there, and nothing that was said to be
        void."""
        lost = self.created - set(state.topics)
        if lost:
            raise Violation(f"{len(lost)} acknowledged topics are lost on {voter}")
        undead = self.never & set(state.topics)
        if undead:
            raise Violation(f"{len(undead)} topics on {voter} that were said never to come")
        if self.producer_ids and max(self.producer_ids) >= state.next_producer_id:
            raise Violation(f"acknowledged producer ids are lost on {voter}")
