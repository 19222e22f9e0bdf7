"""Error numbers: every error of the broker has one, and none of them kills a consumer."""

from kio.schema.errors import ErrorCode

from broker import errors
from broker.errors import Loading, OutcomeUnknown, RequestError, UnknownTopicId
from broker.kafka_api.errors import CODES, FETCH_CODES, Refused, code_of, fetch_code, partition_code


def test_every_request_error_of_the_broker_has_a_number() -> None:
    known = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, RequestError) and value is not RequestError
    }
    assert known == set(CODES)


def test_fetch_says_only_what_javas_consumer_understands() -> None:
    """5 and 7 are IllegalStateException there."""
    java = {-1, 0, 1, 2, 3, 6, 9, 29, 56, 74, 75, 78, 100, 103}
    assert {int(code) for code in FETCH_CODES} == java | {76}
    for kind in CODES:
        assert fetch_code(kind("told"), by_id=True) in FETCH_CODES
        assert fetch_code(kind("told"), by_id=False) != ErrorCode.unknown_topic_id


def test_who_asks_by_name_is_told_about_names() -> None:
    assert partition_code(UnknownTopicId("gone")) == 3
    assert partition_code(UnknownTopicId("gone"), by_id=True) == 100


def test_a_log_that_is_read_back_is_not_led_yet() -> None:
    """1 would reset the consumer, 6 makes it ask again."""
    assert partition_code(Loading("soon")) == 6
    assert code_of(Loading("soon")) == 14


def test_the_rest() -> None:
    assert code_of(OutcomeUnknown("late")) == 7
    assert code_of(RequestError("of no kind")) == -1
    assert code_of(Refused(ErrorCode.invalid_replication_factor, "0")) == 38
