"""The checker of group histories finds what it is there for."""

import pytest

from harness.history import Observed, Told, problems

WRITTEN = {"t": ["a", "b", "c"]}


def told(name: str, *lines: str, started: float = 0.0) -> Told:
    return Told(name, started, [line.split() for line in lines])


FIRST = told("first", "assigned t 1", "read t 0 a", "committed t 1 2 3", "revoked - 4")
SECOND = told(
    "second", "assigned t 5", "read t 1 b", "read t 2 c", "committed t 3 6 7", started=3.5
)


def test_a_good_history_has_no_problems() -> None:
    observed = Observed([(0.5, {}), (3.2, {"t": 1}), (3.5, {"t": 1}), (8.0, {"t": 3})])
    assert problems([FIRST, SECOND], observed, WRITTEN) == []
    again = told("again", "assigned t 5", "read t 0 a", "read t 1 b", "read t 2 c", started=2.5)
    assert problems([FIRST, again], Observed(), WRITTEN) == [], "it may not have known"


@pytest.mark.parametrize(
    ("members", "observed", "words"),
    [
        ([FIRST], Observed(), "2 of t were never read, the first at 1"),
        ([FIRST, told("x", "read t 1 B", "read t 2 c")], Observed(), "x read 'B' at 1 of t"),
        ([SECOND, told("x", "read t 0 a", "read t 2 c")], Observed(), "x read 2 of t after 0"),
        (
            [FIRST, SECOND, told("x", "committed t 2 7.5 8")],
            Observed(),
            "offset=2, begun=7.5, ended=8.0, member='x') goes back",
        ),
        (
            [FIRST, SECOND, told("x", "assigned t 9", "read t 1 b", started=8.0)],
            Observed(),
            "x began t at 1, not at 3",
        ),
        (
            [FIRST, SECOND, told("x", "assigned t 1", "revoked - 8", "assigned t 9", "read t 2 c")],
            Observed(),
            "x began t at 2, not at 3",
        ),
        ([FIRST, SECOND], Observed([(0.0, {"t": 2}), (1.0, {"t": 1})]), "t went back from 2 to 1"),
        ([FIRST, SECOND], Observed([(0.0, {"t": 2}), (1.0, {})]), "t went back from 2 to None"),
        ([FIRST, SECOND], Observed([(7.5, {"t": 2})]), "was not there when it was asked for: 2"),
    ],
)
def test_a_bad_history_is_told_in_words(
    members: list[Told], observed: Observed, words: str
) -> None:
    found = problems(members, observed, WRITTEN)
    assert any(words in one for one in found), found
