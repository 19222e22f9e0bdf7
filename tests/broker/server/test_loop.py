"""The node's event loop: a reader is called, once for each time that there is something to read."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from broker.server.loop import Loop

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    pairs = [socket.socketpair() for _ in range(3)]
    for pair in pairs:
        for end in pair:
            end.setblocking(False)
    yield pairs
    for pair in pairs:
        for end in pair:
            end.close()


def turn(loop: Loop) -> None:
    """One turn that does not wait, and what it leaves for its end."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_a_reader_is_called_with_its_arguments(loop: Loop, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]
    heard: list[bytes] = []
    loop.add_reader(ours, lambda size: heard.append(ours.recv(size)), 2)
    theirs.send(b"abc")

    turn(loop)
    turn(loop)
    turn(loop)

    assert heard == [b"ab", b"c"]


def test_what_a_reader_leaves_for_the_end_of_the_turn_comes_after_all_readers(
    loop: Loop, pairs: list[Pair]
) -> None:
    order: list[str] = []

    def read(ours: socket.socket) -> None:
        ours.recv(1)
        order.append("read")
        loop.call_soon(order.append, "after")

    for ours, theirs in pairs:
        loop.add_reader(ours, read, ours)
        theirs.send(b"a")

    turn(loop)

    assert order == ["read"] * 3 + ["after"] * 3


def test_a_reader_that_fails_costs_nobody_else_his_turn(loop: Loop, pairs: list[Pair]) -> None:
    said: list[object] = []
    heard: list[bytes] = []
    loop.set_exception_handler(lambda _, context: said.append(context["exception"]))

    def fail() -> None:
        pairs[0][0].recv(1)
        raise ValueError("a fault of ours")

    loop.add_reader(pairs[0][0], fail)

    def hear(ours: socket.socket) -> None:
        heard.append(ours.recv(1))

    for ours, _ in pairs[1:]:
        loop.add_reader(ours, hear, ours)
    for _, theirs in pairs:
        theirs.send(b"a")

    turn(loop)

    assert heard == [b"a", b"a"]
    assert [str(error) for error in said] == ["a fault of ours"]


def test_a_reader_that_another_one_has_removed_is_not_called(loop: Loop, pairs: list[Pair]) -> None:
    called: list[socket.socket] = []

    def remove_all(ours: socket.socket) -> None:
        called.append(ours)
        for each, _ in pairs:
            loop.remove_reader(each)

    for ours, theirs in pairs:
        loop.add_reader(ours, remove_all, ours)
        theirs.send(b"a")

    turn(loop)
    turn(loop)

    assert len(called) == 1


def test_a_descriptor_that_is_used_again_is_not_read_by_who_had_it_before(
    loop: Loop, pairs: list[Pair]
) -> None:
    ours, theirs = pairs[0]
    loop.add_reader(ours, pytest.fail, "the reader was removed")
    loop.remove_reader(ours)
    theirs.send(b"abc")

    async def receive() -> bytes:
        return await loop.sock_recv(ours, 3)

    assert loop.run_until_complete(receive()) == b"abc"


def test_the_end_of_a_peer_is_readable(loop: Loop, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]
    heard: list[bytes] = []
    loop.add_reader(ours, lambda: heard.append(ours.recv(1)))
    theirs.close()

    turn(loop)

    assert heard[0] == b""


def test_one_descriptor_is_read_and_written(loop: Loop, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]
    order: list[str] = []
    loop.add_reader(ours, lambda: order.append(ours.recv(1).decode()))
    loop.add_writer(ours, order.append, "writable")
    theirs.send(b"r")

    turn(loop)
    assert sorted(order) == ["r", "writable"]

    loop.remove_writer(ours)
    theirs.send(b"s")
    turn(loop)
    assert order[2:] == ["s"]


def test_timers_and_sleeping_tasks_go_on_beside_the_readers(loop: Loop, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]

    async def talk() -> bytes:
        heard: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(ours, lambda: heard.set_result(ours.recv(1)))
        loop.call_later(0.001, theirs.send, b"a")
        try:
            return await heard
        finally:
            loop.remove_reader(ours)

    assert loop.run_until_complete(talk()) == b"a"


def test_a_timer_that_a_reader_sets_is_not_slept_through(loop: Loop, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]

    async def talk() -> str:
        fired: asyncio.Future[str] = loop.create_future()
        hour = loop.call_later(3_600, fired.set_result, "an hour later")

        def read() -> None:
            ours.recv(1)
            loop.call_later(0.001, fired.set_result, "in time")

        loop.add_reader(ours, read)
        theirs.send(b"a")
        try:
            return await fired
        finally:
            hour.cancel()

    assert loop.run_until_complete(talk()) == "in time"


def test_readers_that_always_have_something_to_read_hold_up_no_timer(
    loop: Loop, pairs: list[Pair]
) -> None:
    ours, theirs = pairs[0]

    async def talk() -> None:
        def read() -> None:
            theirs.send(ours.recv(1))
            ours.send(theirs.recv(1))
            theirs.send(b"a")

        loop.add_reader(ours, read)
        theirs.send(b"a")
        await asyncio.sleep(0.005)

    loop.run_until_complete(talk())


def test_a_thread_wakes_the_loop_between_two_readers(loop: Loop, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]
    order: list[bytes] = []

    async def talk() -> str:
        woken: asyncio.Future[str] = loop.create_future()

        def read() -> None:
            order.append(ours.recv(1))
            if len(order) == 3:
                loop.call_soon_threadsafe(woken.set_result, "woken")
            theirs.send(b"a")

        loop.add_reader(ours, read)
        theirs.send(b"a")
        await asyncio.to_thread(order.append, b"thread")
        return await woken

    assert loop.run_until_complete(talk()) == "woken"
    assert b"thread" in order


def test_a_reader_stops_the_loop(loop: Loop, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]
    loop.add_reader(ours, loop.stop)
    theirs.send(b"a")

    loop.run_forever()


class Polls:
    """Counts how a loop asks for events."""

    def __init__(self, loop: Loop) -> None:
        self._poll = loop._readers._poll
        self.asked_count = self.slept_count = 0
        loop._readers._poll = self

    def __call__(self, timeout: float | None) -> list[tuple[int, int]]:
        if timeout == 0:
            self.asked_count += 1
        else:
            self.slept_count += 1
        return self._poll(timeout)


@contextmanager
def echoing(loop: Loop, pair: Pair) -> Iterator[None]:
    """A peer that sends the next byte as soon as the one before is heard."""
    ours, theirs = pair
    loop.add_reader(ours, lambda: theirs.send(ours.recv(1)))
    theirs.send(b"a")
    yield
    loop.remove_reader(ours)


def test_who_is_always_back_at_once_is_not_slept_for(pairs: list[Pair]) -> None:
    with closing(Loop(3_600.0)) as loop:
        polls = Polls(loop)
        with echoing(loop, pairs[0]):
            loop.run_until_complete(asyncio.sleep(0.01))

        # What ended the first wait was the first that there was to learn from, and the last one was
        # for the timer.
        assert polls.asked_count > 2
        assert polls.slept_count <= 2


def test_what_takes_long_is_slept_for(pairs: list[Pair]) -> None:
    with closing(Loop(3_600.0, is_slow=lambda: True)) as loop:
        polls = Polls(loop)
        with echoing(loop, pairs[0]):
            loop.run_until_complete(asyncio.sleep(0.01))

        assert polls.slept_count > 2


def test_a_node_with_nothing_to_do_leaves_the_processor_alone(pairs: list[Pair]) -> None:
    with closing(Loop(0.001)) as loop:
        with echoing(loop, pairs[0]):
            loop.run_until_complete(asyncio.sleep(0.01))
        pairs[0][0].recv(1)

        async def rest() -> None:
            for _ in range(20):
                await asyncio.sleep(0.002)

        loop.run_until_complete(rest())  # It learns that nobody is there.
        polls = Polls(loop)
        loop.run_until_complete(rest())

        assert polls.slept_count >= 20
        assert polls.asked_count < 100  # What is due at once, and no wait.


def test_without_idle_polling_every_wait_is_slept(loop: Loop, pairs: list[Pair]) -> None:
    polls = Polls(loop)
    with echoing(loop, pairs[0]):
        loop.run_until_complete(asyncio.sleep(0.01))

    assert polls.slept_count > 2
