"""Metadata of consumers: written by others, so anything may come."""

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from broker.groups.subscription import subscribed_topics


@given(st.lists(st.text(min_size=1, max_size=20), max_size=5), st.binary(max_size=20))
def test_what_a_client_library_writes_can_be_read(topics: list[str], user_data: bytes) -> None:
    metadata = ConsumerProtocolMemberMetadata(0, topics, user_data).encode()
    assert subscribed_topics(metadata) == frozenset(topics)
    assert subscribed_topics(metadata + b"what newer versions add") == frozenset(topics)


@given(st.binary(max_size=60))
def test_rubbish_is_none_or_some_topics_and_never_an_error(metadata: bytes) -> None:
    assert isinstance(subscribed_topics(metadata), frozenset | None)


@pytest.mark.parametrize(
    "metadata",
    [b"", b"\0\0", b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\1\xff\xff", b"\0\0\0\0\0\1\0\1\xff"],
)
def test_metadata_that_nobody_can_read(metadata: bytes) -> None:
    assert subscribed_topics(metadata) is None
