"""What clients are told of a topic."""

from broker.controller.views import Views, topic_view
from raft import commands as c
from tests.raft.support import topic_id, world


def test_no_epoch_is_told_before_it_has_a_leader() -> None:
    """Clients that were sent to one that may lead, with the epoch of the one that will, take what
    they then hear of that leader for nothing new (KIP-320)."""
    at = world(3)
    at.create(replicas=(1, 2, 3))
    opened = topic_view(at.state, at.topic()).leader_epoch
    for recoverer in (2, 3):
        topic = at.topic()
        at.ok(c.BeginSeal(topic_id(1), topic.last.sid, topic.epoch, recoverer))
        view = topic_view(at.state, at.topic())
        assert (view.leader_id, view.leader_epoch) == (-1, opened)


def test_a_name_that_is_asked_for_again_means_the_topic_that_has_it_now() -> None:
    at, views = world(3), Views()
    assert views.named(at.state, "topic-1") is None
    at.create(replicas=(1, 2, 3))
    name = at.topic().name
    first = views.named(at.state, name)
    assert first is not None
    assert views.named(at.state, name) is first
    at.ok(c.DeleteTopic(topic_id(1)))
    assert views.named(at.state, name) is None
