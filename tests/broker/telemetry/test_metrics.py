"""Metrics that lie: wrong buckets, families nobody documented, names that change."""

from prometheus_client.parser import text_string_to_metric_families

from broker.telemetry import metrics
from broker.telemetry.metrics import (
    BUCKETS_S,
    CONNECTIONS,
    FAMILIES,
    KAFKA_LATENCY,
    KAFKA_REQUESTS,
    Family,
    Registry,
    RequestMeter,
    RequestStats,
    Sample,
)


def scraped(registry: Registry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(registry.render().decode())
        for sample in family.samples
    }


def test_requests_show_count_error_and_latency() -> None:
    meter = RequestMeter(KAFKA_REQUESTS, KAFKA_LATENCY)
    produce = meter.of("Produce")
    produce.record("NONE", 0.0004)
    produce.record("NONE", 0.002)
    produce.record("NOT_LEADER_OR_FOLLOWER", 99.0)
    registry = Registry()
    registry.register(meter.collect)
    values = scraped(registry)

    requests = "walrus_kafka_requests_total"
    assert values[requests, (("api", "Produce"), ("error", "NONE"))] == 2
    assert values[requests, (("api", "Produce"), ("error", "NOT_LEADER_OR_FOLLOWER"))] == 1
    latency = "walrus_kafka_request_latency_seconds"
    assert values[f"{latency}_count", (("api", "Produce"),)] == 3
    assert values[f"{latency}_sum", (("api", "Produce"),)] == 99.0024
    assert values[f"{latency}_bucket", (("api", "Produce"), ("le", "0.0005"))] == 1
    assert values[f"{latency}_bucket", (("api", "Produce"), ("le", "0.0025"))] == 2
    assert values[f"{latency}_bucket", (("api", "Produce"), ("le", "30.0"))] == 2
    assert values[f"{latency}_bucket", (("api", "Produce"), ("le", "+Inf"))] == 3


def test_a_bucket_includes_its_bound() -> None:
    stats = RequestStats()
    for bound in BUCKETS_S:
        stats.record("NONE", bound)
    assert stats.latency.counts == [1] * len(BUCKETS_S) + [0]
    assert stats.count == stats.latency.count == len(BUCKETS_S)


def test_values_are_read_when_asked_not_before() -> None:
    open_count = 1
    registry = Registry()
    registry.register(lambda: [Sample(CONNECTIONS, open_count, ("native",))])
    open_count = 5
    assert scraped(registry)["walrus_connections", (("listener", "native"),)] == 5


def test_two_parts_may_add_to_one_family() -> None:
    registry = Registry()
    registry.register(lambda: [Sample(CONNECTIONS, 1, ("native",))])
    registry.register(lambda: [Sample(CONNECTIONS, 2, ("PLAINTEXT",))])
    assert registry.render().count(b"# TYPE walrus_connections gauge") == 1


def test_two_registries_know_nothing_of_each_other() -> None:
    first, second = Registry(), Registry()
    first.register(lambda: [Sample(CONNECTIONS, 1, ("native",))])
    assert b"walrus_connections" not in second.render()
    assert b"process_resident_memory_bytes" in second.render_process()


def test_label_values_from_outside_cannot_break_the_page() -> None:
    registry = Registry()
    registry.register(lambda: [Sample(CONNECTIONS, 1, ('a"\n} 7\\',))])
    assert scraped(registry)["walrus_connections", (("listener", 'a"\n} 7\\'),)] == 1


def test_every_family_is_in_the_table_once() -> None:
    declared = [value for value in vars(metrics).values() if isinstance(value, Family)]
    assert sorted(family.name for family in declared) == sorted(f.name for f in FAMILIES)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_counters_end_in_total_and_nothing_else_does() -> None:
    for family in FAMILIES:
        assert (family.kind == "counter") == family.name.endswith("_total"), family.name
        assert family.name.startswith("walrus_")
        assert family.help.endswith(".")
