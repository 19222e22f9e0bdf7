"""What programs look for in an error is there whatever its kind."""

import pytest

from broker.errors import (
    LeaderMoved,
    MetadataUnavailable,
    NotLeader,
    NotProposed,
    OutOfTouch,
    RequestError,
    StorageFailed,
)
from broker.native_api.errors import text_of


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
