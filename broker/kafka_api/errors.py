"""Kafka's error numbers, as a table over the broker's own errors. They appear nowhere below this
package."""

from typing import Final

from kio.schema.errors import ErrorCode

from broker import errors
from broker.errors import RequestError


class Refused(RequestError):
    """A refusal that only Kafka's protocol knows; it carries its number."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


CODES: Final[dict[type[RequestError], ErrorCode]] = {
    errors.UnknownTopic: ErrorCode.unknown_topic_or_partition,
    errors.UnknownTopicId: ErrorCode.unknown_topic_id,
    errors.UnknownPartition: ErrorCode.unknown_topic_or_partition,
    errors.TopicExists: ErrorCode.topic_already_exists,
    errors.InvalidTopic: ErrorCode.invalid_topic_exception,
    errors.InvalidConfig: ErrorCode.invalid_config,
    errors.InvalidPartitions: ErrorCode.invalid_partitions,
    errors.InvalidRequest: ErrorCode.invalid_request,
    errors.NotLeader: ErrorCode.not_leader_or_follower,
    errors.LeaderMoved: ErrorCode.not_leader_or_follower,
    errors.OutOfTouch: ErrorCode.not_leader_or_follower,
    errors.FencedLeaderEpoch: ErrorCode.fenced_leader_epoch,
    errors.UnknownLeaderEpoch: ErrorCode.unknown_leader_epoch,
    errors.OffsetOutOfRange: ErrorCode.offset_out_of_range,
    errors.BatchRefused: ErrorCode.invalid_record,
    errors.CorruptBatch: ErrorCode.corrupt_message,
    errors.InvalidRecord: ErrorCode.invalid_record,
    errors.BatchTooLarge: ErrorCode.message_too_large,
    errors.InvalidTimestamp: ErrorCode.invalid_timestamp,
    errors.UnsupportedCompression: ErrorCode.unsupported_compression_type,
    errors.OutOfOrderSequence: ErrorCode.out_of_order_sequence_number,
    errors.DuplicateSequence: ErrorCode.duplicate_sequence_number,
    # 90 (PRODUCER_FENCED) is for the transaction APIs alone; Produce says 47 (KIP-360, KIP-588).
    errors.FencedProducer: ErrorCode.invalid_producer_epoch,
    errors.NotEnoughReplicas: ErrorCode.not_enough_replicas,
    errors.OutcomeUnknown: ErrorCode.request_timed_out,
    errors.MetadataUnavailable: ErrorCode.request_timed_out,
    errors.NotProposed: ErrorCode.request_timed_out,
    errors.Loading: ErrorCode.coordinator_load_in_progress,
    errors.StorageFailed: ErrorCode.kafka_storage_error,
}

FETCH_CODES: Final = frozenset(
    {
        ErrorCode.unknown_server_error,
        ErrorCode.none,
        ErrorCode.offset_out_of_range,
        ErrorCode.corrupt_message,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.not_leader_or_follower,
        ErrorCode.replica_not_available,
        ErrorCode.topic_authorization_failed,
        ErrorCode.kafka_storage_error,
        ErrorCode.fenced_leader_epoch,
        ErrorCode.unknown_leader_epoch,
        ErrorCode.unsupported_compression_type,
        ErrorCode.offset_not_available,
        ErrorCode.unknown_topic_id,
        ErrorCode.inconsistent_topic_id,
    }
)
"""What a fetched partition may say. Java's consumer throws IllegalStateException at any other
number (its FetchCollector), 5 and 7 above all; 76 is for versions that Java no longer speaks."""


TEXT_SIZE_MAX: Final = 500
"""Characters of an error message. Texts quote what the client sent, which may be long."""


def text_of(error: RequestError) -> str:
    """The message that goes with the number, for people."""
    return str(error)[:TEXT_SIZE_MAX]


def code_of(error: RequestError) -> ErrorCode:
    """The number for an error that is not about a partition."""
    if isinstance(error, Refused):
        return error.code
    return CODES.get(type(error), ErrorCode.unknown_server_error)


def partition_code(error: RequestError, *, by_id: bool = False) -> ErrorCode:
    """The number for one partition of Produce, Fetch or ListOffsets.

    Clients that ask by name do not know UNKNOWN_TOPIC_ID. A log that is still being read back is,
    to them, one that this node does not lead yet: only 6 makes every client ask again without
    losing its position.
    """
    if isinstance(error, errors.Loading):
        return ErrorCode.not_leader_or_follower
    if isinstance(error, errors.UnknownTopicId) and not by_id:
        return ErrorCode.unknown_topic_or_partition
    return code_of(error)


def fetch_code(error: RequestError, *, by_id: bool) -> ErrorCode:
    """The number for one fetched partition: never one that makes a consumer give up."""
    code = partition_code(error, by_id=by_id)
    return code if code in FETCH_CODES else ErrorCode.not_leader_or_follower
