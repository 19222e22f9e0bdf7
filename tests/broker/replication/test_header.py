"""The header object of a segment: what is read back after a restart is what was written."""

import pytest

from broker.replication import header


def test_the_header_survives_the_disk() -> None:
    stored = header.decode(header.encode(producers=b"window", keyed=b"state"))
    assert (stored.producers, stored.keyed) == (b"window", b"state")


def test_the_encoding_of_today_is_readable_tomorrow() -> None:
    golden = bytes.fromhex("9301c40677696e646f77c4057374617465")
    assert header.encode(producers=b"window", keyed=b"state") == golden
    assert header.decode(golden).producers == b"window"


@pytest.mark.parametrize(
    "garbage", [b"", b"\x93\x01", b"not a header", b"\x93\x02\xc4\x00\xc4\x00"]
)
def test_garbage_and_newer_versions_are_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError):
        header.decode(garbage)
