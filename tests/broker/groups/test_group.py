"""The group protocol, as transcripts to read, and as a storm in which some things always hold.

`REWRITE=1 pytest tests/broker/groups/test_group.py` writes what happens now into the transcripts:
inspect the difference, and commit it only if you understand it.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.groups.messages import Refusal
from broker.groups.states import State
from tests.broker.groups.storm import Storm
from tests.broker.groups.transcript import replay

TRANSCRIPTS = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_that_no_longer_holds(path: Path) -> None:
    found = replay(path.read_text())
    if os.environ.get("REWRITE"):
        path.write_text(found)
    assert path.read_text() == found


# ---- a storm -------------------------------------------------------------------------------------

_CLIENT = st.integers(0, 4)
_STEP = st.one_of(
    st.tuples(
        st.just("join"),
        _CLIENT,
        st.sampled_from([["range"], ["range", "sticky"], ["sticky", "range"]]),
        st.booleans(),
        st.booleans(),
    ),
    st.tuples(st.sampled_from(["sync", "sync", "heartbeat", "commit", "leave", "forget"]), _CLIENT),
    st.tuples(st.just("wait"), st.sampled_from([1, 50, 100, 1_000, 5_000, 10_000])),
    st.tuples(st.just("save")),
)


@settings(max_examples=500)
@given(st.lists(_STEP, max_size=80))
def test_a_storm_in_which_somebody_is_forgotten(steps: list[tuple[Any, ...]]) -> None:
    """One generation per rebalance, every request answered once, no assignment of an old
    generation, no zombie's commit; and when all is silent, an empty group."""
    storm = Storm()
    for name, *arguments in steps:
        if name not in ("wait", "save"):
            arguments[0] = storm.clients[arguments[0]]
        getattr(storm, name)(*arguments)
    storm.end()


def test_a_closed_group_that_keeps_somebody_waiting() -> None:
    storm = Storm()
    for client in storm.clients[:3]:
        storm.join(client, ["range"], True, False)
    storm.do(storm.group.close(Refusal.MOVED))
    assert storm.answered == {0, 1, 2}
    assert storm.group.state is State.DEAD


def test_an_assignment_that_is_saved_after_its_group_was_closed() -> None:
    storm = Storm()
    leader = storm.clients[0]
    storm.join(leader, ["range"], True, False)
    storm.wait(100)
    storm.sync(leader)
    storm.do(storm.group.close(Refusal.MOVED))
    storm.save()
    assert storm.group.state is State.DEAD
    assert storm.answered == {0, 1}
