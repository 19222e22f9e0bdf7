"""What programs look for in an error is there whatever its kind."""

import pytest

from broker.errors import (
    LeaderMoved,
    MetadataUnavailable,
    NotLeader,
    NotProposed,
    OutcomeUnknown,
    OutOfTouch,
    RequestError,
    StorageFailed,
)
from broker.native_api.cursor import Ticket
from broker.native_api.errors import text_of
from broker.native_api.handlers import answer_get
from tests.broker.native_api.fakes import FakeController
from tests.broker.replies import received


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotLeader("x"), "NotLeaderForPartition: t_logs_s_4"),
        (LeaderMoved("x"), "NotLeaderForPartition: t_logs_s_4"),
        (OutOfTouch("no majority"), "NotLeaderForPartition: t_logs_s_4 (no majority)"),
        (StorageFailed("the disk refused"), "the disk refused"),
    ],
)
def test_a_leader_that_is_none_is_told_in_the_words_that_programs_know(
    error: RequestError, expected: str
) -> None:
    assert text_of(error, "logs", 4) == expected


@pytest.mark.parametrize("kind", [MetadataUnavailable, NotProposed])
def test_a_cluster_without_a_majority_is_told_as_such(kind: type[RequestError]) -> None:
    assert text_of(kind("nobody leads"), "logs") == (
        "the cluster cannot decide just now: nobody leads"
    )


def test_a_get_that_may_have_taken_a_message_does_not_speak_of_storing_one() -> None:
    ticket = Ticket()
    ticket.end(OutcomeUnknown("node 2 keeps the cursor: gone"))

    reply = received(answer_get(FakeController().add("logs").topic, ticket))

    said = b"ERR outcome unknown, the message may have been taken: node 2 keeps the cursor: gone"
    assert reply[4:] == said
