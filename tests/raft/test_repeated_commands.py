"""Commands that come twice, late, damaged or from nobody."""

import pytest

from raft import commands as c
from raft.apply import apply, refuse_unreadable
from raft.state import (
    ANSWERS_MAX,
    CLIENTS_MAX,
    EMPTY,
    state_hash,
)
from tests.raft.support import (
    CLIENT,
    topic_id,
    world,
)


def test_a_repeated_command_gets_its_first_answer_and_changes_nothing() -> None:
    at = world()
    first = at.ok(c.AllocateProducerIds(10))
    at.ok(c.AllocateProducerIds(10))
    next_id = at.state.next_producer_id
    again = at.do(c.AllocateProducerIds(10), sequence=at.sequence - 1)
    assert again == first
    assert at.state.next_producer_id == next_id


def test_a_command_too_old_to_be_remembered_is_never_run_again() -> None:
    at = world()
    for _ in range(ANSWERS_MAX + 5):
        at.ok(c.AllocateProducerIds(1))
    next_id = at.state.next_producer_id
    assert at.do(c.AllocateProducerIds(1), sequence=1).refusal == "forgotten"
    assert at.state.next_producer_id == next_id
    assert len(at.state.clients[CLIENT].answers) == ANSWERS_MAX


def test_commands_may_arrive_out_of_order() -> None:
    at = world()
    assert at.do(c.AllocateProducerIds(1), sequence=40).refusal == ""
    assert at.do(c.AllocateProducerIds(1), sequence=39).refusal == ""
    assert at.do(c.AllocateProducerIds(1), sequence=40).revision < at.state.revision


def test_the_silent_client_is_forgotten_first() -> None:
    at = world()
    for number in range(CLIENTS_MAX):
        at.client = number.to_bytes(16, "big")
        at.do(c.Barrier(), sequence=1)
    assert CLIENT not in at.state.clients
    assert len(at.state.clients) == CLIENTS_MAX


def test_an_abandoned_command_can_never_take_effect() -> None:
    at = world()
    assert at.do(c.Abandon(), sequence=50).refusal == "abandoned"
    assert at.do(c.AllocateProducerIds(1), sequence=50).refusal == "abandoned"
    answer = at.do(c.AllocateProducerIds(1), sequence=51)
    assert at.do(c.Abandon(), sequence=51) == answer


@pytest.mark.parametrize(("client", "sequence"), [(b"short", 1), (CLIENT, 0), (CLIENT, 2**63)])
def test_an_envelope_from_nobody_is_refused_and_not_remembered(
    client: bytes, sequence: int
) -> None:
    envelope = c.Envelope(c.FORMAT_VERSION, client, sequence, c.Barrier())
    state, answer = apply(EMPTY, 5, envelope)
    assert (answer.refusal, answer.revision, state.revision) == ("bad command", 5, 5)
    assert not state.clients


def test_an_unreadable_entry_is_skipped_by_all_alike() -> None:
    state, answer = refuse_unreadable(EMPTY, 9)
    assert (answer.refusal, state.revision) == ("unreadable", 9)


def test_a_view_that_somebody_keeps_does_not_change() -> None:
    at = world()
    at.create()
    kept = at.state
    before = state_hash(kept)
    at.roll(10)
    at.create(2, "u")
    at.ok(c.DeleteTopic(topic_id(1)))
    assert state_hash(kept) == before
