"""Topic names: one bad name must not become a path, a metric label or an unreadable listing."""

import pytest

from broker.controller.topic_name import check_topic_name
from broker.errors import InvalidTopic


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 249, "...", "__consumer_offsets"])
def test_legal_names_pass(name: str) -> None:
    check_topic_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "x" * 250, "a b", "a/b", "../x", "ü", "a\n", "a\x00", "٣", "a:b", "a,b"]
)
def test_names_no_one_may_register_are_refused(name: str) -> None:
    with pytest.raises(InvalidTopic):
        check_topic_name(name)
