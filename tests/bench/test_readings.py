"""What tools print."""

import pytest

from bench.readings import consumer_performance, perf_stat, producer_performance

PRODUCED = """\
12043 records sent, 2408.1 records/sec (2.30 MB/sec), 33.4 ms avg latency, 412.0 ms max latency.
400000 records sent, 32281.494633 records/sec (30.79 MB/sec), 767.66 ms avg latency, \
1569.00 ms max latency, 651 ms 50th, 1446 ms 95th, 1535 ms 99th, 1559 ms 99.9th.
300000 steady state records sent, 37693.177535 records/sec (35.95 MB/sec), 809.07 ms avg \
latency, 1569.00 ms max latency, 697 ms 50th, 1466 ms 95th, 1543 ms 99th, 1560 ms 99.9th.
"""

CONSUMED = """\
start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, \
rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
2026-11-20 21:01:45:938, 2026-11-20 21:01:51:578, 753.6592, 133.6275, 790269, 140118.6170, 1006, \
4634, 162.6369, 170537.1170
"""


def test_a_warm_up_that_counts() -> None:
    assert producer_performance(PRODUCED) == {
        "messages_per_s": 37693.177535,
        "p50_ms": 697.0,
        "p99_ms": 1543.0,
        "p999_ms": 1560.0,
    }
    without = "".join(PRODUCED.splitlines(keepends=True)[:2])
    assert producer_performance(without)["messages_per_s"] == 32281.494633


def test_a_group_that_takes_long_to_form() -> None:
    assert consumer_performance(CONSUMED) == {"messages_per_s": 170537.1170, "messages": 790269.0}


@pytest.mark.parametrize("text", ["", CONSUMED.partition("\n")[0], CONSUMED.replace("790269", "0")])
def test_a_consumer_that_saw_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="no messages"):
        consumer_performance(text)


def test_a_producer_that_failed() -> None:
    with pytest.raises(ValueError, match="no summary"):
        producer_performance("org.apache.kafka.common.errors.TimeoutException")


def test_counts_of_several_processes() -> None:
    text = (
        "# started on Fri\n\n"
        "1200,,raw_syscalls:sys_enter,100,100.00,,\n"
        "3,,syscalls:sys_enter_fsync,100,100.00,,\n"
        "4,,syscalls:sys_enter_fsync,100,100.00,,\n"
    )
    assert perf_stat(text) == {"raw_syscalls:sys_enter": 1200, "syscalls:sys_enter_fsync": 7}


@pytest.mark.parametrize("text", ["", "<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n"])
def test_counts_that_were_not_taken(text: str) -> None:
    with pytest.raises(ValueError, match="perf"):
        perf_stat(text)
