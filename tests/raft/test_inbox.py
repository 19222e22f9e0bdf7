"""A thread that sleeps is woken by a call or by something to read, and never misses one."""

import queue
import socket
import threading
from collections.abc import Iterator

import pytest

from raft.inbox import Inbox


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    opened = Inbox()
    opened.open()
    yield opened
    opened.close()


def test_every_call_is_made_however_they_meet_with_sleep(inbox: Inbox) -> None:
    made: list[int] = []
    count = 3000

    def hand_in() -> None:
        for number in range(count):
            inbox.put(lambda number=number: made.append(number))  # type: ignore[misc]

    thread = threading.Thread(target=hand_in)
    thread.start()
    while len(made) < count:
        inbox.wait(60.0)
        while True:
            try:
                inbox.get_nowait()()
            except queue.Empty:
                break
    thread.join()
    assert made == list(range(count))


def test_what_can_be_read_is_read_on_the_thread_that_sleeps(inbox: Inbox) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        heard: list[tuple[bytes, int]] = []
        inbox.watch(ours.fileno(), lambda: heard.append((ours.recv(100), threading.get_ident())))
        threading.Thread(target=theirs.send, args=(b"x",)).start()
        inbox.wait(60.0)
        assert heard == [(b"x", threading.get_ident())]
        inbox.unwatch(ours.fileno())
        inbox.unwatch(ours.fileno())
        theirs.send(b"y")
        inbox.wait(0.0)
        assert len(heard) == 1


def test_a_closed_inbox_watches_nothing_and_keeps_its_calls() -> None:
    inbox = Inbox()
    inbox.open()
    inbox.close()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inbox.watch(ours.fileno(), lambda: None)
        inbox.unwatch(ours.fileno())
    inbox.put(lambda: None)
    inbox.get_nowait()()
