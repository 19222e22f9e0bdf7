"""Memory for followers: what grows with the number of topics ends a node, sooner or later."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.replication.tail import Tail, Tails
from engine.batch import LENGTH_END, parse_header, patch
from engine.records import Record, build

if TYPE_CHECKING:
    from _typeshed import TraceFunction


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def push(tail: Tail, size: int) -> None:
    data = bytearray(build([Record(0, 0, None, b"x")], base_timestamp=0))
    patch(data, base_offset=tail.end_offset, leader_epoch=0)
    header = parse_header(data)._replace(batch_length=size - LENGTH_END)
    tail.push([(header, [b"x" * size])], header.next_offset)


def test_segments_that_nobody_follows_hold_nothing() -> None:
    tails = Tails()
    for _ in range(1000):
        push(Tail(0, tails), 1000)
    assert tails.size == 0


def test_a_thousand_followed_segments_stay_within_one_bound(stack: ExitStack) -> None:
    tails = Tails(size_max=10_000)
    many = [Tail(0, tails) for _ in range(1000)]
    for tail in many:
        stack.enter_context(tail.followed())
        push(tail, 1000)
    assert tails.size == 10_000
    assert [tail for tail in many if not tail.is_empty] == many[-10:]


def test_a_busy_segment_keeps_its_tail_when_silent_ones_lose_theirs(stack: ExitStack) -> None:
    tails = Tails(size_max=3000)
    busy, silent = Tail(0, tails), Tail(0, tails)
    for tail in (busy, silent):
        stack.enter_context(tail.followed())
        push(tail, 1000)
    push(busy, 1000)
    push(busy, 1000)
    assert silent.is_empty
    assert busy.since(0, size_max=10_000) == ([b"x" * 1000] * 3, 3)


def test_the_last_follower_that_leaves_frees_what_was_kept_for_it() -> None:
    tails = Tails()
    tail = Tail(0, tails)
    with tail.followed():
        with tail.followed():
            push(tail, 1000)
        assert tails.size == 1000
    assert tails.size == 0
    push(tail, 1000)
    assert tails.size == 0


def test_a_batch_larger_than_the_bound_is_left_to_the_file(stack: ExitStack) -> None:
    tails = Tails(size_max=1000)
    tail = Tail(0, tails)
    stack.enter_context(tail.followed())
    push(tail, 1001)
    assert tails.size == 0
    assert tail.since(0, size_max=1) is None
    push(tail, 10)
    assert tail.since(1, size_max=1) == ([b"x" * 10], 2)


def instructions(run: Callable[[], object]) -> int:
    """How many the interpreter executes for it."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> "TraceFunction":
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def test_ten_thousand_small_batches_do_not_make_the_next_one_dear(stack: ExitStack) -> None:
    """A leader that walked through all it keeps for each batch it sends took 3 ms for each."""
    tail = Tail(0, Tails())
    stack.enter_context(tail.followed())

    def cost() -> int:
        return instructions(lambda: tail.since(tail.end_offset - 1, size_max=1))

    push(tail, 10)
    alone = cost()
    assert alone > 0
    for _ in range(10_000):
        push(tail, 10)
    assert cost() == alone


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["push", "follow", "leave"]))))
def test_the_sum_is_that_of_what_is_there(steps: list[tuple[int, str]]) -> None:
    tails = Tails(size_max=35)
    four = [Tail(0, tails) for _ in range(4)]
    followers: list[list[ExitStack]] = [[] for _ in four]
    for number, step in steps:
        if step == "push":
            push(four[number], 10)
        elif step == "follow":
            followers[number].append(ExitStack())
            followers[number][-1].enter_context(four[number].followed())
        elif followers[number]:
            followers[number].pop().close()
        kept = [
            tail.since(offset, size_max=1) for tail in four for offset in range(tail.end_offset)
        ]
        assert tails.size == 10 * sum(found is not None for found in kept) <= 35
