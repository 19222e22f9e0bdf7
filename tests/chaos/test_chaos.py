"""Everything at once, for as long as a test may take. `make chaos` takes longer."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.chaos.run import Plan, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_a_minute_of_every_fault(tmp_path: Path) -> None:
    report = asyncio.run(run(Plan(tmp_path, 60, 1)))
    assert report.is_clean, json.dumps(report.as_json(), indent=2)
