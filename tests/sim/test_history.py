"""Every anomaly is recognised, and an orderly history is none."""

from tests.sim.history import History, Send


def sent(
    history: History, value: bytes, offset: int, at: float, *, is_durable: bool = True
) -> Send:
    """Sent at `at`, acknowledged one second later."""
    send = Send("p", (value,), at, is_durable)
    history.sent(send)
    history.acknowledged(send, offset, at + 1.0)
    return send


def kinds(history: History, *final: bytes) -> set[str]:
    """What the checker finds when the log ends up as `final`."""
    return {what.split(":")[0] for what in history.check(list(enumerate(final)))}


def test_an_orderly_history() -> None:
    history = History()
    sent(history, b"a", 0, 1.0)
    sent(history, b"b", 1, 3.0)
    history.polled("c", 0, [(0, b"a"), (1, b"b")])
    assert kinds(history, b"a", b"b", b"unacknowledged") == set()


def test_an_acknowledged_write_that_is_gone() -> None:
    history = History()
    sent(history, b"a", 0, 1.0)
    sent(history, b"b", 1, 1.0)
    assert kinds(history, b"a") == {"lost write"}


def test_a_write_that_was_acknowledged_by_the_leader_alone_may_go() -> None:
    history = History()
    sent(history, b"a", 0, 1.0, is_durable=False)
    assert kinds(history) == set()


def test_a_record_that_was_read_and_is_gone() -> None:
    history = History()
    history.polled("c", 0, [(0, b"a")])
    assert kinds(history) == {"lost write"}


def test_a_retry_that_was_appended_twice() -> None:
    assert kinds(History(), b"a", b"b", b"a") == {"duplicate"}


def test_two_values_at_one_offset() -> None:
    history = History()
    history.polled("c", 0, [(0, b"a")])
    history.polled("d", 0, [(0, b"b")])
    assert "inconsistent offsets" in kinds(history, b"b")


def test_a_record_that_moved() -> None:
    history = History()
    sent(history, b"a", 0, 1.0)
    assert "moved" in kinds(history, b"x", b"a")


def test_a_failed_write_that_is_there() -> None:
    history = History()
    send = Send("p", (b"a",), 1.0, is_durable=True)
    history.sent(send)
    send.has_failed = True
    assert kinds(history, b"a") == {"aborted read"}


def test_polls_that_skip_or_go_back() -> None:
    history = History()
    history.polled("c", 0, [(1, b"b")])
    history.polled("c", 2, [(1, b"b")])
    assert kinds(history, b"a", b"b") == {"skip", "nonmonotonic poll"}


def test_writes_in_the_wrong_order() -> None:
    history = History()
    sent(history, b"a", 1, 1.0)
    sent(history, b"b", 0, 3.0)
    assert kinds(history, b"b", b"a") == {"reordering"}


def test_writes_at_the_same_time_have_no_order() -> None:
    history = History()
    sent(history, b"a", 1, 1.0)
    sent(history, b"b", 0, 1.5)
    assert kinds(history, b"b", b"a") == set()


def test_what_an_operator_has_given_up_may_be_missing_and_must_not_come_back() -> None:
    def history() -> History:
        made = History()
        sent(made, b"a", 0, 1.0)
        sent(made, b"b", 1, 3.0)
        made.lost(1)
        sent(made, b"c", 1, 5.0)
        return made

    assert kinds(history(), b"a", b"c") == set()
    assert kinds(history(), b"b", b"c") == {"inconsistent offsets", "came back"}
    assert kinds(history(), b"a", b"c", b"b") == {"came back"}


def test_what_was_lost_before_its_producer_was_answered_may_be_sent_again() -> None:
    history = History()
    sent(history, b"a", 0, 1.0)
    send = Send("p", (b"b",), 2.0, is_durable=True)
    history.sent(send)
    history.polled("c", 0, [(0, b"a"), (1, b"b")])
    history.lost(1)
    history.acknowledged(send, 2, 3.0)
    assert kinds(history, b"a", b"x", b"b") == set()
