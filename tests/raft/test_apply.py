"""Commands about the cluster as a whole, and none that does nothing."""

import msgspec

from raft import commands as c
from raft.apply import TRANSITIONS
from tests.raft.support import World, world


def test_every_command_has_a_transition() -> None:
    assert set(TRANSITIONS) == set(c.AnyCommand.__args__)


def test_a_cluster_gets_its_id_once() -> None:
    at = World()
    at.ok(c.FormCluster("one"))
    at.ok(c.FormCluster("one"))
    assert at.refused(c.FormCluster("two")) == "wrong cluster"
    assert at.state.cluster_id == "one"
    assert World().refused(c.FormCluster("")) == "bad command"


def test_no_producer_id_is_given_twice() -> None:
    at = world()
    first = at.ok(c.AllocateProducerIds(1000)).value
    assert first > 0
    assert at.ok(c.AllocateProducerIds(1)).value == first + 1000
    assert at.refused(c.AllocateProducerIds(0)) == "bad command"
    assert at.refused(c.AllocateProducerIds(10_001)) == "bad command"
    at.state = msgspec.structs.replace(at.state, next_producer_id=2**62)
    assert at.refused(c.AllocateProducerIds(1)) == "ids exhausted"
