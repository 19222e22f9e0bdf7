"""The word a response is counted under: an error anywhere in it must show."""

from types import SimpleNamespace as Part

import pytest
from kio.schema.errors import ErrorCode

from broker.kafka_api.outcome import outcome_of

BAD = ErrorCode.not_leader_or_follower
GOOD = ErrorCode.none


@pytest.mark.parametrize(
    "response",
    [
        Part(error_code=BAD),
        Part(topics=(Part(error_code=GOOD), Part(error_code=BAD))),
        Part(error_code=GOOD, responses=(Part(partitions=(Part(error_code=BAD),)),)),
        Part(responses=(Part(partition_responses=(Part(error_code=GOOD), Part(error_code=BAD))),)),
        Part(results=(Part(error_code=BAD),)),
    ],
)
def test_an_error_shows_wherever_kafka_puts_it(response: object) -> None:
    assert outcome_of(response) == "NOT_LEADER_OR_FOLLOWER"


@pytest.mark.parametrize(
    "response",
    [Part(), Part(topics=None), Part(error_code=GOOD, topics=(Part(partitions=()),))],
)
def test_no_error_is_none(response: object) -> None:
    assert outcome_of(response) == "NONE"
