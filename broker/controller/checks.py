"""May this batch be appended to this topic? (pure)

Everything that can be said of a batch from its 61-byte header and its CRC, in the order in which
Kafka says it. The records themselves are looked at only for compacted topics, which refuse records
without a key.
"""

from typing import Final

from crc32c import crc32c

from broker import codecs
from broker.controller.topic_config import TopicConfig
from broker.errors import BatchTooLarge, CorruptBatch, InvalidRecord, InvalidTimestamp
from broker.ports import Buffer
from engine.batch import (
    CODEC_MASK,
    CONTROL_BIT,
    CRC_START,
    HEADER,
    HEADER_SIZE,
    LENGTH_END,
    MAGIC,
    TRANSACTIONAL_BIT,
    BatchHeader,
    CorruptBatchError,
    as_header,
    check_batch,
    parse_header,
)
from engine.records import iter_records

NO_TIMESTAMP: Final = -1


def accepted(batch: Buffer, config: TopicConfig, *, now_ms: int) -> BatchHeader | None:
    """`checked` of a client's batch with which nothing is wrong, in one step. None: `checked` says
    what it is, or has more to look at."""
    size = len(batch)
    if not HEADER_SIZE <= size <= config.max_message_bytes or config.is_compacted:
        return None
    fields = HEADER.unpack_from(batch)
    _, length, _, magic, crc, attributes, last_delta, first_ms, newest_ms, *rest = fields
    producer_id, producer_epoch, base_sequence, record_count = rest
    if (
        magic != MAGIC
        or length != size - LENGTH_END
        or not 1 <= record_count == last_delta + 1
        or attributes & (CONTROL_BIT | TRANSACTIONAL_BIT)
        or attributes & CODEC_MASK > codecs.ZSTD
        or (producer_id >= 0 and (base_sequence < 0 or producer_epoch < 0))
        or crc32c(memoryview(batch)[CRC_START:]) != crc
    ):
        return None
    if newest_ms != NO_TIMESTAMP and not config.is_log_append_time:
        earliest_ms = now_ms - config.message_timestamp_before_max_ms
        if newest_ms < earliest_ms or first_ms < earliest_ms:
            return None
        if newest_ms > now_ms + config.message_timestamp_after_max_ms:
            return None
    return as_header(fields)


def checked(
    batch: Buffer, config: TopicConfig, *, now_ms: int, is_internal_append: bool
) -> BatchHeader:
    """The header of an acceptable batch.

    Raises CorruptBatch, BatchTooLarge, InvalidRecord, InvalidTimestamp.
    """
    if len(batch) > config.max_message_bytes:
        raise _too_large(batch, config)
    try:
        header = parse_header(batch)
        check_batch(batch, header)
    except CorruptBatchError as error:
        raise CorruptBatch(str(error)) from error
    if header.size != len(batch):
        raise InvalidRecord(f"{len(batch) - header.size} bytes after the first batch")
    if header.attributes & CODEC_MASK > codecs.ZSTD:
        raise CorruptBatch(f"compression codec {header.codec} does not exist")
    if not is_internal_append:
        _check_client_attributes(header)
    _check_timestamps(header, config, now_ms)
    if config.is_compacted and not is_internal_append:
        _check_keys(batch, header)
    return header


def checked_own(batch: Buffer, config: TopicConfig, *, is_internal_append: bool) -> BatchHeader:
    """`checked` for a batch that `build_pairs` has just made, with the time that it is now: what is
    left to ask is what a topic may refuse.

    Raises BatchTooLarge, InvalidRecord.
    """
    if len(batch) > config.max_message_bytes:
        raise _too_large(batch, config)
    header = parse_header(batch)
    if config.is_compacted and not is_internal_append:
        _check_keys(batch, header)
    return header


def _too_large(batch: Buffer, config: TopicConfig) -> BatchTooLarge:
    return BatchTooLarge(
        f"batch of {len(batch)} bytes, above max.message.bytes={config.max_message_bytes}"
    )


def _check_client_attributes(header: BatchHeader) -> None:
    if header.attributes & (CONTROL_BIT | TRANSACTIONAL_BIT):
        refusal = "clients may not write control batches"
        raise InvalidRecord(refusal if header.is_control else "transactions are not offered")
    if header.producer_id >= 0 and (header.base_sequence < 0 or header.producer_epoch < 0):
        raise InvalidRecord("a producer id without sequence or epoch")


def _check_timestamps(header: BatchHeader, config: TopicConfig, now_ms: int) -> None:
    """KIP-937: how far from now a CreateTime may lie. Batches without any timestamp pass."""
    if config.is_log_append_time or header.max_timestamp == NO_TIMESTAMP:
        return
    latest_ms = now_ms + config.message_timestamp_after_max_ms
    if header.max_timestamp > latest_ms:
        raise InvalidTimestamp(
            f"timestamp {header.max_timestamp} is more than message.timestamp.after.max.ms="
            f"{config.message_timestamp_after_max_ms} ahead of {now_ms}"
        )
    earliest_ms = now_ms - config.message_timestamp_before_max_ms
    if min(header.base_timestamp, header.max_timestamp) < earliest_ms:
        raise InvalidTimestamp(
            f"timestamp {header.base_timestamp} is more than message.timestamp.before.max.ms="
            f"{config.message_timestamp_before_max_ms} behind {now_ms}"
        )


def _check_keys(batch: Buffer, header: BatchHeader) -> None:
    records = codecs.records_section(batch, header)
    try:
        if any(record.key is None for record in iter_records(records, header.record_count)):
            raise InvalidRecord("a compacted topic takes no records without a key")
    except CorruptBatchError as error:
        raise CorruptBatch(str(error)) from error
