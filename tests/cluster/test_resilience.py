"""Nodes that are killed and stopped under load, and clients that notice nothing they may not."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.chaos.run import Plan, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_nodes_that_are_killed_one_after_the_other(tmp_path: Path, seconds: float) -> None:
    plan = Plan(tmp_path, seconds, 1, ("kill-leader", "kill-any"))
    report = asyncio.run(run(plan))
    assert report.is_clean, json.dumps(report.as_json(), indent=2)


def test_a_rolling_restart_under_load(tmp_path: Path, seconds: float) -> None:
    """SIGTERM hands over: no Kafka client is told of an error, and a native one of nothing but a
    connection that ended, which it may have used a moment too late."""
    report = asyncio.run(run(Plan(tmp_path, seconds, 1, ("restart",))))
    assert report.is_clean, json.dumps(report.as_json(), indent=2)
    told = [why for why in report.errors if not why.startswith("native") or "ERR" in why]
    assert not told, told
