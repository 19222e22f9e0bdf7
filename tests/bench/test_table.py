"""The page: what is slower stands first, and is not left out."""

from typing import Any

import pytest

from bench.table import NOBODIES, advantage, page, rows_of


def row(name: str, ours: float, theirs: float, headline: str = "messages_per_s") -> dict[str, Any]:
    samples = {"walrus": [{headline: ours}] * 3, "kafka": [{headline: theirs}] * 3}
    return {
        "section": "producer",
        "name": name,
        "headline": headline,
        "samples": samples,
        "counts": {},
        "bystanders_percent": 12.0,
    }


def result(*cells: dict[str, Any]) -> dict[str, Any]:
    return {
        "date": "2026-11-20T21:00:00+00:00",
        "command": "make bench",
        "commit": "abc",
        "machine": {"cpu": "2 x", "memory_gb": 8, "kernel": "6", "file_system": "ext4"},
        "versions": {"python": "3.11"},
        "kafka_heap": "1g",
        "load_average": (0.5, 1.5),
        "repeats": 3,
        "seconds": 1.0,
        "note": "",
        "cells": cells,
        "left_out": [],
    }


def test_less_time_is_an_advantage() -> None:
    assert advantage(row("start", 1.0, 4.0, "seconds")) == 4.0
    assert advantage(row("rate", 1.0, 4.0)) == 0.25


def test_a_defeat_that_hides_at_the_end() -> None:
    text = page(result(row("fast", 200, 100), row("slow", 50, 100), row("even", 99, 100)))

    first = text.index("## What a peer does better")
    assert first < text.index("**0.50** producer: slow") < text.index("## Producer")
    better = text[first : text.index("## Producer")]
    assert "fast" not in better and "even" not in better
    table = text[text.index("## Producer") :]
    assert table.index("slow") < table.index("even") < table.index("fast")


@pytest.mark.parametrize("nobody", sorted(NOBODIES))
def test_a_server_that_does_nothing_is_no_peer(nobody: str) -> None:
    bound = row("bound", 50, 100)
    bound["samples"][nobody] = bound["samples"].pop("kafka")

    assert "bound (" not in page(result(bound, row("slow", 50, 100)))
    assert rows_of([bound], None) == []


def test_a_cell_that_failed_is_told() -> None:
    failed = {"section": "producer", "name": "hard", "headline": "seconds"}
    row_of_it = failed | {"failure": "too hard", "bystanders_percent": 90.0}

    assert "failed: hard: too hard" in page(result(row_of_it, row("fast", 2, 1)))


def test_a_cell_that_was_not_run_is_told() -> None:
    assert "- topics: many" in page(result(row("fast", 2, 1)) | {"left_out": ["topics: many"]})


def test_costs_stand_beside_each_other() -> None:
    cell = row("fast", 200, 100)
    for name, cost in (("walrus", 1.5), ("kafka", 3.0)):
        cell["samples"][name] = [{"messages_per_s": 5.0, "cpu_s_per_million": cost}]
    cell["counts"] = {
        "walrus": {"system_calls": 10.0, "syncs": 0.0},
        "kafka": {"system_calls": 1234.0, "syncs": 2.0},
    }

    text = page(result(cell))

    assert "1.5 / 3" in text
    assert "10 / 1,234" in text
    assert "0 / 2" in text


def test_a_machine_that_was_busy_elsewhere_is_told() -> None:
    assert "took 12 % of its CPU time in the median cell" in page(result(row("fast", 2, 1)))


def test_the_page_names_the_pictures_that_are_drawn_beside_it() -> None:
    text = page(result(row("fast", 2, 1)))
    assert "(ratios.svg)" in text and "(throughput-against-latency.svg)" in text
    assert "topics.svg" not in text
