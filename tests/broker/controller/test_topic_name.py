"""Topic names: one bad name must not become a path, a metric label or an unreadable listing."""

import pytest

from broker.controller.topic_name import check_collision, check_topic_name
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


@pytest.mark.parametrize(
    ("name", "other"), [("a.b", "a_b"), ("a_b", "a.b"), ("a.b_c", "a_b.c"), ("_a", ".a")]
)
def test_names_that_no_metric_could_tell_apart_are_not_both_taken(name: str, other: str) -> None:
    with pytest.raises(InvalidTopic, match="collides"):
        check_collision(name, ["x", other])


@pytest.mark.parametrize("other", ["a.b", "ab", "a-b", "a.bc", "A.b"])
def test_names_that_only_look_alike_to_people_are(other: str) -> None:
    check_collision("a.b", [other])
