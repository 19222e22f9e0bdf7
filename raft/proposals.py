"""Commands of this process on their way into the log (pure).

Each command gets the next sequence number of this process and keeps it through every repeat, so a
repeat is harmless. Its answer is whatever the log says when this very node applies it; nothing else
counts as an answer. When time is up, the number is proposed once more with `Abandon` in place of
the command: either the log had the command, and its answer comes back, or it now never will. Only
when no majority answers that either is the outcome unknown.
"""

from collections import deque
from collections.abc import Callable

from raft.commands import (
    FORMAT_VERSION,
    Abandon,
    AnyCommand,
    Applied,
    Envelope,
    encode,
)
from raft.errors import CommandTooLarge, NoLeader, OutcomeUnknown, Overloaded, RaftError
from raft.state import ANSWERS_MAX, Client, Refusal

OnDone = Callable[[Applied | RaftError], None]
Leader = tuple[int, str]
"""(term, voter): a command is proposed once to each."""

WAITING_MAX = 10_000
"""Commands held back because too many are under way, or because there is no leader."""
RETRY_S = 1.0
"""A leader that said nothing for so long may never have received the command."""


NOBODY = "no leader of the metadata could be reached; it was not done, and will not be"
"""What a command's sender is told who found nobody to take it."""


class Proposal:
    """One command, from its submission to its answer."""

    __slots__ = (
        "command",
        "data",
        "deadline",
        "is_abandoned",
        "on_done",
        "sent_at",
        "sent_to",
        "timeout_s",
    )

    def __init__(self, command: AnyCommand, on_done: OnDone, now: float, timeout_s: float) -> None:
        self.command = command
        self.on_done = on_done
        self.timeout_s = timeout_s
        self.deadline = now + timeout_s
        self.data = b""
        self.is_abandoned = False
        self.sent_to: Leader | None = None
        self.sent_at = now


class Proposals:
    """The table of them. Times are the caller's monotonic seconds."""

    def __init__(self, client: bytes) -> None:
        """`client` is 16 bytes that no other process ever uses."""
        self._client = client
        self._sequence = 0
        self._waiting: deque[Proposal] = deque()
        self._sent: dict[int, Proposal] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    @property
    def client(self) -> bytes:
        return self._client

    def add(self, proposal: Proposal) -> None:
        """Queue a command; calls its `on_done` at once if it cannot be proposed at all."""
        if len(self._waiting) >= WAITING_MAX:
            proposal.on_done(Overloaded(f"{WAITING_MAX} commands wait already"))
            return
        self._waiting.append(proposal)

    def due(self, leader: Leader | None, now: float, *, is_local: bool) -> list[bytes]:
        """What to hand to `leader` now, oldest first: what it has not been given yet.

        A command handed to ourselves stays in our log for as long as we lead; one that went over
        the network is repeated after a while.
        """
        if leader is None:
            return []
        while self._waiting and self._has_room():
            self._number(self._waiting.popleft())
        due: list[Proposal] = []
        for proposal in self._sent.values():
            is_late = not is_local and now - proposal.sent_at >= RETRY_S
            if proposal.sent_to != leader or is_late:
                proposal.sent_to, proposal.sent_at = leader, now
                due.append(proposal)
        return [proposal.data for proposal in due]

    def _has_room(self) -> bool:
        """The log remembers so many answers of ours; running further ahead could lose one before we
        see it."""
        oldest = next(iter(self._sent), self._sequence + 1)
        return self._sequence + 1 - oldest < ANSWERS_MAX - 1

    def _number(self, proposal: Proposal) -> None:
        try:
            proposal.data = self._encode(self._sequence + 1, proposal.command)
        except ValueError as wrong:
            proposal.on_done(CommandTooLarge(str(wrong)))
            return
        self._sequence += 1
        self._sent[self._sequence] = proposal

    def _encode(self, sequence: int, command: AnyCommand) -> bytes:
        return encode(Envelope(FORMAT_VERSION, self._client, sequence, command))

    def answered(self, sequence: int, answer: Applied) -> None:
        """This node applied `sequence` of ours."""
        proposal = self._sent.pop(sequence, None)
        if proposal is None:
            return
        if proposal.is_abandoned and answer.refusal == Refusal.ABANDONED:
            proposal.on_done(
                NoLeader("no leader took the command in time; it has no effect and never will")
            )
        else:
            proposal.on_done(answer)

    def caught_up(self, session: Client | None) -> None:
        """A snapshot jumped over part of the log; the answers of that part are in it."""
        for sequence, answer in session.answers if session is not None else ():
            self.answered(sequence, answer)

    def expire(self, now: float) -> None:
        """Give up on what is too old, in the one way that is true for it."""
        late = [proposal for proposal in self._waiting if proposal.deadline <= now]
        if late:
            self._waiting = deque(each for each in self._waiting if each.deadline > now)
        for proposal in late:
            proposal.on_done(NoLeader(NOBODY))
        for sequence, proposal in list(self._sent.items()):
            if proposal.deadline > now:
                continue
            if proposal.is_abandoned:
                del self._sent[sequence]
                proposal.on_done(
                    OutcomeUnknown("no majority answered in time; the command may take effect")
                )
                continue
            proposal.is_abandoned = True
            proposal.data = self._encode(sequence, Abandon())
            proposal.deadline = now + proposal.timeout_s
            proposal.sent_to = None

    def fail(self, error: RaftError) -> None:
        """The node stops: everybody still waiting gets `error`."""
        failed = [*self._sent.values(), *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        for proposal in failed:
            proposal.on_done(error)
