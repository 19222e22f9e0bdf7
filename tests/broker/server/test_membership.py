"""How a node comes in, and that it does so only where it was asked to."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from broker.config import Config
from broker.config.values import HostPort
from broker.controller.data_dir import DataDir
from broker.controller.metadata import Metadata
from broker.server.admission import MembershipError
from broker.server.membership import Membership

NOBODY_THERE = (HostPort("127.0.0.1", 1),)


class Start:
    """One start of a node on `path`, without its ports."""

    def __init__(self, path: Path, *, join: tuple[HostPort, ...], bootstrap: bool = False) -> None:
        config = Config(data_dir=path, join=join, bootstrap=bootstrap)
        self.data = DataDir(path, node_id=1, joins=bool(join))
        self.membership = Membership(config, self.data, on_failure=_fail)
        self.raft = self.membership.raft
        self.raft.start()

    def end(self) -> None:
        self.raft.stop()
        self.data.release()

    async def take_part(self) -> None:
        self.membership._metadata = Metadata(self.raft, _never)
        await self.membership.take_part()


def _fail(failure: BaseException) -> None:
    raise failure


def _never(_: Callable[[], object]) -> None:
    """Nothing is published in these tests."""


def test_a_node_that_was_stopped_before_it_was_let_in_forms_no_second_cluster(
    tmp_path: Path,
) -> None:
    for _ in range(3):
        start = Start(tmp_path, join=NOBODY_THERE)
        assert start.raft.members.voters == ()
        assert not start.raft.is_leader
        start.end()


@pytest.mark.parametrize("bootstrap", [False, True])
def test_a_node_that_was_never_let_in_says_so_instead_of_beginning_alone(
    tmp_path: Path, bootstrap: bool
) -> None:
    Start(tmp_path, join=NOBODY_THERE).end()
    start = Start(tmp_path, join=(), bootstrap=bootstrap)
    with pytest.raises(MembershipError, match="never let in"):
        anyio.run(start.take_part)
    start.end()


def test_a_node_that_formed_its_cluster_leads_it_again_whatever_it_is_started_with(
    tmp_path: Path,
) -> None:
    for join in ((), NOBODY_THERE):
        start = Start(tmp_path, join=join)
        assert start.raft.is_leader
        start.end()
