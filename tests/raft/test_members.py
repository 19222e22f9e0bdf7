"""One voter at a time."""

import pytest

from raft.members import (
    VOTERS_MAX,
    MemberChange,
    Members,
    is_fulfilled,
    is_single_step,
    next_step,
    promoted,
)

ABC = Members(("a", "b", "c"))


@pytest.mark.parametrize(
    ("members", "joins", "leaves", "expected"),
    [
        (ABC, "d", "", Members(("a", "b", "c"), ("d",))),
        (ABC, "", "c", Members(("a", "b"))),
        (ABC, "d", "c", Members(("a", "b"))),
        (Members(("a", "b")), "d", "c", Members(("a", "b"), ("d",))),
        (Members(("a",), ("l",)), "", "l", Members(("a",))),
        (ABC, "a", "", None),
        (ABC, "", "x", None),
        (ABC, "", "a", None),
        (Members(("b",)), "", "b", None),
    ],
)
def test_a_wish_is_taken_one_step_at_a_time(
    members: Members, joins: str, leaves: str, expected: Members | None
) -> None:
    step = next_step(members, MemberChange(joins, leaves), leader="a")
    assert step == expected
    assert step is None or is_single_step(members, step)


def test_a_replacement_is_fulfilled_when_both_halves_are() -> None:
    change = MemberChange("d", "c")
    assert not is_fulfilled(ABC, change)
    assert not is_fulfilled(Members(("a", "b")), change)
    assert not is_fulfilled(Members(("a", "b", "c"), ("d",)), change)
    assert is_fulfilled(Members(("a", "b"), ("d",)), change)


def test_beyond_five_voters_a_newcomer_goes_on_learning() -> None:
    four = Members(tuple("abcd"), ("e", "f"))
    five = promoted(four, "f")
    assert five == Members(tuple("abcdf"), ("e",))
    assert len(five.voters) == VOTERS_MAX
    assert promoted(five, "e") is None
    assert promoted(four, "z") is None


def test_two_voters_at_once_are_too_many() -> None:
    assert is_single_step(ABC, Members(("a", "b", "c"), ("x", "y")))
    assert not is_single_step(ABC, Members(("a", "b", "d")))
    assert not is_single_step(ABC, Members(("a",)))
