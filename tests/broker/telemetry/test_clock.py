"""Clocks that are not what they say."""

import time

from broker.telemetry.clock import SystemClock


def test_wall_time_is_milliseconds_since_1970() -> None:
    before = time.time_ns() // 1_000_000
    now = SystemClock().now_ms()
    assert before <= now <= time.time_ns() // 1_000_000


def test_monotonic_counts_suspended_time_too() -> None:
    clock = SystemClock()
    first = clock.monotonic()
    assert first >= time.clock_gettime(time.CLOCK_MONOTONIC) - 1e-3 or first > 0
    assert clock.monotonic() >= first
