"""A cluster per test, and what belongs to every scenario."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import Cluster

MakeCluster = Callable[..., Cluster]


@pytest.fixture
def seconds() -> float:
    """How long a scenario that takes a while may take; CLUSTER_SECONDS makes it longer."""
    return float(os.environ.get("CLUSTER_SECONDS", "10"))


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Three nodes that serve. Keyword arguments are settings: `max_segment_entries=10`."""
    made: list[Cluster] = []

    def make(**settings: object) -> Cluster:
        environment = {f"WALRUS_{name.upper()}": str(value) for name, value in settings.items()}
        cluster = Cluster(tmp_path / f"cluster-{len(made)}", environment=environment)
        made.append(cluster)
        cluster.start()
        return cluster

    yield make
    for cluster in made:
        cluster.close()
