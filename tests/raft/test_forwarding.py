"""Commands on their way to whoever leads, and what the node tells of itself meanwhile."""

from raft import commands as c
from raft.commands import Applied
from raft.errors import NoLeader, RaftError
from raft.messages import MESSAGE_SIZE_MAX
from raft.state import ClusterState
from tests.raft.lab import Lab
from tests.raft.support import topic_id

ABC = ("a", "b", "c")


def test_more_commands_than_one_message_may_hold_get_through() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    big = c.ChangeConfig(topic_id(1), 0, {"k": "v" * 50_000})
    count = 60
    assert count * 50_000 > MESSAGE_SIZE_MAX
    outcomes: list[Applied | RaftError] = []
    for _ in range(count):
        lab.nodes["b"].submit(big, outcomes.append)
    lab.run(0.5)
    assert [type(outcome) for outcome in outcomes] == [Applied] * count


def test_a_command_that_finds_no_leader_does_not_wait_for_ever() -> None:
    lab = Lab(ABC)
    outcomes: list[Applied | RaftError] = []
    lab.nodes["a"].submit(c.AllocateProducerIds(1), outcomes.append, timeout_s=0.5)
    lab.run(0.4)
    assert outcomes == []
    lab.run(0.2)
    assert [type(outcome) for outcome in outcomes] == [NoLeader]


def test_a_command_waits_for_the_connection_and_goes_out_with_it() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.run(0.3)
    node = lab.nodes["b"]
    node.disconnected("a")
    lab.cut.add(("b", "a"))
    outcomes = lab.ask("b")
    lab.run(0.1)
    lab.cut.clear()
    node.connected("a")
    lab.run(0.3)
    assert [type(outcome) for outcome in outcomes] == [Applied]


def test_a_node_that_is_alone_knows_that_it_reaches_no_majority() -> None:
    lab = Lab(ABC)
    node = lab.nodes["a"]
    reaches: list[bool] = []
    for lost in ("", "b", "c"):
        if lost:
            node.disconnected(lost)
        node.tick()
        reaches.append(node.reaches_majority)
    assert reaches == [True, True, False]
    assert node.connected_to == frozenset()


def test_who_begins_to_listen_late_hears_what_there_is_at_once_and_only_once() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.ask("a")
    lab.run(0.3)
    node = lab.nodes["b"]
    heard: list[ClusterState] = []
    node.subscribe(heard.append)
    for _ in range(3):
        node.tick()
    assert heard == [node.state]
    lab.ask("a")
    lab.run(0.3)
    assert heard[-1] is node.state
    assert len(heard) == 2
