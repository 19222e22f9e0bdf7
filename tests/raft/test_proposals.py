"""A command is answered once, by the log, and an unknown outcome is never guessed."""

from typing import Any

from raft import commands as c
from raft.errors import CommandTooLarge, NoLeader, OutcomeUnknown, Overloaded, RaftError, Stopped
from raft.proposals import RETRY_S, WAITING_MAX, Proposal, Proposals
from raft.state import ANSWERS_MAX, Client
from tests.raft.support import CLIENT, topic_id

A, B = (1, "a"), (2, "b")


class Table:
    """Proposals, and the outcomes they had."""

    def __init__(self) -> None:
        self.proposals = Proposals(CLIENT)
        self.outcomes: list[c.Applied | RaftError] = []

    def add(self, command: c.AnyCommand | None = None, now: float = 0.0) -> None:
        command = command or c.AllocateProducerIds(1)
        self.proposals.add(Proposal(command, self.outcomes.append, now, timeout_s=10.0))

    def due(self, leader: tuple[int, str] | None, now: float = 0.0, **kwargs: Any) -> list[int]:
        """Sequences handed out."""
        due = self.proposals.due(leader, now, is_local=kwargs.get("is_local", False))
        return [c.decode(data).sequence for data in due]


def answer(revision: int = 5, refusal: str = "") -> c.Applied:
    return c.Applied(refusal, revision)


def test_a_command_is_proposed_once_to_each_leader_in_order() -> None:
    table = Table()
    table.add()
    table.add()
    assert table.due(None) == []
    assert table.due(A) == [1, 2]
    assert table.due(A) == []
    table.add()
    assert table.due(A) == [3]
    assert table.due(B) == [1, 2, 3]


def test_commands_keep_their_order() -> None:
    """Whoever asks for one thing and then for another relies on the first."""
    table = Table()
    for count in (1, 2, 3):
        table.add(c.AllocateProducerIds(count))
    due = table.proposals.due(A, 0.0, is_local=True)
    assert [c.decode(data).command for data in due] == [c.AllocateProducerIds(n) for n in (1, 2, 3)]


def test_a_leader_that_may_not_have_heard_is_asked_again_but_never_ourselves() -> None:
    table = Table()
    table.add()
    assert table.due(A, 0.0) == [1]
    assert table.due(A, RETRY_S) == [1]
    assert table.due(A, RETRY_S) == []
    assert table.due(B, RETRY_S, is_local=True) == [1]
    assert table.due(B, 9 * RETRY_S, is_local=True) == []


def test_the_log_answers_and_only_once() -> None:
    table = Table()
    table.add()
    table.due(A)
    table.proposals.answered(1, answer())
    table.proposals.answered(1, answer(6))
    table.proposals.answered(7, answer())
    assert table.outcomes == [answer()]
    assert len(table.proposals) == 0


def test_a_snapshot_that_jumped_over_the_entry_brings_the_answer() -> None:
    table = Table()
    table.add()
    table.add()
    table.due(A)
    table.proposals.caught_up(None)
    table.proposals.caught_up(Client(9, 0, ((1, answer()), (99, answer()))))
    assert table.outcomes == [answer()]
    assert len(table.proposals) == 1


def test_a_client_never_runs_so_far_ahead_that_an_answer_could_be_forgotten() -> None:
    table = Table()
    for _ in range(ANSWERS_MAX * 2):
        table.add()
    assert table.due(A) == list(range(1, ANSWERS_MAX))
    table.proposals.answered(2, answer())
    assert table.due(A) == []
    table.proposals.answered(1, answer())
    assert table.due(A) == [ANSWERS_MAX, ANSWERS_MAX + 1]


def test_what_nobody_ever_took_certainly_has_no_effect() -> None:
    table = Table()
    table.add(now=0.0)
    table.add(now=5.0)
    table.proposals.expire(10.0)
    assert [type(outcome) for outcome in table.outcomes] == [NoLeader]
    assert len(table.proposals) == 1


def test_a_doubtful_command_is_abandoned_and_the_log_says_whether_it_was_in_time() -> None:
    for refusal, expected in (("abandoned", NoLeader), ("", c.Applied), ("stale epoch", c.Applied)):
        table = Table()
        table.add()
        table.due(A)
        table.proposals.expire(9.9)
        assert table.due(A) == []
        table.proposals.expire(10.0)
        assert table.outcomes == []
        (data,) = table.proposals.due(A, 10.0, is_local=True)
        assert c.decode(data) == c.Envelope(c.FORMAT_VERSION, CLIENT, 1, c.Abandon())
        table.proposals.answered(1, answer(refusal=refusal))
        assert [type(outcome) for outcome in table.outcomes] == [expected]


def test_without_a_majority_the_outcome_is_called_unknown() -> None:
    table = Table()
    table.add()
    table.due(A)
    table.proposals.expire(10.0)
    table.proposals.expire(19.9)
    assert table.outcomes == [], "the log has as long again to say whether it was in time"
    for _ in range(2):
        table.proposals.expire(20.0)
    table.proposals.answered(1, answer())
    assert [type(outcome) for outcome in table.outcomes] == [OutcomeUnknown]
    assert len(table.proposals) == 0


def test_what_cannot_be_proposed_is_said_at_once() -> None:
    table = Table()
    table.add(c.ChangeConfig(topic_id(1), 0, {"k": "v" * c.COMMAND_SIZE_MAX}))
    table.add()
    assert table.due(A) == [1]
    assert [type(outcome) for outcome in table.outcomes] == [CommandTooLarge]
    for _ in range(WAITING_MAX + 1):
        table.add()
    assert isinstance(table.outcomes[-1], Overloaded)


def test_a_node_that_stops_tells_everybody() -> None:
    table = Table()
    table.add()
    table.due(A)
    table.add()
    table.proposals.fail(Stopped("stopped"))
    assert [type(outcome) for outcome in table.outcomes] == [Stopped, Stopped]
    assert len(table.proposals) == 0
