"""Two machines under one id, and a disk that cannot vouch any more."""

from typing import Any

import msgspec
import pytest

from raft import commands as c
from tests.raft.support import DISKS, register, world


def test_a_restart_is_a_new_incarnation() -> None:
    at = world()
    first = at.state.brokers[1].incarnation
    assert at.register(1) > first
    assert at.state.brokers[1].incarnation == at.state.revision


def test_a_lost_disk_cannot_vouch_for_open_segments() -> None:
    at = world(3)
    at.create(1, "a", (1, 2))
    at.create(2, "b", (2, 3))
    at.ok(c.FenceBroker(1, at.state.brokers[1].incarnation))
    at.register(1, disk=b"n" * 16)
    assert at.topic(1).last.void == ((1, DISKS[1]),)
    assert at.topic(2).last.void == ()


def test_a_clean_restart_voids_nothing_and_an_unclean_one_does() -> None:
    at = world()
    at.create()
    at.register(1)
    assert at.topic().last.void == ()
    at.register(1, clean=False)
    at.register(1, clean=False)
    assert at.topic().last.void == ((1, DISKS[1]),)


def test_a_second_machine_cannot_take_a_live_nodes_id() -> None:
    at = world()
    assert at.refused(register(1, disk=b"n" * 16)) == "node id taken"


@pytest.mark.parametrize(
    "wrong",
    [{"node": -1}, {"node": 2**31}, {"disk": b"short"}, {"raft_port": 65536}],
    ids=str,
)
def test_a_broker_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    assert world().refused(msgspec.structs.replace(register(1), **wrong)) == "bad command"


def test_fencing_hits_only_the_incarnation_it_names() -> None:
    at = world()
    old = at.state.brokers[1].incarnation
    at.register(1)
    assert at.refused(c.FenceBroker(1, old)) == "stale incarnation"
    assert at.refused(c.FenceBroker(2, old)) == "unknown broker"
    at.ok(c.FenceBroker(1, at.state.brokers[1].incarnation))
    assert at.state.brokers[1].fenced
