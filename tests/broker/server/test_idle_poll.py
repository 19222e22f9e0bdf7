"""Whether the event loop asks for a moment longer before it sleeps."""

from broker.server.idle_poll import CREDIT_MAX, IdlePoll


def test_a_node_that_has_just_started_sleeps() -> None:
    assert not IdlePoll(0.001).is_worthwhile


def test_one_wait_that_was_short_makes_it_worthwhile_and_one_in_vain_ends_that() -> None:
    idle = IdlePoll(0.001)

    idle.was_short()
    assert idle.is_worthwhile

    idle.was_in_vain()
    assert not idle.is_worthwhile


def test_after_a_long_busy_time_a_few_waits_in_vain_are_enough() -> None:
    idle = IdlePoll(0.001)
    for _ in range(1_000):
        idle.was_short()

    vain_count = 0
    while idle.is_worthwhile:
        idle.was_in_vain()
        vain_count += 1

    assert vain_count == CREDIT_MAX


def test_a_client_that_is_late_now_and_then_is_polled_for_all_the_same() -> None:
    idle = IdlePoll(0.001)
    for _ in range(CREDIT_MAX):
        idle.was_short()

    for _ in range(100):
        idle.was_in_vain()
        assert idle.is_worthwhile
        idle.was_short()
