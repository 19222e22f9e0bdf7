"""Clients never take the descriptors that a node needs for its files."""

import resource

import pytest

from broker.server.descriptors import (
    FOR_FILES_MIN,
    FOR_OTHERS,
    for_connections,
    for_logs,
    raise_limit,
)
from engine.open_files import COUNT_MAX


@pytest.mark.parametrize("limit", [2, 64, 256, 1024, 4096, 1 << 20])
def test_however_many_clients_come_files_can_be_opened(limit: int) -> None:
    count = for_connections(10_000, limit)
    assert 1 <= count <= 10_000
    assert limit - count >= min(limit // 2, FOR_FILES_MIN)


@pytest.mark.parametrize("limit", [2, 64, 256, 1024, 4096, 1 << 20])
@pytest.mark.parametrize("wanted", [1, 10_000])
def test_however_many_topics_are_written_something_is_left_for_the_cluster(
    limit: int, wanted: int
) -> None:
    connections = for_connections(wanted, limit)
    logs = for_logs(connections, limit)
    assert 1 <= logs <= COUNT_MAX
    assert limit - connections - logs >= min(limit // 4, FOR_OTHERS)


def test_plenty_is_no_reason_to_refuse_anybody() -> None:
    assert for_connections(10_000, 1 << 20) == 10_000
    assert for_connections(10_000, resource.RLIM_INFINITY) == 10_000
    assert for_logs(10_000, 1 << 20) == for_logs(1, resource.RLIM_INFINITY) == COUNT_MAX


def test_a_node_may_open_what_the_system_allows_and_not_only_what_its_shell_gave() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft // 2, hard))
        assert raise_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
