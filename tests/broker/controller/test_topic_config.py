"""Topic configs: no value that cannot be meant, and no client broken by a key we never heard of."""

import pytest

from broker.controller.topic_config import (
    BY_NAME,
    CONFIG_SIZE_MAX,
    DEFINITIONS,
    TopicConfig,
    validate,
)
from broker.errors import InvalidConfig


def test_every_default_is_valid_and_names_are_unique_and_sorted() -> None:
    names = [item.name for item in DEFINITIONS]
    assert names == sorted(set(names))
    validate({item.name: item.default for item in DEFINITIONS})
    assert all(item.documentation and item.synonym for item in DEFINITIONS)


def test_the_defaults_are_kafkas() -> None:
    config = TopicConfig.of({})
    assert config.max_message_bytes == 1_048_588
    assert config.retention_ms == 7 * 24 * 3600 * 1000
    assert config.retention_bytes == -1
    assert config.segment_bytes == 2**30
    assert config.segment_ms == 7 * 24 * 3600 * 1000
    assert config.timestamp_type == "CreateTime"
    assert (config.is_compacted, config.is_deleted_by_age) == (False, True)
    assert config.min_insync_replicas == 1
    assert config.message_timestamp_before_max_ms == 2**63 - 1
    assert config.message_timestamp_after_max_ms == 3_600_000


def test_an_unknown_key_is_accepted_because_refusing_it_breaks_benchmarks() -> None:
    validate({"some.vendor.key": "anything at all", "confluent.tier.enable": "true"})


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        ("retention.ms", "a week", "whole number from -1"),
        ("retention.ms", "-2", "whole number from -1"),
        ("retention.ms", "", "whole number"),
        ("retention.ms", "١٢", "whole number"),
        ("retention.ms", "1" * 5000, "whole number"),
        ("max.message.bytes", str(2**31), "to 2147483647"),
        ("max.message.bytes", "1e6", "whole number"),
        ("cleanup.policy", "shred", "compact, delete"),
        ("cleanup.policy", "compact,shred", "compact, delete"),
        ("compression.type", "brotli", "uncompressed, zstd"),
        ("message.timestamp.type", "logappendtime", "CreateTime, LogAppendTime"),
        ("min.insync.replicas", "0", "whole number from 1"),
        ("preallocate", "yes", "true or false"),
        ("min.cleanable.dirty.ratio", "1.5", "from 0 to 1"),
        ("min.cleanable.dirty.ratio", "nan", "from 0 to 1"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(name: str, value: str, valid: str) -> None:
    with pytest.raises(InvalidConfig) as refusal:
        validate({name: value})
    text = str(refusal.value)
    assert name in text
    assert repr(value) in text
    assert valid in text


def test_the_typed_view_reads_what_was_set() -> None:
    config = TopicConfig.of(
        {
            "cleanup.policy": "compact, delete",
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": " 2000 ",
            "retention.ms": "-1",
        }
    )
    assert (config.is_compacted, config.is_deleted_by_age) == (True, True)
    assert config.timestamp_type == "LogAppendTime"
    assert config.max_message_bytes == 2000
    assert config.retention_ms == -1


def test_configs_too_large_for_the_metadata_log_are_refused() -> None:
    with pytest.raises(InvalidConfig, match=str(CONFIG_SIZE_MAX)):
        validate({"note": "x" * CONFIG_SIZE_MAX})


def test_every_config_the_tools_read_back_is_in_the_table() -> None:
    asked = {
        "retention.ms", "retention.bytes", "segment.bytes", "segment.ms", "max.message.bytes",
        "cleanup.policy", "compression.type", "message.timestamp.type", "min.insync.replicas",
        "flush.messages", "flush.ms",
    }  # fmt: skip
    assert asked <= set(BY_NAME)
