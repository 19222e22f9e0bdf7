"""Kafka's error numbers for what the group coordinator says."""

from typing import Final

from kio.schema.errors import ErrorCode

from broker.errors import (
    Loading,
    MetadataUnavailable,
    NotEnoughReplicas,
    NotLeader,
    OutcomeUnknown,
    RequestError,
    StorageFailed,
    UnknownTopicId,
)
from broker.groups.messages import GroupRefused, Refusal
from broker.kafka_api.errors import code_of

GROUP_OPERATIONS: Final = 0xD48
"""Every operation on a group, as a bit field (KIP-430): what a broker without an authorizer
answers."""

REFUSALS: Final[dict[Refusal, ErrorCode]] = {
    Refusal.BAD_GROUP_ID: ErrorCode.invalid_group_id,
    Refusal.BAD_SESSION_TIMEOUT: ErrorCode.invalid_session_timeout,
    Refusal.COMMIT_TOO_LARGE: ErrorCode.invalid_commit_offset_size,
    Refusal.FENCED_INSTANCE: ErrorCode.fenced_instance_id,
    Refusal.GROUP_FULL: ErrorCode.group_max_size_reached,
    Refusal.ILLEGAL_GENERATION: ErrorCode.illegal_generation,
    Refusal.INCONSISTENT_PROTOCOL: ErrorCode.inconsistent_group_protocol,
    Refusal.MEMBER_ID_REQUIRED: ErrorCode.member_id_required,
    Refusal.METADATA_TOO_LARGE: ErrorCode.offset_metadata_too_large,
    Refusal.MOVED: ErrorCode.not_coordinator,
    Refusal.NOT_EMPTY: ErrorCode.non_empty_group,
    Refusal.REBALANCING: ErrorCode.rebalance_in_progress,
    Refusal.SUBSCRIBED: ErrorCode.group_subscribed_to_topic,
    # Nobody reads this answer any more, and whoever does asks again.
    Refusal.SUPERSEDED: ErrorCode.coordinator_not_available,
    Refusal.TOO_LARGE: ErrorCode.invalid_request,
    Refusal.UNKNOWN_GROUP: ErrorCode.group_id_not_found,
    Refusal.UNKNOWN_MEMBER: ErrorCode.unknown_member_id,
}

_CODES: Final[dict[type[RequestError], ErrorCode]] = {
    Loading: ErrorCode.coordinator_load_in_progress,
    MetadataUnavailable: ErrorCode.coordinator_not_available,
    NotEnoughReplicas: ErrorCode.coordinator_not_available,
    NotLeader: ErrorCode.not_coordinator,
    OutcomeUnknown: ErrorCode.coordinator_not_available,
    StorageFailed: ErrorCode.not_coordinator,
    UnknownTopicId: ErrorCode.not_coordinator,
}
"""Of failures around a shard, and their kinds, as Kafka's coordinator translates those of its own
log: consumers throw at a number that they do not expect of a coordinator."""


def refusal_code(refusal: Refusal | None) -> ErrorCode:
    """The number of a refusal; of none, 0."""
    return ErrorCode.none if refusal is None else REFUSALS[refusal]


def group_code(error: RequestError) -> ErrorCode:
    """The number for a request to the coordinator that failed."""
    if isinstance(error, GroupRefused):
        return REFUSALS[error.refusal]
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return code_of(error)
